package ipc

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A doorbell is how the goroutines of one endpoint wait for the peer and are
// woken. A waiter spins for a while and then sleeps on two words: the peer's
// position, and this endpoint's interrupt counter.
type doorbell struct {
	// interrupts counts what a waiter must look at besides the peer's
	// position: the end of the peer, a cancelled context, Close (W3).
	interrupts atomic.Uint32

	// asleep says what the waiters sleep on: sender, receiver, flush, for kernels on which an
	// interrupt cannot end a sleep by itself.
	asleep [3]struct {
		word   atomic.Pointer[atomic.Uint32]
		number atomic.Uint64 // of the sleep; odd while it lasts
	}

	sleeps, wakes atomic.Uint64
}

// interrupt makes every waiter look again.
//
// Preconditions: what they are to see is stored already (W3).
func (d *doorbell) interrupt() {
	d.interrupts.Add(1) // pairs: interrupt
	futexWakePrivate(&d.interrupts)
	if !needsRepeatedWake() {
		return
	}
	for i := range d.asleep {
		a := &d.asleep[i]
		for number := a.number.Load(); number%2 == 1 && a.number.Load() == number; time.Sleep(50 * time.Microsecond) {
			futexWakeShared(a.word.Load())
		}
	}
}

// notify wakes the peer if it waits for a position in (old, new], where own is
// the position that moved (W1), and waitFor the peer's waiting word, loaded behind
// the store of own and its fence (W4).
func (d *doorbell) notify(own *atomic.Uint64, old, new, waitFor uint64) {
	if crosses(old, new, waitFor) {
		d.wake(own)
	}
}

func (d *doorbell) wake(own *atomic.Uint64) {
	d.wakes.Add(1)
	futexWakeShared(lowHalf(own))
}

// A waiter is one end of one direction while it may have to wait. Its fields are
// guarded by that end's gate.
type waiter struct {
	which   int // index into doorbell.asleep
	armed   step.ID
	budget  time.Duration // how long the next spin may take
	misses  int           // waits in a row that spinning did not end
	probe   int           // after how many of them a full spin is tried again
	watched <-chan struct{}
	unwatch func() bool
}

// The bounds between which an adaptive spin moves, and how it moves: about the
// cost of waking a halted virtual processor, and next to nothing. A full spin is tried
// again after firstProbe misses, and while that misses too after twice as many as before,
// up to every lastProbe: where it never pays, as with one processor for both processes, it
// costs less than a thousandth.
const (
	maxSpin    = 50 * time.Microsecond
	minSpin    = 2 * time.Microsecond
	firstProbe = 64
	lastProbe  = 4096
)

// An end is what await needs to know of a producer or a consumer.
type end interface {
	// look samples the peer's position and says whether there is what the
	// call waits for. It reads flags that concern this end behind the position.
	look() (ready bool, err error)
	// settle brings the counter up to date before a rest.
	settle()
	// watching returns the peer's position word, the value that look decided
	// on, one's own waiting word, and the position to wait for.
	watching() (word *atomic.Uint64, value uint64, waitFor *atomic.Uint64, target uint64)
}

