//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
)

// noLock is for the calls whose only lock is the gate.
type noLock struct{}

func (noLock) Lock()   {}
func (noLock) Unlock() {}

// whileOthersGetThrough tells how many operations a busy goroutine makes until each of
// several others has made some, with a lock around each; limit ends it. A try that
// fails, because one of the others is at work, is not an operation.
func whileOthersGetThrough(lock sync.Locker, limit uint64, busy func() error, other func()) uint64 {
	const others, each = 3, 30
	var count atomic.Uint64
	var left atomic.Int32
	left.Store(others)
	once := func(operation func()) {
		lock.Lock()
		defer lock.Unlock()
		operation()
	}
	var workers sync.WaitGroup
	begun := make(chan struct{})
	spawn(&workers, func() {
		for left.Load() > 0 && count.Load() < limit {
			once(func() {
				if busy() == nil && count.Add(1) == 100 {
					close(begun)
				}
			})
		}
	})
	<-begun
	for range others {
		spawn(&workers, func() {
			defer left.Add(-1)
			for range each {
				if count.Load() < limit {
					once(other)
				}
			}
		})
	}
	workers.Wait()
	return count.Load()
}

// One goroutine that is busy at one end of a direction keeps nobody else from it for
// longer than a sync.Mutex would, measured in the same run.
func TestW9ABusyGoroutineStarvesNobody(t *testing.T) {
	large := make([]byte, 100_000) // so that the busy one is nearly always in the gate
	buf := make([]byte, len(large))
	for name, forms := range map[string]struct {
		receive bool
		busy    func(ctx context.Context, e *Endpoint) error
		other   func(ctx context.Context, e *Endpoint)
	}{
		"Send": {false,
			func(ctx context.Context, e *Endpoint) error { return e.Send(ctx, 1, large) },
			func(ctx context.Context, e *Endpoint) { _ = e.Send(ctx, 1, nil) }},
		"SendBatch beside Send": {false,
			func(ctx context.Context, e *Endpoint) error { return e.Send(ctx, 1, large) },
			func(ctx context.Context, e *Endpoint) { _, _ = e.SendBatch(ctx, make([]Message, 1)) }},
		"Reserve beside TrySend": {false,
			func(_ context.Context, e *Endpoint) error { return e.TrySend(1, large) },
			func(ctx context.Context, e *Endpoint) {
				if r, err := e.Reserve(ctx, 0); err == nil {
					_ = r.Commit(1, 0)
				}
			}},
		"ReceiveInto": {true,
			func(ctx context.Context, e *Endpoint) error {
				_, err := e.ReceiveInto(ctx, buf)
				return err
			},
			func(ctx context.Context, e *Endpoint) { _, _ = e.ReceiveInto(ctx, make([]byte, len(large))) }},
		"Receive beside TryReceive": {true,
			func(_ context.Context, e *Endpoint) error {
				m, err := e.TryReceive()
				if err == nil {
					_ = m.Release()
				}
				return err
			},
			func(ctx context.Context, e *Endpoint) {
				if m, err := e.Receive(ctx); err == nil {
					_ = m.Release()
				}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := pair(t, nil, nil)
			ctx, cancel := context.WithCancel(testContext(t))
			var partner sync.WaitGroup
			spawn(&partner, func() { // the other end of the direction
				for ctx.Err() == nil {
					if forms.receive {
						_ = client.Send(ctx, 1, large)
					} else {
						m, err := client.Receive(ctx)
						if err == nil {
							_ = m.Release()
						}
					}
				}
			})
			busy := func() error { return forms.busy(ctx, server) }
			other := func() { forms.other(ctx, server) }
			var mutex, gate, limit uint64
			for range 3 { // what else the machine does spoils a count, but not three
				mutex = whileOthersGetThrough(new(sync.Mutex), 1<<62, busy, other)
				limit = 20 * max(mutex, 1000)
				gate = whileOthersGetThrough(noLock{}, limit, busy, other)
				t.Logf("%d operations with the gate, %d with a sync.Mutex", gate, mutex)
				if gate < limit {
					break
				}
			}
			if gate >= limit {
				t.Errorf("the others have not got through in %d operations of the busy one; with a sync.Mutex it was %d", gate, mutex)
			}
			cancel()
			partner.Wait()
		})
	}
}

