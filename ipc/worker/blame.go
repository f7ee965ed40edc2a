package worker

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// examine says of a process that has ended why it has, and which calls are to
// blame, and how long to wait before the next process. All its answers were received
// before. fell says that this death was one too many.
func (s *slot) examine(y *stay, death *Death) (pause time.Duration, fell bool) {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	death.Reason, death.Err, death.Answered = cmp.Or(y.reason, ReasonExited), y.cause, y.answered
	flights, suspects := y.flightsInOrder(), 0
	if y.noticing {
		suspects++
	}
	for _, f := range flights {
		if f.started {
			suspects++
		}
	}
	for _, f := range flights {
		if f.started {
			blamed := y.isToBlame(f, suspects)
			if blamed {
				f.call.blame++
				f.call.suspect = true
			}
			death.Suspects = append(death.Suspects, Suspect{f.call.method, f.call.starts, blamed})
		}
	}
	if y.noticing {
		blamed := suspects == 1 && y.stuck == nil && !y.excuses()
		death.Suspects = append(death.Suspects, Suspect{y.notified[0].request.Method, 1, blamed})
	}
	p.stats.Deaths++
	wasDown := s.down
	pause = s.judge(y, death)
	s.last = death
	return pause, s.down && !wasDown
}

// settle decides what becomes of the calls of a process that has ended.
func (s *slot) settle(y *stay, death *Death) {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	s.current = nil
	s.asks = slices.DeleteFunc(s.asks, func(a *ask) bool { a.cancel(); return true }) // nobody waits for them
	flights := y.flightsInOrder()
	for i := len(flights) - 1; i >= 0; i-- { // the oldest comes to the front last
		p.decide(flights[i], y, *death)
	}
	p.schedule()
}

// flightsInOrder returns the calls that the process has, the oldest first.
//
// Preconditions: mu is held.
func (y *stay) flightsInOrder() []*flight {
	return slices.SortedFunc(maps.Values(y.flights), func(a, b *flight) int { return cmp.Compare(a.id, b.id) })
}

// isToBlame reports whether a death is counted against a call that was started and
// not answered: the one that the process was killed for, else the one that was
// there alone.
//
// Preconditions: mu is held.
func (y *stay) isToBlame(f *flight, suspects int) bool {
	switch {
	case y.excuses():
		return false
	case y.stuck != nil:
		return y.stuck == f
	}
	return suspects == 1
}

// excuses reports whether the end of the process was the pool's own wish.
func (y *stay) excuses() bool {
	return y.reason == ReasonStopped || y.reason == ReasonRetired || y.reason == ReasonReplaced
}

// decide ends a call of a process that has ended, or lets it wait for the next.
//
// Preconditions: mu is held, and the process has ended.
func (p *Pool) decide(f *flight, y *stay, death Death) {
	c := f.call
	p.land(f)
	if f.abandoned {
		return
	}
	c.flight = nil
	failed := func(err, also error) {
		c.finish(nil, &DeathError{Err: err, Method: c.method, Attempts: c.starts, Death: death, also: also})
	}
	var closed error // beside what is known of the handler
	if p.shut {
		closed = ErrClosed
	}
	switch {
	case c.blame >= c.maxAttempts:
		failed(ErrPoison, nil)
	case f.started && c.atMostOnce, c.stream != nil && c.stream.begun, p.shut && c.starts > 0:
		failed(ErrOutcomeUnknown, closed)
	case p.shut:
		c.finish(nil, notSent(ErrClosed))
	case c.suspect, f.started && !y.excuses() && y.stuck == nil:
		c.suspect = true
		p.enqueue(c, p.suspects)
	default:
		c.queue, c.place = p.ordinary, p.ordinary.PushFront(c)
	}
}

// judge counts quick deaths, and returns the pause after this one. A worker that has never
// served was of no use, however long it lasted; one that has answered was. A death with a
// suspect is the call's matter, which
// has its own count.
//
// Preconditions: mu is held.
func (s *slot) judge(y *stay, death *Death) time.Duration {
	c := &s.pool.config
	proven := y.heard && death.Uptime >= c.MinUptime || death.Answered > 0
	if proven || len(death.Suspects) > 0 || y.excuses() {
		if proven {
			s.quick, s.down = 0, false
		}
		s.pauses.Reset()
		return 0
	}
	s.quick++
	s.down = s.quick >= c.MaxQuickDeaths
	return s.pauses.NextBackOff()
}
