package chaos

import (
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// The sizes of what is sent. The rings of a world hold one page, so that a few
// messages fill them, and what is pumped through before makes the next ones lie
// across the ring's end.
const (
	pumpSize  = 2800
	restSize  = 200
	sendSize  = 600
	fillSize  = 1400
	smallSize = 40
)

var batchSizes = []int{idSize, 900, 301}

// operations of a sequence. The brief ones may stand anywhere in it; the others
// end it.
var (
	briefOperations = []string{"send", "batch", "receive", "release", "beat", "drain", "reattach"}
	finalOperations = []string{"close", "wait", "full", "giveup", "reserve", "abort"}
)

// fallen reports whether one of the pair is dead, and the script does not know
// it yet.
func (w *world) fallen() bool {
	for _, m := range []*member{w.server, w.client} {
		if m != nil && !m.mourned && m.dead() {
			return true
		}
	}
	return false
}

// must is tell for what has to work. Where somebody has died meanwhile, it only
// has to come back. It returns false if the script cannot go on.
func (w *world) must(m *member, c command, contract string) (reply, bool) {
	got, err := w.tell(m, c)
	switch {
	case err != nil:
		return got, false
	case w.fallen():
		return got, got.Trouble == ""
	case got.Trouble != "":
		w.broken(contract, "%v: %v: %s", m.role, c, got.why())
		return got, false
	}
	return got, true
}

// opened notes that a member has an endpoint.
func (w *world) opened(m *member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m.open = true
}

// listen has a new server open the path.
func (w *world) listen(c command) bool {
	m, err := w.join(ipc.RoleServer)
	if err != nil {
		w.broken("harness", "%v", err)
		return false
	}
	return w.listenWith(m, c)
}

func (w *world) listenWith(m *member, c command) bool {
	if _, ok := w.must(m, c, "L3 BothRestart"); !ok {
		return false
	}
	w.opened(m)
	return true
}

// dial has the client attach. If the server dies meanwhile, the client goes on
// dialling; see recover.
func (w *world) dial() bool {
	m, server := w.client, w.server
	result := make(chan error, 1)
	go func() {
		got, err := w.tell(m, command{Verb: "dial"})
		if err == nil && got.Trouble != "" {
			w.broken("L7 ClientRestart", "%v: dial: %s", m.role, got.why())
			err = errStuck
		}
		if err == nil {
			w.home(m, got.Generation)
			w.opened(m)
		}
		result <- err
	}()
	select {
	case err := <-result:
		if err != nil || w.fallen() {
			return false
		}
	case <-server.gone():
		w.dialing = result
		return false
	}
	return w.attached()
}

// home moves a client to the generation that it has found, where that is not the
// newest that the world had heard of: what two processes tell of their steps
// comes in no order.
func (w *world) home(m *member, generation uint32) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		w.mu.Lock()
		d, known := w.ledgers[generation]
		if known && m.generation != generation {
			m.generation = generation
			d.toClient.begin()
		}
		w.mu.Unlock()
		if known {
			return
		}
	}
	w.broken("L4 NoGhost", "client: generation %d, which no server has opened", generation)
}

// attached has the server notice the client.
func (w *world) attached() bool {
	if _, ok := w.must(w.server, command{Verb: "event", Event: "attached", Life: w.client.life}, "L7 ClientRestart"); !ok {
		return false
	}
	d := w.ledgers[w.server.generation]
	d.toClient.stream.Successions = append(d.toClient.stream.Successions, Succession{Life: w.client.life, Generation: w.client.generation})
	return true
}

