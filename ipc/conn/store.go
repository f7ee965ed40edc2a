package conn

import "github.com/tandem-ipc/tandem/ipc"

// A store holds the bytes of a stream that have come and are not read yet. It grows
// as they need, up to the window.
//
// The oldest of them may still lie in shared memory, in a view: if a Read waits, the
// loop that receives gives it the message itself, which saves a copy. A view is kept
// only until that Read runs, or the next bytes come: it holds back the ring for all
// connections.
type store struct {
	ring        []byte
	start, size int

	view ipc.Message
	rest []byte // of view; then ring is empty
}

// worthAView is the size from which a copy costs more than what a view does.
const worthAView = 4 << 10

// count is how many bytes there are.
func (s *store) count() int { return s.size + len(s.rest) }

// keepView takes over a message, if it can.
func (s *store) keepView(m ipc.Message, body []byte) bool {
	if s.count() > 0 || len(body) < worthAView {
		return false
	}
	s.view, s.rest = m, body
	return true
}

// dropView copies what is left in the view, and releases it.
func (s *store) dropView(limit int) {
	if len(s.rest) > 0 {
		rest := s.rest
		s.rest = nil
		s.write(rest, limit)
		s.release()
	}
}

func (s *store) release() {
	_ = s.view.Release() // at a closed endpoint it is released too
	s.view, s.rest = ipc.Message{}, nil
}

// write appends bytes; the caller knows that they fit the limit.
func (s *store) write(b []byte, limit int) {
	if need := s.size + len(b); need > len(s.ring) {
		ring := make([]byte, min(limit, max(need, 2*len(s.ring))))
		s.size = s.readRing(ring)
		s.ring, s.start = ring, 0
	}
	end := (s.start + s.size) % max(1, len(s.ring))
	copy(s.ring, b[copy(s.ring[end:], b):])
	s.size += len(b)
}

// read takes the oldest bytes. It keeps no view, also if b faults: nobody else may come
// to read it.
func (s *store) read(b []byte, limit int) int {
	if len(s.rest) == 0 {
		return s.readRing(b)
	}
	n := 0
	defer func() {
		if s.rest = s.rest[n:]; len(s.rest) == 0 {
			s.release()
		} else {
			s.dropView(limit)
		}
	}()
	n = copy(b, s.rest)
	return n
}

func (s *store) readRing(b []byte) int {
	first := s.ring[s.start:min(s.start+s.size, len(s.ring))]
	n := copy(b, first)
	n += copy(b[n:], s.ring[:s.size-len(first)])
	s.size -= n
	if s.start = (s.start + n) % max(1, len(s.ring)); s.size == 0 {
		s.start = 0
	}
	return n
}

// clear drops all.
func (s *store) clear() {
	if len(s.rest) > 0 {
		s.release()
	}
	*s = store{}
}
