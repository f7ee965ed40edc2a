package ipc

import (
	"errors"
	"fmt"
	"path/filepath"
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
		return fmt.Errorf("ipc: the path has %d bytes, and a socket address holds %d: use a shorter one, relative to the working directory if need be: %s",
			len(path), maxPathSize, path)
	case strings.IndexByte(path, 0) >= 0:
		return fmt.Errorf("ipc: the path %q contains a zero byte: use another, no file can have that name", path)
	case path[0] == '@':
		return fmt.Errorf("ipc: the path begins with @, which would be an abstract address: write ./%s", path)
	}
	for _, suffix := range []string{lockSuffix, tokenSuffix, newTokenSuffix} {
		if strings.HasSuffix(path, suffix) {
			return fmt.Errorf("ipc: the path ends in %s, as the files beside another path do: use another name: %s", suffix, path)
		}
	}
	return nil
}

// directoryOf is where the path and its files lie.
func directoryOf(path string) string { return filepath.Dir(path) }
