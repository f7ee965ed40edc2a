//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
)

// hostileRing is small, so that every position is soon reached.
func hostileOptions() *Options {
	return &Options{ToServerSize: os.Getpagesize(), ToClientSize: os.Getpagesize(), Spin: NoSpin}
}

// record writes one record at a place of the raw client's ring, and returns the
// place behind it.
func (r *rawClient) record(pos uint64, kind uint32, size int) uint64 {
	return r.own.ring.putHeader(pos, kind, size)
}

// A scribble is what a client writes into its memory. wants is the invariant that
// it breaks, or "" if the memory is sound and only means something odd.
type scribble struct {
	name  string
	write func(r *rawClient)
	wants string
}

// The server has sent three messages of 24 bytes when a scribble begins, so that
// its writePos is 72; the client has released nothing and sent nothing.
var scribbles = []scribble{
	{"nothing", func(r *rawClient) {}, ""},
	{"writePos beyond the ring", func(r *rawClient) { r.own.control.writePos.Store(r.own.ring.size + 8) }, "I1"},
	{"writePos far beyond", func(r *rawClient) { r.own.control.writePos.Store(1 << 63) }, "I1"},
	{"writePos all ones", func(r *rawClient) { r.own.control.writePos.Store(^uint64(0)) }, "I1"},
	{"writePos unaligned", func(r *rawClient) { r.own.control.writePos.Store(r.record(0, 1, 0) + 3) }, "I1"},
	{"writePos before the start", func(r *rawClient) { r.own.control.writePos.Store(^uint64(7)) }, "I1"},
	{"record that is longer than what is committed", func(r *rawClient) { r.record(0, 1, 100); r.own.control.writePos.Store(64) }, "I3"},
	{"record of 4 GiB", func(r *rawClient) {
		r.own.ring.header(0).Store(1<<32 - 1)
		r.own.control.writePos.Store(64)
	}, "I3"},
	{"record of 4 GiB less a header", func(r *rawClient) {
		r.own.ring.header(0).Store(1<<32 - 8)
		r.own.control.writePos.Store(r.own.ring.size)
	}, "I3"},
	{"sound records, then a wrong one", func(r *rawClient) {
		pos := r.record(0, 1, 8)
		pos = r.record(pos, 2, 8)
		r.record(pos, 3, 1<<20)
		r.own.control.writePos.Store(pos + 8)
	}, "I3"},
	{"readPos beyond writePos", func(r *rawClient) { r.own.control.readPos.Store(80) }, "I1"},
	{"readPos far beyond", func(r *rawClient) { r.own.control.readPos.Store(1 << 62) }, "I1"},
	{"readPos before the start", func(r *rawClient) { r.own.control.readPos.Store(^uint64(7)) }, "I1"},
	{"readPos unaligned", func(r *rawClient) { r.own.control.readPos.Store(13) }, "I1"},
	{"readPos inside of a record", func(r *rawClient) { r.own.control.readPos.Store(8); r.own.control.deliveredPos.Store(8) }, "I1"},
	{"deliveredPos beyond writePos", func(r *rawClient) { r.own.control.deliveredPos.Store(80) }, "I2"},
	{"deliveredPos before readPos", func(r *rawClient) { r.own.control.readPos.Store(24) }, "I2"},
	{"deliveredPos unaligned", func(r *rawClient) { r.own.control.deliveredPos.Store(25) }, "I2"},
	{"waiting words", func(r *rawClient) {
		r.own.control.dataWaitFor.Store(1<<63 + 5)
		r.own.control.spaceWaitFor.Store(^uint64(0))
	}, ""},
	{"the words of the format", func(r *rawClient) {
		for _, word := range []*atomic.Uint64{&r.own.control.magic, &r.own.control.version, &r.own.control.fingerprint, &r.own.control.generation, &r.own.control.ringSize} {
			word.Store(^uint64(0))
		}
	}, "I0"},
	{"beat and goodbye", func(r *rawClient) {
		r.own.control.beat.Store(^uint64(0))
		r.own.control.goodbye.Store(r.grant.Attachment)
	}, ""},
}

const hostileMessages = 3

func TestT1AClientThatScribblesIsDroppedAndItsSuccessorServed(t *testing.T) {
	for _, s := range scribbles {
		for _, receiving := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, server receiving %t", s.name, receiving), func(t *testing.T) {
				server := listenHere(t, testPath(t), hostileOptions())
				for kind := range uint32(hostileMessages) {
					if err := server.Send(testContext(t), kind, make([]byte, 16)); err != nil {
						t.Fatal(err)
					}
				}
				client := rawAttach(t, server.Path())
				nextEvent(t, server, EventAttached)
				end := make(chan error)
				receive := func() { end <- receiveUntilEnd(t, server) }
				if receiving {
					go receive()
				}
				s.write(client)
				client.leave()
				if !receiving {
					go receive()
				}
				checkEndOfHostile(t, <-end, s.wants)
				checkSuccessor(t, server, hostileMessages, 300)
			})
		}
	}
}

// receiveUntilEnd receives until the end of the client, and returns how it ended.
func receiveUntilEnd(t *testing.T, server *Endpoint) error {
	ctx := testContext(t)
	for m, err := range server.Messages(ctx) {
		if err != nil {
			return err
		}
		_ = m.Release()
	}
	return errors.New("the messages ended")
}

