package worker

import (
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// confine puts a command into a process group of its own, so that what a terminal
// sends to the service does not hit it, and has the kernel kill it when the
// service dies, unless it may outlive it.
func confine(cmd *exec.Cmd, outlive bool) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if !outlive {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
}

// signalByPidfd sends a signal to the process of a pidfd, and to no other.
func signalByPidfd(pidfd *os.File, signal syscall.Signal) {
	onPidfd(pidfd, func(fd int) error { return unix.PidfdSendSignal(fd, signal, nil, 0) })
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
