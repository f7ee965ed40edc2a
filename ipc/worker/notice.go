package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// A notice is a message that has no answer. Those of one process are handled one
// after the other, in the order in which they were committed.
type notice struct {
	stay    *stay // nil in the worker
	request *Request
	cost    int
}

// errGone ends the allowance of a process that has ended.
var errGone = errors.New("worker: the process has ended")

// Notify sends a notification to each worker that serves now, and returns to how
// many. It waits when one of them is behind by MaxMessage bytes, and returns when all
// have it in their channels: not when they have handled it.
//
// A worker handles its notifications one after the other, in the order in which
// they were sent, each at most once. What its handler returns goes nowhere. What a
// worker has not handled when it dies is lost, and the next one does not get it: so
// do not notify of what a worker must know, but of what it can look up when it
// starts. If some worker has no such handler, nobody learns of it.
//
// With an error, of ctx or ErrClosed, some may have it and others not.
func (p *Pool) Notify(ctx context.Context, method string, data []byte) (told int, err error) {
	switch {
	case !p.isStarted():
		return 0, ErrClosed
	case ctx == nil:
		return 0, errNoContext
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case len(data) > p.config.MaxMessage:
		return 0, fmt.Errorf("%w: a notification of %d bytes, of %d", ErrTooLarge, len(data), p.config.MaxMessage)
	case len(method) > maxMethodSize:
		return 0, fmt.Errorf("%w: its name has %d bytes", ErrUnknownMethod, len(method))
	}
	p.mu.Lock()
	var serving []*stay
	for _, s := range slices.AppendSeq(slices.Clone(p.slots), maps.Keys(p.leaving)) {
		if s.current != nil && s.current.serving && !s.current.retired {
			serving = append(serving, s.current)
		}
	}
	shut := p.shut
	p.mu.Unlock()
	if shut {
		return 0, ErrClosed
	}
	var behind []*stay // they do not keep the others waiting
	for _, y := range serving {
		switch _, err := y.allowance.tryTake(costOf(data)); {
		case err == errNoRoom:
			behind = append(behind, y)
		case err == nil && y.notify(ctx, method, data):
			told++
		}
	}
	for _, y := range behind {
		if y.allowance.take(ctx, costOf(data)) == nil && y.notify(ctx, method, data) {
			told++
		} else if ctx.Err() != nil {
			return told, ctx.Err()
		}
	}
	return told, nil
}

// notify commits a notification that is allowed; one that is not committed costs nothing. The
// pool knows in which order they are in the channel.
func (y *stay) notify(ctx context.Context, method string, data []byte) (sent bool) {
	defer func() { y.allowance.refund(costOf(data), sent) }()
	r, err := y.reserve(ctx, frameSize(method, data))
	if err != nil {
		return false
	}
	defer func() { _ = r.Abort() }() // nothing, once it is committed
	size := fill(r, header{start: y.start, methodSize: len(method)}, method, data)
	p := y.slot.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Commit(kindNotice, size) != nil {
		return false
	}
	y.notified = append(y.notified, notice{request: &Request{Method: method}, cost: costOf(data)})
	return true
}

// handled records that a worker has handled the oldest notification that it has.
//
// Preconditions: mu is held.
func (y *stay) handled(h header) error {
	if !y.noticing || int(h.number) != y.notified[0].cost {
		return &malformedError{"the end of a notification that it has not begun"}
	}
	y.noticing = false
	y.notified = y.notified[1:]
	y.allowance.grow(int(h.number))
	return nil
}

// noticed takes a notification from a worker in. mu is given up while it is copied.
//
// Preconditions: mu is held.
func (s *slot) noticed(y *stay, h header, data []byte) error {
	p := s.pool
	method, payload := data[:h.methodSize], data[h.methodSize:]
	switch {
	case len(payload) > p.config.MaxMessage:
		return &malformedError{fmt.Sprintf("a notification of %d bytes, of %d", len(payload), p.config.MaxMessage)}
	case !y.intake.accept(costOf(payload)):
		return &malformedError{"a notification that was not allowed: its handler is behind"}
	}
	p.mu.Unlock()
	r := &Request{Method: string(method), Data: bytes.Clone(payload), Attempt: 1}
	n := notice{stay: y, request: r, cost: costOf(payload)}
	p.mu.Lock()
	if p.deaf {
		p.stats.Dropped++
		return nil
	}
	s.notices, s.backlog = append(s.notices, n), s.backlog+n.cost
	if !s.noticing {
		s.noticing = true
		p.serving.Add(1)
		go s.handleNext()
	}
	return nil
}

