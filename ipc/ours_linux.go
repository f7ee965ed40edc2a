//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// open opens a file, above the standard three descriptors.
func open(path string, flags int, mode uint32) (fd int, err error) {
	err = retry(func() error {
		fd, err = unix.Open(path, flags, mode)
		return err
	})
	if err != nil {
		return -1, err
	}
	return aboveStdio(fd)
}

// Links are not followed, and an open does not wait: not for the other end of a pipe,
// and not for whoever has a lease of the file.
const openFlags = unix.O_RDWR | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK

// makeOurs makes a file that only its owner can open, whatever the umask is.
func makeOurs(path string) (fd int, err error) {
	fd, err = open(path, openFlags|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return -1, err
	}
	if err := unix.Fchmod(fd, 0o600); err != nil {
		_ = unix.Close(fd)
		_ = unix.Unlink(path)
		return -1, err
	}
	return fd, nil
}

// openOurs opens a file of ours beside the socket and makes it if need be. It tries
// to open first: with O_CREAT the kernel may refuse a file of another user that is
// there (fs.protected_regular).
func openOurs(ctx context.Context, path string) (fd int, stat unix.Stat_t, err error) {
	for {
		fd, err = open(path, openFlags, 0)
		if errors.Is(err, unix.ENOENT) {
			fd, err = makeOurs(path)
		}
		if errors.Is(err, unix.EEXIST) {
			continue // another server has made it meanwhile
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		if ended := pause(ctx, time.Millisecond); ended != nil {
			return -1, stat, fmt.Errorf("ipc: open %s: %w: some process has a lease of the file (%w): end it", path, ended, err)
		}
	}
	if err != nil {
		return -1, stat, cannotOpen(path, err)
	}
	err = unix.Fstat(fd, &stat)
	if err != nil {
		err = fmt.Errorf("ipc: stat %s: %w: nothing was started: use a path on another file system", path, err)
	} else {
		err = checkOurs(path, &stat)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, stat, err
	}
	return fd, stat, nil
}

// cannotOpen says what to do about it.
func cannotOpen(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("ipc: open %s: %w: create the directory %s first", path, err, directoryOf(path))
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: %s is not a regular file (%w)", ErrForeign, path, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.EROFS):
		return fmt.Errorf("ipc: open %s: %w: the server needs to write in its directory, and in this file if another server has made it", path, err)
	}
	return fmt.Errorf("ipc: open %s: %w: nothing was started: try again, or use another path", path, err)
}
