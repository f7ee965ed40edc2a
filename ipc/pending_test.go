//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

// The largest message fits, and one byte more does not; the client knows the rings
// that the server has made, whatever its own options say.
func TestM8WhatARingHoldsIsKnownOnBothSides(t *testing.T) {
	page := os.Getpagesize()
	server, client := pair(t, &Options{ToServerSize: 2 * page, ToClientSize: 4 * page}, &Options{ToServerSize: 8 * page})
	for _, e := range []*Endpoint{server, client} {
		most := e.MaxMessage()
		if err := e.TrySend(1, make([]byte, most+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("the %s sends one byte more than the most: %v", e.Role(), err)
		}
		if err := e.TrySend(1, make([]byte, most)); err != nil {
			t.Errorf("the %s sends its most, %d bytes: %v", e.Role(), most, err)
		}
		if s := e.Stats(); s.ToServerSize != 2*page || s.ToClientSize != 4*page {
			t.Errorf("the %s says rings of %d and %d", e.Role(), s.ToServerSize, s.ToClientSize)
		}
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if s := client.Stats(); s.ToServerSize != 2*page || s.ToClientSize != 4*page || client.MaxMessage() == 0 {
		t.Errorf("behind its Close the client says rings of %d and %d, and a most of %d", s.ToServerSize, s.ToClientSize, client.MaxMessage())
	}
}

// What is pending is known without a client too, and by the next one (L7).
func TestM8L7PendingOutlivesAClient(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, nil)
	check := func(e *Endpoint, unreleased, unreceived int) {
		t.Helper()
		out, in := e.Pending()
		s := e.Stats()
		if out != unreleased || in != unreceived || (s.UnreceivedBytes == 0) != (unreceived == 0) {
			t.Fatalf("the %s has %d unreleased, %d unreceived (%d bytes); want %d and %d", e.Role(), out, in, s.UnreceivedBytes, unreleased, unreceived)
		}
	}
	check(server, 0, 0)
	sendAll(t, server, 1, 2, 3)
	client := dialHere(t, path, nil)
	sendAll(t, client, 4, 5)
	m, err := client.Receive(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	check(client, 2, 2) // one is held
	check(server, 3, 2)
	waits := client.Stats().UnreceivedBytes
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Release(); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	nextEvent(t, server, EventAttached)
	nextEvent(t, server, EventClosed)
	check(server, 3, 2)
	if s := client.Stats(); s.UnreceivedBytes != waits {
		t.Errorf("behind its Close the client had %d bytes to receive, want %d", s.UnreceivedBytes, waits)
	}
	if out, in := client.Pending(); out != 0 || in != 0 {
		t.Errorf("behind its Close the client has %d and %d pending", out, in)
	}
	client = dialHere(t, path, nil)
	check(client, 2, 3)
	if _, err := server.Receive(testContext(t)); err != nil {
		t.Fatal(err)
	}
	check(server, 3, 1)
	check(client, 2, 3)
}

// It is counted beside those who send and receive, and is never more than fits.
func TestM8PendingBesideTraffic(t *testing.T) {
	page := os.Getpagesize()
	server, client := pair(t, &Options{ToClientSize: page}, nil)
	most := page / int(recordSize(8))
	var traffic sync.WaitGroup
	var done atomic.Bool
	spawn(&traffic, func() {
		for !done.Load() {
			if err := server.TrySend(1, make([]byte, 8)); err != nil && !errors.Is(err, ErrFull) {
				t.Error(err)
				return
			}
		}
	})
	spawn(&traffic, func() {
		for i := 0; !done.Load(); i++ {
			m, err := client.TryReceive()
			if err == nil {
				err = m.Release()
			}
			if err != nil && !errors.Is(err, ErrEmpty) {
				t.Error(err)
				return
			}
		}
	})
	for range 3000 {
		out, _ := server.Pending()
		_, in := client.Pending()
		if out < 0 || out > most || in < 0 || in > most || client.Stats().UnreceivedBytes > uint64(page) {
			t.Fatalf("%d unreleased, %d unreceived, and the ring holds %d", out, in, most)
		}
	}
	done.Store(true)
	traffic.Wait()
}

// Whatever a client says, the counting ends, and nothing is believed.
func TestT1PendingOfAHostileClient(t *testing.T) {
	page := os.Getpagesize()
	server := listenHere(t, testPath(t), hostileOptions())
	sendAll(t, server, 1, 2)
	client := rawAttach(t, server.Path())
	nextEvent(t, server, EventAttached)
	ring := client.own.ring
	for _, header := range []uint64{0, 1, 8, uint64(page), 1<<32 - 1, 1<<32 - 16} {
		for pos := uint64(0); pos < ring.size; pos += recordAlign {
			ring.header(pos).Store(header)
		}
		for _, writePos := range []uint64{0, 8, 12, ring.size, ring.size + 8, 1 << 63, ^uint64(7)} {
			client.own.control.writePos.Store(writePos)
			client.own.control.readPos.Store(writePos)
			out, in := server.Pending()
			if out < 0 || out > 2 || in < 0 || in > int(ring.size)/headerSize {
				t.Errorf("header %#x, positions %#x: %d unreleased, %d unreceived", header, writePos, out, in)
			}
			if s := server.Stats(); s.UnreceivedBytes > ring.size {
				t.Errorf("header %#x, positions %#x: %d bytes unreceived", header, writePos, s.UnreceivedBytes)
			}
		}
	}
	if p := server.Peer(); p.State != PeerAttached {
		t.Errorf("peer %+v, and nobody has judged it", p)
	}
}
