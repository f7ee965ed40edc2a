package worker

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A call is one Call or Stream as the pool sees it. It waits in one of the pool's queues, or
// has a flight, or is done.
type call struct {
	method      string
	request     []byte
	atMostOnce  bool
	maxAttempts int
	timeout     time.Duration
	stream      *stream // nil if it has one answer

	kick chan struct{} // holds one: a flight was given
	done chan outcome  // holds one

	// Guarded by the pool's mu.
	queue   *list.List
	place   *list.Element
	flight  *flight
	starts  int  // how often a handler was started
	blame   int  // how many workers died of it
	suspect bool // a worker died of it or of a neighbour: it runs alone from then on
	over    bool
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
	committed bool // the request is in the channel; what looks at it is the caller's goroutine, or begins after it is set

	// Guarded by the pool's mu.
	started   bool
	abandoned bool        // the caller has gone
	timeout   *time.Timer // ends the call; nil without one
	watch     *time.Timer // ends the worker; nil as long as the caller waits
	intake    intake      // of parts
}

// Call has a worker do something, and returns its answer. It waits for a place in
// a worker, and goes to another one if a worker dies, as the package comment
// says. request must not be changed before Call returns.
func (p *Pool) Call(ctx context.Context, method string, request []byte, options ...CallOption) ([]byte, error) {
	if err := p.check(ctx); err != nil {
		return nil, err
	}
	c := p.newCall(method, request, options)
	if err := p.admit(ctx, c); err != nil {
		return nil, err
	}
	over := false
	defer func() {
		if !over { // the caller's code, or memory, has not returned
			p.leave(c, nil, context.Canceled)
		}
	}()
	for {
		select {
		case o := <-c.done:
			over = true
			return o.answer, o.err
		case <-c.kick:
			p.transmit(ctx, c)
		case <-ctx.Done():
			p.leave(c, nil, ctx.Err())
			o := <-c.done
			over = true
			return o.answer, o.err
		}
	}
}

func (p *Pool) newCall(method string, request []byte, options []CallOption) *call {
	c := &call{
		method: method, request: request, maxAttempts: p.config.MaxAttempts, timeout: p.config.Timeout,
		atMostOnce: slices.Contains(p.config.AtMostOnce, method),
		kick:       make(chan struct{}, 1), done: make(chan outcome, 1),
	}
	for _, option := range options {
		if option != nil {
			option(c)
		}
	}
	return c
}

var errNoContext = errors.New("worker: the context is nil")

// check reports a call that no pool, or no context, was there for.
func (p *Pool) check(ctx context.Context) error {
	switch {
	case !p.isStarted():
		return notSent(ErrClosed)
	case ctx == nil:
		return notSent(errNoContext)
	}
	return nil
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

// transmit sends a call to the worker that it was given. An error needs no answer
// here: either ctx has ended, which the caller sees, or the worker has, whose end
// settles the call.
func (p *Pool) transmit(ctx context.Context, c *call) {
	p.mu.Lock()
	f, attempt := c.flight, c.starts+1
	p.mu.Unlock()
	if f == nil || f.committed {
		return // nil: that worker has ended again, and another kick will come
	}
	kind := kindRequest
	if c.stream != nil {
		kind = kindOpen
	}
	h := header{start: f.stay.start, id: f.id, number: uint32(attempt), methodSize: len(c.method), remaining: c.timeout}
	if deadline, ok := ctx.Deadline(); ok {
		left := max(time.Until(deadline), 1)
		h.remaining = min(left, cmp.Or(c.timeout, left))
	}
	if c.timeout == 0 {
		f.committed = f.stay.send(ctx, kind, h, c.method, c.request) == nil
		return
	}
	within, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	begun := time.Now()
	err := f.stay.send(within, kind, h, c.method, c.request)
	if f.committed = err == nil; !f.committed {
		if ctx.Err() == nil && within.Err() != nil {
			p.leave(c, f, context.DeadlineExceeded)
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.flight == f {
		f.timeout = time.AfterFunc(c.timeout-time.Since(begun), func() { p.leave(c, f, context.DeadlineExceeded) })
	}
}

// leave ends a call whose time is over, or whose caller has gone; with a flight, only if it
// still has that one. A handler that has begun is told, and gets Grace to end.
func (p *Pool) leave(c *call, only *flight, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := c.flight
	if c.over || only != nil && f != only {
		return // it has ended; or the worker has died since, and the call waits for another
	}
	if c.stream != nil {
		c.stream.parts = nil
	}
	if f == nil || !f.committed {
		p.withdraw(c)
		p.schedule()
		c.finish(nil, c.qualify(cause))
		return
	}
	f.abandoned = true
	if p.config.Grace >= 0 {
		f.watch = time.AfterFunc(p.config.Grace, func() { f.stay.killStuck(f) })
	}
	go func() {
		_ = f.stay.send(context.Background(), kindCancel, header{start: f.stay.start, id: f.id}, "", nil)
	}()
	c.finish(nil, unknown(cause))
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

// finish ends a call for its caller.
//
// Preconditions: mu is held, and the call is in no queue and has no flight, or an
// abandoned one.
func (c *call) finish(answer []byte, err error) {
	c.over = true
	c.done <- outcome{answer, err}
}
