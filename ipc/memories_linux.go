//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"sync/atomic"
)

// The client's memory outlives the client (L7), and a former client can keep it mapped
// for as long as it likes. So it is handed on only to clients of the same user, who
// could trace each other anyway (T2). Nobody can free what a former client keeps. To
// punch a hole would take a lock of the file, and whoever has a descriptor can hold that
// lock for ever: a process that waits for it cannot even be killed. So each user has a
// few memories at most, and when all of them are spoilt the oldest is formatted again
// (T1).

// maxMemories is how many memories the clients of one user have at most. One that still
// waits for Receive is not among those that are formatted again.
const maxMemories = maxReplaced + 1

// errOtherUser says why sound memory is replaced.
var errOtherUser = errors.New("another user's client has had it") // nobody is told

// handOn sees that the memory of now can be handed to a client of a user, or replaces
// it. Other memory is made without e.mu, which senders and whoever asks need: that
// takes as long as there is much of it.
//
// Preconditions: s.admission is held, and no client lives.
func (s *server) handOn(uid uint32) error {
	at, other, err := s.mustReplace(uid)
	if err != nil || !other {
		return err
	}
	fresh, err := s.memoryFor(uid, at)
	if err != nil {
		return err
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.e.closing.Load() {
		fresh.release()
		return ErrClosed
	}
	s.renew(uid, fresh, at)
	s.e.bell.interrupt() // who waits for the former memory goes over to this one
	return nil
}

// mustReplace reports whether a client of a user needs other memory, and where that
// continues.
func (s *server) mustReplace(uid uint32) (at positions, other bool, err error) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.memories == nil { // nobody had it before
		s.user, s.memories = uid, map[uint32][]*segment{uid: {s.e.peer}}
		s.e.peer.refs.Add(1) // of s.memories
	}
	if s.granted > 0 && s.e.corrupt == nil {
		s.e.suspectFormer(s.granted)
	}
	if s.user != uid && s.e.corrupt == nil {
		s.e.distrust(errOtherUser)
	}
	if s.e.corrupt == nil {
		return at, false, nil
	}
	at, err = s.renewal()
	return at, true, err
}

// memoryFor returns memory for a client of a user, with the reference of its caller. It
// continues at the given positions.
//
// Preconditions: s.admission is held, and no client lives.
func (s *server) memoryFor(uid uint32, at positions) (*segment, error) {
	have := s.memories[uid]
	n := len(have)
	if n < maxMemories && (n == 0 || have[n-1].spoilt) {
		return s.makeMemoryFor(uid, at)
	}
	next := have[n-1]
	if next.spoilt {
		next = have[0]
		s.memories[uid] = append(have[1:n:n], next)
	}
	if err := next.formatAgain(s.e.generation, at); err != nil {
		return nil, err
	}
	next.spoilt = false
	next.refs.Add(1)
	return next, nil
}

// makeMemoryFor is memoryFor for one that is made now.
func (s *server) makeMemoryFor(uid uint32, at positions) (*segment, error) {
	size := s.e.peer.ring.size
	if err := (machine{}).fits(segmentSize(size)); err != nil {
		return nil, err
	}
	fresh, err := newSegment(RoleClient, s.e.generation, size, at, func() error {
		if s.e.closing.Load() {
			return ErrClosed
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.e.options.DumpRings {
		fresh.dump()
	}
	fresh.refs.Add(1) // of s.memories
	s.memories[uid] = append(s.memories[uid], fresh)
	return fresh, nil
}

// forgetMemories lets them go.
func (s *server) forgetMemories() {
	for _, have := range s.memories {
		for _, memory := range have {
			memory.release()
		}
	}
	s.memories = nil
}

// formatAgain writes all words of a client's memory as in a new one, whoever else may
// write them at the same time. What the ring holds stays: some of it may still have to
// be received.
func (s *segment) formatAgain(generation uint64, at positions) error {
	writable, err := mapSegment(s.file, s.ring.size, true)
	if err != nil {
		return err
	}
	c := writable.control
	for _, word := range []*atomic.Uint64{&c.dataWaitFor, &c.spaceWaitFor, &c.beat, &c.attachment, &c.goodbye} {
		word.Store(0)
	}
	writable.format(RoleClient, generation, at)
	writable.release()
	return nil
}
