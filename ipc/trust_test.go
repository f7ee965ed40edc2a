//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// attempts are the ways by which a client may try to change what is not its own.
func attempts(r *rawClient) map[string]func() error {
	server, client, token := r.files[0], r.files[1], r.files[2]
	mapShared := func(file, protection int) error {
		mem, err := unix.Mmap(file, 0, os.Getpagesize(), protection, unix.MAP_SHARED)
		if err == nil {
			_ = unix.Munmap(mem)
		}
		return err
	}
	reopened := func(file int, do func(int) error) error {
		fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", file), unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return do(fd)
	}
	write := func(fd int) error { _, err := unix.Pwrite(fd, []byte("x"), 0); return err }
	return map[string]func() error{
		"map the server's memory for writing": func() error { return mapShared(server, unix.PROT_READ|unix.PROT_WRITE) },
		"map it by another descriptor": func() error {
			return reopened(server, func(fd int) error { return mapShared(fd, unix.PROT_READ|unix.PROT_WRITE) })
		},
		"make the mapping writable": func() error {
			mem, err := unix.Mmap(server, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
			if err != nil {
				return nil // that is allowed
			}
			defer unix.Munmap(mem)
			return unix.Mprotect(mem, unix.PROT_READ|unix.PROT_WRITE)
		},
		"write to the server's file":          func() error { return write(server) },
		"write to it by another descriptor":   func() error { return reopened(server, write) },
		"punch a hole into the server's file": func() error { return unix.Fallocate(server, 3, 0, 4096) }, // PUNCH_HOLE, KEEP_SIZE
		"cut off the server's file":           func() error { return unix.Ftruncate(server, 0) },
		"cut off the client's file":           func() error { return unix.Ftruncate(client, 4096) },
		"cut it off by another descriptor":    func() error { return reopened(client, func(fd int) error { return unix.Ftruncate(fd, 0) }) },
		"lengthen the server's file":          func() error { return unix.Ftruncate(server, 1<<20) },
		"lengthen the client's file":          func() error { return unix.Ftruncate(client, 1<<20) },
		"seal the client's file": func() error {
			_, err := unix.FcntlInt(uintptr(client), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
			return err
		},
		"seal the server's file": func() error {
			_, err := unix.FcntlInt(uintptr(server), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
			return err
		},
		"write to the token file": func() error { return write(token) },
		"cut off the token file":  func() error { return unix.Ftruncate(token, 0) },
		"lock the server's byte of the token file": func() error {
			if ok, err := setLock(token, grantorByte, unix.F_RDLCK); !ok {
				return errors.Join(unix.EAGAIN, err)
			}
			return nil
		},
	}
}

func TestT2AClientChangesNothingButItsOwnRing(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, hostileOptions())
	sendAll(t, server, 1)
	client := rawAttach(t, path)
	isLocks := func(fd int) bool {
		var stat, lock unix.Stat_t
		return unix.Fstat(fd, &stat) != nil || unix.Lstat(path+".lock", &lock) != nil || stat.Ino == lock.Ino
	}
	if isLocks(client.files[0]) || isLocks(client.files[1]) || isLocks(client.files[2]) {
		t.Error("a client has a descriptor of the lock file, and so each byte of it to lock")
	}
	record, err := os.ReadFile(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range attempts(client) {
		if err := try(); err == nil {
			t.Errorf("a client can %s", name)
		}
	}
	if now, err := os.ReadFile(path + ".lock"); err != nil || string(now) != string(record) {
		t.Errorf("the lock file reads %q, %v; want %q", now, err, record)
	}
	client.leave()
	if err := receiveUntilEnd(t, server); !errors.Is(err, ErrPeerDied) {
		t.Errorf("the end of that client is told as %v, want its death", err)
	}
	next := dialHere(t, path, hostileOptions())
	if m, err := next.Receive(testContext(t)); err != nil || m.Kind != 1 || checkPattern(m) != nil {
		t.Errorf("its successor received %+v, %v", m, err)
	}
}

var _ = sceneOf("change what is another user's", func(s *scene) {
	s.become(nobody)
	c, err := connect(s.path)
	if err != nil {
		s.fail("connect: %v", err)
	}
	if err := c.send(newPacket(packetHello)); err != nil {
		s.fail("hello: %v", err)
	}
	p, files, err := c.receive(3)
	if err != nil || len(files) != 3 {
		s.fail("grant: %+v, %d descriptors, %v", p, len(files), err)
	}
	r := &rawClient{conn: c, grant: p, files: files}
	for name, try := range attempts(r) {
		if err := try(); err == nil {
			s.fail("another user's client can %s", name)
		}
	}
	for _, path := range []string{s.path + ".lock", s.path + tokenSuffix, fmt.Sprintf("/proc/self/fd/%d", files[2])} {
		_, err := unix.Open(path, unix.O_RDWR, 0)
		s.must("open of "+path+" for writing", err, fs.ErrPermission)
	}
})

func TestT2AnotherUsersClientCannotWriteTheLockFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	path := testPath(t)
	if err := os.Chmod(path[:len(path)-2], 0o755); err != nil {
		t.Fatal(err)
	}
	listenHere(t, path, &Options{AllowUIDs: []uint32{nobody}})
	playScene(t, "change what is another user's", path)
}

func TestC7SilentConnectionsKeepNobodyOut(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, &Options{HandshakeTimeout: watchdog})
	for range 100 {
		rawConnect(t, path) // it says nothing, and stays
	}
	client := dialHere(t, path, nil)
	nextEvent(t, server, EventAttached)
	sendAll(t, client, 1)
	if m, err := server.Receive(testContext(t)); err != nil || checkPattern(m) != nil {
		t.Errorf("received %+v, %v", m, err)
	}
}

// A scribbler is a server that grants sound memory, and stays until hangUp is closed.
func scribbler(t *testing.T) (path string, own *segment, hangUp chan struct{}) {
	t.Helper()
	path, hangUp = testPath(t), make(chan struct{})
	page := uint64(os.Getpagesize())
	own, err := newSegment(RoleServer, 1, page, positions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.release)
	peer, err := newSegment(RoleClient, 1, page, positions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(peer.release)
	rawServe(t, path, func(conn *conn) {
		_, _, _ = conn.receive(0)
		p := newPacket(packetGrant)
		p.Generation, p.Attachment, p.ToServerSize, p.ToClientSize = 1, 1, page, page
		token, err := os.Create(path + ".token")
		if err != nil {
			t.Error(err)
		}
		defer token.Close()
		err = conn.send(p, own.file, peer.file, int(token.Fd()))
		if err != nil {
			t.Error(err)
		}
		_, _, _ = conn.receive(0) // ready
		<-hangUp
	})
	return path, own, hangUp
}

// A peer of T1 may also be a server.
func TestT1AServerThatScribblesIsOnlyTold(t *testing.T) {
	for name, c := range map[string]struct {
		write func(own *segment)
		wants string
		atEnd bool // nothing looks there before the end
	}{
		"writePos beyond the ring": {func(s *segment) { s.control.writePos.Store(s.ring.size + 8) }, "I1", false},
		"writePos unaligned":       {func(s *segment) { s.control.writePos.Store(7) }, "I1", false},
		"writePos went back":       {func(s *segment) { s.control.writePos.Store(^uint64(7)) }, "I1", false},
		"a record too long":        {func(s *segment) { s.ring.putHeader(0, 1, 1<<31); s.control.writePos.Store(64) }, "I3", false},
		"readPos beyond writePos":  {func(s *segment) { s.control.readPos.Store(1 << 20) }, "I1", true},
		"deliveredPos beyond":      {func(s *segment) { s.control.deliveredPos.Store(1 << 20) }, "I2", true},
	} {
		t.Run(name, func(t *testing.T) {
			path, own, hangUp := scribbler(t)
			client, err := Dial(testContext(t), path, hostileOptions())
			if err != nil {
				t.Fatal(err)
			}
			sendAll(t, client, 1)
			c.write(own)
			if c.atEnd {
				close(hangUp)
			} else {
				defer close(hangUp)
			}
			_, err = client.Receive(testContext(t))
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || corrupt.Invariant != c.wants {
				t.Errorf("Receive gave %v, want %s", err, c.wants)
			}
			<-client.Done()
			if _, again := client.Receive(testContext(t)); again == nil || again.Error() != err.Error() {
				t.Errorf("Receive then gave %v, want the same for ever", again)
			}
			if err := client.Send(testContext(t), 1, nil); !errors.As(err, &corrupt) {
				t.Errorf("Send gave %v, want the same", err)
			}
			if _, err := client.Unreleased(); err != nil {
				t.Errorf("Unreleased gave %v, want what was sent", err)
			}
			if err := client.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// A Flush of its client ends at once, one that sleeps and one that comes later, though
// the server stays.
func TestT1AFlushToACorruptServerEnds(t *testing.T) {
	path, own, hangUp := scribbler(t)
	defer close(hangUp)
	options := hostileOptions()
	options.HeartbeatInterval = time.Hour
	client := dialHere(t, path, options)
	sendAll(t, client, 1)
	ctx := testContext(t)
	ended := flushes(t, client, ctx)
	mustWait(t, ended)
	own.control.writePos.Store(7)
	var corrupt *CorruptError
	if _, err := client.Receive(ctx); !errors.As(err, &corrupt) {
		t.Fatalf("Receive gave %v, want I1", err)
	}
	for what, err := range map[string]error{"one that slept": <-ended, "one that comes later": client.Flush(ctx)} {
		if !errors.As(err, &corrupt) {
			t.Errorf("Flush, %s: %v, want the same", what, err)
		}
	}
}
