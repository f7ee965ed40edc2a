//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A sandbox answers a system call that it does not let through with an errno of
// its own choice, which the call by itself may never give, or may give for another
// reason: the seccomp profiles of containers say EPERM or ENOSYS, others EACCES,
// EINVAL or EOPNOTSUPP, and so do security modules.
var denials = []unix.Errno{unix.EPERM, unix.EACCES, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOSYS}

const byASandbox = "denied by a sandbox (seccomp) or a security module"

// isDenial reports whether an error may be the word of a sandbox.
func isDenial(err error) bool {
	for _, errno := range denials {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// otherwise is what an error says at its end: the likely cause, where the errno is
// that of a sandbox; else the advice that fits the errnos of the call itself.
func otherwise(err error, advice string) string {
	if isDenial(err) {
		return byASandbox
	}
	return advice
}

// nameSandbox adds the likely cause to an error of Listen or Dial that does not
// give another one.
func nameSandbox(err error) error {
	if err == nil || !isDenial(err) || errors.Is(err, ErrForeign) || strings.Contains(err.Error(), "sandbox") {
		return err
	}
	return fmt.Errorf("%w: or it was %s", err, byASandbox)
}

// cannotAccept deals with an accept that has failed. The backlog keeps the client.
func (s *server) cannotAccept(err error) {
	if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) || timedOut(err) {
		return
	}
	s.failedAt(fmt.Errorf("ipc: accept a connection: %w: no client can come", err))
	s.sleep(10 * time.Millisecond) // out of descriptors or memory, or for good
}
