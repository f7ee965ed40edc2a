//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// pidfd implements life. It asks for the evidence of kill: else whoever has the pidfd
// would signal a process that is not the client.
func (s *server) pidfd(number uint64) (*os.File, error) {
	s.e.mu.Lock()
	a := s.current
	s.e.mu.Unlock()
	if a == nil || a.number != number {
		return nil, errNoSuchClient
	}
	found := a.prove()
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	who := &a.conn.peer
	switch {
	case s.e.closing.Load():
		return nil, ErrClosed
	case s.current != a, who.exited():
		return nil, errNoSuchClient
	case who.who.pid == os.Getpid():
		return nil, errOwnProcess
	case found.err != nil:
		return nil, found.err
	case found.queued || who.pidfd == 0:
		return nil, fmt.Errorf("%w: process %d has a connection, and there is no pidfd of it, or another process may have its token", errNoEvidence, who.who.pid)
	}
	fd, err := unix.FcntlInt(uintptr(who.pidfd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, advise(fmt.Errorf("ipc: duplicate the pidfd of the client: %w: none is returned, and the client stays", err))
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("pidfd of process %d", who.who.pid)), nil
}

var errNoSuchClient = errors.New("ipc: the client with this number is not attached: there is no pidfd of it")
