package chaos

import (
	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// A ledger keeps one direction of one generation, by the steps that its two ends
// have reached. A process that dies leaves its stores as far as it got, so the
// last position that a step told is the one that the survivors must find. What
// the calls return, to those who live to see it, is compared with that.
type ledger struct {
	stream *Stream
	ends   []uint64 // in the order of Sent: the position behind it; 0 if it was not committed

	published uint64 // by the sender's steps
	released  uint64 // by the receiver's
	handed    uint64 // likewise, of the life that receives now
	began     uint64 // where that life began
	unsettled int    // how many of Sent are under way
}

func newLedger(generation uint32, direction string, ringSize int) *ledger {
	return &ledger{stream: &Stream{Generation: generation, Direction: direction, RingSize: uint64(ringSize), Exact: true}}
}

// sending enters messages that somebody is about to send, of unknown outcome.
func (l *ledger) sending(life int, lane uint16, c command) {
	end := l.published
	l.unsettled += len(c.Sizes)
	for i, size := range c.Sizes {
		size = max(size, idSize)
		end += recordSize(size)
		l.stream.Sent = append(l.stream.Sent, Sent{
			ID: ID{l.stream.Generation, lane, c.First + uint32(i)}, Size: size, Life: life,
		})
		l.ends = append(l.ends, end)
	}
}

// sent settles what was entered last: committed is what the steps say.
func (l *ledger) sent(count int) {
	l.unsettled -= count
	for i := len(l.ends) - count; i < len(l.ends); i++ {
		if l.ends[i] <= l.published {
			l.stream.Sent[i].Committed = Yes
			continue
		}
		l.stream.Sent[i].Committed = No
		l.ends[i] = 0
	}
}

// waiting is how many committed messages the receiver was not handed yet.
func (l *ledger) waiting() (count int) {
	for _, end := range l.ends {
		if end > max(l.handed, l.began) && end <= l.published {
			count++
		}
	}
	return count
}

// refused enters a try to send that found no room.
func (l *ledger) refused(size int) {
	l.stream.Refusals = append(l.stream.Refusals, Refusal{Size: max(size, idSize), Unreleased: l.published - l.released})
}

// reach notes a step of the sender or the receiver.
func (l *ledger) reach(at step.ID, value uint64) {
	switch at {
	case step.Published:
		l.published = value
	case step.Delivered:
		l.handed = value
	case step.Released:
		l.released = value
	}
}

// received enters what a receiver was handed.
func (l *ledger) received(messages []Received, ends []End) {
	before := len(l.stream.Received)
	l.stream.Received = append(l.stream.Received, messages...)
	for _, end := range ends {
		end.After += before
		l.stream.Ends = append(l.stream.Ends, end)
	}
}

// begin opens the life of a receiver.
func (l *ledger) begin() { l.began, l.handed = l.released, l.released }

// finish closes the life of a receiver: what it was handed and did not live to
// show is entered, if it died, and what it has released is settled.
func (l *ledger) finish(life int, died bool) {
	shown := map[ID]bool{}
	var seen []*Received
	for i := range l.stream.Received {
		if r := &l.stream.Received[i]; r.Life == life {
			shown[r.ID] = true
			seen = append(seen, r)
		}
	}
	before := map[ID]bool{}
	for _, r := range l.stream.Received {
		before[r.ID] = true
	}
	position := map[ID]uint64{}
	var unseen []Received
	for i, m := range l.stream.Sent {
		position[m.ID] = l.ends[i]
		if died && l.ends[i] > l.began && l.ends[i] <= l.handed && !shown[m.ID] {
			unseen = append(unseen, Received{ID: m.ID, Life: life, Unseen: true, Redelivered: before[m.ID]})
		}
	}
	settle := func(r *Received) {
		r.Released = No
		if end := position[r.ID]; end != 0 && end <= l.released {
			r.Released = Yes
		}
	}
	for _, r := range seen {
		settle(r)
	}
	for i := range unseen {
		settle(&unseen[i])
	}
	l.stream.Received = append(l.stream.Received, unseen...)
}

// settled is how many of Sent are not under way: they are the oldest.
func (l *ledger) settled() int { return len(l.stream.Sent) - l.unsettled }

// account enters what the sender was told when the life of a receiver had ended,
// of messages of which so many were settled before it asked.
func (l *ledger) account(life, settled int, list []Unreleased) {
	l.stream.Accounts = append(l.stream.Accounts, Account{
		Life: life, Sent: settled, After: len(l.stream.Received), Unreleased: list,
	})
}

// depart enters the end of a life of the sender.
func (l *ledger) depart(life int, goodbye bool) {
	closed := No
	if goodbye {
		closed = Yes
	}
	l.stream.Departed = append(l.stream.Departed, Departure{Life: life, Closed: closed})
}

// directions are the ledgers of one generation.
type directions struct{ toServer, toClient *ledger }

// out is the direction that a role sends on, and in the one that it receives on.
func (d directions) out(role ipc.Role) *ledger {
	if role == ipc.RoleServer {
		return d.toClient
	}
	return d.toServer
}

func (d directions) in(role ipc.Role) *ledger {
	if role == ipc.RoleServer {
		return d.toServer
	}
	return d.toClient
}
