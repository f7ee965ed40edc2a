//go:build amd64 || arm64

package chaos

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// callNames are the system calls that the life cycle makes or may make, with
// those of the architecture. A call that is not among them is still found, and
// goes by its number.
var callNames = map[uint64]string{
	unix.SYS_OPENAT: "openat", unix.SYS_CLOSE: "close", unix.SYS_FSTAT: "fstat", unix.SYS_FSTATFS: "fstatfs", unix.SYS_READ: "read", unix.SYS_WRITE: "write",
	unix.SYS_PREAD64: "pread64", unix.SYS_PWRITE64: "pwrite64", unix.SYS_FCNTL: "fcntl", unix.SYS_READLINKAT: "readlinkat",
	unix.SYS_SOCKET: "socket", unix.SYS_CONNECT: "connect", unix.SYS_BIND: "bind", unix.SYS_LISTEN: "listen",
	unix.SYS_ACCEPT4: "accept4", unix.SYS_SHUTDOWN: "shutdown", unix.SYS_SENDMSG: "sendmsg", unix.SYS_RECVMSG: "recvmsg",
	unix.SYS_SETSOCKOPT: "setsockopt", unix.SYS_GETSOCKOPT: "getsockopt", unix.SYS_IOCTL: "ioctl",
	unix.SYS_FCHMODAT: "fchmodat", unix.SYS_FCHMOD: "fchmod", unix.SYS_FCHMODAT2: "fchmodat2", unix.SYS_UNLINKAT: "unlinkat", unix.SYS_RENAMEAT: "renameat",
	unix.SYS_MEMFD_CREATE: "memfd_create", unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_FALLOCATE: "fallocate",
	unix.SYS_MMAP: "mmap", unix.SYS_MUNMAP: "munmap", unix.SYS_MADVISE: "madvise",
	unix.SYS_PIDFD_OPEN: "pidfd_open", unix.SYS_PIDFD_SEND_SIGNAL: "pidfd_send_signal",
	unix.SYS_FUTEX: "futex", unix.SYS_FUTEX_WAITV: "futex_waitv",
	unix.SYS_PPOLL: "poll", numberOfFstatat: "fstatat",
}

// runtimeCalls are made by the Go runtime for itself, in numbers and at moments
// that say nothing about package ipc, or cannot fail and change nothing.
var runtimeCalls = map[uint64]bool{
	unix.SYS_RT_SIGACTION: true, unix.SYS_RT_SIGPROCMASK: true, unix.SYS_RT_SIGRETURN: true, unix.SYS_SIGALTSTACK: true,
	unix.SYS_CLONE: true, unix.SYS_CLONE3: true, unix.SYS_EXIT: true, unix.SYS_EXIT_GROUP: true, unix.SYS_GETTID: true, unix.SYS_TGKILL: true,
	unix.SYS_NANOSLEEP: true, unix.SYS_CLOCK_NANOSLEEP: true, unix.SYS_SCHED_YIELD: true, unix.SYS_SCHED_GETAFFINITY: true,
	unix.SYS_EPOLL_CREATE1: true, unix.SYS_EPOLL_CTL: true, unix.SYS_EPOLL_PWAIT: true, unix.SYS_EVENTFD2: true,
	unix.SYS_PRCTL: true, unix.SYS_GETPID: true, unix.SYS_GETEUID: true, unix.SYS_CLOCK_GETTIME: true, unix.SYS_GETRANDOM: true, unix.SYS_RESTART_SYSCALL: true, unix.SYS_TIMER_CREATE: true,
	unix.SYS_TIMER_SETTIME: true, unix.SYS_TIMER_DELETE: true, unix.SYS_SETITIMER: true, unix.SYS_MINCORE: true,
	// With cgo, those of libc for a new thread:
	unix.SYS_MPROTECT: true, unix.SYS_SET_ROBUST_LIST: true, unix.SYS_RSEQ: true,
}

const (
	// backFromSignal stands for the number when a signal's handler has returned.
	backFromSignal = ^uint64(0)

	futexPrivate = 128 // FUTEX_PRIVATE_FLAG
	eventSize    = 8   // of what is read from an eventfd, and written to it
)

// callAt names the system call at whose entry or exit a thread is, with the
// argument that tells its uses apart. It is empty for a call of the Go runtime:
//
//   - one of runtimeCalls,
//   - futex with the flag "private", by which goroutines sleep: package ipc does
//     nothing but wake with it,
//   - mmap of anonymous memory without MAP_NORESERVE, which is the heap's: package
//     ipc asks for address space with it, and puts memory over its mappings,
//   - madvise but for the advices that package ipc gives,
//   - read and write of the standard streams, by which the harness is spoken to,
//     and of eight bytes, by which the runtime wakes its poller.
func callAt(thread *tracedThread, r *registers) string {
	number := r.number()
	name, known := callNames[number]
	if !known {
		name = fmt.Sprintf("system call %d", number)
	}
	if runtimeCalls[number] || number == backFromSignal {
		return ""
	}
	switch number {
	case unix.SYS_FUTEX:
		if r.argument(1)&futexPrivate != 0 {
			return ""
		}
		return "futex wake"
	case unix.SYS_MMAP:
		return mapping(r.argument(3))
	case unix.SYS_MADVISE:
		return advices[r.argument(2)] // the others are the heap's
	case unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE:
		if r.argument(0) <= leashFd || number != unix.SYS_CLOSE && r.argument(2) == eventSize {
			return ""
		}
	case unix.SYS_FCNTL:
		return fcntlName(thread, r)
	case unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT:
		return name + " " + socketOptions[r.argument(2)]
	}
	return name
}

// mapping names the uses of mmap by its flags.
func mapping(flags uint64) string {
	switch {
	case flags&unix.MAP_SHARED != 0:
		return "mmap of shared memory"
	case flags&unix.MAP_NORESERVE == 0:
		return ""
	case flags&unix.MAP_FIXED != 0:
		return "mmap over shared memory"
	}
	return "mmap of address space"
}

func fcntlName(thread *tracedThread, r *registers) string {
	switch command := r.argument(1); command {
	case unix.F_OFD_SETLK:
		var kind [2]byte // the first field of struct flock
		if _, err := unix.PtracePeekData(thread.id, uintptr(r.argument(2)), kind[:]); err == nil && kind[0] == unix.F_UNLCK {
			return "fcntl unlock"
		}
		return "fcntl lock"
	case unix.F_OFD_GETLK:
		return "fcntl test lock"
	case unix.F_ADD_SEALS:
		return "fcntl F_ADD_SEALS"
	case unix.F_GET_SEALS:
		return "fcntl F_GET_SEALS"
	case unix.F_GETFL:
		return "fcntl F_GETFL"
	case unix.F_SETFL:
		return "fcntl F_SETFL"
	default:
		return fmt.Sprintf("fcntl %d", command)
	}
}

var advices = map[uint64]string{
	unix.MADV_DONTFORK: "madvise MADV_DONTFORK", unix.MADV_DONTDUMP: "madvise MADV_DONTDUMP", unix.MADV_DODUMP: "madvise MADV_DODUMP",
}

var socketOptions = map[uint64]string{
	unix.SO_RCVTIMEO: "SO_RCVTIMEO", unix.SO_SNDTIMEO: "SO_SNDTIMEO", unix.SO_PEERCRED: "SO_PEERCRED", unix.SO_PEERPIDFD: "SO_PEERPIDFD",
	unix.SO_PASSCRED: "SO_PASSCRED", 83: "SO_PASSRIGHTS",
}
