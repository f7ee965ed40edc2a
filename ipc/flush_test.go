//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"
)

// flushes begins a Flush, and returns when it sleeps, or has ended.
func flushes(t *testing.T, e *Endpoint, ctx context.Context) (ended chan error) {
	t.Helper()
	sleep := &e.bell.asleep[2].number
	before := sleep.Load()
	ended = make(chan error, 1)
	go func() { ended <- e.Flush(ctx) }()
	eventually(t, "Flush has armed and sleeps, or has ended", func() bool { return sleep.Load() > before || len(ended) == 1 })
	return ended
}

// mustWait checks that a Flush has not ended.
func mustWait(t *testing.T, ended chan error) {
	t.Helper()
	select {
	case err := <-ended:
		t.Fatalf("Flush has ended with %v", err)
	default:
	}
}

// noHeartbeat is for a wait that no bounded sleep ends.
func noHeartbeat() *Options { return &Options{HeartbeatInterval: time.Hour} }

// Flush returns when the last message is released, in whatever order they are, and is
// woken by that release; it does not wait for what is committed later.
func TestM6M7FlushReturnsWithTheLastRelease(t *testing.T) {
	server, client := pair(t, noHeartbeat(), noHeartbeat())
	for _, d := range []struct{ from, to *Endpoint }{{server, client}, {client, server}} {
		if err := d.from.Flush(testContext(t)); err != nil {
			t.Fatalf("with nothing sent: %v", err)
		}
		sendAll(t, d.from, 1, 2, 3)
		ended := flushes(t, d.from, testContext(t))
		views := make([]Message, 3)
		if n, err := d.to.ReceiveBatch(testContext(t), views); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		sendAll(t, d.from, 4)
		for _, m := range []Message{views[1], views[2]} {
			if err := m.Release(); err != nil {
				t.Fatal(err)
			}
			mustWait(t, ended)
		}
		if err := views[0].Release(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("Flush of the %s, with all released: %v", d.from.Role(), err)
		}
		ended = flushes(t, d.from, testContext(t))
		mustWait(t, ended)
		if _, err := d.to.ReceiveInto(testContext(t), make([]byte, 512)); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("Flush of the %s: %v", d.from.Role(), err)
		}
	}
}

// A Flush ends with the client, and says the same if it is called behind that end. What
// was not released stays, and the next client releases it.
func TestM6M7FlushEndsWithTheClient(t *testing.T) {
	for how, wants := range map[string]error{"die": ErrPeerDied, "close": ErrPeerClosed} {
		path := testPath(t)
		server := listenHere(t, path, nil)
		a := startActor(t, actorArgument{Path: path})
		a.ask("attached", "dial")
		nextEvent(t, server, EventAttached)
		sendAll(t, server, 1, 2)
		a.ask("got 1", "receiveinto")
		ended := flushes(t, server, testContext(t))
		mustWait(t, ended)
		if how == "die" {
			a.kill()
		} else {
			a.ask("closed", "close")
		}
		if err := <-ended; !errors.Is(err, wants) {
			t.Errorf("%s: Flush ended with %v, want %v", how, err, wants)
		}
		if err := server.Flush(testContext(t)); !errors.Is(err, wants) {
			t.Errorf("%s, and Flush is called behind it: %v, want %v", how, err, wants)
		}
		next := startActor(t, actorArgument{Path: path})
		next.ask("attached", "dial")
		eventually(t, "the next client is known", func() bool { return server.Peer().State == PeerAttached })
		ended = flushes(t, server, testContext(t))
		mustWait(t, ended)
		next.ask("got 2", "receiveinto")
		if err := <-ended; err != nil {
			t.Errorf("%s, and the next client has released all: %v", how, err)
		}
		next.kill()
		nextEvent(t, server, EventClosed+EventKind(map[string]int{"die": 1}[how]))
		nextEvent(t, server, EventAttached)
		nextEvent(t, server, EventDied)
		if err := server.Flush(testContext(t)); err != nil {
			t.Errorf("%s, and nothing is left: %v", how, err)
		}
	}
}

// The same at a client, whose server ends for good.
func TestM6M7FlushEndsWithTheServer(t *testing.T) {
	path := testPath(t)
	a := startActor(t, actorArgument{Path: path})
	a.ask("listening", "listen")
	client := dialHere(t, path, nil)
	sendAll(t, client, 1)
	a.ask("got 1", "receiveinto")
	sendAll(t, client, 2)
	ended := flushes(t, client, testContext(t))
	mustWait(t, ended)
	a.kill()
	if err := <-ended; !errors.Is(err, ErrPeerDied) {
		t.Errorf("Flush ended with %v, want %v", err, ErrPeerDied)
	}
	if err := client.Flush(testContext(t)); !errors.Is(err, ErrPeerDied) {
		t.Errorf("behind the end: %v, want %v", err, ErrPeerDied)
	}
}

// The context and Close end it, one that sleeps and one that queues; a context that has
// ended does not hide that all is released.
func TestM7FlushEndsWithItsContextAndClose(t *testing.T) {
	for _, closes := range []bool{false, true} {
		server, client := pair(t, &Options{HeartbeatInterval: time.Hour, CloseTimeout: time.Millisecond}, nil)
		ctx, cancel := context.WithCancel(testContext(t))
		defer cancel()
		sendAll(t, server, 1)
		ended := []chan error{flushes(t, server, ctx), make(chan error, 1)}
		go func() { ended[1] <- server.Flush(ctx) }()
		eventually(t, "the second one queues", func() bool { return server.out.flushes.waiters.Load() == 1 })
		wants := context.Canceled
		if closes {
			wants = ErrClosed
			if err := server.Close(); err == nil { // the client is still there
				t.Error("Close has not waited for the client")
			}
		} else {
			cancel()
		}
		for _, ended := range ended {
			if err := <-ended; !errors.Is(err, wants) {
				t.Errorf("Flush ended with %v, want %v", err, wants)
			}
		}
		if closes {
			continue
		}
		if _, err := client.ReceiveInto(testContext(t), make([]byte, 512)); err != nil {
			t.Fatal(err)
		}
		if err := server.Flush(ctx); err != nil {
			t.Errorf("with an ended context, and all released: %v", err)
		}
	}
}

