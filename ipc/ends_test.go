//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
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
