//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A deniable is a system call that a life of this package makes, which a sandbox may
// deny. Those that the Go runtime cannot live without are not among them: futex with
// the flag "private", read and write, and close.
type deniable struct {
	name string
	call uintptr
	only []argument
}

var deniables = []deniable{
	{"openat", unix.SYS_OPENAT, nil},
	{"fstat", unix.SYS_FSTAT, nil},
	{"newfstatat", unix.SYS_NEWFSTATAT, nil},
	{"statx", unix.SYS_STATX, nil},
	{"fstatfs", unix.SYS_FSTATFS, nil},
	{"pread64", unix.SYS_PREAD64, nil},
	{"pwrite64", unix.SYS_PWRITE64, nil},
	{"ftruncate", unix.SYS_FTRUNCATE, nil},
	{"fallocate", unix.SYS_FALLOCATE, nil},
	{"renameat", unix.SYS_RENAMEAT, nil},
	{"unlinkat", unix.SYS_UNLINKAT, nil},
	{"fchmod", unix.SYS_FCHMOD, nil},
	{"fchmodat", unix.SYS_FCHMODAT, nil},
	{"F_OFD_SETLK", unix.SYS_FCNTL, []argument{{1, unix.F_OFD_SETLK}}},
	{"F_OFD_GETLK", unix.SYS_FCNTL, []argument{{1, unix.F_OFD_GETLK}}},
	{"F_ADD_SEALS", unix.SYS_FCNTL, []argument{{1, unix.F_ADD_SEALS}}},
	{"F_GET_SEALS", unix.SYS_FCNTL, []argument{{1, unix.F_GET_SEALS}}},
	{"memfd_create", unix.SYS_MEMFD_CREATE, nil},
	{"mmap of shared memory", unix.SYS_MMAP, []argument{{3, unix.MAP_SHARED | unix.MAP_FIXED}}},
	{"mmap over shared memory", unix.SYS_MMAP, []argument{{3, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE | unix.MAP_FIXED}}},
	{"MADV_DONTFORK", unix.SYS_MADVISE, []argument{{2, unix.MADV_DONTFORK}}},
	{"MADV_DONTDUMP", unix.SYS_MADVISE, []argument{{2, unix.MADV_DONTDUMP}}},
	{"socket", unix.SYS_SOCKET, nil},
	{"bind", unix.SYS_BIND, nil},
	{"listen", unix.SYS_LISTEN, nil},
	{"connect", unix.SYS_CONNECT, nil},
	{"accept4", unix.SYS_ACCEPT4, nil},
	{"shutdown", unix.SYS_SHUTDOWN, nil},
	{"sendmsg", unix.SYS_SENDMSG, nil},
	{"recvmsg", unix.SYS_RECVMSG, nil},
	{"setsockopt", unix.SYS_SETSOCKOPT, nil},
	{"getsockopt", unix.SYS_GETSOCKOPT, nil},
	{"ioctl", unix.SYS_IOCTL, nil},
	{"SO_PEERCRED", unix.SYS_GETSOCKOPT, []argument{{2, unix.SO_PEERCRED}}},
	{"SO_PEERPIDFD", unix.SYS_GETSOCKOPT, []argument{{2, unix.SO_PEERPIDFD}}},
	{"ppoll", unix.SYS_PPOLL, nil},
	{"pidfd_open", unix.SYS_PIDFD_OPEN, nil},
	{"pidfd_send_signal", unix.SYS_PIDFD_SEND_SIGNAL, nil},
	{"futex_waitv", unix.SYS_FUTEX_WAITV, nil},
	{"FUTEX_WAIT", unix.SYS_FUTEX, []argument{{1, futexWait}}},
	{"FUTEX_WAKE", unix.SYS_FUTEX, []argument{{1, futexWake}}},
	{"clock_gettime", unix.SYS_CLOCK_GETTIME, nil},
	{"sched_yield", unix.SYS_SCHED_YIELD, nil},
}

// A pace counts what a life does.
type pace struct{ beats, sleeps atomic.Int64 }

// sandboxOptions have times that a life in which something never comes is short with.
func sandboxOptions(p *pace) *Options {
	return &Options{
		Spin: NoSpin, HeartbeatInterval: 5 * time.Millisecond, HangTimeout: time.Hour,
		HandshakeTimeout: 50 * time.Millisecond, CloseTimeout: 50 * time.Millisecond,
		hook: func(at step.ID, _ uint64) {
			switch at {
			case step.Beaten:
				p.beats.Add(1)
			case step.Sleeping:
				p.sleeps.Add(1)
			}
		},
	}
}

// clear ends the scene unless an error names the cause: the errno, and a sandbox.
// Those of this package that are about the peer do too.
func (s *scene) clear(what string, err error, errno unix.Errno) {
	if err == nil || errors.Is(err, ErrClientRunning) || errors.Is(err, ErrServerRunning) || ended(err) {
		return
	}
	if !errors.Is(err, errno) && !errors.Is(err, context.DeadlineExceeded) {
		s.fail("%s gave %v, which is not %v", what, err, errno)
	}
	if errors.Is(err, errno) && !strings.Contains(err.Error(), "sandbox") {
		s.fail("%s gave %v, which names no sandbox", what, err)
	}
	if strings.Contains(err.Error(), "free memory") {
		s.fail("%s gave %v, and memory is not short", what, err)
	}
}