// Nobody who sends waits for a Flush, and a sender that waits for space beside it, and
// arms its own position, is woken as always; so is the Flush, behind it.
func TestW9ASenderBesideAFlushGoesOn(t *testing.T) {
	page := os.Getpagesize()
	server, client := pair(t, &Options{ToClientSize: page, HeartbeatInterval: time.Hour}, noHeartbeat())
	half := make([]byte, page/2-headerSize)
	send := func() chan error {
		sent := make(chan error, 1)
		go func() { sent <- server.Send(testContext(t), 1, half) }()
		return sent
	}
	take := func() {
		t.Helper()
		if _, err := client.ReceiveInto(testContext(t), make([]byte, page)); err != nil {
			t.Fatal(err)
		}
	}
	ends := func(what string, ended chan error) {
		t.Helper()
		if err := <-ended; err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for range 10 {
		if err := server.TrySend(1, half); err != nil {
			t.Fatal(err)
		}
		flushed := flushes(t, server, testContext(t))
		if err := server.TrySend(1, half); err != nil {
			t.Fatalf("TrySend beside a Flush: %v", err)
		}
		before := server.Stats().Sleeps
		sent := send() // it needs what the Flush waits for
		eventually(t, "the sender sleeps", func() bool { return server.Stats().Sleeps > before })
		take()
		ends("Send", sent)
		ends("Flush", flushed)

		before = server.Stats().Sleeps
		sent = send() // it needs less
		eventually(t, "the sender sleeps", func() bool { return server.Stats().Sleeps > before })
		flushed = flushes(t, server, testContext(t))
		take()
		ends("Send", sent)
		mustWait(t, flushed)
		take()
		ends("Flush", flushed)

		reserved, err := server.Reserve(testContext(t), 8)
		if err != nil {
			t.Fatal(err)
		}
		flushed = flushes(t, server, testContext(t))
		if err := reserved.Abort(); err != nil {
			t.Fatal(err)
		}
		take()
		ends("Flush", flushed)
	}
}

// A receiver that holds views is not told that the peer waits for their space while
// the peer only flushes (W8); it is when the peer waits for space as well.
func TestW8AFlushWaitsForNoSpace(t *testing.T) {
	page := os.Getpagesize()
	server, client := pair(t, &Options{ToClientSize: page}, nil)
	ctx := testContext(t)
	if err := server.Send(ctx, 1, make([]byte, page/2)); err != nil {
		t.Fatal(err)
	}
	view, err := client.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ended := flushes(t, server, ctx)
	eventually(t, "the Flush is armed", func() bool { return server.own.control.spaceWaitFor.Load() != 0 })
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := client.Receive(short); !errors.Is(err, context.Canceled) {
		t.Errorf("Receive while the peer flushes: %v, want it to wait", err)
	}
	sent := make(chan error, 1)
	go func() { sent <- server.Send(ctx, 2, make([]byte, page-headerSize)) }()
	if _, err := client.Receive(ctx); !errors.Is(err, ErrViewsHeld) {
		t.Errorf("Receive while the peer waits for space too: %v, want %v", err, ErrViewsHeld)
	}
	if err := view.Release(); err != nil {
		t.Fatal(err)
	}
	for what, ended := range map[string]chan error{"Flush": ended, "Send": sent} {
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A client that lies about its releases is dropped by a Flush as by a sender (T1).
func TestT1FlushJudgesTheClient(t *testing.T) {
	for _, readPos := range []uint64{4, 1 << 40, ^uint64(7)} {
		server := listenHere(t, testPath(t), hostileOptions())
		sendAll(t, server, 1, 2)
		client := rawAttach(t, server.Path())
		nextEvent(t, server, EventAttached)
		client.own.control.readPos.Store(readPos)
		var corrupt *CorruptError
		if err := server.Flush(testContext(t)); !errors.As(err, &corrupt) || corrupt.Invariant != "I1" {
			t.Errorf("readPos %#x: Flush gave %v, want I1", readPos, err)
		}
		client.leave()
		nextEvent(t, server, EventDied)
		if err := server.Flush(testContext(t)); !errors.As(err, &corrupt) {
			t.Errorf("readPos %#x, behind that end: %v, want the same", readPos, err)
		}
		if left := unreleased(t, server); left != "1d 2d" {
			t.Errorf("readPos %#x: unreleased %s, want both", readPos, left)
		}
	}
}

// Several flush, send and receive at once, and all come back.
func TestM7ManyFlush(t *testing.T) {
	server, client := pair(t, &Options{ToClientSize: os.Getpagesize(), Spin: NoSpin}, &Options{Spin: NoSpin})
	ctx := testContext(t)
	var users sync.WaitGroup
	const each, senders = 300, 3
	for range senders {
		spawn(&users, func() {
			for range each {
				if err := server.Send(ctx, 1, make([]byte, 500)); err != nil {
					t.Error(err)
				}
				if err := server.Flush(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	spawn(&users, func() {
		for range each * senders {
			if _, err := client.ReceiveInto(ctx, make([]byte, 500)); err != nil {
				t.Error(err)
			}
		}
	})
	users.Wait()
	if out, _ := server.Pending(); out != 0 {
		t.Errorf("%d messages unreleased", out)
	}
}
