//go:build linux && (amd64 || arm64)

package ipc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
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
	reasonCopy          // the client has ended, and a copy of its token lives on
)

const packetMagic = 0x31746d646e6174 // "tandmt1": the first bytes of every packet

// A packet is every message of the handshake, in one form, little endian.
type packet struct {
	Magic        uint64
	Type         uint32
	Version      uint32
	Fingerprint  uint64
	PageSize     uint32
	Reason       uint32 // of a refusal; in hello and grant, microseconds between two beats
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

// maxPeerInterval bounds what is believed of a peer's heartbeat.
const maxPeerInterval = time.Hour

// intervalOf is a heartbeat interval as hello and grant carry it.
func intervalOf(d time.Duration) uint32 { return uint32(min(d, maxPeerInterval).Microseconds()) }

// intervalFrom is the peer's heartbeat interval, 0 if it does not say.
func intervalFrom(p packet) time.Duration {
	return min(time.Duration(p.Reason)*time.Microsecond, maxPeerInterval)
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
	fd       int
	peer     remote
	interval time.Duration // the peer's heartbeat, as it says; 0 if it does not
	close    sync.Once
	woken    atomic.Bool
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
// descriptors, or none. It looks before it takes: a packet that carries anything
// else stays in the queue. The last close of a descriptor of somebody else's choice
// can block for an hour, and nobody may wait for it (T1).
func (c *conn) receive(files int) (p packet, fds []int, err error) {
	p, carries, err := c.peek(0)
	switch {
	case err != nil:
		return packet{}, nil, err
	case carries && p.compatible() != nil:
		return p, nil, nil // what both versions have in common says enough
	case carries && (files == 0 || p.Type != packetGrant):
		return packet{}, nil, fmt.Errorf("%w: packet %d carries descriptors", errNotOurs, p.Type)
	case !carries:
		files = 0
	default:
		if err := c.inspect(files); err != nil {
			return packet{}, nil, err
		}
	}
	if fds, err = c.take(files); err != nil {
		return packet{}, nil, err
	}
	return p, fds, nil
}

// peek waits for a packet and leaves it where it is. It gives the kernel no room
// for descriptors, so that no duplicate is made of any: the kernel only says that
// there are some.
func (c *conn) peek(flags int) (p packet, carries bool, err error) {
	data := make([]byte, packetSize+1)
	var n, got int
	err = retry(func() error {
		n, _, got, _, err = unix.Recvmsg(c.fd, data, nil, unix.MSG_PEEK|flags)
		return err
	})
	carries = got&unix.MSG_CTRUNC != 0
	switch {
	case err != nil:
		return packet{}, false, err
	case n == 0 && !carries:
		return packet{}, false, errEnd
	case ofOtherVersion(data[:n]):
		// Its size may be another too.
	case got&unix.MSG_TRUNC != 0:
		return packet{}, carries, fmt.Errorf("%w: truncated", errNotOurs)
	case n != packetSize:
		return packet{}, carries, fmt.Errorf("%w: %d bytes", errNotOurs, n)
	}
	if _, err = binary.Decode(data[:packetSize], binary.LittleEndian, &p); err == nil && p.Magic != packetMagic {
		err = fmt.Errorf("%w: magic %#x", errNotOurs, p.Magic)
	}
	return p, carries, err
}

// peekNow peeks without waiting, and beyond a reset: what was sent before the peer
// closed its side stands in the queue.
func (c *conn) peekNow() (p packet, carries bool, err error) {
	p, carries, err = c.peek(unix.MSG_DONTWAIT)
	if errors.Is(err, unix.ECONNRESET) {
		p, carries, err = c.peek(unix.MSG_DONTWAIT)
	}
	return p, carries, err
}

// inspect looks at the descriptors of the packet that comes next, by duplicates:
// there must be so many, and the first ones, of the two memories, must be memfds. It
// has room for one more than there may be, so that few duplicates are made of however
// many there are. The token's file is only ever held, and closed where nobody waits.
func (c *conn) inspect(files int) error {
	fds, err := c.rights(files+1, unix.MSG_PEEK)
	foreign := -1
	for i, fd := range fds {
		no := sealsError(fd)
		if no == nil {
			_ = unix.Close(fd)
		} else {
			closeAside(fd)
		}
		if no != nil && i < files-1 && foreign < 0 && errors.Is(no, unix.EINVAL) { // else openSegment says more
			foreign = i
		}
	}
	switch {
	case len(fds) > files:
		return fmt.Errorf("%w: %d descriptors or more, want %d", errNotOurs, len(fds), files)
	case err != nil:
		return err
	case len(fds) != files:
		return fmt.Errorf("%w: %d descriptors, want %d", errNotOurs, len(fds), files)
	case foreign >= 0:
		return fmt.Errorf("ipc: read the seals of the granted memory: %w: %w: nothing was attached: what the server sent is no memory of this protocol", unix.EINVAL,
			&CorruptError{"I0", fmt.Sprintf("descriptor %d of the grant is no memory of ordinary pages", foreign)})
	}
	return nil
}

// take takes a packet that was peeked, with its descriptors.
func (c *conn) take(files int) ([]int, error) {
	fds, err := c.rights(files, 0)
	if err == nil && len(fds) != files {
		err = fmt.Errorf("%w: %d descriptors, want %d", errNotOurs, len(fds), files)
	}
	if err != nil {
		closeAside(fds...)
		return nil, err
	}
	return fds, nil
}

// rights receives with room for so many descriptors and returns what came, also
// with an error. A packet that is cut off is refused as a whole (C8).
func (c *conn) rights(room, flags int) (fds []int, err error) {
	data := make([]byte, packetSize)
	var control []byte
	if room > 0 {
		control = make([]byte, unix.CmsgSpace(4*room))
	}
	var size, got int
	err = retry(func() error {
		_, size, got, _, err = unix.Recvmsg(c.fd, data, control, flags|unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:size])
	if err != nil {
		err = fmt.Errorf("%w: control message: %w", errNotOurs, err)
	}
	for i := range messages {
		came, _ := unix.ParseUnixRights(&messages[i])
		for _, fd := range came {
			moved, moveErr := aboveStdio(fd)
			if moveErr != nil {
				got |= unix.MSG_CTRUNC
				continue
			}
			fds = append(fds, moved)
		}
	}
	if got&unix.MSG_CTRUNC != 0 {
		err = fmt.Errorf("%w: descriptors were cut off: %w", errNotOurs, unix.EMFILE)
	}
	return fds, err
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
func (c *conn) wake() {
	c.woken.Store(true)
	_ = unix.Shutdown(c.fd, unix.SHUT_RD)
}

// lookEvery is how long a call that waits for the peer goes without looking whether
// it was woken: where a sandbox denies shutdown, nothing else ends it.
const lookEvery = time.Second

// awaitEnd waits until the peer has closed its side, this side was woken, or the
// peer's process has ended; before that until there is a packet, if packets says
// so. It reads nothing.
func (c *conn) awaitEnd(packets bool) (end bool) {
	poll := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLRDHUP}, {Fd: -1, Events: unix.POLLIN}}
	if packets {
		poll[0].Events |= unix.POLLIN
	}
	if c.peer.exact {
		poll[1].Fd = int32(c.peer.pidfd) // else a copy of the socket would hide the death
	}
	for !c.woken.Load() {
		ready := 0
		err := retry(func() (err error) { ready, err = unix.Poll(poll, int(lookEvery.Milliseconds())); return err })
		switch {
		case err == nil && ready == 0:
			continue
		case err == nil:
			return poll[0].Revents&(unix.POLLHUP|unix.POLLRDHUP|unix.POLLERR|unix.POLLNVAL) != 0 || poll[1].Revents != 0
		}
		// Where nobody may poll, looking now and then must do.
		_, _, err = c.peek(unix.MSG_DONTWAIT)
		switch {
		case err != nil && !timedOut(err) && !errors.Is(err, errNotOurs):
			return true
		case packets && !timedOut(err):
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}

// timedOut reports whether a receive reached its deadline.
func timedOut(err error) bool { return errors.Is(err, unix.EAGAIN) }
