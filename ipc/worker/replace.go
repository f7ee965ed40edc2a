package worker

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// Replace has a fresh process of Config.Command take the place of each worker, one
// place after the other. A worker that is replaced gets no more calls as soon as the
// fresh one serves, and not before; it ends those that it has, for as long as they take, and
// leaves. So no call fails or waits because of it.
//
// It returns when the old processes have left. If a fresh one does not come to serve, it returns
// a *DeathError that is ErrNotReplaced: the old worker of that place, and of those
// behind it, goes on. When ctx ends, what has begun goes on, and Replace returns its error.
func (p *Pool) Replace(ctx context.Context) error {
	switch {
	case !p.isStarted():
		return ErrClosed
	case ctx == nil:
		return errNoContext
	}
	for i := range p.turns {
		gone, err := p.replace(ctx, i, nil, ReasonReplaced)
		if err != nil {
			return err
		}
		select {
		case <-gone:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// replace replaces the process of one place; with a stay, only as long as that one is
// there. gone is closed when the old process has left: then it is the turn of who comes
// next, as a place has names for two channels.
func (p *Pool) replace(ctx context.Context, place int, only *stay, reason Reason) (gone <-chan struct{}, err error) {
	select {
	case p.turns[place] <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	done := func() { <-p.turns[place] }
	p.mu.Lock()
	old := p.slots[place]
	needless := only != nil && (old != only.slot || only.over)
	p.mu.Unlock()
	if err := p.shutError(); err != nil || needless {
		done()
		return closedChannel, err
	}
	fresh, err := p.listen(context.Background(), place, !old.second)
	if err != nil {
		done()
		return nil, err
	}
	fresh.replaces, fresh.reason = old, reason
	if !p.run(fresh) {
		done()
		return nil, ErrClosed
	}
	go func() {
		<-fresh.settled
		if fresh.failed == nil {
			<-old.gone
		} else {
			<-fresh.gone
		}
		done()
	}()
	select {
	case <-fresh.settled:
		if fresh.failed != nil {
			return nil, &DeathError{Err: ErrNotReplaced, Death: *fresh.failed, also: p.shutError()}
		}
		return old.gone, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var closedChannel = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (p *Pool) shutError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut {
		return ErrClosed
	}
	return nil
}

// secondSuffix ends the second name of a place. A place begins with its first.
const secondSuffix = ".2"

func (p *Pool) pathOf(place int, second bool) string {
	name := fmt.Sprintf("w%d", place)
	if second {
		name += secondSuffix
	}
	return filepath.Join(p.dir, name)
}

// listen makes a slot with a channel of its own.
func (p *Pool) listen(ctx context.Context, place int, second bool) (*slot, error) {
	endpoint, err := ipc.Listen(ctx, p.pathOf(place, second), p.config.options())
	if err != nil {
		return nil, err
	}
	s := newSlot(p, place, endpoint)
	s.second = second
	return s, nil
}

// run starts the goroutines of a slot, unless the pool is closed.
func (p *Pool) run(s *slot) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut {
		_ = s.endpoint.Close()
		return false
	}
	p.receivers.Add(1)
	p.supervisors.Add(1)
	go func() {
		defer p.receivers.Done()
		s.receive()
	}()
	go func() {
		defer p.supervisors.Done()
		s.supervise()
		s.dissolve()
	}()
	return true
}

// takeOver gives a slot whose first process serves its place, and has the process of the
// former one leave: after the event that the fresh one serves.
func (s *slot) takeOver() {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	old := s.replaces
	if old == nil {
		return
	}
	s.replaces = nil
	p.slots[s.index] = s
	p.leaving[old] = true
	close(old.replaced)
	close(s.settled)
	if y := old.current; y != nil {
		y.leavesFor = s.reason
		y.retiring = true
		y.retireIfEmpty()
	}
	p.schedule()
}

// giveUp is for a slot that has taken no place yet: when its process has ended it takes
// none.
func (s *slot) giveUp(death *Death) bool {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if s.replaces == nil {
		return false
	}
	s.replaces, s.failed = nil, death
	close(s.settled)
	return true
}

// dissolve closes the channel of a slot that has no place any more. The others stay until
// Close.
func (s *slot) dissolve() {
	p := s.pool
	s.giveUp(&Death{Reason: ReasonStopped, Worker: s.index, ExitCode: -1}) // before its first start
	p.mu.Lock()
	placed := p.slots[s.index] == s
	delete(p.leaving, s)
	p.mu.Unlock()
	if !placed {
		if err := s.endpoint.Close(); err != nil {
			p.mu.Lock()
			p.closeErrs = append(p.closeErrs, err)
			p.mu.Unlock()
		}
	}
	close(s.gone)
}

// recycle replaces a process that has had its calls, or has too much memory. If no fresh one
// comes to serve, it is tried again; a process that takes no calls leaves all the same, so that calls
// fail rather than wait for ever.
//
// Preconditions: mu is held.
func (p *Pool) recycle(y *stay) {
	if y.recycled || p.shut {
		return
	}
	y.recycled = true
	p.recyclers.Add(1)
	go func() {
		defer p.recyclers.Done()
		pauses := y.slot.newPauses()
		for {
			_, err := p.replace(y.ctx, y.slot.index, y, ReasonRetired)
			if err == nil || y.ctx.Err() != nil || errors.Is(err, ErrClosed) {
				return
			}
			p.mu.Lock()
			full := y.full
			if full {
				y.retiring = true
				y.retireIfEmpty()
			}
			p.mu.Unlock()
			if full {
				return
			}
			select {
			case <-p.stopping:
				return
			case <-y.ctx.Done():
				return
			case <-time.After(pauses.NextBackOff()):
			}
		}
	}()
}
