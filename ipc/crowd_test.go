//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"sync/atomic"
	"testing"
)

// crowdedServer is a server whose ring to the client is full of the smallest
// messages, a million of them.
func crowdedServer(t *testing.T, path string) (e *Endpoint, messages int) {
	t.Helper()
	e = listenHere(t, path, &Options{ToClientSize: 8 << 20})
	for ; ; messages++ {
		switch err := e.TrySend(1, nil); {
		case errors.Is(err, ErrFull):
			return e, messages
		case err != nil:
			t.Fatal(err)
		}
	}
}

// rounds is how often a test tries to see what it needs luck for: another
// goroutine that runs in time.
const rounds = 20

func TestL6ADeathIsToldBeforeItsMessagesAreCounted(t *testing.T) {
	path := testPath(t)
	server, messages := crowdedServer(t, path)
	for range rounds {
		client := startActor(t, actorArgument{Path: path})
		client.ask("attached", "dial")
		nextEvent(t, server, EventAttached)
		client.kill()
		if _, err := server.Receive(testContext(t)); !errors.Is(err, ErrPeerDied) {
			t.Fatalf("Receive: %v, want ErrPeerDied", err)
		}
		told := len(server.Events()) > 0 // it counts before it is sent
		event := nextEvent(t, server, EventDied)
		if event.Unreleased != messages || event.Redeliverable != 0 {
			t.Fatalf("the event counts %d unreleased and %d redeliverable, want %d and 0", event.Unreleased, event.Redeliverable, messages)
		}
		if !told {
			return
		}
	}
	t.Errorf("in each of %d rounds the messages were counted before Receive said that the client had died", rounds)
}

func TestNobodyWaitsForUnreleased(t *testing.T) {
	server, messages := crowdedServer(t, testPath(t))
	before := server.own.refs.Load()
	underWay := func() bool { return server.own.refs.Load() > before } // it reads the ring
	for range rounds {
		var done atomic.Bool
		result := make(chan int, 1)
		go func() {
			list, err := server.Unreleased()
			done.Store(true)
			if err != nil {
				t.Error(err)
			}
			result <- len(list)
		}()
		served := false
		for !done.Load() {
			if underWay() {
				server.Peer() // needs what the heartbeat needs
				served = served || underWay()
			}
		}
		if n := <-result; n != messages {
			t.Fatalf("Unreleased has %d messages, want %d", n, messages)
		}
		if served {
			return
		}
	}
	t.Errorf("in each of %d rounds, another call waited until Unreleased had returned", rounds)
}