// account compares what a sender is told of its receiver's end, as a list and as
// an event.
func (w *world) account(m, of *member, events []told) bool {
	w.mu.Lock()
	l := w.ledgers[m.generation].out(m.role)
	settled := l.settled()
	w.mu.Unlock()
	got, ok := w.must(m, command{Verb: "account"}, "M6 Account")
	if !ok {
		return false
	}
	w.mu.Lock()
	l.account(of.life, settled, got.Unreleased)
	w.mu.Unlock()
	delivered := 0
	for _, u := range got.Unreleased {
		if u.Delivered {
			delivered++
		}
	}
	// The event is older than the list: the sender may have gone on sending.
	if len(events) > 0 && !w.beside {
		if e := events[len(events)-1]; e.Unreleased != len(got.Unreleased) || e.Redeliverable != delivered {
			w.broken("M6 Account", "%v: the event says %d unreleased and %d redeliverable, the list %d and %d",
				m.role, e.Unreleased, e.Redeliverable, len(got.Unreleased), delivered)
		}
	}
	return true
}

// farewell has the server notice the end of a client that it knew: the event,
// what that one had committed, the end in the stream, the account.
func (w *world) farewell(c *member) bool {
	var events []told
	if c.attached && !c.farewell {
		kind := "died"
		if c.goodbye {
			kind = "closed"
		}
		got, ok := w.must(w.server, command{Verb: "event", Event: kind, Life: c.life}, "L6 Detect")
		if !ok {
			return false
		}
		c.farewell, events = true, got.Events
	}
	if _, ok := w.must(w.server, command{Verb: "drain"}, "M5 Drain"); !ok {
		return false
	}
	return w.account(w.server, c, events)
}

// setup makes a pair, with something pumped through both rings, three messages
// waiting for the actor, of which it holds one, and one of its own on the way.
func (w *world) setup(actor ipc.Role) bool {
	if !w.listen(command{Verb: "listen"}) {
		return false
	}
	if !w.succeed() {
		return false
	}
	a, b := w.pair(actor)
	for _, c := range []struct {
		m *member
		c command
	}{
		{a, a.sizes("trysend", pumpSize)}, {b, command{Verb: "drain"}},
		{b, b.sizes("trysend", pumpSize)}, {a, command{Verb: "drain"}},
		{b, b.sizes("trysend", restSize, smallSize, restSize)}, {a, command{Verb: "take", Count: 1}},
		{a, a.sizes("trysend", restSize)},
	} {
		if _, ok := w.must(c.m, c.c, "harness"); !ok {
			return false
		}
	}
	return true
}

// pair returns the member of a role, and the other.
func (w *world) pair(role ipc.Role) (a, b *member) {
	if role == ipc.RoleServer {
		return w.server, w.client
	}
	return w.client, w.server
}

// perform performs one operation of a sequence. It returns false if somebody has
// died in it, or a promise was broken.
func (w *world) perform(operation string, actor ipc.Role) bool {
	a, b := w.pair(actor)
	do := func(c command) bool {
		_, ok := w.must(a, c, "M7 NoStuckWaiter")
		return ok && !w.fallen()
	}
	switch operation {
	case "listen":
		return w.listen(command{Verb: "listen"}) && !w.fallen()
	case "dial":
		return w.succeed() && !w.fallen()
	case "send":
		return w.try(a, a.sizes("trysend", sendSize))
	case "batch":
		return w.try(a, a.sizes("batch", batchSizes...))
	case "reserve", "abort":
		return w.try(a, a.sizes(operation, sendSize))
	case "receive":
		return do(command{Verb: "take", Count: 1})
	case "release":
		return do(command{Verb: "release", Count: 1})
	case "beat", "drain":
		return do(command{Verb: operation})
	case "reattach":
		return w.reattach()
	case "close":
		return w.close(actor)
	case "wait":
		return do(command{Verb: "drain"}) &&
			w.meanwhile(a, command{Verb: "receive"}, b, func() []command { return []command{b.sizes("trysend", smallSize)} })
	case "full":
		return w.try(a, a.sizes("batch", fillSize, fillSize, fillSize)) &&
			w.meanwhile(a, a.sizes("send", fillSize), b, func() []command { return w.emptying(b) })
	case "giveup":
		if !do(command{Verb: "drain"}) {
			return false
		}
		got, err := w.tell(a, command{Verb: "giveup"})
		if err == nil && !w.fallen() && got.Sort != "cancelled" {
			w.broken("M7 NoStuckWaiter", "%v: a receive that was cancelled: %s", a.role, got.why())
		}
		return err == nil && !w.fallen()
	}
	w.broken("harness", "there is no operation %q", operation)
	return false
}

