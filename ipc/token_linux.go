//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// The locks of a token file, by byte. Each attachment has a token file of its own.
// What a client is handed therefore leads to its own token and to nothing else: not
// to the lock file, and not to the token of any other client (T2).
const (
	tokenByte   = 0 // its client lives
	grantorByte = 1 // the server that granted it lives
)

// A tokenFile is the server's own open file description of a token file. It is
// tested by this descriptor and never by path (C4).
type tokenFile struct {
	mu   sync.Mutex
	fd   int  // -1 when the server is done with it
	free bool // it was found free once: that proved the end
}

// taken reports whether somebody holds the token. Nobody does when the server is
// done with the file, nor when it was found free before: a former client that locks
// it again is no client.
func (t *tokenFile) taken() (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd < 0 || t.free {
		return false, nil
	}
	locked, err := isLocked(t.fd, tokenByte)
	t.free = err == nil && !locked
	return locked, err
}

// tryLock takes the token for a server that starts.
func (t *tokenFile) tryLock() (bool, error) { return setLock(t.fd, tokenByte, unix.F_WRLCK) }

func (t *tokenFile) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	letGo(t.fd)
	t.fd = -1
}

// openTokenFile opens the token file of the latest attachment, of whichever server
// it was, and makes one if there is none.
func openTokenFile(ctx context.Context, path string) (*tokenFile, error) {
	if err := clearNewToken(path + newTokenSuffix); err != nil {
		return nil, err
	}
	fd, stat, err := openOurs(ctx, path+tokenSuffix)
	if err != nil {
		return nil, err
	}
	if stat.Size != 0 {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("%w: %s is not a token file", ErrForeign, path+tokenSuffix)
	}
	return &tokenFile{fd: fd}, nil
}

// A tokenName counts the token files that have appeared at the path, twice each:
// before and after. A look in between, while the number is odd, knows nothing.
type tokenName struct {
	moves atomic.Uint64
	mu    sync.Mutex
	stat  unix.Stat_t // what the path names while it is ours
}

// lost returns the path if it names another file than the server has put there, or
// none.
func (n *tokenName) lost(path string) string {
	moves := n.moves.Load()
	n.mu.Lock()
	stat := n.stat
	n.mu.Unlock()
	named, err := names(path, &stat)
	if err != nil || named || moves%2 != 0 || n.moves.Load() != moves {
		return "" // or it was just being replaced, by this server
	}
	return path
}

// newToken makes the token file of one attachment. The server holds its own byte
// and gets the token on an open file description of its own, to be passed to a
// client, which may be another user's: so it can only read, and holds a read lock.
// The file is reached through the server's descriptor and never by path (C4).
//
// Preconditions: s.admission is held, and the token of the attachment before is free.
func (s *server) newToken() (own *tokenFile, token int, err error) {
	if own, err = s.makeTokenFile(); err != nil {
		return nil, -1, err
	}
	token = -1
	defer func() {
		if err != nil {
			letGo(token)
			own.close()
			_ = unix.Unlink(s.e.path + newTokenSuffix)
			own, token = nil, -1
		}
	}()
	if err = mustLock(own.fd, grantorByte, unix.F_WRLCK); err != nil {
		return own, token, err
	}
	token, err = open(fmt.Sprintf("/proc/self/fd/%d", own.fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return own, -1, fmt.Errorf("ipc: open the token file again for the client: %w: is /proc mounted?", err)
	}
	if err = mustLock(token, tokenByte, unix.F_RDLCK); err != nil {
		return own, token, err
	}
	return own, token, s.showTokenFile(own)
}

// mustLock locks a byte of a file that nobody else can have locked yet. One that is
// taken all the same is a sandbox's word: EACCES stands for that too.
func mustLock(fd int, at int64, kind int16) error {
	ok, err := setLock(fd, at, kind)
	if err == nil && !ok {
		err = fmt.Errorf("ipc: lock byte %d of a fresh token file: %w: nobody else can have it: %s", at, unix.EACCES, byASandbox)
	}
	return err
}

// retireToken puts a token file at the path that no client has a descriptor of. The
// client of the former one has left, but it may still have its descriptor, and would
// else keep the next server out by locking it again (L3 is about clients that live).
//
// Preconditions: s.admission is held, or nobody is admitted; the token is free.
func (s *server) retireToken() error {
	fresh, err := s.makeTokenFile()
	if err != nil {
		return err
	}
	defer fresh.close()
	if err := s.showTokenFile(fresh); err != nil {
		_ = unix.Unlink(s.e.path + newTokenSuffix)
		return err
	}
	s.token.close()
	s.token = nil
	return nil
}

// makeTokenFile makes a token file that is not at its path yet.
func (s *server) makeTokenFile() (*tokenFile, error) {
	path := s.e.path + newTokenSuffix
	fd, err := makeOurs(path)
	if errors.Is(err, unix.EEXIST) { // left by a server that died
		if err := clearNewToken(path); err != nil {
			return nil, err
		}
		fd, err = makeOurs(path)
	}
	if err != nil {
		return nil, fmt.Errorf("ipc: make %s: %w: the server needs to make files in its directory", path, err)
	}
	return &tokenFile{fd: fd}, nil
}

// clearNewToken removes the token file that a server has left which died before it
// showed it. A token file is empty: anything else is not ours.
func clearNewToken(path string) error {
	var stat unix.Stat_t
	err := retry(func() error { return unix.Lstat(path, &stat) })
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ipc: stat %s: %w: the server needs to search its directory", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Size != 0 {
		return fmt.Errorf("%w: %s is not a token file", ErrForeign, path)
	}
	if err := retry(func() error { return unix.Unlink(path) }); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("ipc: remove %s, left by a server that died: %w: remove it by hand", path, err)
	}
	return nil
}

// showTokenFile makes the path name the token file, unless another server has made
// the lock file anew: then the name is that server's.
func (s *server) showTokenFile(t *tokenFile) error {
	var stat unix.Stat_t
	if err := unix.Fstat(t.fd, &stat); err != nil {
		return fmt.Errorf("ipc: stat the token file: %w: use a path on another file system", err)
	}
	if current, err := names(s.lock.path, &s.lock.stat); err != nil {
		return err
	} else if !current && exists(s.lock.path) {
		return unix.Unlink(s.e.path + newTokenSuffix)
	}
	path := s.e.path + tokenSuffix
	s.shown.moves.Add(1)
	defer s.shown.moves.Add(1)
	if err := retry(func() error { return unix.Rename(s.e.path+newTokenSuffix, path) }); err != nil {
		return fmt.Errorf("ipc: rename %s to %s: %w: let the server replace what is there, or use another path", s.e.path+newTokenSuffix, path, err)
	}
	s.shown.mu.Lock()
	defer s.shown.mu.Unlock()
	s.shown.stat = stat
	return nil
}
