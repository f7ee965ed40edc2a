//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A grant that nobody has read stands in the queue of the client's socket. It holds a
// copy of the token, also when a hostile client has let the lock go: it can look at a
// packet and leave it there. And as long as it stands there the kernel counts its three
// descriptors against this process's user (T2). So who holds the queue holds the token.

// held reports whether somebody holds the token of the attachment, or has it in the queue.
//
// Preconditions: the connection is open, or the token was not held before.
func (a *attachment) held() (bool, error) {
	taken, err := a.token.taken()
	if err != nil || taken {
		return taken, err
	}
	return a.grantWaits(), nil
}

// grantWaits reports whether the grant was not read yet. The kernel empties the queue
// when the last descriptor of the client's socket is closed, whatever has become of
// its process.
func (a *attachment) grantWaits() bool {
	if a.read.Load() {
		return false
	}
	size, err := unix.IoctlGetInt(a.conn.fd, unix.SIOCOUTQ)
	waits := err == nil && size > 0
	if !waits {
		a.read.Store(true) // what is sent later is a refusal
	}
	return waits
}

// otherEnd returns the inode of the socket at the other end of a connection.
func otherEnd(fd int) (inode uint32, err error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return 0, err
	}
	ask, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err == nil {
		ask, err = aboveStdio(ask)
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(ask) }()
	request := struct {
		Header   unix.NlMsghdr
		Family   uint8
		Protocol uint8
		_        uint16
		States   uint32
		Inode    uint32
		Show     uint32
		Cookie   [2]uint32 // any
	}{
		Header: unix.NlMsghdr{Len: 40, Type: unix.SOCK_DIAG_BY_FAMILY, Flags: unix.NLM_F_REQUEST},
		Family: unix.AF_UNIX, States: ^uint32(0), Inode: uint32(stat.Ino), Show: showPeer, Cookie: [2]uint32{^uint32(0), ^uint32(0)},
	}
	data, err := binary.Append(nil, binary.NativeEndian, request)
	if err != nil {
		return 0, err
	}
	if err := retry(func() error { return unix.Sendto(ask, data, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) }); err != nil {
		return 0, err
	}
	answer, n := make([]byte, os.Getpagesize()), 0
	if err := retry(func() (err error) { n, _, err = unix.Recvfrom(ask, answer, unix.MSG_DONTWAIT); return err }); err != nil {
		return 0, err
	}
	return peerIn(answer[:n])
}

const (
	showPeer   = 4  // UDIAG_SHOW_PEER
	peerOfUnix = 2  // UNIX_DIAG_PEER
	diagSize   = 16 // of struct unix_diag_msg
)

var errNoOtherEnd = errors.New("the kernel does not say which socket is at the other end")

// peerIn reads the kernel's answer: a header, a unix_diag_msg, and attributes.
func peerIn(answer []byte) (inode uint32, err error) {
	order := binary.NativeEndian
	if len(answer) < unix.SizeofNlMsghdr+4 {
		return 0, errNoOtherEnd
	}
	if kind := order.Uint16(answer[4:]); kind == unix.NLMSG_ERROR {
		return 0, fmt.Errorf("%w: %w", errNoOtherEnd, unix.Errno(-int32(order.Uint32(answer[unix.SizeofNlMsghdr:]))))
	}
	attributes := answer[min(len(answer), unix.SizeofNlMsghdr+diagSize):]
	for len(attributes) >= 4 {
		size, kind := int(order.Uint16(attributes)), order.Uint16(attributes[2:])
		if kind == peerOfUnix && size == 8 && len(attributes) >= 8 {
			return order.Uint32(attributes[4:]), nil
		}
		attributes = attributes[min(len(attributes), max(4, (size+3)&^3)):]
	}
	return 0, errNoOtherEnd
}

// holdsGrant reports whether the client's process has a descriptor of a socket in whose
// queue descriptors wait: those of the grant, if it is the client's socket.
func (a *attachment) holdsGrant(inode uint32) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookLimit)
	defer cancel()
	return holdsQueue(ctx, a.who.pid, inode)
}

