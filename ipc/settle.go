//go:build linux && (amd64 || arm64)

package ipc

import (
	"cmp"
	"errors"

	"github.com/tandem-ipc/tandem/internal/step"
)

// proven settles the attachment if nobody holds its token, or its process has ended. The
// socket's end is only the wake-up: a client may freeze between closing the two. A
// copy of the token may outlive the process, in a child that was forked: it keeps
// newcomers out, and hides no death.
func (s *server) proven(a *attachment) bool {
	s.e.mu.Lock()
	over := a.over
	s.e.mu.Unlock()
	if over {
		return true // admission saw it first
	}
	if held, err := a.held(); (err != nil || held) && !a.conn.peer.died() {
		return false
	}
	s.settle(a)
	return true
}

// settle finishes an attachment whose token is free: its account (M6), its end
// for Receive, its event. It does so once, whoever comes first, and before any
// other client is admitted. The messages are counted when whoever waits knows of
// the end, for that takes as long as there are many (L6).
func (s *server) settle(a *attachment) {
	s.counting.Lock() // admission waits for it: the next client would move readPos
	defer s.counting.Unlock()
	end, counts, told := s.conclude(a)
	s.e.bell.interrupt()
	if told {
		s.e.emitCounted(end, counts)
	}
}

// awaitCount waits until the messages of the former client are counted.
func (s *server) awaitCount() {
	s.counting.Lock()
	defer s.counting.Unlock()
}

// conclude is settle without the counting. It reports whether there is an end to
// be told.
func (s *server) conclude(a *attachment) (end Event, counts account, told bool) {
	e := s.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if a.over {
		return Event{}, account{}, false
	}
	a.over = true
	s.current, e.pending = nil, 0
	e.hung.Store(false)
	a.conn.wake() // its watcher, if this is admission
	e.hookApart(step.EndProven, a.number)

	writePos, err := e.finalWritePos()
	counts, accountErr := e.account()
	if e.peer.control.attachment.Load() == a.number || writePos != a.from.writePos || counts.readPos != a.from.readPos { // pairs: attachment
		s.announce(a) // it may have sent before its ready was read, and a hostile one never says it
	}
	end, state := s.verdict(a)
	// The next client would be refused for the words that this one has spoilt.
	err = cmp.Or(err, accountErr, e.peer.check(RoleClient, e.generation), e.peer.checkNumbers(a.number))
	if err != nil && e.corrupt == nil {
		e.corrupt = err
		e.in.writePos.freeze()
		e.out.readPos.freeze()
		counts, _ = e.account()
	}
	e.hookApart(step.AccountTaken, counts.readPos)
	end.Err = e.newPeerError(end.Err, a.number, a.who.pid, counts)
	switch {
	case e.corrupt != nil:
		end.Err = e.corrupt
		e.tally.corruptions++
		e.out.outlived, e.out.hasOutlived = e.out.writePos.settled(), true
		if !e.told {
			e.markEnd(endMark{pos: e.newestWritePos(), err: e.corrupt})
			e.told = true // to Receive, which finds it there; other memory comes with the next client
		}
	case a.ready:
		e.markEnd(endMark{pos: writePos, err: end.Err})
	default:
		e.markEnd(endMark{pos: writePos}) // Receive goes on with the next
	}
	if !a.ready {
		return end, counts, false // it was never announced, and has sent and released nothing
	}
	e.noteEnd(state, end.Err)
	e.state = state
	return end, counts, true
}

// verdict tells a clean end from a death.
func (s *server) verdict(a *attachment) (Event, PeerState) {
	if s.e.peer.control.goodbye.Load() == a.number { // pairs: goodbye
		return Event{Kind: EventClosed, Err: ErrPeerClosed}, PeerClosed
	}
	return Event{Kind: EventDied, Err: ErrPeerDied}, PeerDied
}

// maxReplaced is how many memories wait for Receive at most.
const maxReplaced = 4

var errNotReceived = errors.New("ipc: what corrupt clients have sent must be received first: nobody was admitted: call Receive")

// renewal returns where memory would continue that replaces the memory of a corrupt
// client, or of another user's: at the last positions that were believed. Of a corrupt
// client everything sent counts as perhaps seen.
//
// It fails while Receive has too many memories to go through: each holds messages
// that nobody has received yet, and no client is admitted before one is done with,
// so that hostile clients cannot make a server allocate without bound (T1).
//
// Preconditions: e.mu is held, e.corrupt is set, and no client lives.
func (s *server) renewal() (at positions, err error) {
	e := s.e
	replaced := 0
	for _, mark := range e.ends {
		if mark.peer != nil {
			replaced++
		}
	}
	if replaced >= maxReplaced {
		return at, errNotReceived
	}
	at = positions{deliveredPos: e.out.perhapsSeen(), writePos: e.newestWritePos()}
	at.readPos, _ = e.out.readPos.get()
	if err := e.own.ring.checkDeliveredPos(at.deliveredPos, at.readPos, at.deliveredPos); err != nil {
		return at, err
	}
	sound := e.corrupt == errOtherUser
	if sound {
		at.deliveredPos = e.deliveredSeen // what it was handed is known
	}
	e.peer.spoilt = e.peer.spoilt || !sound
	return at, nil
}

// renew replaces the memory. Receive goes over to the other when it has taken what was
// checked before.
//
// Preconditions: as for renewal, which has returned where fresh begins.
func (s *server) renew(uid uint32, fresh *segment, at positions) {
	e := s.e
	s.user = uid
	fresh.refs.Add(2) // heartbeat, producer, consumer
	if e.fresh != nil {
		e.fresh.release()
	}
	e.fresh = fresh
	mark := endMark{pos: at.writePos, err: e.corrupt, peer: fresh, renewal: e.renewals.Add(1)}
	if e.told {
		mark.err = nil
	}
	e.markEnd(mark)
	e.deliveredSeen = at.deliveredPos
	e.peer.release()
	e.peer = fresh
	e.corrupt, e.told, e.out.hasOutlived = nil, false, false
	e.out.attention.Store(true)
}
