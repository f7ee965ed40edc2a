//go:build linux && (amd64 || arm64)

package ipc

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where struct seccomp_data has its fields, from linux/seccomp.h. Both
// architectures are little endian: the low half of an argument comes first.
const (
	seccompNumber    = 0
	seccompArch      = 4
	seccompArguments = 16

	seccompSetModeFilter = 1
	seccompFilterTSync   = 1
	seccompReturnErrno   = 0x00050000
	seccompReturnAllow   = 0x7fff0000
)

// An argument narrows a denied system call down to one value of one argument.
type argument struct {
	index int
	value uint32 // of the low half
}

// deny makes a system call of this process fail with errno, for all its threads
// and for good; it is only for processes that play a part. Filters add up.
func deny(call uintptr, errno unix.Errno, arguments ...argument) error {
	skipEmulated("qemu-user passes on no seccomp filter, which would be about the calls of another machine")
	arch := uint32(unix.AUDIT_ARCH_X86_64)
	if runtime.GOARCH == "arm64" {
		arch = unix.AUDIT_ARCH_AARCH64
	}
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	// Each test that does not hold jumps to the last instruction.
	tests := []unix.SockFilter{load(seccompArch), {K: arch}, load(seccompNumber), {K: uint32(call)}}
	for _, a := range arguments {
		tests = append(tests, load(seccompArguments+8*uint32(a.index)), unix.SockFilter{K: a.value})
	}
	for i := 1; i < len(tests); i += 2 {
		tests[i].Code = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		tests[i].Jf = uint8(len(tests) - i)
	}
	filter := append(tests,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: seccompReturnErrno | uint32(errno)},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: seccompReturnAllow})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}

	runtime.LockOSThread() // the first call is about this thread, the second about all
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, seccompSetModeFilter, seccompFilterTSync, uintptr(unsafe.Pointer(&program))); errno != 0 || thread != 0 {
		return fmt.Errorf("seccomp: thread %d: %w", thread, errno)
	}
	runtime.KeepAlive(filter)
	return nil
}
