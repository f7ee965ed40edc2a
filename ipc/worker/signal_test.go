//go:build linux && (amd64 || arm64)

package worker

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func ignoreTerm() { signal.Ignore(syscall.SIGTERM) }

// killSleeper ends a process that a worker of a test has left behind, if the number
// still is such a process. The handle is opened before it is looked at.
func killSleeper(t *testing.T, number string) {
	t.Helper()
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Errorf("process %q: %v", number, err)
		return
	}
	handle, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(handle)
	if text, _ := os.ReadFile("/proc/" + number + "/cmdline"); string(text) == "sleep\x0060\x00" {
		_ = unix.PidfdSendSignal(handle, unix.SIGKILL, nil, 0)
	}
}
