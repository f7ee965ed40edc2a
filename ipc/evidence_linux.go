//go:build linux && (amd64 || arm64)

package ipc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A kill hits only the process that provably holds the token at that moment (T3).
// The evidence is gathered in this order: a pidfd, which names one process for good;
// then the process behind it, by its start time or by the socket that the pidfd is
// from; then the lock, among its descriptors; then, once more, that it lives and
// that the token is taken. What the lock file says is a hint.

// errNoEvidence refuses a kill.
var errNoEvidence = errors.New("ipc: nobody was killed: it is not proven that this process holds the token")

// errOwnProcess refuses to kill the caller.
var errOwnProcess = errors.New("ipc: the client lives in this process, which is not killed: close its endpoint")

// kill kills the recorded process if it holds the token. If the token is free by
// then, there is nobody to kill.
func (o owner) kill(token *tokenFile) error {
	if o.pid <= 0 || o.isElsewhere() {
		return fmt.Errorf("%w: %s: end by hand who has the token file open", errNoEvidence, o.whyUnknown())
	}
	pidfd, err := unix.PidfdOpen(o.pid, 0)
	if err == nil {
		pidfd, err = aboveStdio(pidfd)
	}
	switch {
	case errors.Is(err, unix.ENOSYS):
		return unsupported("pidfd_open (Linux 5.3)", err)
	case errors.Is(err, unix.ESRCH):
		return fmt.Errorf("%w: process %d, which the lock file names, is not here, or has ended (%w): end by hand who has the token file open", errNoEvidence, o.pid, err)
	case err != nil:
		return fmt.Errorf("ipc: open process %d: %w: try again, or end it by hand", o.pid, err)
	}
	r := remote{who: o, pidfd: pidfd, exact: true}
	defer r.forget()
	switch o.fate() { // looked at behind the pidfd
	case fateEnded:
		return fmt.Errorf("%w: process %d is not the one that the lock file names: end by hand who has the token file open", errNoEvidence, o.pid)
	case fateUnknown:
		if !o.isNumberedHere() || !o.isTimedElsewhere() { // there the token alone is the evidence
			return fmt.Errorf("%w: %s: end by hand who has the token file open", errNoEvidence, o.whyUnknown())
		}
	}
	if o.pid == os.Getpid() {
		return errOwnProcess
	}
	held, err := holdsToken(o.pid, token)
	if err == nil && !held {
		err = fmt.Errorf("%w: process %d, which the lock file names, does not have it", errNoEvidence, o.pid)
	}
	if taken, takenErr := token.taken(); takenErr == nil && !taken {
		return nil
	}
	if err != nil {
		return err
	}
	if r.exited() {
		return nil
	}
	return killByPidfd(pidfd)
}

// kill kills the client of the attachment. held and evidence are what a look at its
// descriptors found just before.
//
// Preconditions: the attachment is current, and stays so.
func (a *attachment) kill(held bool, evidence error) error {
	who := &a.conn.peer
	taken, err := a.token.taken()
	switch {
	case who.who.pid == os.Getpid():
		return errOwnProcess
	case who.pidfd == 0:
		return a.who.kill(a.token)
	case err != nil:
		return err
	case !taken:
		return errNoClient // it has let it go
	case who.exited():
		return fmt.Errorf("%w: a kill has no effect: the client has ended, and another process has a copy of its token", errNoClient)
	case evidence == nil && !held && !a.conn.unread(): // where it cannot be looked at, the pidfd is enough
		return fmt.Errorf("%w: process %d, which attached, does not have it any more: end by hand who has the token file open", errNoEvidence, who.who.pid)
	}
	return killByPidfd(who.pidfd)
}

// unread reports whether the peer has yet to receive what was sent, as a client has
// that was frozen before it had its token.
func (c *conn) unread() bool {
	size, err := unix.IoctlGetInt(c.fd, unix.SIOCOUTQ)
	return err == nil && size > 0
}

