package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// An ask is a call in the other direction: a handler in the worker calls a handler
// of the service. This is the service's side.
type ask struct {
	stay    *stay
	id      uint64
	request *Request
	ctx     context.Context
	cancel  context.CancelFunc
}

// asked takes an ask in. An honest worker has at most MaxAsks that are not
// answered. mu is given up while the request is copied: the receiver alone adds asks.
//
// Preconditions: mu is held.
func (s *slot) asked(y *stay, h header, data []byte) error {
	p := s.pool
	method, payload := data[:h.methodSize], data[h.methodSize:]
	switch {
	case len(y.asks) >= p.config.MaxAsks:
		return &malformedError{fmt.Sprintf("more than %d asks at a time", p.config.MaxAsks)}
	case y.asks[h.id] != nil:
		return &malformedError{fmt.Sprintf("ask %d comes twice", h.id)}
	case len(payload) > p.config.MaxMessage:
		return &malformedError{fmt.Sprintf("an ask of %d bytes, of %d", len(payload), p.config.MaxMessage)}
	}
	p.mu.Unlock()
	r := &Request{Method: string(method), Data: bytes.Clone(payload), Attempt: 1}
	p.mu.Lock()
	if y.over {
		return nil // nobody waits for it any more
	}
	a := &ask{stay: y, id: h.id, request: r}
	a.ctx, a.cancel = within(y.ctx, h.remaining)
	y.asks[h.id] = a
	s.asks = append(s.asks, a)
	s.serveNext()
	return nil
}

// serveNext starts the next ask that waits, if there is a place. The places are the
// slot's, and outlast the process: handlers that go on after the death of who has
// asked them are counted.
//
// Preconditions: mu is held.
func (s *slot) serveNext() {
	for len(s.asks) > 0 && s.serving < s.pool.config.MaxAsks {
		a := s.asks[0]
		s.asks[0] = nil
		s.asks = s.asks[1:]
		if a.stay.over {
			a.cancel()
			continue
		}
		s.serving++
		s.pool.serving.Add(1)
		go s.serve(a)
	}
}

// serve runs the handler of an ask and answers.
func (s *slot) serve(a *ask) {
	defer s.pool.serving.Done()
	defer a.cancel()
	config := &s.pool.config
	handler := config.Handlers[a.request.Method]
	if handler == nil {
		s.answer(a, statusUnknownMethod, nil)
		return
	}
	invoke(a.ctx, handler, a.request, config.MaxMessage, func() {}, func(status uint32, payload []byte) {
		s.answer(a, status, payload)
	})
}

// answer ends an ask. Its place is free as soon as the worker can know of the answer,
// and not before: a worker that takes no answers gets no more places.
func (s *slot) answer(a *ask, status uint32, payload []byte) {
	p, y := s.pool, a.stay
	r, err := y.reserve(context.Background(), frameSize("", payload))
	size := 0
	if err == nil {
		defer func() { _ = r.Abort() }() // nothing, once it is committed
		size = fill(r, header{start: y.start, id: a.id, number: status}, "", payload)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(y.asks, a.id)
	s.serving--
	if err == nil {
		_ = r.Commit(kindAnswer, size)
	}
	s.serveNext()
}

// An asker is the worker's side.
type asker struct {
	places chan struct{} // as many as there may be asks

	mu   sync.Mutex
	last uint64
	open map[uint64]chan reply // by id; each holds one
}

// A reply is an answer before anybody has looked at it.
type reply struct {
	status  uint32
	payload []byte
}

type serverKey struct{}

var errNoHandler = errors.New("worker: the context is not that of a worker's handler")

// Ask is for the handlers of a worker: it has a handler of the service, one of
// Config.Handlers, do something, and returns its answer. ctx is the handler's, or made from it.
// Its deadline is the service's too, and its end cancels the context there.
//
// It waits while Config.MaxAsks others of this worker are under way. Its errors
// answer the question of Call's: may it be asked again?
func Ask(ctx context.Context, method string, request []byte) ([]byte, error) {
	w, _ := ctx.Value(serverKey{}).(*server)
	switch {
	case w == nil:
		return nil, notSent(errNoHandler)
	case ctx.Err() != nil:
		return nil, notSent(ctx.Err())
	case len(request) > w.maxMessage:
		return nil, notSent(fmt.Errorf("%w: a request of %d bytes, of %d", ErrTooLarge, len(request), w.maxMessage))
	case len(method) > maxMethodSize:
		return nil, notSent(fmt.Errorf("%w: its name has %d bytes", ErrUnknownMethod, len(method)))
	}
	select {
	case w.asker.places <- struct{}{}:
	case <-ctx.Done():
		return nil, notSent(ctx.Err())
	case <-w.left:
		return nil, notSent(w.leftFor)
	}
	id, done := w.asker.begin()
	committed, over := false, false
	defer func() { // also if the user's context or memory does not return
		switch {
		case over:
		case !committed:
			w.asker.end(id)
		default: // its place is free when its answer comes
			go func() { _ = transmit(w.ctx, w.endpoint, kindCancel, header{start: w.start, id: id}, "", nil) }()
		}
	}()
	h := header{start: w.start, id: id, number: 1, methodSize: len(method)}
	if deadline, ok := ctx.Deadline(); ok {
		h.remaining = max(time.Until(deadline), 1)
	}
	if err := transmit(ctx, w.endpoint, kindRequest, h, method, request); err != nil {
		return nil, notSent(err)
	}
	committed = true
	select {
	case o := <-done:
		over = true
		return result(method, o.status, o.payload)
	case <-ctx.Done():
		return nil, unknown(ctx.Err())
	case <-w.left:
		over = true
		return nil, unknown(w.leftFor)
	}
}

func (a *asker) begin() (id uint64, done chan reply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last++
	done = make(chan reply, 1)
	a.open[a.last] = done
	return a.last, done
}

// end frees the place of an ask, and returns who waits for it; nil if there is none.
func (a *asker) end(id uint64) (done chan reply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if done = a.open[id]; done != nil {
		delete(a.open, id)
		<-a.places
	}
	return done
}

// within is a context that ends with its parent, and after a time that is not 0.
func within(parent context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit > 0 {
		return context.WithTimeout(parent, limit)
	}
	return context.WithCancel(parent)
}
