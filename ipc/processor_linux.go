//go:build linux && (amd64 || arm64)

package ipc

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// sharesProcessor reports whether this process and the peer's are bound to the same one
// processor, or may be, where that cannot be seen. Then nobody spins: the peer runs only
// while this process does not. One that is bound to a processor of its own spins like
// any other.
func sharesProcessor(peer int) bool {
	if runtime.NumCPU() > 1 { // as it was when the process began
		return false
	}
	var own, others unix.CPUSet
	if unix.SchedGetaffinity(os.Getpid(), &own) != nil || peer <= 0 || unix.SchedGetaffinity(peer, &others) != nil {
		return true
	}
	return own.Count() == 1 && own == others
}
