package chaos

import (
	"cmp"
	"fmt"
	"slices"
)

// A generation is one server of an episode, with all who came to it, in the order
// of their attachments.
type hostileGeneration struct {
	server *extra
	number uint64
	stays  []stayed
}

// A stayed is one attachment.
type stayed struct {
	attachment uint64
	x          *extra
}

func (s stayed) honest() bool { return s.x.part == "honest client" }

// judge judges what the diaries say.
func (e *hostileEpisode) judge() {
	if len(e.Broken) > 0 { // it may have ended anywhere
		return
	}
	e.count("episodes", 1)
	for _, g := range e.generations() {
		for _, judged := range []func(*hostileGeneration) string{e.judgeToServer, e.judgeCount} {
			if what := judged(g); what != "" {
				_ = e.broke("M1 NoLoss", "generation %d: %s", g.number, what)
			}
		}
		e.judgeToClient(g)
	}
}

// generations finds out who came when.
func (e *hostileEpisode) generations() (all []*hostileGeneration) {
	for _, x := range e.all {
		if x.part == "honest server" && x.diary.get(pageUp) != 0 {
			all = append(all, &hostileGeneration{server: x, number: x.diary.get(pageUp) >> 32})
		}
	}
	of := func(number uint64) *hostileGeneration {
		for _, g := range all {
			if g.number == number {
				return g
			}
		}
		return nil
	}
	for _, x := range e.all {
		switch x.part {
		case "honest client":
			if up := x.diary.get(pageUp); up != 0 {
				if g := of(up >> 32); g != nil {
					g.stays = append(g.stays, stayed{up & (1<<32 - 1), x})
				}
			}
		case "hostile client", "guest": // a guest does what it likes, too
			for _, line := range x.diary.entries() {
				if g := of(uint64(line.a)); g != nil && line.what == entryAttached {
					g.stays = append(g.stays, stayed{line.b, x})
				}
			}
		}
	}
	for _, g := range all {
		slices.SortFunc(g.stays, func(a, b stayed) int { return cmp.Compare(a.attachment, b.attachment) })
	}
	return all
}

// judgeToServer: what an honest client has sent comes once, whole, in order, and all
// of it before its end. What the server had not received of it when a hostile one
// came is in that one's hands, and what it had is there to be committed again.
func (e *hostileEpisode) judgeToServer(g *hostileGeneration) string {
	seen := map[uint32]uint64{} // by lane: the last number
	calm, stale := map[uint32]bool{}, map[uint32]bool{}
	for i, s := range g.stays {
		calm[uint32(s.x.lane)] = s.x.calm
		stale[uint32(s.x.lane)] = s.x.tainted || slices.ContainsFunc(g.stays[i+1:], func(later stayed) bool { return !later.honest() })
	}
	for _, line := range g.server.diary.entries() {
		if line.what != entryMessage && line.what != entryAgain {
			continue
		}
		e.count(countMessages, 1)
		switch last := seen[line.a]; {
		case line.b == last+1:
			seen[line.a] = line.b
		case stale[line.a] && (line.b <= last || !calm[line.a]):
		case line.b <= last:
			return sprint("the server receives %d of client %d again, behind %d", line.b, line.a, last)
		default:
			return sprint("the server receives %d of client %d behind %d", line.b, line.a, last)
		}
	}
	for _, s := range g.stays {
		if !s.honest() || s.x.tainted {
			continue
		}
		last, sent, begun := seen[uint32(s.x.lane)], s.x.diary.get(pageSent), s.x.diary.get(pageBegun)
		if last > begun {
			return sprint("the server receives %d of client %d, which has begun to send %d", last, s.x.lane, begun)
		}
		if g.server.settled && (!stale[uint32(s.x.lane)] || s.x.calm) && last < sent {
			return sprint("client %d has committed %d messages, and the server has received %d", s.x.lane, sent, last)
		}
	}
	return ""
}

