//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// lookAt returns what is at the path, which is a socket or nothing: a link count of 0
// if there is nothing.
func lookAt(path string) (stat unix.Stat_t, err error) {
	err = retry(func() error { return unix.Lstat(path, &stat) })
	if errors.Is(err, unix.ENOENT) {
		return unix.Stat_t{}, nil
	}
	if err != nil {
		return stat, fmt.Errorf("ipc: look at %s: %w: the server needs to search its directory", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return stat, fmt.Errorf("%w: %s is not a socket", ErrForeign, path)
	}
	return stat, nil
}

// probeStale makes sure that what is at the path is a socket that nobody listens
// on, or nothing. It returns what it saw, as lookAt does.
func probeStale(path string) (stat unix.Stat_t, err error) {
	if stat, err = lookAt(path); err != nil || stat.Nlink == 0 {
		return stat, err
	}
	fd, err := newSocket(unix.SOCK_NONBLOCK)
	if err != nil {
		return stat, err
	}
	defer (&conn{fd: fd}).hangUp() // whoever is behind it may have sent anything
	err = retry(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) })
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return stat, nil // nobody is behind it
	case errors.Is(err, unix.EACCES) && isUnready(&stat) && trusted(stat.Uid):
		return stat, nil // its server died before it set the mode, and so before it listened
	case errors.Is(err, unix.EPROTOTYPE):
		return stat, fmt.Errorf("%w: another program listens on %s", ErrForeign, path)
	case err == nil, errors.Is(err, unix.EAGAIN):
		// The lock file was deleted while a server lived (C5).
		return stat, &RunningError{Path: path, Err: ErrServerRunning}
	}
	return stat, fmt.Errorf("ipc: see who is behind %s: %w: use another path", path, err)
}

// newSocket makes a socket of the channel's kind.
func newSocket(flags int) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|flags, 0)
	if err == nil {
		fd, err = aboveStdio(fd)
	}
	if err != nil {
		return -1, fmt.Errorf("ipc: make a socket: %w: try again when the system gives one", err)
	}
	return fd, nil
}

// bind makes the socket at the path. Who connects before it listens is refused by
// the kernel, or sees that it is not ready, and tries again.
func (s *server) bind(stale unix.Stat_t) (err error) {
	path := s.e.path
	if s.listener, err = newSocket(0); err != nil {
		return err
	}
	refuseRights(s.listener)
	if err := removeStale(path, stale); err != nil {
		return err
	}
	mode := uint32(0o600)
	if len(s.e.options.AllowUIDs) > 0 {
		mode = 0o666 // the kernel's word on who connects decides
	}
	if err := bindSocket(s.listener, path, mode); err != nil {
		return fmt.Errorf("ipc: bind %s: %w: the server needs to make files in its directory, and a socket, which not every file system takes", path, err)
	}
	if err := retry(func() error { return unix.Lstat(path, &s.socket) }); err != nil {
		return fmt.Errorf("ipc: stat %s: %w: the server needs to search its directory", path, err)
	}
	s.e.hook(step.SocketBound, 0)
	if err := setSocketMode(path, &s.socket, mode); err != nil {
		return err
	}
	if err := unix.Listen(s.listener, unix.SOMAXCONN); err != nil {
		return fmt.Errorf("ipc: listen on %s: %w: nothing was started: try again", path, err)
	}
	s.e.hook(step.SocketListening, 0)
	if current, err := names(s.lock.path, &s.lock.stat); err != nil {
		return err
	} else if !current { // C5. The path may be another server's by now.
		s.socket = unix.Stat_t{}
		return fmt.Errorf("ipc: %s was deleted or replaced while the server started: start again", s.lock.path)
	}
	s.e.hook(step.LockFileRechecked, 0)
	return nil
}

// removeStale removes the socket that probeStale saw, and nothing else.
func removeStale(path string, stale unix.Stat_t) error {
	if stale.Nlink == 0 {
		return nil
	}
	if named, err := names(path, &stale); err != nil || !named {
		return err // if something else is there now, bind fails
	}
	if err := retry(func() error { return unix.Unlink(path) }); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("ipc: remove %s, left by a server that died: %w: remove it by hand", path, err)
	}
	return nil
}

// unready marks the socket of a server that does not listen yet. Its mode is still to
// be set: the umask takes bits away from what bind makes, but never this one. The umask
// is the process's, and stays as it is. A thread could have one of its own, but would
// have to end after it, and the kernel tells the children that it has started
// (Pdeathsig).
const unready = unix.S_ISVTX

// isUnready reports whether a path names a socket that is not ready.
func isUnready(stat *unix.Stat_t) bool {
	return stat.Mode&unix.S_IFMT == unix.S_IFSOCK && stat.Mode&unready != 0
}

// bindSocket binds a socket that is not ready.
func bindSocket(fd int, path string, mode uint32) error {
	if err := unix.Fchmod(fd, mode|unready); err != nil { // what its name will have
		return err
	}
	return unix.Bind(fd, &unix.SockaddrUnix{Name: path})
}

// setSocketMode makes what was bound at the path ready. It goes by a descriptor of the
// socket and not by path: whoever can write the directory could else have the mode of
// any file set.
func setSocketMode(path string, bound *unix.Stat_t, mode uint32) error {
	fd, err := open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("ipc: look at %s: %w: the server needs to search its directory", path, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("ipc: stat %s: %w: nothing was started: use a path on another file system", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK || stat.Nlink != 1 || stat.Uid != uint32(unix.Geteuid()) ||
		stat.Dev != bound.Dev || stat.Ino != bound.Ino {
		return fmt.Errorf("%w: %s was replaced while the server started", ErrForeign, path)
	}
	if err := changeMode(fd, mode); err != nil {
		return fmt.Errorf("ipc: set the mode of %s: %w: is /proc mounted? else use a path on another file system", path, err)
	}
	return nil
}