// idles ends the scene if those that wait for nothing are busy: if they sleep more
// often than the heartbeat makes them look, or take the processor. It compares that
// with the time that has passed, which a busy machine makes longer.
func (s *scene) idles(what string, p *pace, waiting ...*Endpoint) {
	ctx, cancel := context.WithCancel(s.ctx)
	var waiters sync.WaitGroup
	for _, e := range waiting {
		waiters.Add(1)
		go func() {
			defer waiters.Done()
			if _, err := e.Receive(ctx); !errors.Is(err, context.Canceled) && !ended(err) {
				s.fail("%s: a receive that waits: %v", what, err)
			}
		}()
	}
	defer waiters.Wait()
	defer cancel()
	var before, after unix.Rusage
	begin, slept, beaten := time.Now(), p.sleeps.Load(), p.beats.Load()
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	for p.beats.Load() < beaten+40 {
		time.Sleep(time.Millisecond) // sleep: it is to do nothing meanwhile
	}
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	if sleeps, beats := p.sleeps.Load()-slept, p.beats.Load()-beaten; sleeps > 10*beats+100 {
		s.fail("%s: idle, it slept %d times in %d beats", what, sleeps, beats)
	}
	spent := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	if passed := time.Since(begin); spent > passed*6/10 {
		s.fail("%s: idle, it was busy for %v of %v", what, spent, passed)
	}
}

// talk has both sides wait for each other, and cancels a wait.
func (s *scene) talk(server, client *Endpoint, errno unix.Errno) {
	ctx, cancel := context.WithTimeout(s.ctx, watchdog/3)
	defer cancel()
	echoed := make(chan error, 1)
	go func() {
		for range 10 {
			m, err := client.ReceiveInto(ctx, make([]byte, 64))
			if err == nil {
				err = client.Send(ctx, m.Kind, m.Data)
			}
			if err != nil {
				echoed <- err
				return
			}
		}
		echoed <- nil
	}()
	for kind := range uint32(10) {
		err := server.Send(ctx, kind, []byte("what"))
		if err == nil {
			_, err = server.ReceiveInto(ctx, make([]byte, 64))
		}
		if err != nil {
			s.fail("message %d: %v", kind, err)
		}
	}
	if err := <-echoed; err != nil {
		s.fail("the echo: %v", err)
	}
	short, stop := context.WithCancel(s.ctx)
	time.AfterFunc(10*time.Millisecond, stop)
	if _, err := server.Receive(short); !errors.Is(err, context.Canceled) {
		s.fail("a cancelled receive: %v", err)
	}
	stop()
}

// life leads a life: with the call denied from its start, or once the two are attached.
func (s *scene) life(d deniable, errno unix.Errno, steady bool) {
	what := fmt.Sprintf("%s denied with %v", d.name, errno)
	for _, known := range []*atomic.Bool{&noWaitv, &noWait, &noWake} {
		known.Store(false) // what an errno before this one has taught
	}
	sandbox := func(now bool) {
		if now {
			if d.call == unix.SYS_FUTEX { // that is the way without futex_waitv
				if err := deny(unix.SYS_FUTEX_WAITV, errno); err != nil {
					s.fail("%v", err)
				}
			}
			if err := deny(d.call, errno, d.only...); err != nil {
				s.fail("%v", err)
			}
		}
	}
	var p pace
	before := footprintOf("")
	sandbox(!steady)
	ctx, cancel := context.WithTimeout(s.ctx, 200*time.Millisecond)
	defer cancel()
	server, err := Listen(ctx, s.path, sandboxOptions(&p))
	s.clear(what+": Listen", err, errno)
	if err != nil {
		nothingLeft(s, "", before)
		return
	}
	client, err := Dial(ctx, s.path, sandboxOptions(&p))
	s.clear(what+": Dial", err, errno)
	s.idles(what, &p, server)
	if err == nil {
		sandbox(steady)
		s.talk(server, client, errno)
		s.idles(what, &p, server, client)
		s.clear(what+": KillPeer", notOwn(server.KillPeer()), errno)
		s.clear(what+": close of the client", client.Close(), errno)
	}
	s.clear(what+": close of the server", server.Close(), errno)
}

// notOwn leaves out that the peer is this very process.
func notOwn(err error) error {
	if errors.Is(err, errOwnProcess) || errors.Is(err, errNoClient) {
		return nil
	}
	return err
}

func init() {
	for n, d := range deniables {
		for _, steady := range []bool{false, true} {
			sceneOf(sandboxScene(d, steady), func(s *scene) {
				if !steady { // what the process opens once is open
					s.closeBoth(s.pair(nil))
				}
				path := s.path
				if steady { // there is no way out of a sandbox
					s.life(d, denials[n%len(denials)], steady)
					return
				}
				for i, errno := range denials {
					s.path = fmt.Sprintf("%s%d", path, i)
					s.life(d, errno, steady)
				}
			})
		}
	}
}

func sandboxScene(d deniable, steady bool) string {
	return fmt.Sprintf("a sandbox that denies %s, steady %t", d.name, steady)
}

func TestASandboxThatDeniesACallIsNamedOrDoesNoHarm(t *testing.T) {
	for n, d := range deniables {
		if testing.Short() && n%3 != 0 {
			continue
		}
		for _, steady := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/steady=%t", d.name, steady), func(t *testing.T) {
				t.Parallel()
				playScene(t, sandboxScene(d, steady), testPath(t))
			})
		}
	}
}
