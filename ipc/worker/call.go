package worker

import (
	"cmp"
	"container/list"
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// A call is one Call as the pool sees it. It waits in one of the pool's queues, or
// has a flight, or is done.
type call struct {
	method      string
	request     []byte
	atMostOnce  bool
	maxAttempts int
	timeout     time.Duration

	kick chan struct{} // holds one: a flight was given
	done chan outcome  // holds one

	// Guarded by the pool's mu.
	queue  *list.List
	place  *list.Element
	flight *flight
	starts int // how often a handler was started
	blame  int // how many workers died of it
}

type outcome struct {
	answer []byte
	err    error
}

// A flight is one attempt of a call: the call in one worker.
type flight struct {
	id        uint64
	stay      *stay
	call      *call
	committed bool // the request is in the channel; the caller's goroutine alone uses it

	// Guarded by the pool's mu.
	started   bool
	abandoned bool // the caller has gone
	watch     *time.Timer
}

// Call has a worker do something, and returns its answer. It waits for a place in
// a worker, and goes to another one if a worker dies, as the package comment
// says. request must not be changed before Call returns.
func (p *Pool) Call(ctx context.Context, method string, request []byte, options ...CallOption) ([]byte, error) {
	c := &call{
		method: method, request: request, maxAttempts: p.config.MaxAttempts, timeout: p.config.Timeout,
		atMostOnce: slices.Contains(p.config.AtMostOnce, method),
		kick:       make(chan struct{}, 1), done: make(chan outcome, 1),
	}
	for _, option := range options {
		option(c)
	}
	if err := p.admit(ctx, c); err != nil {
		return nil, err
	}
	var timed *flight // what the timer is for
	timer := time.NewTimer(math.MaxInt64)
	defer timer.Stop()
	for {
		select {
		case o := <-c.done:
			return o.answer, o.err
		case <-c.kick:
			if timed = p.transmit(ctx, c); timed != nil && c.timeout > 0 {
				timer.Reset(c.timeout)
			}
		case <-timer.C:
			if o, ended := p.leave(c, timed, context.DeadlineExceeded); ended {
				return o.answer, o.err
			}
		case <-ctx.Done():
			o, _ := p.leave(c, nil, ctx.Err())
			return o.answer, o.err
		}
	}
}

// admit puts a new call into the queue, or says why not.
func (p *Pool) admit(ctx context.Context, c *call) error {
	switch {
	case ctx.Err() != nil:
		return notSent(ctx.Err())
	case len(c.request) > p.config.MaxMessage:
		return notSent(fmt.Errorf("%w: a request of %d bytes, of %d", ErrTooLarge, len(c.request), p.config.MaxMessage))
	case len(c.method) > maxMethodSize:
		return notSent(fmt.Errorf("%w: its name has %d bytes", ErrUnknownMethod, len(c.method)))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut {
		return notSent(ErrClosed)
	}
	p.enqueue(c, p.ordinary)
	p.schedule()
	return nil
}

// transmit sends a call to the worker that it was given, and returns that flight. An
// error needs no answer here: either ctx has ended, which Call sees, or the worker has, whose
// end settles the call.
func (p *Pool) transmit(ctx context.Context, c *call) *flight {
	p.mu.Lock()
	f, attempt := c.flight, c.starts+1
	p.mu.Unlock()
	if f == nil || f.committed {
		return f // nil: that worker has ended again, and another kick will come
	}
	h := header{start: f.stay.start, id: f.id, number: uint32(attempt), methodSize: len(c.method), remaining: c.timeout}
	if deadline, ok := ctx.Deadline(); ok {
		left := max(time.Until(deadline), 1)
		h.remaining = min(left, cmp.Or(c.timeout, left))
	}
	f.committed = f.stay.send(ctx, kindRequest, h, c.method, c.request) == nil
	return f
}

// leave takes a call whose time is over out of the pool; with a flight, only if it
// still has that one. A handler that has begun is told, and gets Grace to end.
func (p *Pool) leave(c *call, only *flight, cause error) (o outcome, ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case o := <-c.done:
		return o, true
	default:
	}
	f := c.flight
	if only != nil && f != only {
		return outcome{}, false // the worker has died since, and the call waits for another
	}
	if f == nil || !f.committed {
		p.withdraw(c)
		p.schedule()
		return outcome{err: c.qualify(cause)}, true
	}
	f.abandoned = true
	if p.config.Grace >= 0 {
		f.watch = time.AfterFunc(p.config.Grace, func() { f.stay.killStuck(f) })
	}
	go func() {
		_ = f.stay.send(context.Background(), kindCancel, header{start: f.stay.start, id: f.id}, "", nil)
	}()
	return outcome{err: unknown(cause)}, true
}

// withdraw takes a call out of its queue, or away from a worker that it was not sent
// to.
//
// Preconditions: mu is held.
func (p *Pool) withdraw(c *call) {
	if c.queue != nil {
		c.queue.Remove(c.place)
		c.queue, c.place = nil, nil
	}
	if c.flight != nil {
		p.land(c.flight)
		c.flight = nil
	}
}

// qualify says of a call that ends while it is with no worker what that means for it.
//
// Preconditions: mu is held.
func (c *call) qualify(cause error) error {
	if c.starts > 0 {
		return unknown(cause)
	}
	return notSent(cause)
}

// finish ends a call.
//
// Preconditions: mu is held, and the call is in no queue and has no flight.
func (c *call) finish(answer []byte, err error) { c.done <- outcome{answer, err} }
