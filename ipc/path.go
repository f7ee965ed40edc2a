package ipc

import (
	"errors"
	"fmt"
	"strings"
)

// maxPathSize is the longest path that a socket address holds.
const maxPathSize = 107

// What stands beside a path P: the lock file; the token file of the latest
// attachment, which appears by a rename, so that it is complete from the first
// moment on.
const (
	lockSuffix     = ".lock"
	tokenSuffix    = ".token"
	newTokenSuffix = ".token.new"
)

// checkPath refuses a path that cannot name a socket.
func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("ipc: the path is empty: name a file for the socket, in a directory that exists")
	case len(path) > maxPathSize:
		return fmt.Errorf("ipc: the path has %d bytes, and a socket address holds %d: use a shorter one, or one relative to a working directory that does not change: %s",
			len(path), maxPathSize, path)
	case strings.IndexByte(path, 0) >= 0:
		return fmt.Errorf("ipc: the path %q contains a zero byte: use another, no file can have that name", path)
	case path[0] == '@':
		return fmt.Errorf("ipc: the path begins with @, which would be an abstract address: write ./%s", path)
	}
	switch name := path[strings.LastIndexByte(path, '/')+1:]; name {
	case "", ".", "..":
		return fmt.Errorf("ipc: the path names a directory: add the name of a file for the socket: %s", path)
	}
	for _, suffix := range []string{lockSuffix, tokenSuffix, newTokenSuffix} {
		if strings.HasSuffix(path, suffix) {
			return fmt.Errorf("ipc: the path ends in %s, as the files beside another path do: use another name: %s", suffix, path)
		}
	}
	return nil
}

// directoryOf is where the path and its files lie: what stands before the last slash,
// as it is. To clean it would name another directory than the kernel goes to: behind
// a link, ".." is the parent of where the link leads.
//
// Preconditions: checkPath takes the path.
func directoryOf(path string) string {
	switch last := strings.LastIndexByte(path, '/'); last {
	case -1:
		return "."
	case 0:
		return "/"
	default:
		return path[:last]
	}
}
