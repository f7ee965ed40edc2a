package ipc

import (
	"errors"
	"fmt"
)

var errMoreThanSent = errors.New("more records than were sent") // does not leave the package

// An account is what one side knows of the messages that it committed: which of
// them its peer has released, and which it may have seen (M6).
type account struct {
	readPos, deliveredPos, writePos uint64
}

// account reads the peer's positions for what this side sends, and checks them.
//
// Preconditions: e.mu is held, and the memory is mapped.
func (e *Endpoint) account() (account, error) {
	a := account{writePos: e.out.writePos.settled()}
	seen, _ := e.out.readPos.get() // also frozen: then fresh memory began there
	if e.corrupt != nil {
		a.readPos, a.deliveredPos = seen, e.out.perhapsSeen()
		return a, nil
	}
	peer := e.peer.control
	a.readPos = peer.readPos.Load()           // pairs: message-released
	a.deliveredPos = peer.deliveredPos.Load() // pairs: message-delivered
	a.writePos = e.out.writePos.settled()
	if err := e.out.checkReadPos(a.readPos, seen, a.writePos); err != nil {
		return account{}, err
	}
	// A live peer may move both between the two loads: then the mark is ahead.
	if err := e.own.ring.checkDeliveredPos(a.deliveredPos, a.readPos, a.writePos); err != nil {
		return account{}, err
	}
	if int64(a.deliveredPos-e.deliveredSeen) < 0 {
		return account{}, &CorruptError{"I2", fmt.Sprintf("deliveredPos %d went back from %d", a.deliveredPos, e.deliveredSeen)}
	}
	e.deliveredSeen = a.deliveredPos
	e.out.readPos.raise(a.readPos) // Flush and Unreleased report this release: the peer cannot take it back (I1)
	return a, nil
}

// perhapsSeen is how far a corrupt peer may have seen what was sent: its own word is not
// believed.
//
// Preconditions: e.mu is held.
func (p *producer) perhapsSeen() uint64 {
	if p.hasOutlived {
		return p.outlived
	}
	return p.writePos.settled()
}

// list copies the messages of the account out of the ring. It reads beside a sender
// by design: what it reads is not written over, because it is kept (see keep).
//
//go:norace
func (e *Endpoint) list(a account) ([]Unreleased, error) {
	// Two allocations, and none that moves what is there: nothing else runs while
	// the Go runtime moves much.
	n, _ := e.count(a)
	unreleased, all := make([]Unreleased, 0, n), make([]byte, 0, a.writePos-a.readPos)
	own := e.out.sent.value.Load()
	for pos := a.readPos; pos != a.writePos; {
		r, err := e.recordOf(a, pos, &own)
		if err != nil {
			return nil, &CorruptError{"I1", fmt.Sprintf("behind readPos %d stands what was not sent", a.readPos)}
		}
		begin := len(all)
		all = append(all, e.own.ring.payload(pos, r.size)...)
		unreleased = append(unreleased, Unreleased{all[begin:len(all):len(all)], r.kind, int64(a.deliveredPos-pos) > 0})
		pos = r.next
	}
	return unreleased, nil
}

// recordOf reads the record at pos of an account. At a client others may have written
// over it; so what stood there before this endpoint came ends where its own messages
// begin, and of these there are no more than it has sent, which own counts down (T1).
//
//go:norace
func (e *Endpoint) recordOf(a account, pos uint64, own *uint64) (record, error) {
	if int64(e.firstWritePos-pos) > 0 {
		return e.own.ring.peek(pos, e.firstWritePos)
	}
	if *own == 0 {
		return record{}, errMoreThanSent
	}
	*own--
	return e.own.ring.peek(pos, a.writePos)
}

// count tells how many messages the account leaves unreleased, and how many of
// them the peer may have seen.
//
// Preconditions: the memory is mapped. It is exact if what the account has is kept,
// or no peer is there to move readPos.
//
//go:norace
func (e *Endpoint) count(a account) (unreleased, redeliverable int) {
	own := e.out.sent.value.Load()
	for pos := a.readPos; pos != a.writePos; unreleased++ {
		r, err := e.recordOf(a, pos, &own)
		if err != nil {
			return unreleased, redeliverable
		}
		if int64(a.deliveredPos-pos) > 0 {
			redeliverable++
		}
		pos = r.next
	}
	return unreleased, redeliverable
}

// Unreleased returns copies of the messages that this side committed and that no
// peer has released, oldest first (M6). After the end of a peer it is the exact
// account of what that peer left; while one is attached it is a moment's. A sender
// that finds the ring full waits until they are copied.
func (e *Endpoint) Unreleased() ([]Unreleased, error) {
	if !e.isOpened() {
		return nil, ErrClosed
	}
	for {
		list, done, err := e.unreleased()
		if done || err != nil {
			return list, err
		}
	}
}

// unreleased is one attempt. It is not done if what it found wrong is the work of a
// client that has gone since.
func (e *Endpoint) unreleased() (list []Unreleased, done bool, err error) {
	e.mu.Lock()
	if e.closing.Load() {
		e.mu.Unlock()
		return nil, false, ErrClosed
	}
	a, err := e.account()
	own := e.own
	own.refs.Add(1) // it is read without e.mu, on which the heartbeat waits, and maybe beside a Close
	defer own.release()
	if err == nil {
		e.out.keep(a.readPos)
		defer e.out.unkeep(a.readPos)
	}
	e.mu.Unlock()
	if err == nil {
		list, err = e.list(a)
	}
	if e.closing.Load() {
		return nil, false, ErrClosed // what was read may have been unmapped
	}
	if err != nil {
		return nil, false, e.expel(false, func() error {
			if _, now := e.account(); now != nil || e.role == RoleServer {
				return now // a former client's was judged with its end
			}
			return err
		})
	}
	return list, true, nil
}
