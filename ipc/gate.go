package ipc

import (
	"context"
	"runtime"
	"sync/atomic"
)

// A gate is a lock that a context can give up on (W9). One goroutine of the
// process at a time uses one end of one direction; the others queue here and
// not in the kernel, so that at most one waiter stands behind a waiting word.
type gate struct {
	state   atomic.Uint32 // gateFree, gateHeld or gateGlanced
	waiters atomic.Int32
	wake    chan struct{} // capacity 1: "look again"
}

const (
	gateFree = iota
	gateHeld
	gateGlanced // held for a moment, by nobody who is at work
)

func newGate() gate { return gate{wake: make(chan struct{}, 1)} }

func (g *gate) tryLock() bool { return g.state.CompareAndSwap(gateFree, gateHeld) }

// tryEnter is tryLock for the calls that do not wait: a glance is not somebody at
// work, and is waited for.
func (g *gate) tryEnter() bool {
	for !g.tryLock() {
		if g.state.Load() == gateHeld {
			return false
		}
		runtime.Gosched()
	}
	return true
}

// glance calls f, which is short, with the gate held, if it is free.
func (g *gate) glance(f func()) (free bool) {
	if free = g.state.CompareAndSwap(gateFree, gateGlanced); free {
		f()
		g.unlock()
	}
	return free
}

// lock takes the gate, or returns ctx's error, or ErrClosed once closed is.
func (g *gate) lock(ctx context.Context, closed <-chan struct{}) error {
	if g.tryLock() {
		return nil
	}
	return g.queue(ctx, closed)
}

// queue is lock when the gate is not free.
func (g *gate) queue(ctx context.Context, closed <-chan struct{}) error {
	g.waiters.Add(1)
	defer g.waiters.Add(-1)
	for {
		// A token in wake may be older than this wait; that costs one look. Who
		// unlocks after this look sees the waiter and leaves a new one.
		if g.tryLock() {
			return nil
		}
		select {
		case <-g.wake:
		case <-ctx.Done():
			g.pass()
			return ctx.Err()
		case <-closed:
			g.pass()
			return ErrClosed
		}
	}
}

// pass hands on a wake-up that a leaving waiter may have been meant for.
func (g *gate) pass() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

func (g *gate) unlock() {
	g.state.Store(gateFree)
	if g.waiters.Load() != 0 {
		g.pass()
	}
}
