//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// serverByte is the one lock of the lock file. Locks belong to open file
// descriptions, not to processes: whoever holds the descriptor holds the lock,
// and the kernel frees it with the last copy, which is what proves a death. Who
// lets go of a lock while it lives says so, see letGo. No client ever gets a
// descriptor of the lock file: it could hold any byte of it.
const serverByte = 0

// A lockFile is the file beside the socket. It is never unlinked: unlinking a
// lock file is a race.
type lockFile struct {
	fd   int
	path string
	stat unix.Stat_t
}

// An owner is a process as the lock file records it (C6). The start time tells
// it from a later process with the same number.
type owner struct {
	pid   int
	start uint64 // in clock ticks since boot, from /proc
	in    spaces // where both are so
}

// A lockRecord is what the lock file says. It is for people, for error messages
// and for KillOrphan; no lock depends on it.
type lockRecord struct {
	generation     uint64
	server, client owner
}

// textSize is the length of every record, and of every whole lock file.
var textSize = int64(len(fmt.Sprintf(recordFormat, 0, 0, 0, 0, 0, 0, 0, 0, 0)))

const recordFormat = "tandem lock file\ngeneration %020d\nserver %010d started %020d\nclient %010d started %020d\n" +
	"server in pid namespace %010d time namespace %010d\nclient in pid namespace %010d time namespace %010d\n"

// openLockFile opens the lock file of a path and creates it if need be.
func openLockFile(ctx context.Context, path string) (*lockFile, error) {
	l := &lockFile{path: path + lockSuffix}
	var err error
	if l.fd, l.stat, err = openOurs(ctx, l.path); err != nil {
		return nil, err
	}
	content, err := l.content()
	if err == nil && !isOurs(content) {
		err = fmt.Errorf("%w: %s is not a tandem lock file", ErrForeign, l.path)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// isOurs reports whether a lock file may have been made by a server, whatever has
// become of it: a power cut leaves zeros, or the beginning of a record. What stands
// behind the first words decides nothing.
func isOurs(content string) bool {
	const begin = "tandem lock file"
	n := min(len(content), len(begin))
	return content[:n] == begin[:n] || strings.Trim(content, "\x00") == ""
}

// setLock tries to lock or unlock one byte, and reports whether it is free for
// this open file description.
func setLock(fd int, at int64, kind int16) (bool, error) {
	lock := unix.Flock_t{Type: kind, Whence: unix.SEEK_SET, Start: at, Len: 1}
	err := retry(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock) })
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		return false, nil
	case errors.Is(err, unix.EINVAL):
		return false, unsupported("open file description locks (Linux 3.15)", err)
	case errors.Is(err, unix.ENOLCK), errors.Is(err, unix.EOPNOTSUPP):
		return false, fmt.Errorf("ipc: the file system of the lock file does not support locks: %w: use a path on a local one", err)
	}
	return false, fmt.Errorf("ipc: lock byte %d: %w: use a path on another file system", at, err)
}

// isLocked reports whether another open file description holds a byte.
func isLocked(fd int, at int64) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET, Start: at, Len: 1}
	if err := retry(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock) }); err != nil {
		return false, fmt.Errorf("ipc: test byte %d: %w: use a path on another file system", at, err)
	}
	return lock.Type != unix.F_UNLCK, nil
}

func (l *lockFile) tryLock() (bool, error) { return setLock(l.fd, serverByte, unix.F_WRLCK) }

// taken reports whether another server holds the server lock.
func (l *lockFile) taken() (bool, error) { return isLocked(l.fd, serverByte) }

// names reports whether a path names the file that stat describes. A path that
// names nothing does not.
func names(path string, stat *unix.Stat_t) (bool, error) {
	var now unix.Stat_t
	err := retry(func() error { return unix.Lstat(path, &now) })
	switch {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ipc: stat %s: %w: the server needs to search its directory", path, err)
	}
	return now.Dev == stat.Dev && now.Ino == stat.Ino, nil
}

