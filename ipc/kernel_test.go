//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A lack is a system call that a kernel, or a sandbox, does not have.
type lack struct {
	name  string
	call  uintptr
	errno unix.Errno
	only  []argument
	is    error    // what Listen then gives
	says  []string // and tells
}

// lacks are those without which nothing works.
var lacks = []lack{
	{"memfd_create", unix.SYS_MEMFD_CREATE, unix.ENOSYS, nil, errors.ErrUnsupported, []string{"memfd_create", "Linux 3.17"}},
	{"open file description locks", unix.SYS_FCNTL, unix.EINVAL, []argument{{1, unix.F_OFD_SETLK}}, errors.ErrUnsupported, []string{"open file description locks", "Linux 3.15"}},
	{"F_SEAL_FUTURE_WRITE", unix.SYS_FCNTL, unix.EINVAL, []argument{{1, unix.F_ADD_SEALS}}, errors.ErrUnsupported, []string{"F_SEAL_FUTURE_WRITE", "Linux 5.1"}},
	{"locks on this file system", unix.SYS_FCNTL, unix.ENOLCK, []argument{{1, unix.F_OFD_SETLK}}, unix.ENOLCK, []string{"local one"}},
	{"memory for the file", unix.SYS_FALLOCATE, unix.ENOMEM, nil, unix.ENOMEM, []string{"smaller ring"}},
	{"space for the file", unix.SYS_FALLOCATE, unix.ENOSPC, nil, unix.ENOSPC, []string{"smaller ring"}},
	{"memory for the mapping", unix.SYS_MMAP, unix.ENOMEM, []argument{{3, unix.MAP_SHARED | unix.MAP_FIXED}}, unix.ENOMEM, []string{"map", "smaller ring"}},
	{"MADV_DONTFORK", unix.SYS_MADVISE, unix.EINVAL, []argument{{2, unix.MADV_DONTFORK}}, errors.ErrUnsupported, []string{"MADV_DONTFORK", "Linux 2.6.16"}},
	{"bind", unix.SYS_BIND, unix.EACCES, nil, unix.EACCES, []string{"bind", "make files in its directory"}},
	{"socket", unix.SYS_SOCKET, unix.ENOBUFS, nil, unix.ENOBUFS, []string{"make a socket", "try again"}},
	{"listen", unix.SYS_LISTEN, unix.EADDRINUSE, nil, unix.EADDRINUSE, []string{"listen on"}},
	{"the lock file to read", unix.SYS_PREAD64, unix.EIO, nil, unix.EIO, []string{"read", "another file system"}},
	{"rename", unix.SYS_RENAMEAT, unix.EPERM, nil, unix.EPERM, []string{"rename", "another path"}},
}

func init() {
	for _, l := range lacks {
		sceneOf("listen without "+l.name, func(s *scene) {
			before := footprintOf(s.path)
			if err := deny(l.call, l.errno, l.only...); err != nil {
				s.fail("%v", err)
			}
			for range 3 {
				_, err := Listen(s.ctx, s.path, nil)
				s.must("Listen", err, l.is, l.says...)
				s.must("Listen", err, l.errno)
				nothingLeft(s, s.path, before)
			}
		})
	}
}

func TestListenNamesWhatTheKernelLacksAndLeavesNothing(t *testing.T) {
	for _, l := range lacks {
		t.Run(l.name, func(t *testing.T) {
			path := testPath(t)
			playScene(t, "listen without "+l.name, path)
			works(t, path)
		})
	}
}

// failing are the system calls of Dial that may fail for want of memory.
var failing = []lack{
	{"memory for the mapping", unix.SYS_MMAP, unix.ENOMEM, []argument{{3, unix.MAP_SHARED | unix.MAP_FIXED}}, unix.ENOMEM, []string{"map", "smaller ring"}},
	{"seals to read", unix.SYS_FCNTL, unix.EINVAL, []argument{{1, unix.F_GET_SEALS}}, unix.EINVAL, []string{"read the seals"}},
	{"recvmsg", unix.SYS_RECVMSG, unix.ENOMEM, nil, unix.ENOMEM, []string{"ended the handshake"}},
	{"sendmsg", unix.SYS_SENDMSG, unix.ENOBUFS, nil, unix.ENOBUFS, []string{"hello", "try again"}},
	{"setsockopt", unix.SYS_SETSOCKOPT, unix.ENOMEM, nil, unix.ENOMEM, []string{"set the deadline of the handshake", "try again"}},
	{"socket", unix.SYS_SOCKET, unix.ENOBUFS, nil, unix.ENOBUFS, []string{"make a socket", "try again"}},
	{"connect", unix.SYS_CONNECT, unix.ENOMEM, nil, unix.ENOMEM, []string{"connect to", "try again"}},
}

