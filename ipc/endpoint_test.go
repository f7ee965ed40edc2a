//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"
)

// pair is a server and a client in one process, for tests that need no death.
func pair(t testing.TB, serverOptions, clientOptions *Options) (server, client *Endpoint) {
	t.Helper()
	path := testPath(t)
	server, err := Listen(testContext(t), path, serverOptions)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	client, err = Dial(testContext(t), path, clientOptions)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return server, client
}

var _ = part("echo", func(p *player) {
	var path string
	p.arg(&path)
	client, err := Dial(p.ctx, path, nil)
	if err != nil {
		p.fail("dial: %v", err)
	}
	p.say("attached")
	for m, err := range client.Messages(p.ctx) {
		if err != nil {
			p.say("ended: %v", err)
			return
		}
		if err := client.Send(p.ctx, m.Kind, m.Data); err != nil {
			p.fail("send: %v", err)
		}
		if err := m.Release(); err != nil {
			p.fail("release: %v", err)
		}
	}
})

func TestEchoAcrossProcesses(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	server, err := Listen(ctx, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	echo := start(t, "echo", path)
	echo.expect("attached")
	nextEvent(t, server, EventAttached)
	buffer := make([]byte, 64)
	for i := range uint32(1000) {
		if err := server.Send(ctx, i, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		m, err := server.ReceiveInto(ctx, buffer)
		if err != nil || m.Kind != i || string(m.Data) != "hello" {
			t.Fatalf("message %d: %+v, %v", i, m, err)
		}
	}
	echo.kill()
	nextEvent(t, server, EventDied)
	if _, err := server.Receive(ctx); !errors.Is(err, ErrPeerDied) {
		t.Fatalf("after the death: %v", err)
	}
}

// An account raises the sender's copy of readPos beside it. A sender that meets it
// looks again, and does not call a ring full that has room (M8).
func TestM8TrySendBesideAnAccountFindsTheRoom(t *testing.T) {
	server, client := pair(t, &Options{ToClientSize: os.Getpagesize()}, nil)
	var done atomic.Bool
	raised := make(chan struct{})
	go func() {
		defer close(raised)
		for !done.Load() {
			server.mu.Lock()
			server.out.readPos.raise(server.peer.control.readPos.Load())
			server.mu.Unlock()
		}
	}()
	defer func() { done.Store(true); <-raised }()
	message, buffer := make([]byte, os.Getpagesize()/2-48), make([]byte, os.Getpagesize()/2)
	for round := range 100_000 {
		if err := server.TrySend(1, message); err != nil {
			t.Fatalf("round %d: %v, and the ring is empty", round, err)
		}
		if _, err := client.TryReceiveInto(buffer); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}