// checkEndOfHostile checks what the server was told: the broken invariant, or the
// death if nothing was broken, or nobody looked.
func checkEndOfHostile(t *testing.T, err error, wants string) {
	t.Helper()
	var corrupt *CorruptError
	switch {
	case wants == "" && !errors.As(err, &corrupt) && ended(err):
	case wants != "" && errors.As(err, &corrupt) && corrupt.Invariant == wants && corrupt.Detail != "":
	default:
		t.Errorf("the server was told %v, want invariant %q broken", err, wants)
	}
}

// checkSuccessor attaches a sound client, which must find the server's unreleased
// messages, all of them in order, and be served in both directions.
func checkSuccessor(t *testing.T, server *Endpoint, messages int, rounds uint32) {
	t.Helper()
	client, err := Dial(testContext(t), server.Path(), hostileOptions())
	if err != nil {
		t.Fatalf("the successor does not attach: %v", err)
	}
	defer client.Close()
	for kind := range uint32(messages) {
		m, err := client.Receive(testContext(t))
		if err != nil || m.Kind != kind || len(m.Data) != 16 {
			t.Fatalf("the successor received %+v, %v; want message %d of %d", m, err, kind, messages)
		}
		if err := m.Release(); err != nil {
			t.Fatal(err)
		}
	}
	for kind := range rounds {
		for _, d := range [][2]*Endpoint{{client, server}, {server, client}} {
			if err := d[0].Send(testContext(t), kind, pattern(kind)); err != nil {
				t.Fatalf("the successor's message %d: %v", kind, err)
			}
			m, err := d[1].Receive(testContext(t))
			if err != nil || m.Kind != kind || checkPattern(m) != nil {
				t.Fatalf("message %d with the successor: %+v, %v", kind, m, err)
			}
			_ = m.Release()
		}
	}
	if left, err := server.Unreleased(); err != nil || len(left) != 0 {
		t.Errorf("%d unreleased, %v; want none", len(left), err)
	}
}

func TestT1MessagesToACorruptClientComeAgainMarked(t *testing.T) {
	server := listenHere(t, testPath(t), hostileOptions())
	sendAll(t, server, 1, 2, 3)
	client := rawAttach(t, server.Path())
	client.own.control.writePos.Store(5)
	client.leave()
	checkEndOfHostile(t, receiveUntilEnd(t, server), "I1")
	nextEvent(t, server, EventAttached)
	if event := nextEvent(t, server, EventDied); event.Unreleased != 3 || event.Redeliverable != 3 || event.Err == nil {
		t.Errorf("event %+v, want 3 unreleased, all of them perhaps seen, and why", event)
	}
	next := dialHere(t, server.Path(), hostileOptions())
	for kind := uint32(1); kind <= 3; kind++ {
		m, err := next.Receive(testContext(t))
		if err != nil || m.Kind != kind || !m.Redelivered || checkPattern(m) != nil {
			t.Fatalf("received %+v, %v; want message %d marked Redelivered", m, err, kind)
		}
		_ = m.Release()
	}
}

func TestT1ViewsIntoTheMemoryOfACorruptClientStayReadable(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, hostileOptions())
	client := rawAttach(t, path)
	pos := client.record(0, 4, len(pattern(4)))
	copy(client.own.ring.payload(0, len(pattern(4))), pattern(4))
	client.own.control.writePos.Store(pos)
	m, err := server.Receive(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	client.own.control.writePos.Store(pos + 1)
	client.leave()
	checkEndOfHostile(t, receiveUntilEnd(t, server), "I1")
	checkSuccessor(t, server, 0, 10)
	if err := checkPattern(m); err != nil {
		t.Errorf("a view into the memory of a client that was dropped: %v", err)
	}
	if err := m.Release(); err != nil {
		t.Errorf("release of it: %v", err)
	}
}

// A caller acts on the releases that Flush and Unreleased report, as a sender does. So the
// peer cannot take them back.
func TestI1AReleaseThatWasReportedIsNotTakenBack(t *testing.T) {
	for name, told := range map[string]func(*Endpoint) error{
		"Flush":      func(e *Endpoint) error { return e.Flush(testContext(t)) },
		"Unreleased": func(e *Endpoint) error { _, err := e.Unreleased(); return err },
	} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			server := listenHere(t, path, hostileOptions())
			hostile := rawAttach(t, path)
			nextEvent(t, server, EventAttached)
			sendAll(t, server, 1, 2, 3)
			end := hostile.peer.control.writePos.Load()
			hostile.own.control.deliveredPos.Store(end)
			hostile.own.control.readPos.Store(end)
			if err := told(server); err != nil {
				t.Fatal(err)
			}
			hostile.own.control.readPos.Store(0)
			hostile.leave()
			var corrupt *CorruptError
			if _, err := receiveAll(t, server); !errors.As(err, &corrupt) || corrupt.Invariant != "I1" {
				t.Errorf("the end is %v, want that I1 is broken", err)
			}
			if got := unreleased(t, server); got != "" {
				t.Errorf("M6 Account: unreleased %q behind a %s that said that nothing is", got, name)
			}
			checkNextClient(t, server, path)
		})
	}
}