// try sends, or finds no room.
func (w *world) try(m *member, c command) bool {
	got, err := w.tell(m, c)
	if err == nil && got.Trouble != "" && got.Sort != "full" && !w.fallen() {
		w.broken("M8 Bounded", "%v: %v: %s", m.role, c, got.why())
	}
	return err == nil && !w.fallen()
}

// meanwhile has a wait for something, and b do it when a is about to sleep. If b
// dies first, a server that sends goes on waiting for the next client.
func (w *world) meanwhile(a *member, c command, b *member, help func() []command) bool {
	helped := make(chan struct{})
	sleeping := w.cue(a, step.Sleeping, func() {
		defer close(helped)
		for _, c := range help() {
			if b.dead() {
				return
			}
			_, _ = w.tell(b, c)
		}
	})
	waited := make(chan struct{})
	w.background.Add(1)
	go func() {
		defer w.background.Done()
		defer close(waited)
		got, err := w.tell(a, c)
		if err == nil && got.Trouble != "" && !w.fallen() {
			w.broken("M7 NoStuckWaiter", "%v: %v: %s", a.role, c, got.why())
		}
	}()
	select {
	case <-waited:
	case <-a.gone():
		<-waited
	case <-b.gone():
		if c.Verb != "send" || a.role != ipc.RoleServer {
			<-waited
		}
	}
	if w.uncue(a, step.Sleeping, sleeping) {
		<-helped
	}
	return !w.fallen()
}

// emptying has a member take all that waits for it now, and release it at once.
func (w *world) emptying(m *member) []command {
	w.mu.Lock()
	defer w.mu.Unlock()
	return []command{
		{Verb: "take", Count: w.ledgers[m.generation].in(m.role).waiting()},
		{Verb: "release"},
	}
}

// reattach has the client leave and come again.
func (w *world) reattach() bool {
	return w.depart(w.client) && w.farewell(w.client) && !w.fallen() && w.dial() && !w.fallen()
}

// close has one side close, and the other find out.
func (w *world) close(role ipc.Role) bool {
	if role == ipc.RoleClient {
		return w.depart(w.client) && w.farewell(w.client) && !w.fallen()
	}
	closed := make(chan bool, 1)
	go func() {
		_, ok := w.must(w.server, command{Verb: "close"}, "M7 NoStuckWaiter")
		closed <- ok
	}()
	survived := w.bereave(w.server)
	ok := <-closed
	if !w.server.dead() {
		w.leave(w.server)
	}
	return survived && ok && !w.fallen()
}

// bereave has the client find out that its server has ended: what that one had
// committed, the end, the account; then it leaves.
func (w *world) bereave(s *member) bool {
	c := w.client
	for _, step := range []struct{ verb, contract string }{{"done", "L6 Detect"}, {"drain", "M5 Drain"}} {
		if _, ok := w.must(c, command{Verb: step.verb}, step.contract); !ok {
			return false
		}
	}
	w.mu.Lock()
	d := w.ledgers[c.generation]
	d.toClient.stream.Complete = true
	d.toClient.depart(s.life, false) // see judge
	w.departed = append(w.departed, s)
	d.toServer.finish(s.life, s.dead())
	w.mu.Unlock()
	return w.account(c, s, nil) && w.depart(c)
}

// depart has the client close.
func (w *world) depart(c *member) bool {
	if _, ok := w.must(c, command{Verb: "close"}, "M7 NoStuckWaiter"); !ok {
		return false
	}
	w.leave(c)
	return !w.fallen()
}
