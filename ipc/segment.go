package ipc

import (
	"fmt"
	"sync/atomic"
)

// A segment is one process's shared memory: its control page and the ring that
// it sends on. The owner maps it writable, the peer read-only.
type segment struct {
	mem     []byte // control page, ring, ring again
	control *control
	ring    ring
	file    int          // the memfd, or -1
	dumped  bool         // the memory is in core dumps (Options.DumpRings)
	spoilt  bool         // a client has broken an invariant in it; e.mu guards it
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
// used later: geometry comes from the handshake.
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

// checkNumbers refuses a client's words that speak for one that comes later. number
// is that of the client.
func (s *segment) checkNumbers(number uint64) error {
	attachment, goodbye := s.control.attachment.Load(), s.control.goodbye.Load()
	if attachment > number || goodbye > number {
		return &CorruptError{"I4", fmt.Sprintf("client %d says attachment %d and goodbye %d", number, attachment, goodbye)}
	}
	return nil
}

// positions reads the words that a new owner, or a new peer, continues from.
func (s *segment) positions() positions {
	return positions{s.control.writePos.Load(), s.control.readPos.Load(), s.control.deliveredPos.Load()}
}

// checkPair reads the positions of two segments, once, and refuses those that do
// not fit each other. What it returns is checked; the memory may change.
func checkPair(own, peer *segment) (ownAt, peerAt positions, err error) {
	ownAt, peerAt = own.positions(), peer.positions()
	for _, d := range []struct {
		ring     ring
		from, to positions
	}{{own.ring, ownAt, peerAt}, {peer.ring, peerAt, ownAt}} {
		writePos, readPos := d.from.writePos, d.to.readPos
		if err = d.ring.checkReadPos(readPos, readPos, writePos); err != nil {
			break
		}
		if err = d.ring.checkWritePos(writePos, writePos, readPos); err != nil {
			break
		}
		if err = d.ring.checkDeliveredPos(d.to.deliveredPos, readPos, writePos); err != nil {
			break
		}
	}
	return ownAt, peerAt, err
}

// release gives up one use of the memory.
func (s *segment) release() {
	if s != nil && s.refs.Add(-1) == 0 {
		s.unmap()
	}
}
