//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// The end of a client's socket proves nothing: while it has its token it lives,
// and may store. What it commits then still comes before its end (M5, W6).
func TestL5M5AClientWhoseSocketEndsLivesUntilItsTokenIsFree(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	seen := make(chan struct{}, 1)
	server := listenHere(t, path, &Options{hook: func(at step.ID, _ uint64) {
		if at == step.EndSeen {
			seen <- struct{}{}
		}
	}})
	client := rawAttach(t, path)
	nextEvent(t, server, EventAttached)
	if err := unix.Shutdown(client.conn.fd, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	<-seen
	for range 20 {
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		_, err := server.Receive(short)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("while the client lives: %v, want nothing", err)
		}
	}
	client.own.control.writePos.Store(client.record(0, 7, 0))
	client.leave()
	if m, err := server.Receive(ctx); err != nil || m.Kind != 7 {
		t.Fatalf("what it committed behind the socket's end: kind %d, %v", m.Kind, err)
	}
	if _, err := server.Receive(ctx); !errors.Is(err, ErrPeerDied) {
		t.Fatalf("behind its last message: %v, want %v", err, ErrPeerDied)
	}
}

// While the server takes the account of a client that is gone, what that client
// committed is there to be received (M5): nobody waits for the account.
func TestM5WhatIsCommittedCanBeTakenDuringTheAccount(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	server := new(atomic.Pointer[Endpoint])
	asleep, again := make(chan struct{}, 1), make(chan struct{}, 1)
	received, judged := make(chan error, 2), make(chan error, 2)
	var account atomic.Bool
	server.Store(listenHere(t, path, &Options{HeartbeatInterval: time.Hour, Spin: NoSpin, hook: func(at step.ID, _ uint64) {
		switch at {
		case step.Sleeping:
			heard := asleep
			if account.Load() {
				heard = again
			}
			select {
			case heard <- struct{}{}:
			default:
			}
		case step.AccountTaken:
			account.Store(true)
			server.Load().bell.interrupt()
			select {
			case err := <-received:
				judged <- err
			case <-again:
				judged <- errors.New("the receiver waits again")
			}
		}
	}}))
	client := rawAttach(t, path)
	nextEvent(t, server.Load(), EventAttached)
	go func() {
		_, err := server.Load().Receive(ctx)
		received <- err
	}()
	<-asleep
	client.own.control.writePos.Store(client.record(0, 7, 0)) // and wakes nobody
	client.leave()
	if err := <-judged; err != nil {
		t.Errorf("while the account is taken: %v", err)
	}
}

// A client that closes while it looks for the proof of its server's death does not
// guess: it tells no end.
func TestL5ACloseBeforeTheProofTellsNoEnd(t *testing.T) {
	path := testPath(t)
	server := startActor(t, actorArgument{Path: path})
	server.ask("listening 1", "listen")
	looking := make(chan error, 1)
	var forget atomic.Value // of func()
	client := dialHere(t, path, &Options{hook: func(at step.ID, _ uint64) {
		if at == step.EndSeen { // the proof is that this byte is free, where there is no pidfd
			forget.Load().(func())()
			held, err := os.OpenFile(path+tokenSuffix, os.O_RDWR, 0)
			if err != nil {
				looking <- err
				return
			}
			t.Cleanup(func() { _ = held.Close() })
			lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET, Start: grantorByte, Len: 1}
			looking <- retry(func() error { return unix.FcntlFlock(held.Fd(), unix.F_OFD_SETLKW, &lock) })
		}
	}})
	forget.Store(clientOf(client).conn.peer.forget)
	nextEvent(t, client, EventAttached)
	server.kill()
	if err := <-looking; err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for event := range client.Events() {
		if event.Kind == EventClosed || event.Kind == EventDied {
			t.Errorf("a client that closed before the proof was told: %v, %v", event.Kind, event.Err)
		}
	}
}

// A server that closes waits for the calls under way before it shuts its listener.
// Nobody who connects meanwhile is dropped before that: it would only connect again.
func TestCloseDropsNobodyBeforeItsListenerIsShut(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	underWay, goOn := make(chan struct{}), make(chan struct{})
	server := listenHere(t, path, &Options{Spin: NoSpin, hook: func(at step.ID, _ uint64) {
		if at == step.DataArmed {
			close(underWay)
			<-goOn
		}
	}})
	received, closed := make(chan error, 1), make(chan error, 1)
	go func() { _, err := server.Receive(ctx); received <- err }()
	<-underWay
	go func() { closed <- server.Close() }()
	<-server.closed
	client := rawConnect(t, path)
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(client.fd), Events: unix.POLLIN}}, 50); n != 0 && err == nil {
		t.Error("a connection was dropped while others could connect")
	}
	close(goOn)
	if _, _, err := client.receive(0); err == nil {
		t.Error("a server that closes says something to one who has said nothing")
	}
	if err := <-received; !errors.Is(err, ErrClosed) {
		t.Errorf("Receive: %v, want %v", err, ErrClosed)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
}

// clientOf is the client's part of an endpoint.
func clientOf(e *Endpoint) *client { return e.life.(*client) }
