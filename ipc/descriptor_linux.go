//go:build linux && (amd64 || arm64)

package ipc

import (
	"golang.org/x/sys/unix"
)

// firstDescriptor is the lowest number that a descriptor of this package has. A
// process may run with 0, 1 or 2 closed. The kernel would give such a number to the
// next descriptor, and what the process or the Go runtime prints would go into
// the lock file, to the peer, or into the shared memory.
const firstDescriptor = 3

// aboveStdio moves a descriptor that has just been made above the standard
// three. It takes the descriptor over, also with an error.
func aboveStdio(fd int) (int, error) {
	if fd < 0 || fd >= firstDescriptor {
		return fd, nil
	}
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstDescriptor)
	_ = unix.Close(fd) // never the last copy if there is another
	if err != nil {
		return -1, err
	}
	return moved, nil
}