// killByPidfd kills, or says why it cannot.
func killByPidfd(fd int) error {
	err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	switch {
	case err == nil, errors.Is(err, unix.ESRCH):
		return nil
	case errors.Is(err, unix.ENOSYS):
		return unsupported("pidfd_send_signal (Linux 5.1)", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("ipc: kill the client: %w: it is in a PID namespace that is not below this process's own, and the kernel lets nobody kill out of a namespace: end it in its own, or from one above both", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("ipc: kill the client: %w: it is another user's, or a sandbox forbids it: end it as that user, or as root", err)
	}
	return fmt.Errorf("ipc: kill the client: %w: end it by hand", err)
}

var errTokenFree = fmt.Errorf("%w: the token is free", errNoEvidence)

// identityByte is locked for a moment, to see how the kernel names the file in
// fdinfo. What stat says of a file differs from that on some file systems.
const identityByte = 2

// identity returns the kernel's name of the token file in fdinfo: device and inode.
func (t *tokenFile) identity() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd < 0 {
		return "", errTokenFree
	}
	return identityOf(t.fd)
}

// identity is that of the lock file.
func (l *lockFile) identity() (string, error) { return identityOf(l.fd) }

func identityOf(fd int) (string, error) {
	if _, err := setLock(fd, identityByte, unix.F_RDLCK); err != nil {
		return "", err
	}
	content, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if _, unlockErr := setLock(fd, identityByte, unix.F_UNLCK); err == nil {
		err = unlockErr
	}
	if err != nil {
		return "", fmt.Errorf("ipc: see the locks of a file: %w: is /proc mounted?", err)
	}
	for _, l := range locksIn(content) {
		if l.first == identityByte {
			return l.file, nil
		}
	}
	return "", fmt.Errorf("%w: /proc shows no locks of this process (%w)", errNoEvidence, errors.ErrUnsupported)
}

// A heldLock is a lock of an open file description, as fdinfo shows it.
type heldLock struct {
	file  string // device and inode
	first int64
}

// locksIn reads what /proc/PID/fdinfo/N says: for each lock a line such as
// "lock: 1: OFDLCK ADVISORY READ -1 00:1b:5308 0 0".
func locksIn(fdinfo []byte) (locks []heldLock) {
	for line := range bytes.Lines(fdinfo) {
		fields := strings.Fields(string(line))
		if len(fields) != 9 || fields[0] != "lock:" || fields[2] != "OFDLCK" {
			continue
		}
		if first, err := strconv.ParseInt(fields[7], 10, 64); err == nil {
			locks = append(locks, heldLock{file: fields[6], first: first})
		}
	}
	return locks
}

// lookLimit bounds how long the descriptors of processes are looked at: a hostile
// one may have a million.
const lookLimit = time.Second

// holdsToken reports whether a process has a descriptor that holds the token. It
// opens nothing of that process, and stats nothing: its files may be on a file
// system of its own, which does not answer.
func holdsToken(pid int, token *tokenFile) (bool, error) {
	file, err := token.identity()
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookLimit)
	defer cancel()
	return holdsLock(ctx, pid, file)
}

// holdsLock reports whether a process holds the first byte of a file: the token, or
// the server lock.
func holdsLock(ctx context.Context, pid int, file string) (bool, error) {
	if !procIsOwn() {
		return false, fmt.Errorf("%w: /proc shows the processes of another PID namespace: mount the own one", errNoEvidence)
	}
	directory, err := os.Open(fmt.Sprintf("/proc/%d/fdinfo", pid))
	if err == nil {
		defer directory.Close()
		var names []string
		for names, err = directory.Readdirnames(256); err == nil; names, err = directory.Readdirnames(256) {
			for _, name := range names {
				content, err := os.ReadFile(filepath.Join(directory.Name(), name))
				if err == nil && slices.Contains(locksIn(content), heldLock{file, tokenByte}) {
					return true, nil
				}
			}
			if ctx.Err() != nil {
				return false, fmt.Errorf("%w: process %d has too many descriptors to look at: end it by hand", errNoEvidence, pid)
			}
		}
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return false, whyNotSeen(pid, err)
	}
	return false, nil // it was seen to its end
}
