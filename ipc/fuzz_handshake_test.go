//go:build linux && (amd64 || arm64)

package ipc

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A stranger's descriptors, of each kind that may meet a handshake. None of them
// blocks when it is closed last: those that do have tests of their own.
var kindsOfDescriptors = []func() (fd int, err error){
	func() (int, error) { return unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0) },
	func() (int, error) { return unix.MemfdCreate("stranger", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING) },
	func() (int, error) {
		return unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	},
	func() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC) },
	func() (int, error) { return unix.Open("/proc/self/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0) },
	func() (int, error) { return unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) },
	func() (int, error) {
		var ends [2]int
		err := unix.Pipe2(ends[:], unix.O_CLOEXEC)
		if err == nil {
			_ = unix.Close(ends[1])
		}
		return ends[0], err
	},
}

// packet returns a packet, sound but for what the program changes in it, and its
// bytes, of which there may be too few or too many.
func (p *program) packet(kind uint32) []byte {
	data := make([]byte, packetSize, 3*packetSize)
	_, _ = binary.Encode(data, binary.LittleEndian, newPacket(kind))
	for range p.below(4) {
		switch p.below(3) {
		case 0:
			data[p.below(packetSize)] = p.next()
		case 1:
			binary.LittleEndian.PutUint64(data[8*p.below(packetSize/8):], p.word())
		case 2:
			data = data[:p.below(2*packetSize)]
			data = data[:len(data):cap(data)]
			if len(data) < packetSize {
				return data
			}
		}
	}
	return data
}

// descriptors returns some of any kind.
func (p *program) descriptors(t testing.TB) (files []int) {
	for range p.below(5) {
		fd, err := kindsOfDescriptors[p.below(len(kindsOfDescriptors))]()
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, fd)
	}
	return files
}

// put sends bytes and descriptors, if the other side still takes them.
func (c *conn) put(data []byte, files []int) {
	var control []byte
	if len(files) > 0 {
		control = unix.UnixRights(files...)
	}
	_ = unix.Sendmsg(c.fd, data, control, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	closeAll(files)
}

// FuzzHandshakeServer has strangers say anything to a server, some of whom stay. A
// client that keeps the rules must attach, and nothing is left.
func FuzzHandshakeServer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0})
	f.Add([]byte{3, 1, 0, 5, 200, 2, 1, 3, 2, 0, 0, 0, 0, 0, 0, 1, 2, 3})
	f.Add([]byte{1, 2, 2, 20, 4, 0, 1, 2, 3, 1, 1, 1, 1, 4, 2, 2, 100, 3})
	path := testPath(f)
	f.Fuzz(func(t *testing.T, code []byte) {
		defer withinTime()()
		around := lookAround()
		server, err := Listen(t.Context(), path, hostileOptions())
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close() // else what fails here fails the next execution, in another way
		p := &program{code}
		var staying []*conn
		for range p.below(5) {
			c, err := connect(path)
			if err != nil {
				t.Fatalf("connect: %v", err)
			}
			_ = c.setDeadline(watchdog)
			packets := p.below(4)
			for range packets {
				c.put(p.packet(uint32(1+p.below(5))), p.descriptors(t))
			}
			if packets == 0 {
				staying = append(staying, c) // who says nothing keeps nobody out (C7)
				continue
			}
			c.hangUp()
		}
		o := hostileOptions()
		o.Wait = true // for those who were granted, and are about to go
		client, err := Dial(t.Context(), path, o)
		if err != nil {
			t.Fatalf("T1: a client that keeps the rules does not attach: %v", err)
		}
		defer client.Close()
		newHonest(t, server).exchange(client)
		for _, c := range staying {
			c.hangUp()
		}
		if err := errors.Join(client.Close(), server.Close()); err != nil {
			t.Fatalf("close: %v", err)
		}
		around.check(t)
	})
}

// A hostileGrant is what a hostile server hands out: sound memory, but for what the
// program changes in it.
type hostileGrant struct {
	server, client *segment
	packet         []byte
	files          []int
}

