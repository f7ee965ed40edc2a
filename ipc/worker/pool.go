package worker

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A Pool runs workers and gives them calls. All its methods may be called from any
// goroutine. A nil Pool, and one that Start has not made, is closed.
type Pool struct {
	config  Config
	dir     string
	private bool // dir is the pool's own
	starter starter
	writing sync.Mutex // a line of some worker is being handed on
	events  eventStream

	stopping    chan struct{} // closed when the workers are to leave
	supervisors sync.WaitGroup
	receivers   sync.WaitGroup
	recyclers   sync.WaitGroup
	serving     sync.WaitGroup  // handlers of the service
	told        context.Context // of those that take a Tell
	giveUp      context.CancelFunc
	closing     sync.Once
	closed      chan struct{} // closed when Close is done, with closeErr
	closeErr    error

	turns []chan struct{} // by place: who replaces its process holds one

	mu        sync.Mutex
	slots     []*slot        // by place
	leaving   map[*slot]bool // they were replaced, and have not ended
	ordinary  *list.List     // of *call: they wait for a place
	suspects  *list.List     // of *call: they wait for a worker of their own
	running   int            // flights
	shut      bool           // no more calls
	deaf      bool           // no more notifications: from a process that was left to the kernel, say
	ids       uint64         // of flights: unique over all starts of all workers
	starts    uint64
	stats     Stats
	closeErrs []error
}

// Start starts a pool of workers. It does not wait for them to serve: calls do. ctx is for
// the life of the pool, its end closes the pool. In a worker Start returns an error until
// the worker has called Serve: a program that forgot to ask IsWorker would start itself
// again and again.
func Start(ctx context.Context, config Config) (_ *Pool, err error) {
	switch config, err = config.withDefaults(); {
	case err != nil:
		return nil, err
	case ctx == nil:
		return nil, errNoContext
	case os.Getenv(variable) != "": // it would start itself again and again
		return nil, errors.New("worker: this process is a worker, which a pool has started: it must call Serve, in a test from TestMain, before it starts a pool")
	}
	p := &Pool{
		config: config, dir: config.Dir, stopping: make(chan struct{}), closed: make(chan struct{}),
		ordinary: list.New(), suspects: list.New(), leaving: map[*slot]bool{}, events: eventStream{handle: config.OnEvent},
	}
	if p.dir == "" {
		if p.dir, err = os.MkdirTemp("", "tandem-"); err != nil {
			return nil, err
		}
		p.private = true
	}
	if absolute, err := filepath.Abs(p.dir); err == nil {
		p.dir = absolute // a command may run in another directory
	}
	p.told, p.giveUp = context.WithCancel(context.Background())
	p.starter = newStarter()
	started := false
	defer func() { // also if ctx does not return
		if !started {
			err = errors.Join(err, p.Close())
		}
	}()
	until := time.Now().Add(config.Adopt)
	for i := range config.Size {
		s, err := p.open(ctx, i, until)
		if err != nil {
			return nil, fmt.Errorf("worker: a channel in %s (the options that follow are ipc's, and the pool's own; Config.Dir can be another): %w", p.dir, err)
		}
		p.slots = append(p.slots, s)
		p.turns = append(p.turns, make(chan struct{}, 1))
	}
	for _, s := range slices.Clone(p.slots) {
		p.run(s)
	}
	stop := context.AfterFunc(ctx, func() { _ = p.Close() })
	go func() {
		<-p.stopping
		stop() // ctx may live longer than the pool
	}()
	started = true
	return p, nil
}

// Close ends the pool. Calls that wait for a place end with ErrClosed. Workers
// finish what they have begun, for up to StopTimeout, and leave; those that do
// not are killed. It waits for the service's own handlers, and until OnEvent has been called with the
// last event. Calling it again waits for the first, and returns the same.
func (p *Pool) Close() error {
	if !p.isStarted() {
		return ErrClosed
	}
	p.closing.Do(func() {
		p.mu.Lock()
		p.shut = true
		p.failWaiting(func(c *call) error { return c.qualify(ErrClosed) })
		p.mu.Unlock()
		close(p.stopping)
		p.supervisors.Wait()
		p.recyclers.Wait()
		p.mu.Lock()
		p.deaf = true
		p.mu.Unlock()
		late := time.AfterFunc(p.config.StopTimeout, p.giveUp)
		p.serving.Wait()
		late.Stop()
		p.giveUp()
		p.closeErr = p.dismantle()
		p.receivers.Wait()
		p.starter.stop()
		p.events.wait()
		close(p.closed)
	})
	<-p.closed
	return p.closeErr
}

// isStarted reports whether Start has made the pool.
func (p *Pool) isStarted() bool { return p != nil && p.closed != nil }

// dismantle closes the channels and removes the directory.
func (p *Pool) dismantle() error {
	errs := p.closeErrs
	for _, s := range p.slots {
		errs = append(errs, s.endpoint.Close())
	}
	if p.private {
		errs = append(errs, os.RemoveAll(p.dir))
	}
	return errors.Join(errs...)
}

// Stats returns the counts.
func (p *Pool) Stats() Stats {
	if !p.isStarted() {
		return Stats{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	stats := p.stats
	stats.Starts, stats.Running = p.starts, p.running
	stats.Waiting = p.ordinary.Len() + p.suspects.Len()
	return stats
}
