//go:build linux && (amd64 || arm64)

package ipc

import (
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

// What the kernel, or a sandbox, has been found to deny. None of it is tried again:
// a wait that is denied comes back at once, and would turn in a circle.
//
// A peer can make one call on a shared word fail too: it takes the page away while the
// kernel looks at it (EFAULT), or waits there in a way that no wake goes with (EINVAL).
// That says nothing of the next call, so that a denial counts only if the same call
// fails on a word of this process's own (T1).
var (
	noWaitv atomic.Bool // futex_waitv (before 5.16)
	noWait  atomic.Bool // FUTEX_WAIT on memory that is shared
	noWake  atomic.Bool // FUTEX_WAKE on memory that is shared
)

// idle are such words. They stay 0.
var idle [2]atomic.Uint32

// needsRepeatedWake reports whether an interrupt must wake the shared word, again
// and again until the sleeper has come out, because it sleeps on that alone.
func needsRepeatedWake() bool { return noWaitv.Load() }

// unexpected reports whether a wait has failed in a way that is none of its own.
func unexpected(errno unix.Errno) bool {
	return errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR && errno != unix.ETIMEDOUT
}

// futexSleep sleeps until the shared word is woken, the private word is woken,
// or the time is over. It returns at once if either no longer has its value.
// The shared word may lie in memory that is mapped read-only.
//
// Each way of sleeping that is denied leads to the next one, for good: on both words;
// on the shared one alone, where an interrupt wakes that; and looking now and then.
func futexSleep(shared *atomic.Uint32, sharedValue uint32, private *atomic.Uint32, privateValue uint32, limit time.Duration) {
	switch {
	case !noWaitv.Load():
		errno := waitOnBoth(shared, sharedValue, private, privateValue, limit)
		if unexpected(errno) && unexpected(waitOnBoth(&idle[0], 1, &idle[1], 1, limit)) {
			noWaitv.Store(true)
		}
	case noWait.Load() || noWake.Load(): // what can wake nobody cannot end one's own sleep either
		doze(shared, sharedValue, private, privateValue, limit)
	case private.Load() == privateValue:
		errno := waitOnOne(shared, sharedValue, limit)
		if unexpected(errno) && unexpected(waitOnOne(&idle[0], 1, limit)) {
			noWait.Store(true)
		}
	}
}

// waitOnBoth is futex_waitv on both words.
func waitOnBoth(shared *atomic.Uint32, sharedValue uint32, private *atomic.Uint32, privateValue uint32, limit time.Duration) unix.Errno {
	var deadline unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &deadline) != nil { // else every sleep would be over at once
		return unix.ENOSYS
	}
	deadline = unix.NsecToTimespec(deadline.Nano() + limit.Nanoseconds())
	waiters := [2]futexWaiter{
		{value: uint64(sharedValue), addr: uintptr(unsafe.Pointer(shared)), flags: futex2Size32},
		{value: uint64(privateValue), addr: uintptr(unsafe.Pointer(private)), flags: futex2Size32 | futex2Private},
	}
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX_WAITV, uintptr(unsafe.Pointer(&waiters)), 2, 0,
		uintptr(unsafe.Pointer(&deadline)), unix.CLOCK_MONOTONIC, 0)
	runtime.KeepAlive(shared)
	runtime.KeepAlive(private)
	return errno
}

// waitOnOne is FUTEX_WAIT on the shared word.
func waitOnOne(shared *atomic.Uint32, value uint32, limit time.Duration) unix.Errno {
	timeout := unix.NsecToTimespec(limit.Nanoseconds())
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(shared)), futexWait, uintptr(value),
		uintptr(unsafe.Pointer(&timeout)), 0, 0)
	return errno
}

// longestDoze is how long a sleeper that nobody can wake does not look.
const longestDoze = 5 * time.Millisecond

// dozes counts the looks of doze.
var dozes atomic.Uint64

// doze looks at both words, more and more rarely.
func doze(shared *atomic.Uint32, sharedValue uint32, private *atomic.Uint32, privateValue uint32, limit time.Duration) {
	wait := 50 * time.Microsecond
	for limit > 0 && shared.Load() == sharedValue && private.Load() == privateValue {
		dozes.Add(1)
		time.Sleep(wait) // sleep: nobody can wake this one
		limit -= wait
		wait = min(2*wait, longestDoze)
	}
}

// futexWakeShared wakes whoever sleeps on a word of shared memory. Where it is denied,
// they find out when their sleep is over, which a heartbeat bounds (W5).
func futexWakeShared(word *atomic.Uint32) {
	if errno := wakeAll(word); errno != 0 && isDenial(errno) && wakeAll(&idle[0]) != 0 {
		noWake.Store(true)
	}
}

// wakeAll is FUTEX_WAKE on a shared word.
func wakeAll(word *atomic.Uint32) unix.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, 1<<30, 0, 0, 0)
	return errno
}

// futexWakePrivate wakes whoever in this process sleeps on the word.
func futexWakePrivate(word *atomic.Uint32) {
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake|futexPrivateFlag, 1<<30, 0, 0, 0)
}

// yieldProcessor lets another process run.
func yieldProcessor() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
