package ipc

import (
	"fmt"
	"sync/atomic"
)

// A segment is one process's shared memory: its control page and the ring that
// it sends on. The owner maps it writable, the peer read-only (D3).
type segment struct {
	mem     []byte // control page, ring, ring again
	control *control
	ring    ring
	file    int          // the memfd, or -1
	refs    atomic.Int32 // whoever may still touch mem; the last one unmaps it
}

// positions is where a segment's words stand when it is formatted.
type positions struct{ writePos, readPos, deliveredPos uint64 }

// segmentSize is the size of a segment's file.
func segmentSize(ringSize uint64) int64 { return int64(controlSize()) + int64(ringSize) }

// lay describes mapped memory.
func lay(mem []byte, ringSize uint64, file int) *segment {
	s := &segment{mem: mem, control: controlOf(mem), file: file}
	s.ring = ring{mem: mem[controlSize():], size: ringSize}
	s.refs.Store(1)
	return s
}

// format writes the words of a new segment. Everything else is zero.
func (s *segment) format(owner Role, generation uint64, at positions) {
	s.control.version.Store(protocolVersion | uint64(owner)<<32)
	s.control.fingerprint.Store(layoutFingerprint())
	s.control.generation.Store(generation)
	s.control.ringSize.Store(s.ring.size)
	s.control.writePos.Store(at.writePos)
	s.control.readPos.Store(at.readPos)
	s.control.deliveredPos.Store(at.deliveredPos)
	s.control.magic.Store(segmentMagic)
}

// check refuses memory that is not what the handshake said. Nothing of it is
// used later: geometry comes from the handshake (D9).
func (s *segment) check(owner Role, generation uint64) error {
	for _, word := range []struct {
		name string
		got  uint64
		want uint64
	}{
		{"magic", s.control.magic.Load(), segmentMagic},
		{"version", s.control.version.Load(), protocolVersion | uint64(owner)<<32},
		{"fingerprint", s.control.fingerprint.Load(), layoutFingerprint()},
		{"generation", s.control.generation.Load(), generation},
		{"ringSize", s.control.ringSize.Load(), s.ring.size},
	} {
		if word.got != word.want {
			return &CorruptError{"I0", fmt.Sprintf("%s's %s is %#x, want %#x", owner, word.name, word.got, word.want)}
		}
	}
	return nil
}

// checkPair refuses positions of two segments that do not fit each other, as a
// client finds them when it attaches.
func checkPair(own, peer *segment) error {
	for _, d := range []struct{ from, to *segment }{{own, peer}, {peer, own}} {
		writePos, readPos := d.from.control.writePos.Load(), d.to.control.readPos.Load()
		if err := d.from.ring.checkReadPos(readPos, readPos, writePos); err != nil {
			return err
		}
		if err := d.from.ring.checkWritePos(writePos, writePos, readPos); err != nil {
			return err
		}
		if err := d.from.ring.checkDeliveredPos(d.to.control.deliveredPos.Load(), readPos, writePos); err != nil {
			return err
		}
	}
	return nil
}

// release gives up one use of the memory.
func (s *segment) release() {
	if s != nil && s.refs.Add(-1) == 0 {
		s.unmap()
	}
}
