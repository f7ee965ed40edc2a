package ipc

import "sync/atomic"

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

// stop moves it from old to new and freezes it there, in one step.
func (s *seenPos) stop(old, new uint64) bool {
	return s.word.CompareAndSwap(old, new|frozenBit)
}

// freeze stops it where it is.
func (s *seenPos) freeze() uint64 {
	return s.word.Or(frozenBit) &^ frozenBit
}

// passed reports whether it was advanced behind pos. What the caller has read
// before was read before the answer holds: that is what the write is for.
func (s *seenPos) passed(pos uint64) bool {
	return int64((s.word.Or(0)&^frozenBit)-pos) > 0
}

func (s *seenPos) thaw() { s.word.And(^uint64(frozenBit)) }
