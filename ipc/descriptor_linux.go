//go:build linux && (amd64 || arm64)

package ipc

import (
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

// maxRights is how many descriptors one packet can carry (SCM_MAX_FD).
const maxRights = 253

// isMemory reports whether a descriptor leads to a memfd. It asks no file system: one
// of a hostile peer's choice may let anybody wait who asks it anything.
func isMemory(fd int) bool { return sealsError(fd) == nil }

// sealsError says why a descriptor shows no seals: EINVAL if it leads to no memfd.
func sealsError(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return err
}

// fileLookLimit is how long a look at a file may take.
const fileLookLimit = 100 * time.Millisecond

// isPrompt reports whether a descriptor leads to a regular file of a file system that
// makes nobody wait. It does not wait itself for one that does.
func isPrompt(fd int) bool {
	if isMemory(fd) {
		return true
	}
	prompt := make(chan bool, 1)
	go func() {
		var stat unix.Stat_t
		var system unix.Statfs_t
		if unix.Fstatfs(fd, &system) != nil || unix.Fstat(fd, &stat) != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG {
			prompt <- false
			return
		}
		switch uint32(system.Type) {
		case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.OVERLAYFS_SUPER_MAGIC:
			prompt <- true
		default:
			prompt <- false
		}
	}()
	select {
	case is := <-prompt:
		return is
	case <-time.After(fileLookLimit):
		return false
	}
}

// An asideCrew does what may block for as long as a hostile peer likes: the last
// close of a descriptor that it has chosen. A few threads do it, the rest is
// parked, and nobody waits. What is parked costs a descriptor each; a sender is
// bounded by its own limit for descriptors under way.
type asideCrew struct {
	mu      sync.Mutex
	parked  []func()
	workers int
}

const maxAside = 4

// nudgeAfter is how long a job may take before a signal interrupts it.
const nudgeAfter = time.Second

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
		nudged(job)
	}
}

// nudged does a job in a thread of its own, and sends that the signal by which Go
// preempts threads, if it blocks: a socket that lingers in its close gives up then.
func nudged(job func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread, done, stopped := unix.Gettid(), make(chan struct{}), make(chan struct{})
	timer := time.AfterFunc(nudgeAfter, func() {
		defer close(stopped)
		for {
			_ = unix.Tgkill(os.Getpid(), thread, unix.SIGURG)
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
