package ipc

import (
	"fmt"
	"sync/atomic"
)

// A record is a header of eight bytes, the payload, and padding to the next
// multiple of eight. The header holds the payload's size in its low half and
// the message's kind in its high half.
const (
	headerSize  = 8
	recordAlign = 8
)

// A ring is one direction's bytes as its producer or its consumer sees them. Its
// memory is mapped twice back to back, so that every record is contiguous. It
// makes no system call, and it knows no waiting.
type ring struct {
	mem  []byte // two views of the same bytes
	size uint64 // of one view; a power of two
}

// recordSize is the space that a payload takes in the ring. It does not
// overflow for any payload that fits one.
func recordSize(payload int) uint64 {
	return (uint64(payload) + headerSize + recordAlign - 1) &^ (recordAlign - 1)
}

// maxPayload is the largest payload that the ring can hold.
func (r ring) maxPayload() int { return int(r.size) - headerSize }

// index is where a position lies in the memory.
func (r ring) index(pos uint64) uint64 { return pos & (r.size - 1) }

// header is the word in front of the payload at pos.
func (r ring) header(pos uint64) *atomic.Uint64 { return wordAt(r.mem, r.index(pos)) }

// payload is the bytes behind the header at pos; appending to it cannot touch
// what follows.
func (r ring) payload(pos uint64, size int) []byte {
	start := r.index(pos) + headerSize
	end := start + uint64(size)
	return r.mem[start:end:end]
}

// putHeader stores a record's header, and returns the position behind the record.
func (r ring) putHeader(pos uint64, kind uint32, size int) uint64 {
	putWord(r.mem, r.index(pos), uint64(size)|uint64(kind)<<32)
	return pos + recordSize(size)
}

// A record is one message in the ring: its place, and what its header says.
type record struct {
	kind uint32
	size int
	pos  uint64
	next uint64
}

// load reads the header at pos, once; only the copy is used.
func (r ring) load(pos uint64) record {
	header := r.header(pos).Load()
	return record{uint32(header >> 32), int(uint32(header)), pos, pos + recordSize(int(uint32(header)))}
}

// within reports whether all of the record is committed, if limit is.
func (r *record) within(limit uint64) bool { return r.next-r.pos <= limit-r.pos }

// beyond says what is wrong with a record that is not.
func (r *record) beyond(limit uint64) error {
	return &CorruptError{"I3", fmt.Sprintf("record of %d bytes at %d, of which %d are committed", r.size, r.pos, limit-r.pos)}
}

// peek reads and checks the record at pos, of which limit-pos bytes are committed.
func (r ring) peek(pos, limit uint64) (record, error) {
	rec := r.load(pos)
	if !rec.within(limit) {
		return record{}, rec.beyond(limit)
	}
	return rec, nil
}

// isWritePos reports whether a peer's writePos keeps I1 and did not go back behind
// what was seen of it. readPos is the reader's own.
func (r ring) isWritePos(writePos, seen, readPos uint64) bool {
	return writePos-readPos <= r.size && writePos-seen <= r.size && writePos%recordAlign == 0
}

// checkWritePos says what is wrong with a writePos that is none.
func (r ring) checkWritePos(writePos, seen, readPos uint64) error {
	if !r.isWritePos(writePos, seen, readPos) {
		return &CorruptError{"I1", fmt.Sprintf("writePos %d, seen %d, readPos %d, ring of %d", writePos, seen, readPos, r.size)}
	}
	return nil
}

// checkReadPos refuses a peer's readPos that breaks I1, or that went back behind
// what was seen of it. writePos is the writer's own.
func (r ring) checkReadPos(readPos, seen, writePos uint64) error {
	if writePos-readPos > r.size || readPos-seen > r.size || readPos%recordAlign != 0 {
		return &CorruptError{"I1", fmt.Sprintf("readPos %d, seen %d, writePos %d, ring of %d", readPos, seen, writePos, r.size)}
	}
	return nil
}

// checkDeliveredPos refuses a deliveredPos outside of what is in the ring.
func (r ring) checkDeliveredPos(deliveredPos, readPos, writePos uint64) error {
	if deliveredPos-readPos > writePos-readPos || deliveredPos%recordAlign != 0 {
		return &CorruptError{"I2", fmt.Sprintf("deliveredPos %d, readPos %d, writePos %d", deliveredPos, readPos, writePos)}
	}
	return nil
}

// crosses reports whether a position that moved from old to new has reached
// waitFor (W1). It holds at the wrap of 64 bits too.
func crosses(old, new, waitFor uint64) bool { return waitFor-old-1 < new-old }
