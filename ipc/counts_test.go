//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// No count is more than what can be, whatever a client says of its positions, while
// nobody has judged them: they are not yet acted upon.
func TestT1NoCountIsMoreThanWhatCanBe(t *testing.T) {
	server := listenHere(t, testPath(t), hostileOptions())
	sendAll(t, server, 1, 2)
	client := rawAttach(t, server.Path())
	nextEvent(t, server, EventAttached)
	sent := server.Stats().SentBytes
	for _, pos := range []uint64{1, 8, sent + 8, 1 << 40, 1 << 63, ^uint64(0), ^uint64(7), sent - client.peer.ring.size} {
		client.own.control.readPos.Store(pos)
		client.own.control.deliveredPos.Store(pos)
		client.own.control.writePos.Store(pos)
		if s := server.Stats(); s.UnreleasedBytes > sent || s.ReceivedBytes != 0 || s.HeldViews != 0 || s.SentBytes != sent {
			t.Errorf("with positions of %#x: counts %+v, and %d bytes were sent", pos, s, sent)
		}
		if p := server.Peer(); p.Attachment != 1 || p.State != PeerAttached {
			t.Errorf("with positions of %#x: peer %+v", pos, p)
		}
	}
	client.leave()
	if event := nextEvent(t, server, EventDied); event.Unreleased != 2 || event.Redeliverable != 2 || event.Attachment != 1 {
		t.Errorf("event %+v, want the 2 that were sent, unreleased and perhaps seen", event)
	}
}

// A client that says it waits for space, and does not, makes Receive say so, and then
// seldom; Receive waits, and takes what comes.
func TestT1ALiarAboutItsWaitingCostsFewErrors(t *testing.T) {
	options := hostileOptions()
	options.HeartbeatInterval = time.Hour
	server := listenHere(t, testPath(t), options)
	for range 2 { // each is told of once
		client := rawAttach(t, server.Path())
		nextEvent(t, server, EventAttached)
		commit := func() {
			client.own.control.writePos.Store(client.record(client.own.control.writePos.Load(), 7, 8))
		}
		commit()
		if _, err := server.Receive(testContext(t)); err != nil { // and keeps it
			t.Fatal(err)
		}
		client.own.control.spaceWaitFor.Store(client.own.control.writePos.Load())
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := server.TryReceive(); !errors.Is(err, ErrEmpty) {
			t.Errorf("TryReceive beside a client that seems to wait: %v", err)
		}
		if _, err := server.Receive(ended); !errors.Is(err, ErrViewsHeld) {
			t.Errorf("Receive beside a client that seems to wait: %v", err)
		}
		for range 3 {
			if _, err := server.Receive(ended); !errors.Is(err, context.Canceled) {
				t.Errorf("Receive, told already: %v, want to wait", err)
			}
		}
		commit()
		if m, err := server.Receive(testContext(t)); err != nil || m.Kind != 7 {
			t.Errorf("what comes then: %+v, %v", m, err)
		}
		client.own.control.spaceWaitFor.Store(0)
		client.leave()
		if err := receiveUntilEnd(t, server); !errors.Is(err, ErrPeerDied) {
			t.Fatal(err)
		}
		nextEvent(t, server, EventDied)
	}
}

// An askedContext says that somebody has asked whether it has ended.
type askedContext struct {
	context.Context
	asked chan struct{}
}

func (c askedContext) Err() error {
	select {
	case c.asked <- struct{}{}:
	default:
	}
	return c.Context.Err()
}

