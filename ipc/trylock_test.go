//go:build linux && (amd64 || arm64)

package ipc

import (
	"runtime"
	"testing"
)

// Close waits for the gate: one that a call without waiting takes with it would hold it
// up for ever. So closing begins here before, in and behind each look at it.
func TestM7ACallBesideCloseLeavesTheGate(t *testing.T) {
	e := newEndpoint(RoleClient, "", nil)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for closing := true; ; closing = !closing {
			select {
			case <-stop:
				return
			default:
				e.closing.Store(closing)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	var taken, refused int
	for calls := 0; calls < 2_000_000 || taken == 0 || refused == 0; calls++ {
		if err := e.in.tryLock(); err == nil {
			taken++
			e.in.gate.unlock()
		} else {
			refused++
		}
		if !e.in.gate.tryLock() {
			t.Fatalf("call %d left and has the gate still", calls)
		}
		e.in.gate.unlock()
		if calls%1000 == 0 {
			runtime.Gosched() // where there is one processor
		}
	}
}