func (p *program) grant(t testing.TB) (g hostileGrant) {
	t.Helper()
	size := uint64(os.Getpagesize())
	var err error
	if g.server, err = newSegment(RoleServer, 1, size, positions{}, nil); err != nil {
		t.Fatal(err)
	}
	if g.client, err = newSegment(RoleClient, 1, size, positions{}, nil); err != nil {
		t.Fatal(err)
	}
	if p.below(2) == 1 { // words that are not those of the handshake
		for range 1 + p.below(4) {
			p.write(g.server, g.client)
		}
	}
	packet := newPacket(packetGrant)
	packet.Generation, packet.Attachment, packet.ToServerSize, packet.ToClientSize = 1, 1, size, size
	g.packet = make([]byte, packetSize)
	_, _ = binary.Encode(g.packet, binary.LittleEndian, packet)
	for range p.below(3) {
		binary.LittleEndian.PutUint64(g.packet[8*p.below(packetSize/8):], p.near(0, 1, size, 1<<20))
	}
	token, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	g.files = []int{dup(t, g.server.file), dup(t, g.client.file), token}
	for range p.below(3) {
		p.exchange(t, &g)
	}
	return g
}

// exchange puts other descriptors into a grant, or takes some out.
func (p *program) exchange(t testing.TB, g *hostileGrant) {
	more := p.descriptors(t)
	switch at := p.below(4); {
	case p.below(4) == 0:
		more = append(more, memfdOf(t, int64(p.below(4))*int64(os.Getpagesize()), int(p.next())))
		fallthrough
	case at >= len(g.files):
		g.files = append(g.files, more...)
	case len(more) == 0:
		_ = unix.Close(g.files[at])
		g.files = append(g.files[:at], g.files[at+1:]...)
	default:
		g.files[at], more[0] = more[0], g.files[at]
		closeAll(more)
	}
}

func dup(t testing.TB, fd int) int {
	t.Helper()
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return copied
}

// memfdOf is memory of a size, with seals, that is not of this protocol.
func memfdOf(t testing.TB, size int64, seals int) int {
	t.Helper()
	fd, err := unix.MemfdCreate("stranger", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err == nil {
		err = unix.Ftruncate(fd, size)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals&0x1f)
	return fd
}

func (g hostileGrant) done() {
	g.server.release()
	g.client.release()
}

// FuzzHandshakeClient has a client dial a server that answers anything. It attaches,
// or it is told an error, and nothing is left.
func FuzzHandshakeClient(f *testing.F) {
	f.Add([]byte{1, 1, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{2, 1, 1, 2, 3, 4, 5, 2, 4, 1, 2, 0, 0, 0, 0, 0, 0, 0, 8, 1, 2, 3})
	f.Add([]byte{1, 0, 1, 2, 3, 3, 1, 40, 7, 2, 1, 3, 2, 1, 1})
	path := testPath(f)
	listener := rawListen(f, path, unix.SOCK_SEQPACKET)
	f.Fuzz(func(t *testing.T, code []byte) {
		defer withinTime()()
		around := lookAround()
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
			if err != nil {
				t.Error(err)
				return
			}
			answerAnything(t, &conn{fd: fd}, &program{code})
		}()
		client, err := dialOnce(t.Context(), path, hostileOptions())
		if err == nil {
			if m, err := client.TryReceive(); err == nil {
				_ = m.Release() // or the memory stays until then
			}
			_ = client.TrySend(1, []byte{1})
			_ = client.Close()
		} else if client != nil {
			t.Fatalf("an endpoint and an error: %v", err)
		}
		<-answered
		around.check(t)
	})
}

// answerAnything is what a hostile server does with one connection.
func answerAnything(t testing.TB, c *conn, p *program) {
	defer c.hangUp()
	_ = c.setDeadline(watchdog)
	if p.below(2) == 1 {
		_, files, _ := c.receive(0)
		closeAll(files)
	}
	for range p.below(4) {
		if p.below(3) == 0 {
			c.put(p.packet(uint32(1+p.below(5))), p.descriptors(t))
			continue
		}
		g := p.grant(t)
		c.put(g.packet, g.files)
		g.done()
	}
	if p.below(2) == 1 {
		_ = unix.Shutdown(c.fd, unix.SHUT_WR)
		_, files, _ := c.receive(0) // ready, or the end
		closeAll(files)
	}
}