func holdsQueue(ctx context.Context, pid int, inode uint32) (bool, error) {
	link := fmt.Sprintf("socket:[%d]", inode)
	isIt := func(name string) bool { return name == link }
	return eachDescriptor(ctx, pid, func(fd string) (bool, error) {
		content, err := infoOf(pid, fd, isIt)
		return err == nil && descriptorsWait(string(content)), err
	})
}

// descriptorsWait reads what fdinfo says of a Unix socket (Linux 5.6).
func descriptorsWait(fdinfo string) bool {
	for line := range strings.Lines(fdinfo) {
		if name, count, found := strings.Cut(line, ":"); found && name == "scm_fds" {
			return strings.TrimSpace(count) != "0"
		}
	}
	return false
}

// eachDescriptor looks at the descriptors of a process until one is found. It opens
// nothing of that process, and stats nothing: its files may be on a file system of its
// own, which does not answer. That none is there it says only if all were seen, but for
// those that were closed meanwhile.
//
// It comes back soon after ctx has ended, also if the kernel does not: what it asks of
// another process may take a lock that this one holds (T1). That look goes on in a
// goroutine of its own, and no more than maxLooks do.
func eachDescriptor(ctx context.Context, pid int, found func(fd string) (bool, error)) (bool, error) {
	if !procIsOwn() {
		return false, fmt.Errorf("%w: /proc shows the processes of another PID namespace, or is not mounted: mount the own one", errNoEvidence)
	}
	select {
	case looks <- struct{}{}:
	case <-ctx.Done():
		return false, fmt.Errorf("%w: looks at the descriptors of other processes do not come back: end process %d by hand", errNoEvidence, pid)
	}
	type answer struct {
		is  bool
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		defer func() { <-looks }()
		is, err := lookAtEach(ctx, pid, found)
		answers <- answer{is, err}
	}()
	select {
	case a := <-answers:
		return a.is, a.err
	case <-ctx.Done():
	}
	select { // as a rule it sees that itself
	case a := <-answers:
		return a.is, a.err
	case <-time.After(lateGrace):
		return false, fmt.Errorf("%w: a look at the descriptors of process %d does not come back: end it by hand", errNoEvidence, pid)
	}
}

// maxLooks is how many looks at other processes are under way at a time.
const maxLooks = 16

var looks = make(chan struct{}, maxLooks)

// lookAtEach is eachDescriptor, however long it takes.
func lookAtEach(ctx context.Context, pid int, found func(fd string) (bool, error)) (bool, error) {
	directory, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return false, notSeen(pid, err)
	}
	defer directory.Close()
	var unseen error
	var names []string
	for names, err = directory.Readdirnames(256); err == nil; names, err = directory.Readdirnames(256) {
		for _, name := range names {
			if ctx.Err() != nil { // each may take long: the kernel lists all locks of a file for it
				return false, fmt.Errorf("%w: process %d has too many descriptors or locks to look at: end it by hand", errNoEvidence, pid)
			}
			is, err := found(name)
			if is {
				return true, nil
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				unseen = err
			}
		}
	}
	if !errors.Is(err, io.EOF) {
		unseen = err
	}
	if unseen != nil {
		return false, notSeen(pid, unseen)
	}
	return false, nil
}

// maxInfo is how much is read of what the kernel says of a descriptor: it has a line for
// each lock, of which a hostile process may have a million (T1). The locks of the first
// bytes come first.
const maxInfo = 64 << 10

// infoOf reads the beginning of what the kernel says of a descriptor, if it leads where it
// is wanted. Of others it reads nothing, for that can take for ever: an epoll shows
// nothing while its process has the kernel write an event to memory that does not come.
func infoOf(pid int, fd string, wanted func(link string) bool) ([]byte, error) {
	if link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd)); err != nil || !wanted(link) {
		return nil, err
	}
	file, err := os.Open(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxInfo))
}

// notSeen says why the descriptors of a process could not be looked at.
func notSeen(pid int, err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return whyNotSeen(pid, err)
	}
	return fmt.Errorf("%w: the descriptors of process %d cannot be seen: %w: try again", errNoEvidence, pid, err)
}
