//go:build linux && (amd64 || arm64)

package ipc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A server trusts whoever can write the directory of its path: that user can put
// another socket there, and delete the lock file. So the directory must belong to
// this server's own user, or to root, and nobody else may write in it, but for its
// group: to give a group the directory is to trust it.

// checkDirectoryTrust returns an error that says who else can write in the directory
// of a path.
func checkDirectoryTrust(path string) *insecureError {
	directory := directoryOf(path)
	var stat unix.Stat_t
	if err := retry(func() error { return unix.Stat(directory, &stat) }); err != nil {
		return nil // opening the lock file says it better
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil // and here too: it is no directory
	}
	return judgeDirectory(directory, &stat)
}

// checkDirectory refuses such a directory, or tells of it if the caller wants it so.
func (s *server) checkDirectory() error {
	insecure := checkDirectoryTrust(s.e.path)
	switch {
	case insecure == nil:
		return nil
	case !s.e.options.SharedDirectory:
		return insecure
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	s.e.emit(Event{Kind: EventInsecureDirectory, Err: fmt.Errorf("ipc: others can replace what is at this path: the server runs all the same, as Options.SharedDirectory says: %s", insecure.who)})
	return nil
}

func judgeDirectory(directory string, stat *unix.Stat_t) *insecureError {
	switch {
	case stat.Mode&unix.S_IWOTH != 0:
		// The sticky bit keeps others from removing what is there, and not from
		// being there first.
		return &insecureError{fmt.Sprintf("every user can write in %s (mode %04o)", directory, stat.Mode&0o7777)}
	case !trusted(stat.Uid):
		return &insecureError{fmt.Sprintf("%s belongs to user %d", directory, stat.Uid)}
	}
	return nil
}

// An insecureError says who else can write in the directory of a path.
type insecureError struct{ who string }

func (e *insecureError) Error() string {
	return "ipc: others can replace what is at this path: nothing was started: use a directory that only this user, root or a group that you trust can write, or set Options.SharedDirectory: " + e.who
}

// trusted reports whether a file of this user is as good as one's own.
func trusted(uid uint32) bool { return uid == uint32(unix.Geteuid()) || uid == 0 }

// maxOursSize is more than any file of ours holds.
const maxOursSize = 4096

// checkOurs returns an error if a file beside the path cannot have been made by this
// server, or by an earlier one that is trusted.
func checkOurs(path string, stat *unix.Stat_t) error {
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%w: %s is not a regular file", ErrForeign, path)
	case !trusted(stat.Uid):
		return fmt.Errorf("%w: %s belongs to user %d, who could change it at any time", ErrForeign, path, stat.Uid)
	case stat.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0:
		return fmt.Errorf("%w: %s can be written by others than its owner (mode %04o)", ErrForeign, path, stat.Mode&0o7777)
	case stat.Nlink > 1:
		return fmt.Errorf("%w: %s has %d names, and so is another file too", ErrForeign, path, stat.Nlink)
	case stat.Size > maxOursSize:
		return fmt.Errorf("%w: %s has %d bytes, more than any file of ours", ErrForeign, path, stat.Size)
	}
	return nil
}
