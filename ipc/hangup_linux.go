//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"

	"golang.org/x/sys/unix"
)

// hangUp ends the connection. What is left in its queue may carry descriptors; the
// kernel closes them with it, and nobody waits for that. From the shutdown on
// nothing more comes into the queue.
//
// Preconditions: no other goroutine uses it.
func (c *conn) hangUp() {
	c.close.Do(func() {
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
		if c.queueIsEmpty() {
			_ = unix.Close(c.fd)
		} else {
			closeAside(c.fd)
		}
	})
}

// queueIsEmpty reports whether certainly no packet waits. The kernel says who sent
// a packet, if asked to: so even an empty one is told from the end.
func (c *conn) queueIsEmpty() bool {
	if unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1) != nil {
		return false
	}
	for range 2 { // the first may return an error that was pending
		control := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
		n, size, _, _, err := unix.Recvmsg(c.fd, make([]byte, 1), control, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err == nil {
			return n == 0 && size == 0
		}
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOTCONN) {
			return true
		}
	}
	return false
}

// closeListener closes a listening socket. The connections that nobody has accepted
// would go with it, and what stands in their queues; so they are taken out first.
// From the shutdown on nobody connects.
func closeListener(fd int) {
	_ = unix.Shutdown(fd, unix.SHUT_RDWR)
	for {
		waiting, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err == nil {
			waiting, err = aboveStdio(waiting)
		}
		switch {
		case err == nil:
			(&conn{fd: waiting}).hangUp()
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
		case errors.Is(err, unix.EINVAL): // none is left
			_ = unix.Close(fd)
			return
		default:
			closeAside(fd)
			return
		}
	}
}

// refuseRights makes the kernel refuse descriptors that are sent to this socket
// (SO_PASSRIGHTS, Linux 6.16). Older kernels cannot: see closeAside.
func refuseRights(fd int) { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, soPassRights, 0) }

const soPassRights = 83
