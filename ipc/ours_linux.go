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

// oursMode is the mode of a file that only its owner can open.
const oursMode = 0o600

// makeOurs makes a file of ours, whatever the umask is.
func makeOurs(path string) (fd int, err error) {
	fd, err = open(path, openFlags|unix.O_CREAT|unix.O_EXCL, oursMode)
	if err != nil {
		return -1, err
	}
	if err := unix.Fchmod(fd, oursMode); err != nil {
		_ = unix.Close(fd)
		_ = unix.Unlink(path)
		return -1, err
	}
	return fd, nil
}

// changeMode changes the mode of what an O_PATH descriptor leads to. Before Linux 6.6
// that goes by /proc alone.
func changeMode(fd int, mode uint32) error {
	err := retry(func() error { return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode) })
	if err != nil && unix.Fchmodat(fd, "", mode, unix.AT_EMPTY_PATH) == nil {
		return nil
	}
	return err
}

// repairOurs gives a file of this user its mode, which its server did not live to give
// it: with umask 0777 nobody but root can open it. It reports whether it did.
func repairOurs(path string) bool {
	fd, err := open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if unix.Fstat(fd, &stat) != nil || checkOurs(path, &stat) != nil {
		return false
	}
	half := stat.Uid == uint32(unix.Geteuid()) && stat.Size == 0 && stat.Mode&0o7777&^oursMode == 0 && stat.Mode&oursMode != oursMode
	return half && changeMode(fd, oursMode) == nil
}

// openOurs opens a file of ours beside the socket and makes it if need be. It tries
// to open first: with O_CREAT the kernel may refuse a file of another user that is
// there (fs.protected_regular).
func openOurs(ctx context.Context, path string) (fd int, stat unix.Stat_t, err error) {
	for repaired := false; ; {
		fd, err = open(path, openFlags, 0)
		if errors.Is(err, unix.ENOENT) {
			fd, err = makeOurs(path)
		}
		if errors.Is(err, unix.EACCES) && !repaired {
			if repaired = repairOurs(path); repaired {
				continue
			}
		}
		why := passing(err)
		if why == "" {
			break
		}
		if ended := pause(ctx, time.Millisecond); ended != nil {
			return -1, stat, fmt.Errorf("ipc: open %s: %w: %s (%w): end it", path, ended, why, err)
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

// passing says what has kept a file from being opened that may be over in a moment.
func passing(err error) string {
	switch {
	case errors.Is(err, unix.EEXIST): // another server has made it meanwhile
		return "another process makes and deletes the file again and again"
	case errors.Is(err, unix.EWOULDBLOCK):
		return "some process has a lease of the file"
	}
	return ""
}
