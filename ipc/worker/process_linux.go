package worker

import (
	"os/exec"
	"syscall"
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
