//go:build linux && (amd64 || arm64)

package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The messages of the socket. Each is one packet of a sequenced-packet socket.
const (
	packetHello  = iota + 1 // client: who I am
	packetGrant             // server: memory and token, as three descriptors
	packetRefuse            // server: why not, or why no longer
	packetReady             // client: the memory is mapped
)

// Why a server refuses a client, or drops it.
const (
	reasonNone          = iota
	reasonVersion       // other version or layout
	reasonUser          // the user may not attach
	reasonClientRunning // another client lives
	reasonClosing       // the server closes
	reasonCorrupt       // the peer broke an invariant
	reasonFailed        // the server could not serve this client
)

const packetMagic = 0x31746d646e6174 // "tandmt1": the first bytes of every packet

// A packet is every message of the handshake, in one form, little endian.
type packet struct {
	Magic        uint64
	Type         uint32
	Version      uint32
	Fingerprint  uint64
	PageSize     uint32
	Reason       uint32
	PID          uint64
	Generation   uint64
	Attachment   uint64
	ToServerSize uint64
	ToClientSize uint64
}

const (
	packetSize       = 72
	packetCommonSize = 28 // up to PageSize: the same in every version
)

// newPacket fills in what every packet says.
func newPacket(kind uint32) packet {
	return packet{
		Magic: packetMagic, Type: kind, Version: protocolVersion, Fingerprint: layoutFingerprint(),
		PageSize: uint32(os.Getpagesize()),
	}
}

// compatible refuses a peer that was built with another version.
func (p packet) compatible() error {
	ours := newPacket(p.Type)
	if p.Version != ours.Version || p.Fingerprint != ours.Fingerprint || p.PageSize != ours.PageSize {
		return &VersionError{
			Ours: ours.Version, Theirs: p.Version, OurLayout: ours.Fingerprint, TheirLayout: p.Fingerprint,
			OurPageSize: ours.PageSize, TheirPageSize: p.PageSize,
		}
	}
	return nil
}

// A conn is one connection of the socket. Its descriptor is used with blocking
// calls, each in a thread of its own, so that the end of the peer does not wait
// for the Go scheduler to poll.
type conn struct {
	fd    int
	close sync.Once
}

// errNotOurs says that what came over the socket is not this protocol.
var errNotOurs = errors.New("not a packet of this protocol")

// send sends a packet and descriptors. It never blocks for long: the socket's
// buffer holds all that is ever under way.
func (c *conn) send(p packet, files ...int) error {
	data, err := binary.Append(make([]byte, 0, packetSize), binary.LittleEndian, p)
	if err != nil {
		return err
	}
	var control []byte
	if len(files) > 0 {
		control = unix.UnixRights(files...)
	}
	return retry(func() error { return unix.Sendmsg(c.fd, data, control, nil, unix.MSG_NOSIGNAL) })
}

// receive waits for a packet, which must carry exactly the given number of
// descriptors. A truncated or incomplete one is refused as a whole (C8).
func (c *conn) receive(files int) (p packet, fds []int, err error) {
	data := make([]byte, packetSize+1)
	control := make([]byte, unix.CmsgSpace(4*max(files, 1)))
	var n, controlSize, flags int
	err = retry(func() error {
		n, controlSize, flags, _, err = unix.Recvmsg(c.fd, data, control, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return packet{}, nil, err
	}
	if controlSize > 0 {
		messages, err := unix.ParseSocketControlMessage(control[:controlSize])
		for i := range messages {
			if rights, err := unix.ParseUnixRights(&messages[i]); err == nil {
				fds = append(fds, rights...)
			}
		}
		if err != nil {
			closeAll(fds)
			return packet{}, nil, fmt.Errorf("%w: control message: %w", errNotOurs, err)
		}
	}
	switch {
	case n == 0 && len(fds) == 0:
		return packet{}, nil, errEnd
	case flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0:
		err = fmt.Errorf("%w: truncated", errNotOurs)
		if flags&unix.MSG_CTRUNC != 0 {
			err = fmt.Errorf("%w: descriptors were cut off: %w", errNotOurs, unix.EMFILE)
		}
	case n != packetSize:
		err = fmt.Errorf("%w: %d bytes", errNotOurs, n)
	}
	if err != nil && flags&unix.MSG_CTRUNC == 0 && ofOtherVersion(data[:n]) {
		err = nil // its size may be another too: what both have in common says enough
	}
	if err == nil {
		_, err = binary.Decode(data[:packetSize], binary.LittleEndian, &p)
	}
	if err == nil && p.Magic != packetMagic {
		err = fmt.Errorf("%w: magic %#x", errNotOurs, p.Magic)
	}
	if err == nil && len(fds) != 0 && len(fds) != files {
		err = fmt.Errorf("%w: %d descriptors, want %d", errNotOurs, len(fds), files)
	}
	if err != nil {
		closeAll(fds)
		return packet{}, nil, err
	}
	return p, fds, nil
}

// ofOtherVersion reports whether a packet begins like one of this protocol in
// another version. The fields from Magic to PageSize stand in all of them.
func ofOtherVersion(data []byte) bool {
	return len(data) >= packetCommonSize && binary.LittleEndian.Uint64(data) == packetMagic &&
		binary.LittleEndian.Uint32(data[12:]) != protocolVersion
}

// errEnd is the end of the socket: the peer has closed its side, or is dead.
var errEnd = errors.New("end of the connection")

// setDeadline bounds each send and receive; 0 takes the bound away, which a limit
// that the kernel cannot tell from it does not.
func (c *conn) setDeadline(limit time.Duration) error {
	if limit > 0 {
		limit = max(limit, time.Microsecond)
	}
	bound := unix.NsecToTimeval(limit.Nanoseconds())
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &bound); err != nil {
		return err
	}
	return unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &bound)
}

// ended reports whether the peer has closed its side, without reading.
func (c *conn) ended() bool {
	poll := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLRDHUP}}
	_ = retry(func() error { _, err := unix.Poll(poll, 0); return err })
	return poll[0].Revents&(unix.POLLHUP|unix.POLLRDHUP|unix.POLLERR) != 0
}

// wake ends a receive that waits in another goroutine.
func (c *conn) wake() { _ = unix.Shutdown(c.fd, unix.SHUT_RD) }

// hangUp closes the connection.
//
// Preconditions: no other goroutine uses it.
func (c *conn) hangUp() { c.close.Do(func() { _ = unix.Close(c.fd) }) }

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// timedOut reports whether a receive reached its deadline.
func timedOut(err error) bool { return errors.Is(err, unix.EAGAIN) }
