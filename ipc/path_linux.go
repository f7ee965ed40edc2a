//go:build linux && (amd64 || arm64)

package ipc

import (
	"cmp"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// wayAdvice is what to do about a path that leads nowhere, also when it is tried again;
// "" if the error says nothing of the kind.
func wayAdvice(err error) string {
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return "something on the way to it is not a directory: use another path"
	case errors.Is(err, unix.ELOOP):
		return "symbolic links lead in a circle there: correct them, or use another path"
	case errors.Is(err, unix.ENAMETOOLONG):
		return "a name on the way to it, or behind a symbolic link, is too long: use another path"
	}
	return ""
}

// cannotMake says what to do where a file at the path, or beside it, can be neither opened
// nor made: "" if the error says nothing of the kind. The errno alone does not say it. A
// file system as /proc, which takes no files from anybody, answers ENOENT, EACCES or EPERM.
func cannotMake(path string, err error) string {
	directory := directoryOf(path)
	var stat unix.Stat_t
	seen := unix.Stat(directory, &stat)
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Sprintf("the file system of %s is read-only: use a path on another one", directory)
	case errors.Is(err, unix.ENOENT) && seen != nil:
		return fmt.Sprintf("create the directory %s first", directory)
	case errors.Is(err, unix.ENOENT):
		return noFilesThere(directory)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		mayWrite := unix.Faccessat(unix.AT_FDCWD, directory, unix.W_OK|unix.X_OK, unix.AT_EACCESS) == nil
		if mayWrite && !exists(path) {
			return noFilesThere(directory)
		}
		hint := ""
		if shut := shutDirectory(path); shut != "" {
			hint = fmt.Sprintf(": user %d may not go through the directory %s", unix.Geteuid(), shut)
		}
		return "the server needs to write in its directory, and in this file if another server has made it" + hint
	}
	return wayAdvice(err)
}

func noFilesThere(directory string) string {
	return fmt.Sprintf("the file system of %s seems to take no such file: use a path on another one", directory)
}

// cannotOpen says what to do about a file of ours that cannot be opened.
func cannotOpen(path string, err error) error {
	// Links are not followed at the end of the path: there it is a link by itself.
	loops := errors.Is(err, unix.ELOOP) && !errors.Is(unix.Stat(directoryOf(path), &unix.Stat_t{}), unix.ELOOP)
	if loops || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("%w: %s is not a regular file (%w)", ErrForeign, path, err)
	}
	return fmt.Errorf("ipc: open %s: %w: nothing was started: %s", path, err, cmp.Or(cannotMake(path, err), "try again, or use another path"))
}
