//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"testing"
)

// Clients come, send and die while the server does not receive. Who has sent a message
// is known when it is received, whoever is attached by then.
func TestT2TheSenderOfAMessageIsNotItsSuccessor(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	server := listenHere(t, path, nil)
	come := func(kind string) *process {
		a := startActor(t, actorArgument{Path: path})
		a.ask("attached", "dial")
		if kind != "" {
			a.ask("sent", "send "+kind)
		}
		nextEvent(t, server, EventAttached)
		return a
	}
	die := func(a *process) {
		a.kill()
		nextEvent(t, server, EventDied)
	}
	wantMessage := func(kind uint32, from *process, attachment uint64, state PeerState) {
		t.Helper()
		m, err := server.Receive(ctx)
		if err != nil || m.Kind != kind {
			t.Fatalf("message %d, %v; want %d", m.Kind, err, kind)
		}
		want := Peer{State: state, PID: from.cmd.Process.Pid, UID: server.Peer().UID, Attachment: attachment}
		if got := server.Sender(); got != want {
			t.Errorf("message %d is of %+v, want %+v", kind, got, want)
		}
		if err := m.Release(); err != nil {
			t.Fatal(err)
		}
	}
	wantEnd := func() {
		t.Helper()
		if _, err := server.Receive(ctx); !errors.Is(err, ErrPeerDied) {
			t.Fatalf("%v, want the end of a client", err)
		}
	}
	first := come("1")
	die(first)
	silent := come("")
	die(silent)
	second := come("2")
	die(second)
	third := come("3")
	wantMessage(1, first, 1, PeerAbsent)
	wantEnd()
	wantEnd() // of the silent one
	wantMessage(2, second, 3, PeerAbsent)
	wantEnd()
	wantMessage(3, third, 4, PeerAttached)
	if got, want := server.Sender(), server.Peer(); got != want {
		t.Errorf("the sender is %+v, and attached is %+v", got, want)
	}
	die(third)
	wantEnd()
}

func TestTheSenderAtAClientIsItsServer(t *testing.T) {
	server := listenHere(t, testPath(t), nil)
	client := dialHere(t, server.Path(), nil)
	sendAll(t, server, 1)
	if _, err := client.Receive(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if got, want := client.Sender(), client.Peer(); got != want || got.PID == 0 {
		t.Errorf("the sender is %+v, want the server, %+v", got, want)
	}
	if got := (*Endpoint)(nil).Sender(); got != (Peer{}) {
		t.Errorf("the sender at no endpoint is %+v", got)
	}
}
