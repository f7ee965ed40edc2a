package ipc

import (
	"cmp"
	"context"
	"runtime"
	"sync/atomic"
	"time"
)

// A gate is a lock that a context can give up on (W9). One goroutine of the
// process at a time uses one end of one direction; the others queue here and
// not in the kernel, so that at most one waiter stands behind a waiting word.
//
// Whoever comes to a free gate takes it, which is quick, and lets a busy goroutine
// take it again and again. So one that has waited for patience is hungry, and as long
// as one is, an unlock does not free the gate: it hands it over, to one that waits.
type gate struct {
	state   atomic.Uint32 // gateShut, gateFree, gateHeld, gateGlanced or gateHanded
	waiters atomic.Int32
	hungry  atomic.Int32  // how many of the waiters are
	wake    chan struct{} // capacity 1: "look again"
	handed  chan struct{} // capacity 1: the gate itself, while it is handed over
}

const (
	gateShut = iota // of an endpoint that never was: see Endpoint.isOpened
	gateFree
	gateHeld
	gateGlanced // held for a moment, by nobody who is at work
	gateHanded  // of whoever receives from handed
)

// patience is how long a goroutine waits before it is hungry; a sync.Mutex has the same.
const patience = time.Millisecond

func (g *gate) open() {
	g.wake, g.handed = make(chan struct{}, 1), make(chan struct{}, 1)
	g.state.Store(gateFree)
}

func (g *gate) tryLock() bool { return g.state.CompareAndSwap(gateFree, gateHeld) }

// tryEnter is tryLock for the calls that do not wait: a glance is not somebody at
// work, and is waited for.
func (g *gate) tryEnter() bool {
	for !g.tryLock() {
		switch g.state.Load() {
		case gateHeld, gateShut:
			return false
		case gateHanded:
			return g.claim()
		}
		runtime.Gosched()
	}
	return true
}

// claim takes a gate that was handed over, if nobody else has it yet.
func (g *gate) claim() bool {
	select {
	case <-g.handed:
		g.state.Store(gateHeld)
		return true
	default:
		return false
	}
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
	done := ctx.Done() // it may panic (T4), and nothing has been done
	began, hungry := time.Now(), false
	g.waiters.Add(1)
	for {
		// A token in wake may be older than this wait; that costs one look. Who
		// unlocks after this look sees the waiter and leaves a new one.
		if g.tryLock() {
			g.leaveQueue(hungry)
			return nil
		}
		if !hungry && time.Since(began) > patience {
			hungry = true
			g.hungry.Add(1)
		}
		select {
		case <-g.wake:
		case <-g.handed:
			g.state.Store(gateHeld)
			g.leaveQueue(hungry)
			return nil
		case <-done:
			g.forgo(hungry)
			return whyEnded(ctx)
		case <-closed:
			g.forgo(hungry)
			return ErrClosed
		}
	}
}

// whyEnded is the error of a context whose Done is closed. A context may have none all
// the same, against its own rules: nobody takes that for the gate (T4).
func whyEnded(ctx context.Context) error { return cmp.Or(ctx.Err(), context.Canceled) }

func (g *gate) leaveQueue(hungry bool) {
	if hungry {
		g.hungry.Add(-1)
	}
	g.waiters.Add(-1)
}

// forgo ends a wait without the gate. Who hands it over looks at the waiters behind
// that, and who leaves looks at what was handed over behind its leaving: one of them
// sees the other, and the gate is never of nobody. It passes on a wake-up too, which
// may have been meant for this waiter.
func (g *gate) forgo(hungry bool) {
	g.leaveQueue(hungry)
	if g.claim() {
		g.unlock()
	}
	g.pass()
}

// pass leaves a wake-up for one waiter.
func (g *gate) pass() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

func (g *gate) unlock() {
	if g.hungry.Load() != 0 {
		g.handOver()
		return
	}
	g.state.Store(gateFree)
	if g.waiters.Load() != 0 {
		g.pass()
	}
}

// handOver is unlock while somebody is hungry.
func (g *gate) handOver() {
	g.state.Store(gateHanded)
	g.handed <- struct{}{}
	if g.waiters.Load() == 0 && g.claim() { // whoever was to have it has left
		g.state.Store(gateFree)
		if g.waiters.Load() != 0 {
			g.pass()
		}
	}
}
