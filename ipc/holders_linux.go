//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// A held is a file whose first byte another process holds: the lock file, or a token
// file.
type held interface {
	identity() (string, error)
	taken() (bool, error)
}

// lateGrace is how long holders are looked for when nobody waits any more.
const lateGrace = 100 * time.Millisecond

// holdersOf lists the processes that hold a file, as far as they may be looked at,
// and as far as ctx and lookLimit go.
func holdersOf(ctx context.Context, f held) []int {
	file, err := f.identity()
	if err != nil {
		return nil
	}
	return processesThat(ctx, func(ctx context.Context, pid int) (bool, error) { return holdsLock(ctx, pid, file) })
}

// holders lists the processes that hold the token of the attachment, or have it in the
// queue, as far as they may be looked at.
func (a *attachment) holders() []int {
	if taken, err := a.token.taken(); err != nil || taken || !a.grantWaits() {
		return holdersOf(context.Background(), a.token)
	}
	inode, err := otherEnd(a.conn.fd)
	if err != nil {
		return nil
	}
	return processesThat(context.Background(), func(ctx context.Context, pid int) (bool, error) { return holdsQueue(ctx, pid, inode) })
}

// processesThat lists the processes for which a look says so, as far as ctx and
// lookLimit go.
func processesThat(ctx context.Context, look func(context.Context, int) (bool, error)) (pids []int) {
	if !procIsOwn() {
		return nil
	}
	limit := lookLimit
	if ctx.Err() != nil {
		ctx, limit = context.Background(), lateGrace
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if is, _ := look(ctx, pid); is {
			pids = append(pids, pid)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return pids
}

// holding says who of its holders is known, of a process that has ended.
func holding(what string, pids []int) error {
	if len(pids) == 0 {
		return fmt.Errorf("a copy of its %s lives on in a process that was not found, because it may not be looked at, /proc does not show it, or there are too many: end that process", what)
	}
	return fmt.Errorf("a copy of its %s lives on in %s: end it", what, processes(pids))
}

// A suspect is the process that a lock file names as the holder of a lock.
type suspect struct {
	owner
	role string // server or client
	lock string // what that is called
	file held
	is   error // ErrServerRunning or ErrClientRunning

	unless string // what else it may be
}

// running names who holds a lock: the process that the lock file names, if that lives;
// else what is known of it, and who holds the lock as the kernel shows it.
func (s suspect) running(ctx context.Context, path string) error {
	fate := s.fate()
	if fate == fateLives {
		return &RunningError{Path: path, PID: s.pid, Err: s.is}
	}
	if taken, err := s.file.taken(); err == nil && !taken {
		return &RunningError{Path: path, Err: fmt.Errorf("%w, or has just left", s.is)}
	}
	pids := holdersOf(ctx, s.file)
	err := &RunningError{Path: path, PID: first(pids)}
	switch {
	case fate == fateEnded:
		err.Err = fmt.Errorf("%w: the %s that the lock file names has ended, and %w%s", s.is, s.role, holding(s.lock, pids), s.unless)
	case len(pids) > 0:
		err.Err = fmt.Errorf("%w: %s; its %s is in %s", s.is, s.whyUnknown(), s.lock, processes(pids))
	default:
		err.Err = fmt.Errorf("%w: whether it is the %s itself cannot be seen from here: %s", s.is, s.role, s.whyUnknown())
	}
	return err
}

// serverRunning names who holds the server lock. A server that begins takes the lock
// before the lock file names it.
func (s *server) serverRunning(ctx context.Context) error {
	for {
		server, _ := s.lock.holders()
		err := suspect{server, "server", "lock", s.lock, ErrServerRunning, ", unless it is a server that has only just begun"}.running(ctx, s.e.path)
		if now, _ := s.lock.holders(); now == server {
			return err
		}
	}
}

// clientRunning names who has the token: the client, or else what has a copy of its
// token.
func (s *server) clientRunning(ctx context.Context) error {
	_, client := s.lock.holders()
	return suspect{client, "client", "token", s.token, ErrClientRunning, ""}.running(ctx, s.e.path)
}

// first is the first of some processes, 0 if there is none.
func first(pids []int) int {
	if len(pids) == 0 {
		return 0
	}
	return pids[0]
}

// processes names them.
func processes(pids []int) string {
	texts := make([]string, len(pids))
	for i, pid := range pids {
		texts[i] = "process " + strconv.Itoa(pid)
	}
	return strings.Join(texts, ", ")
}
