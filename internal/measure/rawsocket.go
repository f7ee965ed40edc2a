//go:build linux

package measure

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A rawSocket blocks in the kernel, without the runtime's poller.
type rawSocket int

// rawSocketOf takes over a connection's socket.
func rawSocketOf(c net.Conn) (io.ReadWriteCloser, error) {
	file, err := c.(*net.UnixConn).File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	defer c.Close()
	own, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return rawSocket(own), unix.SetNonblock(own, false)
}

// again makes a system call until no signal interrupts it.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

func (s rawSocket) Read(p []byte) (int, error) {
	n, err := again(func() (int, error) { return unix.Read(int(s), p) })
	if err == nil && n == 0 && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

func (s rawSocket) Write(p []byte) (written int, err error) {
	for written < len(p) && err == nil {
		var n int
		n, err = again(func() (int, error) { return unix.Write(int(s), p[written:]) })
		written += n
	}
	return written, err
}

func (s rawSocket) Close() error { return unix.Close(int(s)) }

// seqpacketMost is what the kernel lets a packet have with its default buffers.
const seqpacketMost = 128 << 10

// A packetLink sends each message as a packet.
type packetLink struct {
	c       *net.UnixConn
	out, in []byte
}

func newPacketLink(c *net.UnixConn, s *Setup) Link {
	return &packetLink{c, make([]byte, s.Size), make([]byte, s.Size+8)}
}

func (l *packetLink) Send(s *Source, n int) error {
	for range n {
		s.Fill(l.out)
		if _, err := l.c.Write(l.out); err != nil {
			return err
		}
	}
	return nil
}

func (l *packetLink) Receive(s *Sink, n int) error {
	for ; n > 0 && !s.Ended; n-- {
		got, err := l.c.Read(l.in)
		if err == nil && got == 0 {
			err = io.EOF
		}
		if err != nil {
			return err
		}
		s.Take(l.in[:got])
	}
	return nil
}

func (l *packetLink) Close() error { return l.c.Close() }

type packetListener struct {
	*net.UnixListener
	s *Setup
}

func (l packetListener) Accept() (Link, error) {
	c, err := l.AcceptUnix()
	return newPacketLink(c, l.s), err
}

func seqpacket() *Transport {
	address := func(s *Setup) *net.UnixAddr {
		return &net.UnixAddr{Name: filepath.Join(s.Dir, "s"), Net: "unixpacket"}
	}
	return &Transport{
		Name: "seqpacket", Version: goVersion,
		Unsupported: func(s *Setup) string {
			if s.Size > seqpacketMost {
				return "a packet has to fit the socket's buffer"
			}
			if s.Form != Copy {
				return "a packet is a message"
			}
			return streamRefuses(s)
		},
		Settings: func(*Setup) string { return "package net, a packet a message" },
		Listen: func(s *Setup) (Listener, error) {
			_ = os.Remove(socketPath(s)) // of a server that has died
			l, err := net.ListenUnix("unixpacket", address(s))
			return packetListener{l, s}, err
		},
		Dial: func(s *Setup) (Link, error) {
			c, err := net.DialUnix("unixpacket", nil, address(s))
			return newPacketLink(c, s), err
		},
	}
}
