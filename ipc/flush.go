package ipc

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// Flush waits until the peer has released all that was committed here when Flush was
// called, at a client also by the clients before it, and then returns nil. Others send
// and receive meanwhile as if nobody flushed. A peer that keeps its views while it waits
// for more messages keeps Flush waiting too, and is not told: give it a deadline.
//
// It returns the end of the peer if that ends, or has ended, before it has released
// everything: at a server, of the last client. A server that has had no client yet
// waits for one. It returns the error of ctx, ErrClosed after Close, and
// ErrPeerHung as a wait for space does. Nothing is lost by any of them: what was not
// released stays in the ring, Unreleased has it, and Flush may be called again.
func (e *Endpoint) Flush(ctx context.Context) error {
	if !e.isOpened() {
		return ErrClosed
	}
	if err := checkContext(ctx); err != nil {
		return err
	}
	f := &flush{e: e, until: e.out.writePos.settled()}
	defer func() { f.peer.release() }()
	if done, err := f.look(); done || err != nil {
		return err
	}
	if err := e.out.flushes.lock(ctx, e.closed); err != nil {
		return err
	}
	defer e.out.flushes.unlock()
	e.out.flushing.Store(true)
	defer e.out.flushing.Store(false)
	wait := waiter{which: 2, armed: step.SpaceArmed}
	defer wait.forget()
	return e.await(ctx, &wait, f)
}

// A flush is the end of await that waits for releases, and for no space. It does not
// hold the producer's gate, so that nobody who sends waits for it. It arms the
// producer's waiting word when that gate is free, and so no sender waits. One that
// waits later stores there what it waits for itself. So whoever may have the gate for
// long, a sender that waits and a reservation, interrupts the flush at the end of that.
//
// A receiver that holds views must not take it for one that waits for space (W8).
// What a flush arms lies between two positions: the peer's readPos crosses it with the
// step that reaches until, and no sender waits for it.
type flush struct {
	e       *Endpoint
	until   uint64 // what the peer's readPos must reach
	looked  bool
	ends    uint64   // how many ends had been told when it was called
	readPos uint64   // as it was decided on
	frozen  bool     // the peer's word must not be believed
	peer    *segment // in which readPos lies
	unused  atomic.Uint64
}

// look implements end. That of the peer is sampled first, and its position then (W6):
// both do not change while e.mu is held.
func (f *flush) look() (bool, error) {
	e := f.e
	e.mu.Lock()
	if e.closing.Load() {
		e.mu.Unlock()
		return false, ErrClosed
	}
	a, err := e.account()
	if f.peer != e.peer {
		f.peer.release()
		f.peer = e.peer
		f.peer.refs.Add(1)
	}
	f.readPos, f.frozen = a.readPos, e.corrupt != nil
	end := f.end()
	e.mu.Unlock()
	switch {
	case err != nil:
		return false, e.expel(false, func() error { return f.judge(err) })
	case int64(a.readPos-f.until) >= 0:
		return true, nil
	}
	return false, end
}

// end returns the end of the peer, if it has come. A corrupt server may stay for as long
// as it likes: its end came when it was found out (T1).
//
// Preconditions: e.mu is held.
func (f *flush) end() error {
	e := f.e
	if e.role == RoleClient {
		return e.err
	}
	ends := e.tally.closes + e.tally.deaths
	if !f.looked {
		f.looked, f.ends = true, ends
	}
	if ended := e.state == PeerDied || e.state == PeerClosed; ended || ends != f.ends {
		return e.lastEnd
	}
	return nil
}

// judge is as for Unreleased: the peer of this moment is to blame, or one that has gone.
func (f *flush) judge(err error) error {
	if _, now := f.e.account(); now != nil || f.e.role == RoleServer {
		return now
	}
	return err
}

// watching implements end.
func (f *flush) watching() (word *atomic.Uint64, value uint64, waitFor *atomic.Uint64, target uint64) {
	if f.frozen {
		return &f.e.never, 0, &f.unused, f.until
	}
	return &f.peer.control.readPos, f.readPos, &f.unused, f.until
}

// settle implements end: it arms, behind the look and before the sleep (W2), unless
// there is an interrupt to come.
func (f *flush) settle() {
	p := &f.e.out
	arm := func() { storeFenced(&p.own.spaceWaitFor, f.until-1) } // pairs: waiting
	for tries := 0; !p.gate.glance(arm) && !p.isHeldLong(); tries++ {
		if tries < 100 {
			runtime.Gosched()
		} else {
			time.Sleep(firstLook) // a large message is being copied
		}
	}
}

// isHeldLong reports whether whoever has the gate interrupts a flush when it is done
// with what may take long.
func (p *producer) isHeldLong() bool {
	p.claim.Lock()
	defer p.claim.Unlock()
	return p.claim.active || p.waits.Load() || p.e.closing.Load()
}

// awaitRoom waits for need bytes behind what is filled.
func (p *producer) awaitRoom(ctx context.Context, need uint64) error {
	p.need = need
	p.waits.Store(true)
	defer func() {
		p.waits.Store(false)
		p.rouseFlush()
	}()
	return p.e.await(ctx, &p.wait, p)
}

// rouseFlush has a flush look again, and arm.
//
// Preconditions: isHeldLong is false as far as the caller goes.
func (p *producer) rouseFlush() {
	if p.flushing.Load() {
		p.e.bell.interrupt()
	}
}
