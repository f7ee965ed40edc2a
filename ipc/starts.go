package ipc

import (
	"encoding/binary"
	"math/bits"
)

// chunkCount is into how many chunks starts divides a ring.
const chunkCount = 64

// starts knows where in its ring the records of a producer begin: the first in
// each chunk; the others are found from there by their headers, which lie in the
// producer's own memory. A server needs it, because a hostile client that
// releases half a record would leave its successor to begin in the middle (T1).
// It lies in private memory, and costs a sender one comparison a record.
type starts struct {
	known bool // false at a client, where every position is allowed
	shift int
	first [chunkCount]uint64 // in this chunk, or an old one of the lap before
}

// init begins with an empty ring at a position.
func (s *starts) init(ringSize, at uint64) {
	s.known, s.shift = true, bits.TrailingZeros64(ringSize/chunkCount)
	for i := range s.first {
		s.first[i] = at
	}
}

// mark records that a record that begins at pos ends at next.
func (s *starts) mark(pos, next uint64) {
	if chunk := next >> s.shift; chunk != pos>>s.shift {
		s.first[chunk%chunkCount] = next
	}
}

// unmark forgets the records between committed and filled, which were undone.
// committed begins a record, or will; a mark that lies too early costs some steps.
func (s *starts) unmark(committed, filled uint64) {
	size := uint64(1) << s.shift
	for pos := (committed | (size - 1)) + 1; int64(filled-pos) >= 0; pos += size { // over the wrap too
		s.first[pos>>s.shift%chunkCount] = committed
	}
}

// standBetween reports whether readPos stands between two records, given that
// seen does, and that both lie in what is committed. It reads beside a sender by
// design: what it reads is not written over, because the sender sees no position
// behind seen as long as the caller holds e.mu.
//
//go:norace
func (s *starts) standBetween(r ring, seen, readPos uint64) bool {
	if !s.known {
		return true
	}
	pos := seen
	if first := s.first[readPos>>s.shift%chunkCount]; first-seen <= readPos-seen {
		pos = first
	}
	for pos-seen < readPos-seen {
		header := binary.LittleEndian.Uint64(r.mem[r.index(pos):])
		pos += recordSize(int(uint32(header)))
	}
	return pos == readPos
}
