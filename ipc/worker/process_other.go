//go:build !linux

package worker

import (
	"os"
	"os/exec"
	"syscall"
)

// No pool starts here: ipc.Listen fails with errors.ErrUnsupported.
func confine(*exec.Cmd, bool) {}

func signalByPidfd(*os.File, syscall.Signal) {}

func awaitPidfd(*os.File) {}

func pidfdOf(int) *os.File { return nil }

func hasStatus(int) bool { return true }
