package chaos

import (
	"os"
	"path/filepath"
	"strings"
)

// inMemory is a file system in memory, where there is one.
const inMemory = "/dev/shm"

// newDirectory makes a fresh directory for a path of package ipc: in memory, where
// a service has its sockets too. A file system on a disk takes ever longer for files
// that are made and removed by the thousand, and a client there goes by the end of a
// process alone, which a simulated death is not. Where there is no memory the
// environment says where temporary files belong. If that is a directory in memory, ours
// goes into it: a process that starts others names one for them, and removes it after they
// are killed.
func newDirectory() (string, error) {
	if strings.HasPrefix(os.TempDir(), inMemory+"/") {
		return os.MkdirTemp("", "")
	}
	if directory, err := os.MkdirTemp(inMemory, "tandem"); err == nil {
		return directory, nil
	}
	return os.MkdirTemp("", "tandem")
}

// staysBehind reports whether a file is one of the two that stay beside a path when
// server and client are gone (L8): the lock file and the token file.
func staysBehind(name, path string) bool {
	base := filepath.Base(path)
	return name == base+".lock" || name == base+".token"
}
