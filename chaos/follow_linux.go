package chaos

import (
	"context"
	"slices"
)

// A follower plays cases whose parties are recorded, and has the machines of the
// specification follow what they did.
type follower struct {
	replays *replayer
	report  *Report     // counts what was followed
	traced  func(trace) // is given each trace that was followed, if it is set
}

// play plays a case, with parties that record on a flight.
func (f follower) play(ctx context.Context, c coordinate, o actorOptions, recruits func(*flight) func(*member) (party, error), script func(*played, *world)) played {
	p := played{Coordinate: c.String()}
	broken := func(err error) played {
		p.Failures = []Failure{{"harness", err.Error(), p.Coordinate}}
		return p
	}
	fl, err := newFlight("")
	if err != nil {
		return broken(err)
	}
	defer fl.close()
	o.Start = c.start()
	w, err := newWorld(ctx, o, recruits(fl))
	if err != nil {
		return broken(err)
	}
	w.uniform = tracePayload
	script(&p, w)
	p.Failures = w.judge()
	w.end()
	switch {
	case ctx.Err() != nil:
		p.Failures = w.brokenOff()
	case len(p.Failures) == 0: // else it may have ended anywhere
		t, err := fl.land()
		if err != nil {
			return broken(err)
		}
		t = t.settled()
		p.Failures = f.replays.replay(&t, f.report)
		if f.traced != nil {
			f.traced(t)
		}
	}
	for i := range p.Failures {
		p.Failures[i].Reproduce = p.Coordinate
	}
	return p
}

// brokenOff is what was found in a case that was not played to its end: that it has
// not come further, and what it has not received, is nobody's fault.
func (w *world) brokenOff() []Failure {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(w.failures, func(f Failure) bool { return f.Contract == "harness" })
}

// recordedCells returns a function that makes cells for members, which record on a
// flight.
func recordedCells(fl *flight) func(*member) (party, error) {
	return func(m *member) (party, error) {
		s, err := fl.seat(m.tracedRole(), actorSlots)
		if err != nil {
			return nil, err
		}
		recorder, err := s.open()
		if err != nil {
			return nil, err
		}
		p, err := newCell(m)
		if err != nil {
			recorder.close()
			return nil, err
		}
		c := p.(*cell)
		c.recorder, c.ended = recorder, func() { fl.killed(s) }
		return c, nil
	}
}
