package chaos

import (
	"fmt"

	"github.com/tandem-ipc/tandem/ipc"
)

// validateLives judges what concerns the processes and not a stream: L1, L2, L3,
// L5, L6.
func validateLives(d *docket, found *Report, reproduce string) {
	for _, l := range d.lives {
		if l.up == 0 {
			continue
		}
		for _, other := range d.lives {
			if other == l || other.up == 0 || other.up >= l.up || other.until() < l.up {
				continue
			}
			// The other one was up before, and held its place still.
			switch {
			case l.server && other.server:
				found.Fail("L1 SingleServer", reproduce, "server %d was up while server %d lived", l.incarnation, other.incarnation)
			case !l.server && !other.server:
				found.Fail("L2 SingleClient", reproduce, "client %d was up while client %d lived", l.incarnation, other.incarnation)
			case l.server && !other.server && other.generation < l.generation:
				found.Fail("L3 BothRestart", reproduce, "server %d was up while client %d of the generation before lived", l.incarnation, other.incarnation)
			}
		}
	}
	for i, c := range d.chronicles {
		if i > 0 && c.generation <= d.chronicles[i-1].generation {
			found.Fail("L3 BothRestart", reproduce, "generation %d came after %d", c.generation, d.chronicles[i-1].generation)
		}
		c.validateEvents(found, reproduce)
	}
}

// validateEvents compares what a server was told of its clients with what
// happened to them, and what each client was told of its server (L5, L6).
func (c *chronicle) validateEvents(found *Report, reproduce string) {
	told := map[int]ipc.EventKind{}
	complete := true
	for i := range c.server.slots {
		s := &c.server.slots[i]
		if s.doing != doEvent {
			continue
		}
		complete = complete && s.id.Lane == 0 // none was missed
		kind, number := ipc.EventKind(s.id.Number), int(s.id.Generation)
		if kind != ipc.EventDied && kind != ipc.EventClosed {
			continue
		}
		told[number] = kind
		for _, l := range c.clients {
			if l.number == number {
				c.judgeEvent(l, s, kind, found, reproduce)
			}
		}
	}
	for i, l := range c.clients {
		// That the next one was admitted proves that the server had seen the end.
		if _, was := told[l.number]; !was && complete && l.up != 0 && i+1 < len(c.clients) && c.clients[i+1].up != 0 &&
			(c.last || c.server.killed == 0) {
			found.Fail("L6 Detect", reproduce, "the server was never told of the end of client %d", l.incarnation)
		}
		for k := range l.slots {
			if s := &l.slots[k]; s.doing == doEvent {
				if kind := ipc.EventKind(s.id.Number); kind == ipc.EventDied || kind == ipc.EventClosed {
					c.judgeEvent(c.server, s, kind, found, reproduce)
				}
			}
		}
	}
}

// judgeEvent judges a verdict on a life: the kernel's word, and so behind the
// fact.
func (c *chronicle) judgeEvent(about *life, s *slot, kind ipc.EventKind, found *Report, reproduce string) {
	at := int64(s.end)
	who := fmt.Sprintf("%s %d", roleName(about.server), about.incarnation)
	switch {
	case kind == ipc.EventDied && about.killed == 0:
		found.Fail("L5 TrueVerdict", reproduce, "%s was called dead and was not killed", who)
	case kind == ipc.EventDied && at < about.killed-clockSlack:
		found.Fail("L5 TrueVerdict", reproduce, "%s was called dead before it was killed", who)
	case kind == ipc.EventDied && about.closed() == Yes:
		found.Fail("L5 TrueVerdict", reproduce, "%s was called dead and had closed", who)
	case kind == ipc.EventClosed && about.closed() == No:
		found.Fail("L5 TrueVerdict", reproduce, "%s was called closed and had not", who)
	case kind == ipc.EventDied:
		found.Count(detection(at-about.killed), 1)
	}
}

// detection is the count that a death belongs to by how long it took until it
// was told (L6). It is measured from before the signal was sent, on a machine
// that is kept busy, and so no verdict.
func detection(nanos int64) string {
	switch {
	case nanos < 1e6:
		return "deaths told within 1 ms"
	case nanos < 1e7:
		return "deaths told within 10 ms"
	}
	return "deaths told later"
}

// clockSlack is how far the time of an event, which is taken from another clock,
// may be off.
const clockSlack = int64(1e6)
