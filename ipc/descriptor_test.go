//go:build linux && (amd64 || arm64)

package ipc

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A lowWatch notices descriptors below 3. One that is about to be moved is there
// for a moment only.
type lowWatch struct {
	mu    sync.Mutex
	found []string
}

func (w *lowWatch) look(at step.ID, _ uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.found) > 0 {
		return
	}
	for deadline := time.Now().Add(watchdog / 4); ; runtime.Gosched() {
		var low []string
		for fd := range firstDescriptor {
			if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
				low = append(low, fmt.Sprintf("%d is %s at %v", fd, target, at))
			}
		}
		if len(low) == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.found = low
			return
		}
	}
}

// The Go runtime fills 0, 1 and 2 if they are closed when it starts, but in a
// library of another program; so they are closed later here, as daemons do.
var _ = sceneOf("closed standard descriptors", func(s *scene) {
	var saved [firstDescriptor]int
	for fd := range saved {
		var err error
		if saved[fd], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10); err != nil {
			s.fail("save %d: %v", fd, err)
		}
	}
	for fd := range saved {
		_ = unix.Close(fd)
	}
	var watch lowWatch
	err := useAll(s, &Options{hook: watch.look, HeartbeatInterval: 5 * time.Millisecond})
	watch.look(step.ServerUnlocked, 0)
	for fd, copied := range saved {
		_ = unix.Dup3(copied, fd, 0)
	}
	if err != nil {
		s.fail("%v", err)
	}
	if len(watch.found) > 0 {
		s.fail("%s", strings.Join(watch.found, ", "))
	}
})

// useAll goes through the whole life of a pair: two clients, one after the other,
// each sending and receiving.
func useAll(s *scene, o *Options) error {
	server, err := Listen(s.ctx, s.path, o)
	if err != nil {
		return err
	}
	client, err := Dial(s.ctx, s.path, o)
	if err != nil {
		return err
	}
	for range 2 {
		for _, way := range [][2]*Endpoint{{client, server}, {server, client}} {
			if err := way[0].Send(s.ctx, 1, []byte("x")); err != nil {
				return err
			}
			m, err := way[1].Receive(s.ctx)
			for ended(err) {
				m, err = way[1].Receive(s.ctx)
			}
			if err != nil {
				return err
			}
			if err := m.Release(); err != nil {
				return err
			}
		}
		if client, err = client.Redial(s.ctx); err != nil {
			return err
		}
	}
	if err := client.Close(); err != nil {
		return err
	}
	return server.Close()
}

func TestT4NoDescriptorIsBelowThree(t *testing.T) {
	playScene(t, "closed standard descriptors", testPath(t))
}

// stuck makes a socket whose last close blocks for an hour: it lingers over data
// that nobody reads. free lets it go.
func stuck(t testing.TB) (victim int, free func()) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	defer unix.Close(listener)
	must(unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_RCVBUF, 1))
	must(unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(unix.Listen(listener, 1))
	address, err := unix.Getsockname(listener)
	must(err)
	victim, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	must(unix.SetsockoptInt(victim, unix.SOL_SOCKET, unix.SO_SNDBUF, 1))
	must(unix.Connect(victim, address))
	reader, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	must(err)
	must(unix.SetNonblock(victim, true))
	for err == nil {
		_, err = unix.Write(victim, make([]byte, 4096))
	}
	must(unix.SetsockoptLinger(victim, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 3600}))
	free = sync.OnceFunc(func() { _ = unix.Close(reader) })
	t.Cleanup(free)
	return victim, free
}

// idle reports whether nothing is closed aside.
func (a *asideCrew) idle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.workers+a.apart == 0
}

func TestT1ACloseThatBlocksIsInterruptedAndNobodyWaits(t *testing.T) {
	var fds []int
	for range 2 * maxAside {
		fd, _ := stuck(t) // it stays stuck to the end of the test
		fds = append(fds, fd)
	}
	closeAside(fds...)
	eventually(t, "everything is closed, though all of it lingers", aside.idle)
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			t.Errorf("descriptor %d is still open", fd)
		}
	}
}
