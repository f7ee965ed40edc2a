//go:build linux && (amd64 || arm64)

package ipc

import (
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A wait that fails because of the peer's memory says nothing about the next one: all
// other endpoints of the process would doze for ever.
func TestT1AWaitThatAPeerMakesFailIsNoDenial(t *testing.T) {
	needsRealKernel(t, "qemu-user has no futex_waitv")
	mem, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	away := (*atomic.Uint32)(unsafe.Pointer(unsafe.SliceData(mem))) // as while its page is taken out
	var own atomic.Uint32
	if errno := waitOnBoth(away, 0, &own, 0, time.Minute); !unexpected(errno) {
		t.Fatalf("a wait on memory that is not there: %v", errno)
	}
	futexSleep(away, 0, &own, 0, time.Minute)
	if noWaitv.Load() {
		noWaitv.Store(false)
		t.Error("futex_waitv is not used any more in this process")
	}
	noWaitv.Store(true)
	defer noWaitv.Store(false)
	futexSleep(away, 0, &own, 0, time.Minute)
	if noWait.Load() {
		noWait.Store(false)
		t.Error("FUTEX_WAIT is not used any more in this process")
	}
}

// A client can wait on the server's word in a way that no FUTEX_WAKE goes with.
func TestT1AWakeThatAPeerMakesFailIsNoDenial(t *testing.T) {
	const futexWaitRequeuePI = 11
	path := testPath(t)
	server := listenHere(t, path, quickOptions())
	hostile := rawAttach(t, path)
	word, tid, ended := lowHalf(&hostile.peer.control.writePos), make(chan int), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // its thread ends with it
		tid <- unix.Gettid()
		var target atomic.Uint32
		unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWaitRequeuePI, uintptr(word.Load()), 0,
			uintptr(unsafe.Pointer(&target)), 0)
	}()
	thread := <-tid
	eventually(t, "a wake that fails", func() bool { return wakeAll(word) == unix.EINVAL })
	hostile.own.control.dataWaitFor.Store(recordSize(0))
	if err := server.Send(testContext(t), 1, nil); err != nil {
		t.Fatal(err)
	}
	if server.Stats().Wakes == 0 {
		t.Error("nobody was woken: the test is blind")
	}
	if noWake.Load() {
		noWake.Store(false)
		t.Error("FUTEX_WAKE is not used any more in this process")
	}
	if err := unix.Tgkill(os.Getpid(), thread, unix.SIGURG); err != nil { // the word has changed: it does not wait again
		t.Fatal(err)
	}
	<-ended
}
