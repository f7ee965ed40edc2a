//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"strings"
	"testing"
)

// Clients come, send and die while the server does not receive. Each end comes
// behind its client's messages and before its successor's (M5), none is passed
// over, and Receive does not get stuck behind one (M7).
func TestM5M7EachOfSeveralEndsIsTold(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	server := listenHere(t, path, nil)
	comeAndGo := func(kind string) {
		a := startActor(t, actorArgument{Path: path})
		a.ask("attached", "dial")
		if kind != "" {
			a.ask("sent", "send "+kind)
		}
		nextEvent(t, server, EventAttached)
		a.kill()
		nextEvent(t, server, EventDied)
	}
	next := func(want uint32) { // 0: an end
		t.Helper()
		m, err := server.Receive(ctx)
		if want == 0 && !errors.Is(err, ErrPeerDied) || want != 0 && (err != nil || m.Kind != want) {
			t.Fatalf("message %d, %v; want %d (0 is an end)", m.Kind, err, want)
		}
		if err == nil {
			_ = m.Release()
		}
	}
	comeAndGo("1")
	comeAndGo("2")
	next(1)
	next(0)
	comeAndGo("3") // with the end of 2 not yet told
	next(2)
	next(0)
	comeAndGo("") // it sends nothing: its end and the former's are told as one
	comeAndGo("5")
	next(3)
	next(0)
	next(5)
	next(0)
	comeAndGo("6")
	next(6)
	next(0)
	if _, err := server.TryReceive(); !errors.Is(err, ErrEmpty) {
		t.Fatalf("behind everything: %v, want ErrEmpty", err)
	}
}

// Ends with no message in between are told as one, and a death is not hidden by a
// client that came after it and left in good order.
func TestL5ADeathIsNotHiddenByACloseThatFollows(t *testing.T) {
	for _, order := range []string{"die close", "close die", "die close close", "close close"} {
		path := testPath(t)
		server := listenHere(t, path, nil)
		for what := range strings.FieldsSeq(order) {
			a := startActor(t, actorArgument{Path: path})
			a.ask("attached", "dial")
			nextEvent(t, server, EventAttached)
			if what == "die" {
				a.kill()
				nextEvent(t, server, EventDied)
			} else {
				a.ask("closed", "close")
				nextEvent(t, server, EventClosed)
			}
		}
		wants := ErrPeerClosed
		if strings.Contains(order, "die") {
			wants = ErrPeerDied
		}
		if _, err := server.TryReceive(); !errors.Is(err, wants) {
			t.Errorf("%s: %v, want %v", order, err, wants)
		}
		if _, err := server.TryReceive(); !errors.Is(err, ErrEmpty) {
			t.Errorf("%s, behind the end: %v, want %v", order, err, ErrEmpty)
		}
	}
}

// What a client commits is judged by the last end that was recorded, and not by the
// one that Receive has been shown: three clients come while the server does not
// receive, and the third takes back what the second had committed.
func TestT1ACommitTakenBackBehindAnUntoldEndIsCorrupt(t *testing.T) {
	for _, back := range []uint64{8, 16, 24} {
		server := listenHere(t, testPath(t), hostileOptions())
		for i := range 3 {
			client := rawAttach(t, server.Path())
			nextEvent(t, server, EventAttached)
			pos := client.own.control.writePos.Load()
			if i < 2 {
				client.own.control.writePos.Store(client.record(pos, 1, 16))
			} else {
				client.record(pos, 1, 1<<32-16) // where a limit behind the cursor lets Receive begin
				client.own.control.writePos.Store(pos - back)
			}
			client.leave()
			nextEvent(t, server, EventDied)
		}
		for _, wants := range []string{"", "I1"} {
			checkEndOfHostile(t, receiveUntilEnd(t, server), wants)
		}
		if s := server.Stats(); s.Received != 2 || s.ReceivedBytes != 48 {
			t.Errorf("%d messages, %d bytes received, want the 2 that were sent, 48 bytes", s.Received, s.ReceivedBytes)
		}
		checkSuccessor(t, server, 0, 10)
	}
}
