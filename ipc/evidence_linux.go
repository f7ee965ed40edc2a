//go:build linux && (amd64 || arm64)

package ipc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
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

// A proof is what a look at the descriptors of a client's process has found.
type proof struct {
	queued bool // the process has the token in the queue of its socket, and not yet itself
	err    error
}

// prove looks whether the client's process holds the token: by a descriptor, or in the
// queue of its socket. So does a client that was frozen before it had read the grant.
// Where nothing proves it nobody is killed: whoever holds the token could hinder the look.
//
// Preconditions: e.mu is not held, for there may be many descriptors.
func (a *attachment) prove() proof {
	held, err := holdsToken(a.who.pid, a.token)
	if err != nil || held {
		return proof{err: err}
	}
	err = fmt.Errorf("%w: process %d, which attached, does not have it any more: end by hand who has the token file open", errNoEvidence, a.who.pid)
	inode := a.socket
	if inode == 0 {
		if !a.grantWaits() {
			return proof{err: err}
		}
		var unknown error
		if inode, unknown = otherEnd(a.conn.fd); unknown != nil {
			return proof{err: fmt.Errorf("%w: process %d, which attached, does not have it yet, and it is not known whose its connection is: %w", errNoEvidence, a.who.pid, unknown)}
		}
	}
	held, unseen := a.holdsGrant(inode)
	switch {
	case unseen != nil:
		return proof{err: unseen}
	case held:
		return proof{queued: true}
	}
	return proof{err: err}
}

// kill kills the client of the attachment, whose process was looked at just before.
//
// Preconditions: the attachment is current, and stays so.
func (a *attachment) kill(found proof) error {
	who := &a.conn.peer
	taken, err := a.token.taken()
	switch {
	case who.who.pid == os.Getpid():
		return errOwnProcess
	case who.pidfd == 0 && !found.queued:
		return a.who.kill(a.token)
	case err != nil:
		return err
	case !taken && !found.queued:
		return errNoClient // it has let it go
	case who.exited():
		return fmt.Errorf("%w: a kill has no effect: the client has ended, and another process has a copy of its token", errNoClient)
	case found.err != nil:
		return found.err
	case found.queued && (a.ready || who.pidfd == 0): // whoever said ready has it, and has not read the grant
		return fmt.Errorf("%w: process %d has a connection, and another process may have its token: end by hand who has the token file open", errNoEvidence, who.who.pid)
	}
	return killByPidfd(who.pidfd)
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
// fdinfo, where there is no lock of the server's that nobody else can take. What stat
// says of a file differs from that on some file systems.
const identityByte = 2

// identity returns the kernel's name of the token file in fdinfo: device and inode.
func (t *tokenFile) identity() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd < 0 {
		return "", errTokenFree
	}
	if file, err := namedBy(t.fd, grantorByte); file != "" || err != nil {
		return file, err // nobody can take this one away: it needs no other
	}
	return identityOf(t.fd)
}

// identity is that of the lock file.
func (l *lockFile) identity() (string, error) { return identityOf(l.fd) }

func identityOf(fd int) (string, error) {
	ok, err := setLock(fd, identityByte, unix.F_RDLCK)
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", fmt.Errorf("%w: somebody has locked byte %d of its file: end by hand who has it open", errNoEvidence, identityByte)
	}
	file, err := namedBy(fd, identityByte)
	if _, unlockErr := setLock(fd, identityByte, unix.F_UNLCK); err == nil {
		err = unlockErr
	}
	if err == nil && file == "" {
		err = fmt.Errorf("%w: /proc shows no locks of this process (%w)", errNoEvidence, errors.ErrUnsupported)
	}
	return file, err
}

// namedBy returns a file's name in fdinfo, none if the own lock of a byte is not there.
func namedBy(fd int, at int64) (string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return "", fmt.Errorf("%w: the locks of a file cannot be seen (%w): is /proc mounted?", errNoEvidence, err)
	}
	for _, l := range locksIn(content) {
		if l.first == at {
			return l.file, nil
		}
	}
	return "", nil
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

// holdsToken reports whether a process has a descriptor that holds the token.
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
	isFile := func(link string) bool { return strings.HasPrefix(link, "/") }
	return eachDescriptor(ctx, pid, func(fd string) (bool, error) {
		content, err := infoOf(pid, fd, isFile)
		return err == nil && slices.Contains(locksIn(content), heldLock{file, tokenByte}), err
	})
}
