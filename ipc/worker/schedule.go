package worker

import (
	"container/list"
	"time"
)

// enqueue puts a call at the end of a queue.
//
// Preconditions: mu is held.
func (p *Pool) enqueue(c *call, queue *list.List) {
	c.queue, c.place = queue, queue.PushBack(c)
}

// schedule gives waiting calls to workers that have a place. It runs after every
// change that may have made one. Suspects come first, each to a worker that has
// nothing else; if there is none, one worker gets no new calls until it is empty.
// Other calls go where there are fewest.
//
// Preconditions: mu is held.
func (p *Pool) schedule() {
	for p.suspects.Len() > 0 {
		free := p.leastLoaded(nil)
		if free == nil || len(free.flights) > 0 {
			break
		}
		free.solitary = true
		p.board(free, p.suspects)
	}
	var reserved *stay
	if p.suspects.Len() > 0 && !p.anySolitary() {
		reserved = p.leastLoaded(nil)
	}
	for p.ordinary.Len() > 0 {
		y := p.leastLoaded(reserved)
		if y == nil || len(y.flights) >= p.config.Concurrency {
			break
		}
		p.board(y, p.ordinary)
	}
	if last := p.allDown(); last != nil {
		p.failWaiting(func(c *call) error {
			also := ErrNotSent
			if c.starts > 0 {
				also = ErrOutcomeUnknown
			}
			return &DeathError{Err: ErrWorkerDown, Method: c.method, Attempts: c.starts, Death: *last, also: also}
		})
	}
}

// leastLoaded returns the worker with the fewest calls, among those that take any.
func (p *Pool) leastLoaded(reserved *stay) (best *stay) {
	for _, s := range p.slots {
		y := s.current
		if y == nil || y == reserved || !y.takesCalls() {
			continue
		}
		if best == nil || len(y.flights) < len(best.flights) {
			best = y
		}
	}
	return best
}

func (p *Pool) anySolitary() bool {
	for _, s := range p.slots {
		if s.current != nil && s.current.solitary {
			return true
		}
	}
	return false
}

// allDown returns the latest death if every worker dies as soon as it starts, and none
// serves at the moment.
func (p *Pool) allDown() (last *Death) {
	for _, s := range p.slots {
		if !s.down || s.current != nil && s.current.serving {
			return nil
		}
		if last == nil || s.last.Start > last.Start {
			last = s.last
		}
	}
	return last
}

// board gives the first call of a queue to a worker.
//
// Preconditions: mu is held, and the queue is not empty.
func (p *Pool) board(y *stay, queue *list.List) {
	c := queue.Remove(queue.Front()).(*call)
	c.queue, c.place = nil, nil
	p.ids++
	p.running++
	c.flight = &flight{id: p.ids, stay: y, call: c, intake: newIntake(p.config.MaxMessage)}
	y.flights[p.ids] = c.flight
	y.boarded++
	if limit := p.config.MaxCalls; limit > 0 && y.boarded >= limit-limit/8 {
		y.full = y.boarded >= limit
		p.recycle(y)
	}
	select {
	case c.kick <- struct{}{}:
	default: // it has not yet looked after the last one
	}
}

// land takes a flight out of its worker.
//
// Preconditions: mu is held, and the flight is there.
func (p *Pool) land(f *flight) {
	y := f.stay
	delete(y.flights, f.id)
	p.running--
	for _, timer := range []*time.Timer{f.timeout, f.watch} {
		if timer != nil {
			timer.Stop()
		}
	}
	if len(y.flights) == 0 {
		y.solitary = false
		y.retireIfEmpty()
	}
}

// failWaiting ends all calls that wait for a worker.
//
// Preconditions: mu is held.
func (p *Pool) failWaiting(why func(*call) error) {
	for _, queue := range []*list.List{p.suspects, p.ordinary} {
		for queue.Len() > 0 {
			c := queue.Remove(queue.Front()).(*call)
			c.queue, c.place = nil, nil
			c.finish(nil, why(c))
		}
	}
}
