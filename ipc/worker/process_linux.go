package worker

import (
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// confine puts a command into a process group of its own, so that what a terminal
// sends to the service does not hit it, and has the kernel kill it when the
// service dies, unless it may outlive it. A session and a signal of the user's own stay.
func confine(cmd *exec.Cmd, outlive bool) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if !cmd.SysProcAttr.Setsid { // which makes a group too
		cmd.SysProcAttr.Setpgid = true
	}
	if !outlive && cmd.SysProcAttr.Pdeathsig == 0 {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
}

// signalByPidfd sends a signal to the process of a pidfd, and to no other.
func signalByPidfd(pidfd *os.File, signal syscall.Signal) {
	onPidfd(pidfd, func(fd int) error { return unix.PidfdSendSignal(fd, signal, nil, 0) })
}

// pidfdOf returns a pidfd of a child that was not waited for, nil if there is none.
func pidfdOf(pid int) *os.File {
	low, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(low) }() // it may be 0, 1 or 2, where those are closed
	fd, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "pidfd")
}

// hasStatus reports whether a wait for an ended child comes back at once.
func hasStatus(pid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err != nil && err != unix.EINTR || info.Signo != 0
}

// awaitPidfd returns when the process of a pidfd has ended.
func awaitPidfd(pidfd *os.File) {
	onPidfd(pidfd, func(fd int) error {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		return err
	})
}

// onPidfd makes a system call on a pidfd, unless it is closed.
func onPidfd(pidfd *os.File, call func(fd int) error) {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for call(int(fd)) == unix.EINTR {
		}
	})
}