// await is the one wait loop (W2). It returns nil once t.look says ready.
//
// Preconditions: the caller holds the end's gate, and holds back neither a
// message nor a release (W8).
func (e *Endpoint) await(ctx context.Context, w *waiter, t end) error {
	w.watch(ctx, e)
	spun, armed, left := false, false, false
	defer func() {
		if armed && !left { // a context or a hook panics (T4)
			_, _, waitFor, _ := t.watching()
			waitFor.Store(0)
		}
	}()
	for {
		n := e.bell.interrupts.Load() // pairs: interrupt. W2: the counter first,
		stop := e.stopped(ctx)        // then the flags,
		ready, err := t.look()        // then the position.
		switch {
		case err == nil && ready:
			w.adapt(!armed)
			left = true
			return nil
		case err == nil:
			err = stop
		}
		word, value, waitFor, target := t.watching()
		if err != nil {
			left = true
			if armed {
				waitFor.Store(0) // nobody waits here any more
				e.hook(step.Disarmed, target)
			}
			return err
		}
		if budget := e.spinBudget(w); !spun && budget > 0 {
			spun = true
			if e.bell.spin(word, value, n, budget, e.spinOption > 0) {
				continue
			}
		}
		storeFenced(waitFor, target) // pairs: waiting
		armed = true
		e.hook(w.armed, target)
		e.hook(step.Sleeping, value)
		e.bell.sleeps.Add(1)
		t.settle()
		e.bell.asleep[w.which].word.Store(lowHalf(word))
		e.bell.asleep[w.which].number.Add(1)
		futexSleep(lowHalf(word), uint32(value), &e.bell.interrupts, n, e.heartbeatInterval)
		e.bell.asleep[w.which].number.Add(1)
		e.hook(step.Woken, value)
	}
}

// stopped returns why a wait must end, apart from what the peer did.
func (e *Endpoint) stopped(ctx context.Context) error {
	if e.closing.Load() {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.failOnHang && e.hung.Load() {
		return ErrPeerHung
	}
	return nil
}

// watch sees to it that the end of ctx interrupts the endpoint. The registration
// is kept, so that a loop that waits with one context pays for it once.
func (w *waiter) watch(ctx context.Context, e *Endpoint) {
	done := ctx.Done()
	if done == w.watched {
		return
	}
	w.forget()
	if done != nil {
		w.unwatch = context.AfterFunc(ctx, e.bell.interrupt) // user code, maybe: it may panic
		w.watched = done
	}
}

// forget gives up the watched context.
func (w *waiter) forget() {
	unwatch := w.unwatch
	w.watched, w.unwatch = nil, nil
	if unwatch != nil {
		unwatch()
	}
}

// spinBudget is how long a wait may spin now.
func (e *Endpoint) spinBudget(w *waiter) time.Duration {
	switch {
	case e.spinOption > 0:
		return e.spinOption
	case e.spinOption < 0, e.sharesProcessor.Load():
		return 0
	case w.misses == 0 || w.misses == w.probe:
		return maxSpin
	default:
		return w.budget // 0 once it is known not to pay
	}
}

// adapt learns from a wait that spinning ended, or did not.
func (w *waiter) adapt(hit bool) {
	if hit {
		w.misses, w.probe, w.budget = 0, firstProbe, maxSpin
		return
	}
	if w.misses == w.probe {
		w.probe += min(max(w.probe, firstProbe), lastProbe)
	}
	w.misses++
	if w.budget /= 2; w.budget < minSpin {
		w.budget = 0
	}
}

// How a spin goes about it: looks before the first look at the clock and between
// two, and when a spin of Options.Spin begins to let other goroutines and other
// processes run in between. With more runnable threads than processors, a long
// spin that never yields holds up the very process that it waits for; the
// adaptive one is short, and gives up where it does not pay.
const (
	looksBeforeClock = 4000
	looksPerRound    = 200
	yieldAfter       = 5 * time.Microsecond
)

// spin watches word until it differs from value, an interrupt comes (n is the
// counter as the caller read it), or the budget is spent, which gives false.
func (d *doorbell) spin(word *atomic.Uint64, value uint64, n uint32, budget time.Duration, yield bool) bool {
	// Most waits end before it is worth looking at the clock.
	for range looksBeforeClock {
		if word.Load() != value {
			return true
		}
	}
	start := time.Now()
	for {
		if d.interrupts.Load() != n {
			return true
		}
		for range looksPerRound {
			if word.Load() != value {
				return true
			}
		}
		spent := time.Since(start)
		if spent >= budget {
			return false
		}
		if yield && spent > yieldAfter {
			yieldProcessor()
			runtime.Gosched()
		}
	}
}