// handleNext handles the oldest notification, and starts itself for the next: a
// handler may end its goroutine.
//
// Preconditions: nobody else handles any.
func (s *slot) handleNext() {
	p := s.pool
	defer p.serving.Done()
	p.mu.Lock()
	if len(s.notices) == 0 { // dropped since, by limitBacklog
		s.noticing = false
		p.mu.Unlock()
		return
	}
	n := s.notices[0]
	s.notices[0] = notice{}
	s.notices, s.backlog = s.notices[1:], s.backlog-n.cost
	handler := p.config.Handlers[n.request.Method]
	if handler == nil {
		p.stats.Dropped++
	}
	p.mu.Unlock()
	crashed := false
	defer func() {
		if crashed {
			return
		}
		p.mu.Lock()
		credit := n.stay.intake.use(n.cost)
		p.mu.Unlock()
		if credit > 0 {
			_ = n.stay.send(n.stay.ctx, kindCredit, header{start: n.stay.start, number: uint32(credit)}, "", nil)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if s.noticing = len(s.notices) > 0; s.noticing {
			p.serving.Add(1)
			go s.handleNext()
		}
	}()
	if handler != nil {
		invoke(p.told, handler, n.request, p.config.MaxMessage, func() { crashed = true }, func(uint32, []byte) {
			p.mu.Lock()
			p.stats.Told++
			p.mu.Unlock()
		})
	}
}

// limitBacklog has a slot hold the notifications of one process that has ended, and not of
// many: a handler may be so slow that the processes end faster.
//
// Preconditions: mu is held, and no process runs in the slot.
func (s *slot) limitBacklog() {
	if s.backlog > 2*s.pool.config.MaxMessage+messageCost {
		s.pool.stats.Dropped += uint64(len(s.notices))
		s.notices, s.backlog = nil, 0
	}
}

// Tell is for the handlers of a worker: it sends a notification to the service, for a
// handler of Config.Handlers. ctx is the handler's, or made from it. It waits
// when the service is behind by MaxMessage bytes.
//
// The service handles the notifications of one worker one after the other, in the
// order in which they were sent, each at most once, also those that the worker had
// sent before it died. What the handler returns goes nowhere. They are not in order with the worker's
// answers: the call may end first. A notification is lost if the service
// dies, or has no such handler, which Stats.Dropped counts.
func Tell(ctx context.Context, method string, data []byte) error {
	w, _ := ctx.Value(serverKey{}).(*server)
	switch {
	case w == nil:
		return errNoHandler
	case ctx.Err() != nil:
		return ctx.Err()
	case len(data) > w.maxMessage:
		return fmt.Errorf("%w: a notification of %d bytes, of %d", ErrTooLarge, len(data), w.maxMessage)
	case len(method) > maxMethodSize:
		return fmt.Errorf("%w: its name has %d bytes", ErrUnknownMethod, len(method))
	}
	return w.allowance.spend(ctx, costOf(data), func() error {
		return transmit(ctx, w.endpoint, kindNotice, header{start: w.start, methodSize: len(method)}, method, data)
	})
}

// noticed has a notification of the service handled after those before it. The pool
// sends no more than is allowed.
func (w *server) noticed(r *Request) {
	w.running.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notices = append(w.notices, notice{request: r, cost: costOf(r.Data)})
	if !w.noticing {
		w.noticing = true
		go w.handleNext()
	}
}

// handleNext is what it is in the service; and it tells the pool before and after, which
// would otherwise blame the calls that run beside for what a notification does.
func (w *server) handleNext() {
	w.mu.Lock()
	n := w.notices[0]
	w.notices = w.notices[1:]
	w.mu.Unlock()
	crashed := false
	defer func() {
		if crashed {
			return
		}
		_ = transmit(w.ctx, w.endpoint, kindCredit, header{start: w.start, number: uint32(n.cost)}, "", nil)
		w.running.Done()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.noticing = len(w.notices) > 0; w.noticing {
			go w.handleNext()
		}
	}()
	err := transmit(w.ctx, w.endpoint, kindStarted, header{start: w.start}, "", nil)
	if handler := w.handlers[n.request.Method]; handler != nil && err == nil {
		invoke(w.ctx, handler, n.request, w.maxMessage, func() { crashed = true }, func(uint32, []byte) {})
	}
}