func init() {
	for _, l := range failing {
		sceneOf("dial without "+l.name, func(s *scene) {
			before := footprintOf("")
			if err := deny(l.call, l.errno, l.only...); err != nil {
				s.fail("%v", err)
			}
			var err error
			for i := range 8 { // a context that ends within an attempt hides its cause
				ctx, cancel := context.WithTimeout(s.ctx, 100*time.Millisecond<<i) // what may pass is waited for
				_, err = Dial(ctx, s.path, nil)
				cancel()
				if errors.Is(err, l.is) {
					break
				}
			}
			s.must("Dial", err, l.is, l.says...)
			nothingLeft(s, "", before)
		})
	}
}

func TestDialThatFailsAtAnySystemCallNamesItAndLeavesNothing(t *testing.T) {
	warmUp(t, testPath(t))
	for _, l := range failing {
		t.Run(l.name, func(t *testing.T) {
			path := testPath(t)
			server := listenHere(t, path, nil)
			before := footprintOf(path)
			playScene(t, "dial without "+l.name, path)
			nothingLeft(t, path, before)
			client := dialHere(t, path, nil)
			nextEvent(t, server, EventAttached)
			_ = client.Close()
		})
	}
}

// longHeartbeat is so long that only a wake-up ends a sleep.
func longHeartbeat() *Options {
	return &Options{Spin: NoSpin, HeartbeatInterval: time.Hour, HangTimeout: 10 * time.Hour}
}

// asleep runs a call until its goroutine is about to sleep, and returns how to
// wait for its result.
func (s *scene) asleep(sleeping <-chan struct{}, call func() error) (result func() error) {
	for len(sleeping) > 0 {
		<-sleeping
	}
	ended := make(chan error, 1)
	go func() { ended <- call() }()
	<-sleeping
	return func() error { return <-ended }
}

// signalSleeps reports each step Sleeping, as far as there is room.
func signalSleeps(o *Options) (*Options, <-chan struct{}) {
	sleeping := make(chan struct{}, 1)
	o.hook = func(at step.ID, _ uint64) {
		if at != step.Sleeping {
			return
		}
		select {
		case sleeping <- struct{}{}:
		default:
		}
	}
	return o, sleeping
}

// withoutWaitv plays what must work without futex_waitv: every reason to wake
// reaches a sleeper that nothing else would wake.
func withoutWaitv(errno unix.Errno) func(s *scene) {
	return func(s *scene) {
		if err := deny(unix.SYS_FUTEX_WAITV, errno); err != nil {
			s.fail("%v", err)
		}
		options, sleeping := signalSleeps(longHeartbeat())
		server, err := Listen(s.ctx, s.path, options)
		if err != nil {
			s.fail("listen: %v", err)
		}
		buffer := make([]byte, 1<<10)
		receive := func(ctx context.Context) func() error {
			return func() error { _, err := server.ReceiveInto(ctx, buffer); return err }
		}
		s.say("listening")
		s.next() // attached
		for i := range 100 {
			result := s.asleep(sleeping, receive(s.ctx))
			s.say("send")
			if err := result(); err != nil {
				s.fail("receive %d: %v", i, err)
			}
		}
		if !noWaitv.Load() {
			s.fail("futex_waitv was not missed: the test is blind")
		}
		for range 20 {
			ctx, cancel := context.WithCancel(s.ctx)
			result := s.asleep(sleeping, receive(ctx))
			cancel()
			s.must("a cancelled receive", result(), context.Canceled)
		}
		full := func(ctx context.Context) func() error {
			return func() error {
				for {
					if err := server.Send(ctx, 1, buffer); err != nil {
						return err
					}
				}
			}
		}
		for range 20 {
			ctx, cancel := context.WithCancel(s.ctx)
			result := s.asleep(sleeping, full(ctx))
			cancel()
			s.must("a cancelled send", result(), context.Canceled)
		}
		result := s.asleep(sleeping, receive(s.ctx))
		s.say("die")
		s.must("a receive at a death", result(), ErrPeerDied)
		receiving, sending := s.asleep(sleeping, receive(s.ctx)), s.asleep(sleeping, full(s.ctx))
		if err := server.Close(); err != nil {
			s.fail("close: %v", err)
		}
		s.must("a receive at Close", receiving(), ErrClosed)
		s.must("a send at Close", sending(), ErrClosed)
	}
}