// Once another goroutine has released while one receives, nobody is told before a
// heartbeat has passed without a release: the views are in good hands.
func TestW8APoolThatReleasesIsNotToldAtOnce(t *testing.T) {
	page := os.Getpagesize()
	server, client := pair(t, &Options{ToClientSize: page}, &Options{HeartbeatInterval: time.Hour})
	ctx := testContext(t)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	large := make([]byte, page-headerSize)
	if err := server.Send(ctx, 1, large); err != nil {
		t.Fatal(err)
	}
	view, err := client.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for round, wants := range []error{ErrViewsHeld, context.Canceled} {
		sent := make(chan error)
		go func() { sent <- server.Send(ctx, 2, large) }()
		eventually(t, "the sender waits", func() bool { return server.own.control.spaceWaitFor.Load() == client.in.cursor })
		if _, err := client.Receive(ended); !errors.Is(err, wants) {
			t.Fatalf("round %d: Receive gave %v, want %v", round, err, wants)
		}
		received := make(chan Message)
		waits := askedContext{ctx, make(chan struct{}, 1)}
		go func() {
			m, err := client.Receive(waits)
			if err != nil {
				t.Errorf("round %d: the one that waits: %v", round, err)
			}
			received <- m
		}()
		<-waits.asked
		if err := view.Release(); err != nil {
			t.Fatal(err)
		}
		view = <-received
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}

// Two goroutines hold a view each. The one that is told has nothing to release; the
// other must be told too, though nothing has changed.
func TestW8TheOneThatCanReleaseIsTold(t *testing.T) {
	page := os.Getpagesize()
	server, client := pair(t, &Options{ToClientSize: page}, &Options{HeartbeatInterval: 5 * time.Millisecond})
	ctx := testContext(t)
	if err := server.Send(ctx, 1, make([]byte, page/2)); err != nil {
		t.Fatal(err)
	}
	m, err := client.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error)
	go func() { sent <- server.Send(ctx, 2, make([]byte, page-headerSize)) }()
	for range 3 { // the first two callers release nothing
		if _, err := client.Receive(ctx); !errors.Is(err, ErrViewsHeld) {
			t.Errorf("Receive while a view blocks the sender: %v", err)
		}
	}
	if err := m.Release(); err != nil {
		t.Fatal(err)
	}
	if m, err := client.Receive(ctx); err != nil || m.Kind != 2 {
		t.Errorf("after the release: %+v, %v", m, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// Who only polls is told too, after a heartbeat: else it would hold its views, and its
// peer wait, for ever.
func TestW8APollerThatHoldsAllTheSpaceIsTold(t *testing.T) {
	page := os.Getpagesize()
	server, client := pair(t, &Options{ToClientSize: page}, &Options{HeartbeatInterval: 5 * time.Millisecond})
	ctx := testContext(t)
	sendAll(t, server, 1)
	m, err := client.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error)
	go func() { sent <- server.Send(ctx, 2, make([]byte, page-headerSize)) }()
	polls := []func() error{
		func() error { _, err := client.TryReceive(); return err },
		func() error { _, err := client.TryReceiveInto(nil); return err },
		func() error { _, err := client.TryReceiveBatch(make([]Message, 1)); return err },
		func() error { _, err := client.TryReceiveBatchInto(nil, make([]Message, 1)); return err },
	}
	for i, poll := range polls { // those that are told release nothing
		eventually(t, "the poller is told", func() bool {
			err := poll()
			if !errors.Is(err, ErrEmpty) && !errors.Is(err, ErrViewsHeld) {
				t.Fatalf("form %d: %v", i, err)
			}
			return errors.Is(err, ErrViewsHeld)
		})
	}
	if err := m.Release(); err != nil {
		t.Fatal(err)
	}
	if m, err := client.Receive(ctx); err != nil || m.Kind != 2 {
		t.Errorf("after the release: %+v, %v", m, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// Who releases what it was told to, and not the oldest first, is told again at once.
func TestW8WhoReleasesTheNewestFirstIsToldEachTime(t *testing.T) {
	page := os.Getpagesize()
	server, client := pair(t, &Options{ToClientSize: page}, &Options{HeartbeatInterval: time.Hour})
	ctx := testContext(t)
	held := make([]Message, 16)
	sendAll(t, server, 1, 2, 3, 4, 5, 6, 7, 8)
	n, err := client.ReceiveBatch(ctx, held)
	if err != nil || n != 8 {
		t.Fatalf("%d views, %v", n, err)
	}
	sent := make(chan error)
	go func() { sent <- server.Send(ctx, 9, make([]byte, page-headerSize)) }()
	eventually(t, "the sender waits", func() bool { return server.own.control.spaceWaitFor.Load() == client.in.cursor })
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for n > 0 {
		if _, err := client.Receive(ended); !errors.Is(err, ErrViewsHeld) {
			t.Fatalf("with %d views: %v, want %v", n, err, ErrViewsHeld)
		}
		n--
		if err := held[n].Release(); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := client.Receive(ctx); err != nil || m.Kind != 9 {
		t.Errorf("after the releases: %+v, %v", m, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// A sender that does not wait says nothing in the shared memory: its errors are its own.
func TestW8ASenderThatOnlyTriesTellsNobody(t *testing.T) {
	server, client := pair(t, &Options{ToClientSize: os.Getpagesize(), HeartbeatInterval: time.Millisecond, HangTimeout: time.Hour}, nil)
	sendAll(t, server, 1)
	if _, err := client.Receive(testContext(t)); err != nil { // and keeps it
		t.Fatal(err)
	}
	for begun := time.Now(); time.Since(begun) < 10*time.Millisecond; {
		if err := server.TrySend(2, make([]byte, server.MaxMessage())); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		if _, err := client.TryReceive(); !errors.Is(err, ErrEmpty) {
			t.Fatal(err)
		}
	}
}
