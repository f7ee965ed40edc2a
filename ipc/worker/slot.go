package worker

import (
	"cmp"
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/tandem-ipc/tandem/ipc"
)

// A slot is a place for one worker after the other, with the channel that they
// share.
type slot struct {
	pool     *Pool
	index    int
	endpoint *ipc.Endpoint
	pauses   backoff.BackOff // the supervisor alone uses it
	second   bool            // which of the place's two names its channel has

	replaced chan struct{} // closed when another slot has taken its place
	settled  chan struct{} // of one that is to replace another: closed when it is known if it does
	failed   *Death        // why it does not; set before settled is closed
	reason   Reason        // why it does
	gone     chan struct{} // closed when its goroutines have ended

	// Guarded by the pool's mu.
	current *stay
	quick   int    // quick deaths in a row
	down    bool   // there were too many of them
	last    *Death // nil before the first
	asks    []*ask // that wait for a place
	serving int    // places taken by asks

	notices  []notice // that wait for their handlers, the oldest first
	backlog  int      // what they cost
	noticing bool     // a handler of one runs

	replaces *slot // nil if it has a place

	vacant  bool           // it waits for a worker that comes back
	back    chan returning // holds one: the one that has come
	turning bool           // one is just told to leave
}

func newSlot(p *Pool, index int, endpoint *ipc.Endpoint) *slot {
	s := &slot{
		pool: p, index: index, endpoint: endpoint,
		replaced: make(chan struct{}), settled: make(chan struct{}), gone: make(chan struct{}),
		back: make(chan returning, 1),
	}
	s.pauses = s.newPauses()
	return s
}

func (s *slot) newPauses() backoff.BackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval: s.pool.config.MinPause, MaxInterval: s.pool.config.MaxPause,
		RandomizationFactor: backoff.DefaultRandomizationFactor, Multiplier: 2,
	}
}

// supervise runs one process after the other, until the pool is closed or the slot is
// replaced.
func (s *slot) supervise() {
	back := s.awaitReturn()
	for {
		y := s.begin()
		if y == nil {
			return
		}
		death := s.attend(y, back)
		back = nil
		pause, fell := s.examine(y, &death)
		s.tell(Event{Kind: EventEnded, Death: &death, Start: y.start, PID: death.PID, Pause: pause})
		if s.giveUp(&death) {
			return
		}
		if fell {
			s.tell(Event{Kind: EventDown, Death: &death, Start: y.start, PID: death.PID})
		}
		s.settle(y, &death) // after the events: a death is in the stream before a call tells of it
		select {
		case <-s.pool.stopping:
			return
		case <-s.replaced:
			return
		case <-time.After(pause):
		}
	}
}

// begin makes the stay of the next process; nil if there is none.
func (s *slot) begin() *stay {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if s.pool.shut || s.pool.leaving[s] {
		return nil
	}
	s.limitBacklog()
	s.pool.starts++
	s.current = newStay(s, s.pool.starts)
	return s.current
}

// attend starts the process of a stay, or adopts one that has come back, sees it through
// its life, and returns when it has ended and all that it had committed was received.
func (s *slot) attend(y *stay, back *returning) Death {
	death := Death{Worker: s.index, Start: y.start, ExitCode: -1}
	process, kind := s.adopt(back), EventAdopted
	if process == nil {
		var err error
		if process, err = s.launch(y); err != nil {
			s.pool.mu.Lock()
			y.over, y.reason, y.cause = true, ReasonNotStarted, err
			s.pool.mu.Unlock()
			y.cancel()
			return death
		}
		kind = EventStarted
	}
	s.pool.mu.Lock()
	y.process = process
	s.pool.mu.Unlock()
	s.tell(Event{Kind: kind, Start: y.start, PID: process.pidOf()})
	if kind == EventAdopted {
		s.welcome(y, back)
	}

	s.watch(y, process)
	s.pool.mu.Lock()
	y.over = true // from here on no hello counts
	served := y.serving
	y.serving = false
	s.pool.mu.Unlock()
	y.cancel()
	y.allowance.end(errGone)
	s.expect(y, served)
	process.describe(&death)
	return death
}

// expect returns when all that a process has committed, which has ended, was received. A
// process that it has started may have attached in its place, as behind a shell that
// does not exec: that one is killed, as the process itself would be. One that cannot be
// killed, because nothing proves that it is there, is not waited for for ever.
func (s *slot) expect(y *stay, served bool) {
	if !served {
		_ = s.endpoint.KillPeer() // else it would keep the next process out
		return
	}
	for range killAttempts {
		select {
		case <-y.drained:
			return
		case <-time.After(s.pool.config.StopTimeout):
			_ = s.endpoint.KillPeer()
		}
	}
}

// killAttempts is how often: a look at what a process holds can be too slow.
const killAttempts = 4

// watch returns when the process has ended, and sees to it that it does.
func (s *slot) watch(y *stay, process *process) {
	c, ready, drained := &s.pool.config, y.ready, y.drained
	starting := time.NewTimer(c.StartTimeout)
	defer starting.Stop()
	memory := time.NewTicker(memoryInterval)
	defer memory.Stop()
	var leaving <-chan time.Time
	for {
		select {
		case <-process.ended:
			return
		case <-ready:
			ready = nil
			starting.Stop()
			s.tell(Event{Kind: EventReady, Start: y.start, PID: process.pidOf()})
			s.takeOver()
		case <-starting.C:
			y.kill(ReasonNotReady, nil)
		case event, ok := <-s.endpoint.Events():
			if ok && event.Kind == ipc.EventHung && ready == nil && event.PID == process.pidOf() {
				y.kill(ReasonHung, nil)
			}
		case <-memory.C:
			y.checkMemory()
			if process.isLost(c.killPatience()) {
				return
			}
		case <-drained: // its channel has ended; so will it, if all is well
			drained = nil
			leaving = time.After(c.StopTimeout)
		case <-leaving:
			y.kill(ReasonLeft, nil)
		case <-y.retire:
			y.dismiss(cmp.Or(y.leavesFor, ReasonRetired), process)
			return
		case <-s.pool.stopping:
			y.dismiss(ReasonStopped, process)
			return
		}
	}
}

// dismiss has a worker leave, and returns when it has: it ends the calls that it
// has, then it is told to leave, then it is sent SIGTERM, then it is killed. It gets
// StopTimeout for the first two together.
func (y *stay) dismiss(reason Reason, process *process) {
	p := y.slot.pool
	p.mu.Lock()
	y.doom(reason, nil)
	y.retireIfEmpty()
	serving := y.serving
	p.mu.Unlock()
	patience := p.config.StopTimeout
	if serving {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		select {
		case <-process.ended:
			return
		case <-ctx.Done():
		case <-y.retire:
			if y.send(ctx, kindStop, header{start: y.start}, "", nil) == nil {
				select {
				case <-process.ended:
					return
				case <-ctx.Done():
				}
			}
		}
	}
	process.terminate()
	select {
	case <-process.ended:
	case <-time.After(patience / 2):
		process.kill()
		select {
		case <-process.ended:
		case <-time.After(p.config.killPatience()):
		}
	}
}

// tell hands an event on. It waits for nobody.
func (s *slot) tell(event Event) {
	event.Worker = s.index
	s.pool.events.tell(event)
}
