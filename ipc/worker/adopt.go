package worker

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// A returning worker served a pool that has died, and asks to be adopted.
type returning struct {
	attachment uint64
	pid        int
	version    uint64
	terms      string
}

// terms are what a worker was told at its start that a pool which takes it over must have said too.
func (c *Config) terms(cmd *exec.Cmd) string {
	command := fnv.New64a()
	for _, text := range append([]string{cmd.Path}, cmd.Args...) {
		_, _ = io.WriteString(command, text+"\x00")
	}
	return fmt.Sprintf("%d:%d:%x", c.MaxMessage, c.MaxAsks, command.Sum64())
}

// open makes the slot of a place at the pool's start. With Adopt it waits until then for a worker of
// a former pool to leave. Its time bounds nothing else: a machine may be slow.
func (p *Pool) open(ctx context.Context, place int, until time.Time) (*slot, error) {
	for {
		s, err := p.tryOpen(ctx, place)
		if err == nil {
			s.vacant = p.config.Adopt > 0
		}
		if !errors.Is(err, ipc.ErrClientRunning) || !time.Now().Before(until) {
			return s, err
		}
		select {
		case <-time.After(openPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// openPause is between two looks whether a worker has left.
const openPause = 5 * time.Millisecond

// tryOpen makes the slot if nobody is in its channel. A worker of a former pool may be in one
// with the place's second name. As long as it has not left, no pool starts. If it comes
// back, then under the first name.
func (p *Pool) tryOpen(ctx context.Context, place int) (*slot, error) {
	second := p.pathOf(place, true)
	if _, err := os.Stat(second + ".lock"); err == nil {
		endpoint, err := ipc.Listen(ctx, second, p.config.options())
		if err == nil {
			err = endpoint.Close()
		}
		if err != nil {
			return nil, err
		}
	}
	return p.listen(ctx, place, false)
}

// returned takes in that a worker has come back. The first one is the supervisor's, if it
// waits; any other is told to leave.
//
// Preconditions: mu is held, and the receiver calls it.
func (s *slot) returned(h header, m ipc.Message) {
	if !s.vacant {
		s.turnAway(m.Attachment)
		return
	}
	s.vacant = false
	s.back <- returning{m.Attachment, s.endpoint.Sender().PID, h.id, string(m.Data[headerSize:])}
}

// turnAway tells a worker that has come back to leave: one at a time, however many come. One
// that is not told leaves when its own time is over, or is killed when it keeps a process out.
//
// Preconditions: mu is held.
func (s *slot) turnAway(attachment uint64) {
	if s.turning {
		return
	}
	s.turning = true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.pool.config.StopTimeout)
		defer cancel()
		_ = transmit(ctx, s.endpoint, kindStop, header{start: comingBack | attachment}, "", nil)
		s.pool.mu.Lock()
		defer s.pool.mu.Unlock()
		s.turning = false
	}()
}

// awaitReturn waits at the pool's start for a worker that comes back; nil if none does.
func (s *slot) awaitReturn() *returning {
	s.pool.mu.Lock()
	vacant := s.vacant
	s.pool.mu.Unlock()
	if !vacant && len(s.back) == 0 {
		return nil
	}
	timer := time.NewTimer(s.pool.config.Adopt)
	defer timer.Stop()
	select {
	case back := <-s.back:
		return &back
	case <-timer.C:
	case <-s.replaced:
	case <-s.pool.stopping:
	}
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.vacant = false
	select {
	case back := <-s.back: // at the last moment
		return &back
	default:
		return nil
	}
}

// adopt returns the process of a worker that has come back; nil if there is none, or
// it cannot be adopted. It is told to leave then.
func (s *slot) adopt(back *returning) *process {
	if back == nil {
		return nil
	}
	pidfd, err := s.examineReturning(back)
	if err != nil {
		s.pool.mu.Lock()
		defer s.pool.mu.Unlock()
		s.turnAway(back.attachment)
		return nil
	}
	process := &process{pidfd: pidfd, pid: back.pid, begun: time.Now(), ended: make(chan struct{})}
	go func() {
		awaitPidfd(pidfd)
		close(process.ended)
		_ = pidfd.Close()
	}()
	return process
}

// examineReturning returns a pidfd of a worker that has come back, if it can be adopted.
func (s *slot) examineReturning(back *returning) (*os.File, error) {
	c := &s.pool.config
	cmd, err := s.pool.command()
	if err != nil || back.version != wireVersion || back.terms != c.terms(cmd) {
		return nil, errTurnedAway
	}
	return s.endpoint.PeerPidfd(back.attachment)
}

var errTurnedAway = errors.New("worker: the next service does not take this worker over")

// welcome tells an adopted worker its start. It says hello then, as any other: that hello is
// proof that the process behind the pidfd, which was taken before, is the one that attached.
func (s *slot) welcome(y *stay, back *returning) {
	ctx, cancel := context.WithTimeout(context.Background(), s.pool.config.StartTimeout)
	defer cancel()
	_ = y.send(ctx, kindAdopted, header{start: comingBack | back.attachment, id: y.start}, "", nil)
}