// judgeCount: what nobody honest has sent is no more than what fits into the ring
// between two stores of hostile ones.
func (e *hostileEpisode) judgeCount(g *hostileGeneration) string {
	fits := uint64(e.script.ToServer / 8)
	room, other := uint64(0), uint64(0)
	for _, x := range e.all { // one of a former generation has no memory of this one
		switch x.part {
		case "hostile client":
			room += fits * (x.diary.get(pageWrites) + x.diary.get(pageEntries))
		case "guest":
			room += x.diary.get(pageBegun)
		}
	}
	for _, line := range g.server.diary.entries() {
		if line.what == entryOther {
			other += line.b
		}
	}
	e.count("hostile messages", int(other))
	if other > room || g.server.diary.get(pageOverflow) > 0 {
		return sprint("the server receives %d messages that no honest one has sent, where at most %d can have been committed", other, room)
	}
	return ""
}

// judgeToClient: an honest client receives the server's messages one behind the
// other, from the first one that nobody has released, marked if another honest one
// has seen it.
func (e *hostileEpisode) judgeToClient(g *hostileGeneration) {
	var released, mayBeReleased, seen, mayBeSeen uint64
	for _, s := range g.stays {
		if !s.honest() {
			if s.x.diary.get(pageReads) > 0 { // it may have released all that there was
				mayBeReleased = ^uint64(0)
			}
			mayBeSeen = ^uint64(0)
			continue
		}
		first, last, low := uint64(0), uint64(0), released+1
		for _, line := range s.x.diary.entries() {
			if line.what == entryOther && !s.x.tainted {
				_ = e.broke("M4 NoTear", "client %d receives a message that its server has not sent", s.x.lane)
				return
			}
			if line.what != entryMessage && line.what != entryAgain {
				continue
			}
			e.count(countMessages, 1)
			n, again := line.b, line.what == entryAgain
			if first == 0 {
				first, last = n, n-1
			}
			switch {
			case s.x.tainted: // its own words are not its own
			case n != last+1:
				_ = e.broke("M2 FIFO", "client %d receives %d behind %d", s.x.lane, n, last)
			case n > g.server.diary.get(pageBegun):
				_ = e.broke("M4 NoTear", "client %d receives %d, and the server has begun to send %d", s.x.lane, n, g.server.diary.get(pageBegun))
			case !again && n <= seen:
				_ = e.broke("M3 AtLeastOnce", "client %d receives %d without mark, which another has seen", s.x.lane, n)
			case again && mayBeSeen != ^uint64(0) && n > mayBeSeen:
				_ = e.broke("M3 AtLeastOnce", "client %d receives %d with mark, which nobody has seen", s.x.lane, n)
			}
			if len(e.Broken) > 0 {
				return
			}
			e.count(countAgain, count(again))
			last = n
		}
		if s.x.tainted { // another may have released in its name
			mayBeReleased, mayBeSeen = ^uint64(0), ^uint64(0)
			continue
		}
		switch {
		case first == 0:
		case first < low:
			_ = e.broke("M2 FIFO", "client %d receives %d, and %d was released", s.x.lane, first, released)
		case mayBeReleased != ^uint64(0) && first > max(released, mayBeReleased)+1:
			_ = e.broke("M1 NoLoss", "client %d receives %d first, and only %d were released", s.x.lane, first, mayBeReleased)
		}
		if len(e.Broken) > 0 {
			return
		}
		if first != 0 { // what came is known to be unreleased before
			mayBeReleased = first - 1
		}
		released = max(released, s.x.diary.get(pageReleased))
		if taking := max(s.x.diary.get(pageTaking), last+uint64(count(!s.x.calm && last != 0))); mayBeReleased != ^uint64(0) {
			mayBeReleased = max(mayBeReleased, taking)
		}
		if last != 0 {
			seen = max(seen, last)
			mayBeSeen = max(mayBeSeen, seen+uint64(count(!s.x.calm)))
		}
		if s.x.calm && g.server.settled && s.attachment == g.stays[len(g.stays)-1].attachment && last < g.server.diary.get(pageSent) {
			_ = e.broke("M1 NoLoss", "the last client has received up to %d of %d", last, g.server.diary.get(pageSent))
		}
	}
}

var sprint = fmt.Sprintf