// Of goroutines that come, wait, are cancelled and leave, at every moment, the gate
// that is handed over is lost by none.
func TestW9AGateHandedOverIsNeverLost(t *testing.T) {
	var g gate
	g.open()
	var workers sync.WaitGroup
	var inside atomic.Int32
	all, closed := testContext(t), make(chan struct{})
	for worker := range 8 {
		spawn(&workers, func() {
			for i := range 3000 {
				ctx, cancel := context.WithCancel(all)
				if worker%2 == 0 {
					go cancel()
				}
				if (i+worker)%100 == 0 { // as if one were hungry at once
					g.hungry.Add(1)
					go g.hungry.Add(-1)
				}
				if g.lock(ctx, closed) == nil {
					if inside.Add(1) != 1 {
						t.Error("two hold the gate")
					}
					inside.Add(-1)
					g.unlock()
				}
				cancel()
			}
		})
	}
	workers.Wait()
	if all.Err() != nil {
		t.Error("somebody waits for a gate that nobody has")
	}
	eventually(t, "nobody is hungry", func() bool { return g.hungry.Load() == 0 })
	if !g.tryEnter() || g.waiters.Load() != 0 {
		t.Errorf("nobody is there, and the gate is in state %d with %d waiters", g.state.Load(), g.waiters.Load())
	}
}

// Once a waiter is hungry, an unlock hands the gate over: nobody who comes is faster.
func TestW9AnUnlockHandsOverToTheHungry(t *testing.T) {
	var g gate
	g.open()
	if !g.tryLock() {
		t.Fatal("a new gate is not free")
	}
	waited := make(chan error, 1)
	go func() { waited <- g.lock(testContext(t), nil) }()
	eventually(t, "the waiter is hungry", func() bool {
		g.pass() // as a busy goroutine that unlocks and locks again
		return g.hungry.Load() == 1
	})
	g.unlock()
	if g.tryLock() {
		t.Error("whoever comes takes the gate before one that has waited for long")
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	g.unlock()
	if !g.tryLock() || g.hungry.Load() != 0 {
		t.Errorf("then the gate is in state %d, with %d hungry", g.state.Load(), g.hungry.Load())
	}
}

// Whoever is to get the gate may be cancelled just then: somebody frees it.
func TestW9AGateHandedToOneWhoLeavesIsFree(t *testing.T) {
	var g gate
	g.open()
	if !g.tryLock() {
		t.Fatal("a new gate is not free")
	}
	g.waiters.Add(1) // as a waiter that is hungry, gets the gate, and leaves
	g.hungry.Add(1)
	g.unlock()
	g.forgo(true)
	if !g.tryLock() || g.waiters.Load() != 0 || g.hungry.Load() != 0 {
		t.Fatalf("the waiter has left, and the gate is in state %d, with %d waiters, %d hungry", g.state.Load(), g.waiters.Load(), g.hungry.Load())
	}
	g.hungry.Add(1) // as one that leaves just before
	g.unlock()
	g.hungry.Add(-1)
	for round := range 3000 {
		if !g.tryLock() {
			t.Fatalf("round %d: nobody is there, and the gate is in state %d", round, g.state.Load())
		}
		g.hungry.Add(1) // as if the waiter were
		ctx, cancel := context.WithCancel(context.Background())
		left := make(chan error, 1)
		go func() { left <- g.lock(ctx, nil) }()
		eventually(t, "the waiter queues", func() bool { return g.waiters.Load() == 1 })
		go cancel()
		g.unlock()
		if <-left == nil {
			g.hungry.Add(-1)
			g.unlock()
		} else {
			g.hungry.Add(-1)
		}
		cancel()
		for len(g.wake) > 0 {
			<-g.wake
		}
	}
}
