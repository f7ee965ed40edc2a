package worker

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// A stream is what the reader of a call's parts has.
type stream struct {
	more chan struct{} // holds one: parts have come

	// Guarded by the pool's mu.
	parts [][]byte
	begun bool // a part has come: the call is not started again
}

// Stream has a worker do something that has many answers, and yields them in the
// order in which the handler sent them. Nothing happens before it is ranged over, and each range
// is a call of its own. It waits for a place, and takes options, as Call does.
//
// A pair with an error is the last. As long as no part has come, a death has the
// consequences that it has for a Call. After the first part a stream is not
// started again: what was sent before the death is yielded, then comes a *DeathError that is
// ErrOutcomeUnknown.
//
// The handler waits when its reader is behind by MaxMessage bytes. A reader that leaves
// the loop cancels the handler's context, as the end of ctx does. Timeout counts for the
// whole stream, the time that the reader takes included.
func (p *Pool) Stream(ctx context.Context, method string, request []byte, options ...CallOption) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if err := p.check(ctx); err != nil {
			yield(nil, err)
			return
		}
		c := p.newCall(method, request, options)
		c.stream = &stream{more: make(chan struct{}, 1)}
		if err := p.admit(ctx, c); err != nil {
			yield(nil, err)
			return
		}
		defer p.leave(c, nil, context.Canceled) // if the reader has left the loop
		stop := func() bool { return false }
		defer func() { stop() }()
		for watched := false; ; {
			var o outcome
			select {
			case <-c.kick:
				p.transmit(ctx, c)
				continue
			case <-ctx.Done():
				p.leave(c, nil, ctx.Err())
				o = <-c.done
			case <-c.stream.more:
				if !watched { // from here on the reader's code runs in between
					watched = true
					stop = context.AfterFunc(ctx, func() { p.leave(c, nil, ctx.Err()) })
				}
				if !p.deliver(ctx, c, yield) {
					return
				}
				continue
			case o = <-c.done:
			}
			if p.deliver(ctx, c, yield) && (o.err != nil || o.answer != nil) {
				yield(o.answer, o.err)
			}
			return
		}
	}
}

// deliver yields the parts that have come. It returns false when the reader has left.
func (p *Pool) deliver(ctx context.Context, c *call, yield func([]byte, error) bool) bool {
	for {
		part, f, credit := p.nextPart(c)
		if part == nil {
			return true
		}
		if credit > 0 {
			_ = f.stay.send(ctx, kindCredit, header{start: f.stay.start, id: f.id, number: uint32(credit)}, "", nil)
		}
		if !yield(part, nil) {
			return false
		}
	}
}

// nextPart takes the next part, nil if there is none now, and says how many bytes more
// the flight may send.
func (p *Pool) nextPart(c *call) (part []byte, f *flight, credit int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := c.stream
	if len(s.parts) == 0 {
		return nil, nil, 0
	}
	part, s.parts[0] = s.parts[0], nil
	s.parts = s.parts[1:]
	if f = c.flight; f != nil {
		credit = f.intake.use(costOf(part))
	}
	return part, f, credit
}

// add gives the reader a part.
//
// Preconditions: mu is held.
func (s *stream) add(part []byte) {
	s.parts, s.begun = append(s.parts, part), true
	select {
	case s.more <- struct{}{}:
	default: // the reader has not yet looked after the last one
	}
}

// An outgoing is the handler's end of a stream.
type outgoing struct {
	server    *server
	ctx       context.Context
	id        uint64
	allowance *allowance
}

// errEnded is for a handler's goroutine that goes on after the handler has returned.
var errEnded = errors.New("worker: the handler has returned, and its stream has ended")

// Send sends a part of a stream to the caller. It waits when the caller is behind, and
// returns the error of the handler's context when that ends: the caller has gone,
// or its time is over. What the handler returns at its end is the last part; nil is none. part may
// be changed after Send returns. Several goroutines may send at a time.
func (r *Request) Send(part []byte) error {
	o := r.out
	switch {
	case o == nil:
		return ErrNoStream
	case len(part) > o.server.maxMessage:
		return fmt.Errorf("%w: a part of %d bytes, of %d", ErrTooLarge, len(part), o.server.maxMessage)
	case o.ctx.Err() != nil:
		return o.ctx.Err()
	}
	return o.allowance.spend(o.ctx, costOf(part), func() error {
		return transmit(o.ctx, o.server.endpoint, kindPart, header{start: o.server.start, id: o.id}, "", part)
	})
}
