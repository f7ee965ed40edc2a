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
	"path/filepath"
	"strings"

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
	return eachDescriptor(ctx, pid, "fd", func(path string) (bool, error) {
		if name, err := os.Readlink(path); err != nil || name != link {
			return false, err
		}
		content, err := readInfo(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, filepath.Base(path)))
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

// eachDescriptor looks at the descriptors of a process, in its directory fd or fdinfo,
// until one is found. It opens nothing of that process, and stats nothing: its files
// may be on a file system of its own, which does not answer. That none is there it says
// only if all were seen, but for those that were closed meanwhile.
func eachDescriptor(ctx context.Context, pid int, in string, found func(path string) (bool, error)) (bool, error) {
	if !procIsOwn() {
		return false, fmt.Errorf("%w: /proc shows the processes of another PID namespace, or is not mounted: mount the own one", errNoEvidence)
	}
	directory, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, in))
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
			is, err := found(filepath.Join(directory.Name(), name))
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

// readInfo reads the beginning of a file below /proc.
func readInfo(path string) ([]byte, error) {
	file, err := os.Open(path)
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
