package ipc

import (
	"runtime"
	"sync/atomic"
)

// Stats counts what an endpoint has done since Listen or Dial, up to Close.
type Stats struct {
	ToServerSize, ToClientSize int // the rings in bytes, as the server has made them

	Sent, Received           uint64 // messages committed, messages taken
	SentBytes, ReceivedBytes uint64 // committed, and released here, with headers and padding
	UnreleasedBytes          uint64 // committed here and not released by the peer, with headers and padding
	UnreceivedBytes          uint64 // committed by the peer and not taken here, likewise
	HeldViews                int    // views taken here and not released

	Sleeps uint64 // waits that went to sleep in the kernel
	Wakes  uint64 // system calls made to wake the peer

	Attachments, Closes, Deaths, Hangs, Corruptions uint64
}

// tally is the part of Stats that e.mu guards.
type tally struct {
	attachments, closes, deaths, hangs, corruptions uint64
}

// A counter is a number that the holder of a gate counts and anybody reads. The
// shared copy is brought up to date when the counting is about to rest.
type counter struct {
	value   atomic.Uint64 // the holder of the gate moves it
	settled atomic.Uint64
}

func (c *counter) count(n int) { putOwn(&c.value, c.value.Load()+uint64(n)) }
func (c *counter) settle()     { c.settled.Store(c.value.Load()) }

// read returns the value: exact if the gate is free or its holder rests.
func (c *counter) read(g *gate) uint64 {
	for range 100 {
		if g.glance(c.settle) {
			break
		}
		runtime.Gosched()
	}
	return c.settled.Load()
}

// Stats returns the counts.
func (e *Endpoint) Stats() Stats {
	if !e.isOpened() {
		return Stats{}
	}
	s := Stats{
		Sent:      e.out.sent.read(&e.out.gate),
		Received:  e.in.received.read(&e.in.gate),
		HeldViews: int(e.in.held.Load()),
		Sleeps:    e.bell.sleeps.Load(),
		Wakes:     e.bell.wakes.Load(),
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s.Attachments, s.Closes, s.Deaths = e.tally.attachments, e.tally.closes, e.tally.deaths
	s.Hangs, s.Corruptions = e.tally.hangs, e.tally.corruptions
	bytes := e.atClose
	if !e.leaving.Load() { // else the memory may be gone
		bytes = e.byteCounts()
	}
	s.SentBytes, s.ReceivedBytes, s.UnreleasedBytes, s.UnreceivedBytes = bytes.sent, bytes.received, bytes.unreleased, bytes.unreceived
	s.ToServerSize, s.ToClientSize = int(e.peer.ring.size), int(e.own.ring.size)
	if e.role == RoleClient {
		s.ToServerSize, s.ToClientSize = s.ToClientSize, s.ToServerSize
	}
	return s
}

// byteCounts are the counts of Stats that the positions tell.
type byteCounts struct{ sent, received, unreleased, unreceived uint64 }

// byteCounts takes them from the positions.
//
// Preconditions: e.mu is held, and the memory is mapped.
func (e *Endpoint) byteCounts() byteCounts {
	released, _ := e.out.readPos.get()       // also frozen: then fresh memory began there
	readPos := e.peer.control.readPos.Load() // a guess that nobody acts upon
	writePos := e.out.writePos.load()
	if e.corrupt == nil && readPos-released <= writePos-released {
		released = readPos
	}
	memory, from, to := e.in.unreceived()
	memory.release()
	return byteCounts{
		unreceived: min(to-from, e.peer.ring.size), // beside a receiver at work they are of two moments
		sent:       writePos - e.firstWritePos,
		received:   e.in.views.readPos.load() - e.firstReadPos,
		unreleased: min(writePos-released, e.own.ring.size),
	}
}
