package ipc

import (
	"runtime"
	"sync/atomic"
)

// An ownPos is a position of this process as it knows it itself. The shared word is
// written and never read back: the server made the client's memory, and a former
// client may have kept its mapping of it (T1). The holder of the end's gate moves it,
// with a store that costs next to nothing; anybody reads it.
type ownPos struct{ word atomic.Uint64 }

// underWayBit says that the shared word is just being stored: nobody but the mover
// knows then whether the peer has seen it.
const underWayBit = 1

func (o *ownPos) load() uint64   { return o.word.Load() &^ underWayBit }
func (o *ownPos) set(pos uint64) { putOwn(&o.word, pos) }

// begin says that the shared word is about to be stored; set ends it.
func (o *ownPos) begin(pos uint64) { putOwn(&o.word, pos|underWayBit) }

// settled is what the shared word holds. The mover neither waits nor calls anything
// between begin and set.
func (o *ownPos) settled() uint64 {
	for {
		if pos := o.word.Load(); pos&underWayBit == 0 {
			return pos
		}
		runtime.Gosched()
	}
}

// A seenPos is the last position of the peer that was checked and acted upon.
// The holder of the end's gate advances it; anybody may freeze it, when the
// peer turns out to be corrupt, and then knows that nobody acts on a later one.
// Positions are multiples of recordAlign, so that the lowest bit is free to say
// that it is frozen.
type seenPos struct{ word atomic.Uint64 }

const frozenBit = 1

func (s *seenPos) get() (pos uint64, frozen bool) {
	v := s.word.Load()
	return v &^ frozenBit, v&frozenBit != 0
}

// pos is the position, frozen or not.
func (s *seenPos) pos() uint64 { return s.word.Load() &^ frozenBit }

func (s *seenPos) set(pos uint64) { s.word.Store(pos) }

// advance moves it from old to new, unless it was frozen meanwhile.
func (s *seenPos) advance(old, new uint64) bool {
	return old == new && s.word.Load() == old || s.word.CompareAndSwap(old, new)
}

// raise moves it forward to pos, and leaves it frozen if it is. It reports false if
// somebody has acted upon a later position already.
//
// Preconditions: nobody else moves it now.
func (s *seenPos) raise(pos uint64) bool {
	word := s.word.Load()
	if int64(pos-word&^frozenBit) < 0 {
		return false
	}
	s.word.Store(pos | word&frozenBit)
	return true
}

// freeze stops it where it is.
func (s *seenPos) freeze() uint64 {
	return s.word.Or(frozenBit) &^ frozenBit
}

func (s *seenPos) thaw() { s.word.And(^uint64(frozenBit)) }
