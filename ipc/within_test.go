//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// An evilContext does what a context does not, at one of the calls of its methods. It
// hides what it wraps, so that package context does not see through it.
type evilContext struct {
	context.Context
	calls atomic.Int64
	at    int64
	evil  func()
}

func (c *evilContext) asked() {
	if c.calls.Add(1) == c.at {
		c.evil()
	}
}

func (c *evilContext) Done() <-chan struct{} { c.asked(); return c.Context.Done() }
func (c *evilContext) Err() error            { c.asked(); return c.Context.Err() }
func (c *evilContext) Value(any) any         { c.asked(); return nil }

// A context may panic, or end its goroutine, wherever it is asked.
func TestT4AContextThatPanicsInListenLeavesNothing(t *testing.T) {
	path := testPath(t)
	works(t, path)
	for name, c := range map[string]struct {
		options *Options
		hinder  func() (undo func())
	}{
		"at once":       {nil, func() func() { return func() {} }},
		"for a server":  {&Options{Wait: true}, func() func() { server := listenHere(t, path, nil); return func() { _ = server.Close() } }},
		"for a client":  {&Options{Wait: true}, func() func() { return holdToken(t, path) }},
		"for an orphan": {&Options{KillOrphan: true, CloseTimeout: time.Hour}, func() func() { return holdToken(t, path) }},
	} {
		for _, evil := range []func(){func() { panic("evil") }, runtime.Goexit} {
			for at := int64(1); at <= 10; at++ {
				before := footprintOf(path)
				undo := c.hinder()
				ctx := &evilContext{Context: testContext(t), at: at, evil: evil}
				done := make(chan error, 1)
				go func() {
					ended := errors.New("the goroutine ended")
					defer func() {
						_ = recover()
						done <- ended
					}()
					server, err := Listen(ctx, path, c.options)
					if err == nil {
						err = server.Close()
					}
					ended = err
				}()
				err := <-done
				if asked := ctx.calls.Load() >= at; asked != (err != nil) {
					t.Errorf("%s: evil at call %d of %d, and Listen gave %v", name, at, ctx.calls.Load(), err)
				}
				undo()
				nothingLeft(t, path, before)
				works(t, path)
			}
		}
	}
}

// holdToken holds the token of the latest attachment, as a client does.
func holdToken(t *testing.T, path string) (undo func()) {
	t.Helper()
	fd, err := unix.Open(path+tokenSuffix, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := setLock(fd, tokenByte, unix.F_WRLCK); !ok {
		t.Fatalf("the token is taken: %v", err)
	}
	return func() { letGo(fd) }
}

func TestAContextThatHasEndedBeginsNothing(t *testing.T) {
	path := testPath(t)
	ended, cancel := context.WithCancel(testContext(t))
	cancel()
	var steps atomic.Int64
	o := &Options{hook: func(step.ID, uint64) { steps.Add(1) }}
	_, err := Listen(ended, path, o)
	if !errors.Is(err, context.Canceled) || steps.Load() > 0 {
		t.Errorf("Listen with a context that has ended: %v, behind %d steps", err, steps.Load())
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) > 0 {
		t.Errorf("Listen with a context that has ended left %v, %v", files, err)
	}
	server := listenHere(t, path, nil)
	client := dialHere(t, path, nil)
	_, err = Dial(ended, path, o)
	if !errors.Is(err, context.Canceled) || steps.Load() > 0 {
		t.Errorf("Dial with a context that has ended: %v, behind %d steps", err, steps.Load())
	}
	checkUsable(t, server, client)
	if _, err := client.Redial(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Redial with a context that has ended: %v", err)
	}
	if err := client.Send(testContext(t), 1, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Send behind Redial: %v, want %v", err, ErrClosed)
	}
	if err := receiveUntilEnd(t, server); !errors.Is(err, ErrPeerClosed) {
		t.Errorf("the server was told %v, want %v", err, ErrPeerClosed)
	}
	checkNextClient(t, server, path)
}

// stalledDial dials on a file system that does not come back from one call, until ctx
// has ended, and sees that nothing stays of that when the call comes back.
func (s *scene) stalledDial(call uint32, about string, dial func(context.Context) (*Endpoint, error)) {
	slow, err := stall(call, about)
	if err != nil {
		s.say("skip %v", err)
		s.next()
	}
	before := footprintOf("")
	ctx, cancel := context.WithCancel(s.ctx)
	go func() {
		<-slow.stalled
		cancel()
	}()
	_, err = dial(ctx)
	s.say("stalled")
	s.must("Dial", err, context.Canceled, "file system", "nothing was attached")
	slow.resume()
	nothingLeft(s, "", before)
}

var _ = sceneOf("a connect that stalls", func(s *scene) {
	s.closeBoth(s.pair(nil)) // opens what stays open
	server, err := Listen(s.ctx, s.path, nil)
	if err != nil {
		s.fail("listen: %v", err)
	}
	s.stalledDial(unix.SYS_CONNECT, s.path, func(ctx context.Context) (*Endpoint, error) { return Dial(ctx, s.path, nil) })
	next, err := Dial(s.ctx, s.path, nil)
	if err != nil || next.Attachment() != 1 {
		s.fail("the next client: %v", err)
	}
	s.exchange(server, next)
	s.closeBoth(server, next)
})

var _ = sceneOf("a directory that stalls", func(s *scene) {
	path := filepath.Join(filepath.Dir(s.path), "none")
	s.closeBoth(s.pair(nil)) // opens what stays open
	s.stalledDial(unix.SYS_NEWFSTATAT, filepath.Dir(path), func(ctx context.Context) (*Endpoint, error) { return Dial(ctx, path, nil) })
})

var _ = sceneOf("a redial that stalls", func(s *scene) {
	server, client := s.pair(&Options{CloseTimeout: time.Millisecond})
	s.must("Close beside a client", server.Close(), ErrClientRunning)
	s.stalledDial(unix.SYS_NEWFSTATAT, filepath.Dir(s.path), client.Redial)
	s.must("Send behind Redial", client.Send(s.ctx, 1, nil), ErrClosed)
	s.closeBoth(s.pair(nil)) // the old attachment keeps nobody out
})

func TestDialEndsWithItsContextThoughItsFileSystemDoesNotAnswer(t *testing.T) {
	for _, name := range []string{"a connect that stalls", "a directory that stalls", "a redial that stalls"} {
		t.Run(name, func(t *testing.T) { playStalled(t, name) })
	}
}
