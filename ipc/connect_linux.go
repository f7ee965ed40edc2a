//go:build linux && (amd64 || arm64)

package ipc

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// backlogWait is how long one attempt waits for room in a full backlog.
const backlogWait = 100 * time.Millisecond

// connect connects to the path.
func connect(path string) (*conn, error) {
	fd, err := newSocket(0)
	if err != nil {
		return nil, err
	}
	c := &conn{fd: fd}
	_ = c.setDeadline(backlogWait)
	for range 2 { // it may become ready between a connect and the look at its mode
		err = retry(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) })
		if !errors.Is(err, unix.EACCES) {
			break
		}
		var stat unix.Stat_t
		if unix.Stat(path, &stat) == nil && isUnready(&stat) {
			err = unix.ECONNREFUSED // it does not listen
			break
		}
	}
	if err == nil {
		return c, nil
	}
	c.hangUp()
	switch {
	case errors.Is(err, unix.ENOENT):
		if missing := checkDirectory(path); missing != nil {
			return nil, missing
		}
		return nil, errNoServer
	case errors.Is(err, unix.ECONNREFUSED):
		if isNoSocket(path) {
			return nil, fmt.Errorf("%w: %s is not a socket", ErrForeign, path)
		}
		if isMount(path) {
			return nil, fmt.Errorf("%w: %s is mounted by itself, and stays the socket of the server that was there then: mount its directory", errNoServer, path)
		}
		return nil, errNoServer
	case errors.Is(err, unix.EAGAIN):
		return nil, fmt.Errorf("%w: its backlog is full", errNoServer)
	case errors.Is(err, unix.EPROTOTYPE):
		return nil, fmt.Errorf("%w: another program listens on %s", ErrForeign, path)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		// Who may not write a file learns of connect only that, whatever it is.
		if isNoSocket(path) {
			return nil, fmt.Errorf("%w: %s is not a socket", ErrForeign, path)
		}
		if shut := shutDirectory(path); shut != "" {
			return nil, &shutOutError{path, shut, err}
		}
		return nil, fmt.Errorf("%w: connect to %s: %w", ErrRefused, path, err)
	}
	return nil, fmt.Errorf("ipc: connect to %s: %w: nothing was attached: %s", path, err, cmp.Or(wayAdvice(err), "try again"))
}

// isNoSocket reports whether there is something else at the path, or behind a link there:
// connect follows links too.
func isNoSocket(path string) bool {
	var stat unix.Stat_t
	return unix.Stat(path, &stat) == nil && stat.Mode&unix.S_IFMT != unix.S_IFSOCK
}

// A shutOutError is an ErrRefused that no server has to do with.
type shutOutError struct {
	path, directory string
	err             error
}

func (e *shutOutError) Error() string {
	return fmt.Sprintf("ipc: connect to %s: %v: nothing was attached: user %d may not go through the directory %s", e.path, e.err, unix.Geteuid(), e.directory)
}

func (e *shutOutError) Unwrap() []error { return []error{ErrRefused, e.err} }

// shutDirectory returns the first directory on the way to the path that does not let
// this user through, or "".
func shutDirectory(path string) string {
	for i := range len(path) {
		if path[i] == '/' && i > 0 && errors.Is(unix.Faccessat(unix.AT_FDCWD, path[:i], unix.X_OK, unix.AT_EACCESS), unix.EACCES) {
			return path[:i]
		}
	}
	return ""
}

// isMount reports whether what is at the path was mounted there. Such a mount keeps
// the file of a dead server, whatever another server does in the directory.
func isMount(path string) bool {
	var stat unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_TYPE, &stat)
	return err == nil && stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// knows sees who the server is, before anything is said: what is at the path may be
// somebody else's (T2).
func (c *client) knows(path string) error {
	var err error
	c.conn.peer, err = remoteOf(c.conn.fd)
	c.gone = errors.Is(err, errGone) // the hello finds the end, unless somebody has a copy
	switch {
	case err != nil && !c.gone:
		return err
	case !c.e.options.trusts(c.conn.peer.uid):
		return fmt.Errorf("%w: uid %d on %s%s", ErrServerUser, c.conn.peer.uid, path, whyNobody(c.conn.peer.uid))
	}
	return nil
}

// deserted says so if the process that called listen has ended, and nobody answers
// because the socket has a copy: its last close would have ended this connection.
func (c *client) deserted() string {
	poll := []unix.PollFd{{Fd: int32(c.conn.fd)}}
	err := retry(func() error { _, err := unix.Poll(poll, 0); return err })
	if err != nil || poll[0].Revents&unix.POLLHUP != 0 || !c.gone && !c.conn.peer.died() {
		return ""
	}
	return ": the process that listened has ended, and another has a copy of its socket, by a fork without exec or by its descriptor: end that process"
}

// checkDirectory says whether waiting for the path makes sense.
func checkDirectory(path string) error {
	directory := directoryOf(path)
	var stat unix.Stat_t
	err := unix.Stat(directory, &stat)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("ipc: the directory of %s: %w (%w): create it first", path, errNoDirectory, err)
	}
	if err != nil {
		return fmt.Errorf("ipc: the directory of %s: %w: nothing was attached: %s", path, err, cmp.Or(wayAdvice(err), "the client needs to search it"))
	}
	return nil
}
