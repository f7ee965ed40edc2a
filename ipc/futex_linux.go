//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The numbers of futex(2) and futex_waitv(2), from linux/futex.h.
const (
	futexWait        = 0
	futexWake        = 1
	futexPrivateFlag = 128
	futex2Size32     = 2
	futex2Private    = 128
)

// futexWaiter is struct futex_waitv.
type futexWaiter struct {
	value uint64
	addr  uintptr
	flags uint32
	_     uint32
}

// noWaitv is set once the kernel is found to lack futex_waitv (before 5.16).
var noWaitv atomic.Bool

// needsRepeatedWake reports whether an interrupt must wake the shared word, again
// and again until the sleeper has come out, because it sleeps on that alone.
func needsRepeatedWake() bool { return noWaitv.Load() }

// futexSleep sleeps until the shared word is woken, the private word is woken,
// or the time is over. It returns at once if either no longer has its value.
// The shared word may lie in memory that is mapped read-only.
func futexSleep(shared *atomic.Uint32, sharedValue uint32, private *atomic.Uint32, privateValue uint32, limit time.Duration) {
	if noWaitv.Load() {
		if private.Load() != privateValue {
			return
		}
		timeout := unix.NsecToTimespec(limit.Nanoseconds())
		unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(shared)), futexWait, uintptr(sharedValue),
			uintptr(unsafe.Pointer(&timeout)), 0, 0)
		return
	}
	var deadline unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &deadline) // cannot fail for this clock
	deadline = unix.NsecToTimespec(deadline.Nano() + limit.Nanoseconds())
	waiters := [2]futexWaiter{
		{value: uint64(sharedValue), addr: uintptr(unsafe.Pointer(shared)), flags: futex2Size32},
		{value: uint64(privateValue), addr: uintptr(unsafe.Pointer(private)), flags: futex2Size32 | futex2Private},
	}
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX_WAITV, uintptr(unsafe.Pointer(&waiters)), 2, 0,
		uintptr(unsafe.Pointer(&deadline)), unix.CLOCK_MONOTONIC, 0)
	runtime.KeepAlive(shared)
	runtime.KeepAlive(private)
	// EPERM is what some sandboxes say for a call that they do not know.
	if errors.Is(errno, unix.ENOSYS) || errors.Is(errno, unix.EPERM) {
		noWaitv.Store(true)
	}
}

// futexWakeShared wakes whoever sleeps on a word of shared memory.
func futexWakeShared(word *atomic.Uint32) {
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, 1<<30, 0, 0, 0)
}

// futexWakePrivate wakes whoever in this process sleeps on the word.
func futexWakePrivate(word *atomic.Uint32) {
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake|futexPrivateFlag, 1<<30, 0, 0, 0)
}

// yieldProcessor lets another process run.
func yieldProcessor() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
