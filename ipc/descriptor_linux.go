//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// firstDescriptor is the lowest number that a descriptor of this package has. A
// process may run with 0, 1 or 2 closed. The kernel would give such a number to the
// next descriptor, and what the process or the Go runtime prints would go into
// the lock file, to the peer, or into the shared memory.
const firstDescriptor = 3

// aboveStdio moves a descriptor that has just been made above the standard
// three. It takes the descriptor over, also with an error.
func aboveStdio(fd int) (int, error) {
	if fd < 0 || fd >= firstDescriptor {
		return fd, nil
	}
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstDescriptor)
	if err != nil {
		closeAside(fd)
		return -1, err
	}
	_ = unix.Close(fd) // not the last
	return moved, nil
}

// isMemory reports whether a descriptor leads to a memfd, or to a file of a tmpfs,
// which is memory too: it makes nobody wait, neither for a lock nor for the close. The
// question asks no file system: one of a hostile peer's choice may let anybody wait
// who asks it anything.
func isMemory(fd int) bool { return sealsError(fd) == nil }

// sealsError says why a descriptor shows no seals: EINVAL if it leads to no memory.
func sealsError(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return err
}

// An asideCrew does what may block for as long as a hostile peer likes: the close of a
// descriptor that it has chosen. A few threads do it, the rest is parked, and nobody
// waits. What is parked costs a descriptor each; a sender is bounded by its own limit
// for descriptors under way, and Dial by what is under way here.
type asideCrew struct {
	mu      sync.Mutex
	parked  []func()
	workers int // who do what is parked
	apart   int // jobs that have a thread of their own
	stuck   int // jobs that no signal has ended
}

const (
	maxAside    = 4           // workers
	maxStuck    = 4           // then nothing more is taken from a server
	maxUnderWay = 32          // then it must wait
	stuckAfter  = 3           // signals
	nudgeAfter  = time.Second // and each further signal
)

var (
	errStuck = errors.New("descriptors that servers have handed over do not close: their file system does not answer")
	errBusy  = errors.New("too many descriptors that servers have handed over are still being closed")
)

var aside asideCrew

// closeAside closes descriptors without waiting for it.
func closeAside(fds ...int) {
	for _, fd := range fds {
		aside.do(func() { _ = unix.Close(fd) })
	}
}

// do has a job done, now or later.
func (a *asideCrew) do(job func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.parked = append(a.parked, job)
	if a.workers < maxAside {
		a.workers++
		go a.work()
	}
}

// now has a job done in a thread of its own, for it must not wait for what is stuck.
// What it returns is closed when it is done.
func (a *asideCrew) now(job func()) <-chan struct{} {
	done := make(chan struct{})
	a.count(&a.apart, 1)
	go func() {
		defer close(done)
		defer a.count(&a.apart, -1)
		a.nudged(job)
	}()
	return done
}

// ready returns why nothing should be taken from a server now.
func (a *asideCrew) ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.stuck >= maxStuck:
		return errStuck
	case len(a.parked)+a.workers+a.apart >= maxUnderWay:
		return errBusy
	}
	return nil
}

func (a *asideCrew) count(what *int, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*what += n
}

// work does jobs until none is left.
func (a *asideCrew) work() {
	for {
		a.mu.Lock()
		if len(a.parked) == 0 {
			a.parked = nil
			a.workers--
			a.mu.Unlock()
			return
		}
		job := a.parked[0]
		a.parked = a.parked[1:]
		a.mu.Unlock()
		a.nudged(job)
	}
}

// nudged does a job in a thread of its own, and sends that the signal by which Go
// preempts threads, if it blocks: a socket that lingers in its close gives up then. A
// file system need not.
func (a *asideCrew) nudged(job func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread, done, stopped := unix.Gettid(), make(chan struct{}), make(chan struct{})
	timer := time.AfterFunc(nudgeAfter, func() {
		defer close(stopped)
		for nudges := 1; ; nudges++ {
			_ = unix.Tgkill(os.Getpid(), thread, unix.SIGURG)
			if nudges == stuckAfter {
				a.count(&a.stuck, 1)
				defer a.count(&a.stuck, -1)
			}
			select {
			case <-done:
				return
			case <-time.After(nudgeAfter):
			}
		}
	})
	job()
	close(done)
	if !timer.Stop() {
		<-stopped // no signal comes behind it
	}
}
