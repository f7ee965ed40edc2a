//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// watchedForStalls is a pair whose server is told of a stall; the test gives it the
// ticks.
func watchedForStalls(t *testing.T, limit time.Duration) (server, client *Endpoint, tick func(time.Duration) EventKind) {
	server, client = pair(t, &Options{HeartbeatInterval: time.Hour, HangTimeout: 1000 * time.Hour, StallTimeout: limit}, nil)
	nextEvent(t, server, EventAttached)
	var s standstill
	return server, client, func(d time.Duration) EventKind {
		t.Helper()
		server.judgeStall(&s, d)
		for s.owed > 0 { // somebody had the lock
			server.judgeStall(&s, 0)
		}
		select {
		case event := <-server.Events():
			if event.Attachment != server.Attachment() {
				t.Errorf("event %+v names another client", event)
			}
			return event.Kind
		default:
			return 0
		}
	}
}

// A peer that takes nothing is told of once, when the time is over and messages wait,
// and again when it goes on.
func TestL6AStallIsToldAndItsEnd(t *testing.T) {
	server, client, tick := watchedForStalls(t, 10*time.Second)
	expect := func(what string, d time.Duration, want EventKind) {
		t.Helper()
		if got := tick(d); got != want {
			t.Fatalf("%s: event %v, want %v", what, got, want)
		}
	}
	take := func() Message {
		t.Helper()
		m, err := client.Receive(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	expect("the first look", time.Second, 0)
	expect("nothing waits", time.Minute, 0)
	sendAll(t, server, 1, 2)
	expect("a second", time.Second, 0)
	expect("nearly", 8*time.Second, 0)
	m := take()
	expect("it has taken one", 9*time.Second, 0)
	expect("since then", 9*time.Second, 0)
	expect("too long", time.Second, EventStalled)
	expect("longer", time.Minute, 0)
	if err := m.Release(); err != nil {
		t.Fatal(err)
	}
	expect("a release", time.Minute, EventResumed)
	expect("and nothing then", 10*time.Second, EventStalled)
	m = take()
	expect("it has taken all", time.Second, EventResumed)
	expect("what it works on does not wait", time.Minute, 0)
	if err := m.Release(); err != nil {
		t.Fatal(err)
	}
	expect("all is done", time.Minute, 0)
}

// A peer that was handed all there is, and is stuck with it, is told of when a sender or
// a Flush waits for it.
func TestL6AStallWithAllInHandIsToldToWhoWaits(t *testing.T) {
	for name, call := range map[string]func(context.Context, *Endpoint) error{
		"Send":    func(ctx context.Context, e *Endpoint) error { return e.Send(ctx, 2, make([]byte, e.MaxMessage())) },
		"Reserve": func(ctx context.Context, e *Endpoint) error { _, err := e.Reserve(ctx, e.MaxMessage()); return err },
		"SendBatch": func(ctx context.Context, e *Endpoint) error {
			_, err := e.SendBatch(ctx, []Message{{Data: make([]byte, e.MaxMessage())}})
			return err
		},
		"Flush": func(ctx context.Context, e *Endpoint) error { return e.Flush(ctx) },
	} {
		server, client, tick := watchedForStalls(t, 10*time.Second)
		expect := func(what string, d time.Duration, want EventKind) {
			t.Helper()
			if got := tick(d); got != want {
				t.Fatalf("%s, %s: event %v, want %v", name, what, got, want)
			}
		}
		sendAll(t, server, 1)
		if _, err := client.Receive(testContext(t)); err != nil { // and keeps it
			t.Fatal(err)
		}
		expect("the first look", time.Second, 0)
		expect("nobody waits", time.Minute, 0)
		ctx, cancel := context.WithCancel(testContext(t))
		ended := make(chan error)
		go func() { ended <- call(ctx, server) }()
		eventually(t, "it waits", server.out.awaitsRelease)
		expect("nearly", 9*time.Second, 0)
		expect("too long", time.Second, EventStalled)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		expect("nobody waits any more", time.Second, EventResumed)
	}
}

// Two sides that send into full rings, and receive nothing, wait for each other. Neither
// call fails, because each side can still receive. With StallTimeout both sides get an event.
// After one side receives, both go on.
func TestM7M8TwoSidesThatSendIntoFullRingsAreTold(t *testing.T) {
	options := Options{ToServerSize: os.Getpagesize(), ToClientSize: os.Getpagesize(), HeartbeatInterval: 5 * time.Millisecond, HangTimeout: time.Hour, StallTimeout: 20 * time.Millisecond}
	server, client := pair(t, &options, &options)
	sides := []*Endpoint{server, client}
	ended := make(chan error, len(sides))
	for _, e := range sides {
		nextEvent(t, e, EventAttached)
		payload := make([]byte, 1000)
		for e.TrySend(1, payload) == nil {
			payload[0]++
		}
		go func() { ended <- e.Send(testContext(t), 2, payload) }()
	}
	for _, e := range sides {
		nextEvent(t, e, EventStalled)
	}
	select {
	case err := <-ended:
		t.Fatalf("a send ended by itself: %v", err)
	default:
	}
	for {
		m, err := server.Receive(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		kind := m.Kind
		if err := m.Release(); err != nil {
			t.Fatal(err)
		}
		if kind == 2 {
			break
		}
	}
	if err := <-ended; err != nil { // the client's
		t.Error(err)
	}
	nextEvent(t, client, EventResumed)
	takeAll := func(e *Endpoint) {
		for last := uint32(0); last != 2; {
			m, err := e.Receive(testContext(t))
			if err != nil {
				t.Error(err)
				return
			}
			last = m.Kind
			if err := m.Release(); err != nil {
				t.Error(err)
			}
		}
	}
	takeAll(client)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A peer that hangs is not stalled besides, a client that comes is judged anew, and
// nobody is without the option.
func TestL6AStallIsOfThePeerOfNow(t *testing.T) {
	server, client, tick := watchedForStalls(t, 10*time.Second)
	sendAll(t, server, 1)
	server.hung.Store(true)
	for range 3 {
		if got := tick(time.Minute); got != 0 {
			t.Errorf("of a peer that hangs: %v", got)
		}
	}
	server.hung.Store(false)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	nextEvent(t, server, EventClosed)
	for range 3 {
		if got := tick(time.Minute); got != 0 {
			t.Errorf("of a peer that has left: %v", got)
		}
	}
	dialHere(t, server.Path(), nil)
	nextEvent(t, server, EventAttached)
	for i, want := range []EventKind{0, EventStalled, 0} { // the first only sees that it is another
		if got := tick(time.Minute); got != want {
			t.Errorf("look %d at the next client: %v, want %v", i, got, want)
		}
	}
	server, _, tick = watchedForStalls(t, 0)
	sendAll(t, server, 1)
	for range 3 {
		if got := tick(time.Hour); got != 0 {
			t.Errorf("without the option: %v", got)
		}
	}
}

// The heartbeat looks by itself.
func TestL6TheHeartbeatSeesAStall(t *testing.T) {
	server, client := pair(t, &Options{HeartbeatInterval: 2 * time.Millisecond, HangTimeout: time.Hour, StallTimeout: 10 * time.Millisecond}, nil)
	sendAll(t, server, 1)
	awaitKind := func(want EventKind) {
		t.Helper()
		for event := range server.Events() {
			if event.Kind == want {
				return
			}
		}
		t.Fatalf("no %v", want)
	}
	awaitKind(EventStalled)
	if _, err := client.ReceiveInto(testContext(t), make([]byte, 512)); err != nil {
		t.Fatal(err)
	}
	awaitKind(EventResumed)
}
