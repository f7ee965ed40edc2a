//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A rawClient speaks the protocol by hand, so that it can break it. It plays a
// client that has its own ideas; leaving is its death, as the kernel sees it.
type rawClient struct {
	conn      *conn
	grant     packet
	files     []int // server's memory, client's memory, token
	own, peer *segment
	gone      bool
}

// rawConnect connects to a server and says nothing.
func rawConnect(t testing.TB, path string) *conn {
	t.Helper()
	c, err := connect(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.setDeadline(watchdog); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.hangUp)
	return c
}

// rawAttach makes the whole handshake.
func rawAttach(t testing.TB, path string) *rawClient {
	t.Helper()
	r := &rawClient{conn: rawConnect(t, path)}
	if err := r.conn.send(newPacket(packetHello)); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.grant, r.files, err = r.conn.receive(3); err != nil {
		t.Fatalf("no grant: %v", err)
	}
	if r.grant.Type != packetGrant || len(r.files) != 3 {
		t.Fatalf("answered with %+v and %d descriptors, want a grant", r.grant, len(r.files))
	}
	if r.own, r.peer, err = openPair(r.grant, r.files[0], r.files[1]); err != nil {
		t.Fatalf("the granted memory: %v", err)
	}
	if _, _, err := checkPair(r.own, r.peer); err != nil {
		t.Fatalf("the granted memory: %v", err)
	}
	if err := r.conn.send(newPacket(packetReady)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.leave)
	return r
}

// leave is the death of the raw client.
func (r *rawClient) leave() {
	if r.gone {
		return
	}
	r.gone = true
	r.own.release()
	r.peer.release()
	closeAll(r.files)
	r.conn.hangUp()
}

// rawListen is a socket of the given type at path that knows nothing of the
// protocol. It ends with the test.
func rawListen(t testing.TB, path string, kind int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unlink(path) })
	if kind != unix.SOCK_DGRAM {
		if err := unix.Listen(fd, 16); err != nil {
			t.Fatal(err)
		}
	}
	return fd
}

// rawServe answers every connection with answer, until the test ends.
func rawServe(t testing.TB, path string, answer func(*conn)) {
	t.Helper()
	listener := rawListen(t, path, unix.SOCK_SEQPACKET)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			c := &conn{fd: fd}
			_ = c.setDeadline(watchdog)
			answer(c)
			c.hangUp()
		}
	}()
	t.Cleanup(func() {
		_ = unix.Shutdown(listener, unix.SHUT_RDWR)
		<-ended
	})
}

// encode writes a packet as it goes over the socket.
func encode(t testing.TB, into []byte, p packet) {
	t.Helper()
	if _, err := binary.Encode(into, binary.LittleEndian, p); err != nil {
		t.Fatal(err)
	}
}

// cancelAt returns a hook that cancels a context at a step.
func cancelAt(at step.ID, cancel context.CancelFunc) func(step.ID, uint64) {
	return func(reached step.ID, _ uint64) {
		if reached == at {
			cancel()
		}
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