// exists reports whether a path names anything.
func exists(path string) bool {
	var stat unix.Stat_t
	return retry(func() error { return unix.Lstat(path, &stat) }) == nil
}

// content returns what the file says.
func (l *lockFile) content() (string, error) {
	content, n := make([]byte, maxOursSize), 0
	err := retry(func() (err error) { n, err = unix.Pread(l.fd, content, 0); return err })
	if err != nil {
		return "", fmt.Errorf("ipc: read %s: %w: use a path on another file system", l.path, err)
	}
	return string(content[:n]), nil
}

// read returns the record; zeros for what cannot be read of it.
func (l *lockFile) read() (r lockRecord, err error) {
	content, err := l.content()
	if err != nil {
		return r, err
	}
	var server, client owner
	n, _ := fmt.Sscanf(content, recordFormat, &r.generation, &server.pid, &server.start, &client.pid, &client.start,
		&server.in.pid, &server.in.time, &client.in.pid, &client.in.time)
	if n < 9 { // another version wrote it, or it is damaged
		server.in, client.in = spaces{}, spaces{}
	}
	if n >= 3 {
		r.server = server
	}
	if n >= 5 {
		r.client = client
	}
	return r, nil
}

// nextGeneration counts on. A number that has reached its end begins again, and none
// is 0. Nothing depends on the order: each generation has memory of its own (L4).
func (r lockRecord) nextGeneration() uint64 { return max(r.generation+1, 1) }

// heal cuts off what stands behind a record, of whatever it was.
//
// Preconditions: the server lock is held.
func (l *lockFile) heal() error {
	if l.stat.Size <= textSize {
		return nil
	}
	if err := retry(func() error { return unix.Ftruncate(l.fd, textSize) }); err != nil {
		return fmt.Errorf("ipc: truncate %s: %w: use a path on another file system", l.path, err)
	}
	return nil
}

// holders returns what the record says of who runs, for errors and for KillOrphan;
// zeros if it cannot be read.
func (l *lockFile) holders() (server, client owner) {
	r, _ := l.read()
	return r.server, r.client
}

// server and client are the owner of the server lock and that of the latest token, as far
// as the file says.
func (l *lockFile) server() owner { server, _ := l.holders(); return server }
func (l *lockFile) client() owner { _, client := l.holders(); return client }

// write replaces the record. It always has the same length, so that a reader
// never finds a longer one's end behind it.
func (l *lockFile) write(r lockRecord) error {
	text := fmt.Sprintf(recordFormat, r.generation, r.server.pid, r.server.start, r.client.pid, r.client.start,
		r.server.in.pid, r.server.in.time, r.client.in.pid, r.client.in.time)
	for at := 0; at < len(text); { // what stops a write in the middle is told by the next
		n := 0
		err := retry(func() (err error) { n, err = unix.Pwrite(l.fd, []byte(text[at:]), int64(at)); return err })
		if err == nil && n == 0 {
			err = unix.ENOSPC
		}
		if err != nil {
			return fmt.Errorf("ipc: write %s: %w: the record of who runs is not whole: %s", l.path, err, whyNotWritten(err))
		}
		at += n
	}
	return nil
}

// whyNotWritten is what to do about it.
func whyNotWritten(err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "free space there"
	case errors.Is(err, unix.EFBIG):
		return "raise RLIMIT_FSIZE"
	}
	return "use a path on another file system"
}

func (l *lockFile) close() {
	letGo(l.fd)
	l.fd = -1
}

// letGo frees all locks of an open file description, whoever has copies of the
// descriptor, and closes this one; -1 is none. Closing alone would leave them
// locked as long as a child process of this one, started at this moment, has not
// come from its fork to its exec.
func letGo(fd int) {
	if fd < 0 {
		return
	}
	everything := unix.Flock_t{Type: unix.F_UNLCK, Whence: unix.SEEK_SET} // a length of 0 reaches to the end
	_ = retry(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &everything) })
	_ = unix.Close(fd)
}