var (
	_ = sceneOf("no futex_waitv", withoutWaitv(unix.ENOSYS))
	_ = sceneOf("futex_waitv forbidden", withoutWaitv(unix.EPERM))
)

func TestW2WithoutFutexWaitvEverySleepEndsAllTheSame(t *testing.T) {
	for _, name := range []string{"no futex_waitv", "futex_waitv forbidden"} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			server := start(t, "scene", sceneArgument{name, path})
			server.expect("listening")
			client := startActor(t, actorArgument{Path: path})
			client.ask("attached", "dial")
			server.tell("attached")
			for i := range 100 {
				server.expect("send")
				client.ask("", fmt.Sprintf("send %d", i))
			}
			server.expect("die")
			client.kill()
			server.expect("ok")
		})
	}
}

func TestW2AClientWithoutFutexWaitvIsServed(t *testing.T) {
	path := testPath(t)
	options, sleeping := signalSleeps(longHeartbeat())
	server := listenHere(t, path, options)
	client := start(t, "scene", sceneArgument{"echo without futex_waitv", path})
	client.expect("attached")
	nextEvent(t, server, EventAttached)
	ctx := testContext(t)
	for kind := uint32(0); kind < 50 || len(sleeping) == 0; kind++ { // it is there to sleep
		if err := server.Send(ctx, kind, pattern(kind)); err != nil {
			t.Fatalf("the echo of %d: %v", kind, err)
		}
		m, err := server.Receive(ctx)
		if err != nil || m.Kind != kind || checkPattern(m) != nil {
			t.Fatalf("the echo of %d: %+v, %v", kind, m, err)
		}
		_ = m.Release()
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	client.expect("ok")
}

var _ = sceneOf("echo without futex_waitv", func(s *scene) {
	if err := deny(unix.SYS_FUTEX_WAITV, unix.ENOSYS); err != nil {
		s.fail("%v", err)
	}
	client, err := Dial(s.ctx, s.path, longHeartbeat())
	if err != nil {
		s.fail("dial: %v", err)
	}
	s.say("attached")
	for m, err := range client.Messages(s.ctx) {
		if errors.Is(err, ErrPeerClosed) {
			break
		}
		if err == nil {
			err = client.Send(s.ctx, m.Kind, m.Data)
		}
		if err != nil {
			s.fail("echo: %v", err)
		}
		_ = m.Release()
	}
	if err := client.Close(); err != nil {
		s.fail("close: %v", err)
	}
})

// A processHandle is a way by which a server may or may not get hold of its
// client's process.
type processHandle struct {
	name   string
	denied []lack
	err    error // what KillPeer gives
}

var processHandles = []processHandle{
	{"SO_PEERPIDFD", nil, nil},
	{"pidfd_open", []lack{{call: unix.SYS_GETSOCKOPT, errno: unix.ENOPROTOOPT, only: []argument{{2, unix.SO_PEERPIDFD}}}}, nil},
	{"nothing", []lack{
		{call: unix.SYS_GETSOCKOPT, errno: unix.ENOPROTOOPT, only: []argument{{2, unix.SO_PEERPIDFD}}},
		{call: unix.SYS_PIDFD_OPEN, errno: unix.ENOSYS},
	}, errors.ErrUnsupported},
	{"a pidfd that cannot be signalled", []lack{{call: unix.SYS_PIDFD_SEND_SIGNAL, errno: unix.ENOSYS}}, errors.ErrUnsupported},
}

func init() {
	for _, h := range processHandles {
		sceneOf("kill by "+h.name, func(s *scene) {
			for _, d := range h.denied {
				if err := deny(d.call, d.errno, d.only...); err != nil {
					s.fail("%v", err)
				}
			}
			server, err := Listen(s.ctx, s.path, nil)
			if err != nil {
				s.fail("listen: %v", err)
			}
			s.say("listening")
			if event := <-server.Events(); event.Kind != EventAttached {
				s.fail("event %+v, want attached", event)
			}
			err = server.KillPeer()
			if h.err == nil && err != nil {
				s.fail("KillPeer: %v", err)
			}
			if h.err != nil {
				s.must("KillPeer", err, h.err, "pidfd_", "Linux 5.")
				s.say("kill")
			}
			event := <-server.Events()
			for event.Kind == EventHung || event.Kind == EventRecovered { // the machine is busy
				event = <-server.Events()
			}
			if event.Kind != EventDied {
				s.fail("event %+v, want died", event)
			}
			if err := server.Close(); err != nil {
				s.fail("close: %v", err)
			}
		})
	}
}

func TestAServerKillsByWhatTheKernelHas(t *testing.T) {
	for _, h := range processHandles {
		t.Run(h.name, func(t *testing.T) {
			path := testPath(t)
			server := start(t, "scene", sceneArgument{"kill by " + h.name, path})
			server.expect("listening")
			client := start(t, "idle", path)
			if h.err != nil {
				server.expect("kill")
				client.kill()
			}
			client.awaitDeath()
			server.expect("ok")
			works(t, path)
		})
	}
}

var _ = sceneOf("an orphan without pidfd_open", func(s *scene) {
	before := footprintOf(s.path)
	if err := deny(unix.SYS_PIDFD_OPEN, unix.ENOSYS); err != nil {
		s.fail("%v", err)
	}
	for range 3 {
		_, err := Listen(s.ctx, s.path, &Options{KillOrphan: true, CloseTimeout: time.Millisecond})
		s.must("Listen", err, errors.ErrUnsupported, "pidfd_open", "Linux 5.3")
		s.must("Listen", err, ErrClientRunning)
		nothingLeft(s, s.path, before)
	}
})

func TestL3AnOrphanThatTheKernelCannotKillIsToldAndLeft(t *testing.T) {
	path := testPath(t)
	server := startActor(t, actorArgument{Path: path})
	server.ask("listening 1", "listen")
	orphan := start(t, "idle", path)
	orphan.expect("attached")
	server.kill()
	playScene(t, "an orphan without pidfd_open", path)
	if _, err := Listen(testContext(t), path, nil); !errors.Is(err, ErrClientRunning) {
		t.Errorf("beside the orphan, which was to be left alone: %v", err)
	}
	orphan.kill()
	works(t, path)
}

func TestMemoryIsMadeOnKernelsWithoutNoexecSeals(t *testing.T) {
	path := testPath(t)
	playScene(t, "no MFD_NOEXEC_SEAL", path)
}

var _ = sceneOf("no MFD_NOEXEC_SEAL", func(s *scene) {
	if err := deny(unix.SYS_MEMFD_CREATE, unix.EINVAL, argument{1, unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING | unix.MFD_NOEXEC_SEAL}); err != nil {
		s.fail("%v", err)
	}
	s.closeBoth(s.pair(nil))
})

// olderKernelVariable takes futex_waitv, of Linux 5.16, from a test process and all that it
// starts; waitvMissed is what that says when it has wanted to call it.
const (
	olderKernelVariable = "TANDEM_TEST_WITHOUT_FUTEX_WAITV"
	waitvMissed         = "futex_waitv was missed"
)

// Every test of a rule of the doorbell, and of the promises that sleepers are owed, runs
// once more where the kernel has no futex_waitv.
func TestW2EveryTestOfTheDoorbellOnAnOlderKernel(t *testing.T) {
	if os.Getenv(olderKernelVariable) != "" {
		t.Skip("this is that kernel")
	}
	needsRealKernel(t, "qemu-user has no futex_waitv: all tests run without it there")
	runtime.LockOSThread() // the tests end with this thread
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithTimeout(t.Context(), 10*watchdog)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.run", "W[0-9]|M7|M8", "-test.v",
		fmt.Sprintf("-test.short=%t", testing.Short()))
	cmd.Env = append(os.Environ(), olderKernelVariable+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if passed := strings.Count(string(text), "\n--- PASS"); passed < 40 || !strings.Contains(string(text), waitvMissed) {
		t.Errorf("%d tests passed, want 40 or more, that miss the call\n%s", passed, text)
	}
}
