//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// What a former client keeps: memory, the grant that it did not read, a connection that
// another process has made.

// inodeOf tells files apart.
func inodeOf(t testing.TB, fd int) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

// While one view is held, memory in which there is none is let go all the same.
func TestT1MemoriesReplacedBehindAViewAreLetGo(t *testing.T) {
	server := listenHere(t, testPath(t), hostileOptions())
	var view Message
	for i := range 4 * maxMemories {
		client := rawAttach(t, server.Path())
		nextEvent(t, server, EventAttached)
		if i == 0 {
			client.own.control.writePos.Store(client.record(0, 4, 8))
			var err error
			if view, err = server.Receive(testContext(t)); err != nil {
				t.Fatal(err)
			}
		}
		client.own.control.goodbye.Store(client.grant.Attachment + 1)
		client.leave()
		checkEndOfHostile(t, receiveUntilEnd(t, server), "I4")
		nextEvent(t, server, EventDied)
	}
	if n := len(server.in.views.retired); n != 1 {
		t.Errorf("%d replaced memories are kept for one view", n)
	}
	if err := view.Release(); err != nil {
		t.Error(err)
	}
	if n := len(server.in.views.retired); n != 0 {
		t.Errorf("%d are kept for none", n)
	}
	checkSuccessor(t, server, 0, 10)
}

// Whoever spoils memory after memory, and keeps a descriptor of each, keeps few.
func TestT1MemoriesThatFormerClientsKeepAreBounded(t *testing.T) {
	server := listenHere(t, testPath(t), hostileOptions())
	sendAll(t, server, 1)
	kept := map[uint64]bool{}
	for range 4 * maxMemories {
		client := rawAttach(t, server.Path())
		file, err := unix.FcntlInt(uintptr(client.files[1]), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(file) })
		kept[inodeOf(t, file)] = true
		nextEvent(t, server, EventAttached)
		client.own.control.goodbye.Store(client.grant.Attachment + 1)
		client.leave()
		checkEndOfHostile(t, receiveUntilEnd(t, server), "I4")
		nextEvent(t, server, EventDied)
	}
	if len(kept) < 2 || len(kept) > maxMemories {
		t.Errorf("former clients keep %d memories, want some, and no more than %d", len(kept), maxMemories)
	}
	client := dialHere(t, server.Path(), hostileOptions())
	if m, err := client.Receive(testContext(t)); err != nil || m.Kind != 1 || !m.Redelivered || checkPattern(m) != nil {
		t.Errorf("the honest client received %+v, %v; want the message, marked", m, err)
	}
	sendAll(t, client, 2)
	if m, err := server.Receive(testContext(t)); err != nil || m.Kind != 2 || checkPattern(m) != nil {
		t.Errorf("the server received %+v, %v", m, err)
	}
}

// peeksAt has a client look at its grant, which stays in the queue, and let the token go.
func peeksAt(t *testing.T, c *conn) {
	t.Helper()
	files := looksAt(t, c)
	letGo(files[2])
	closeAll(files[:2])
}

// looksAt says hello, and returns the descriptors of a grant that stays in the queue.
func looksAt(t *testing.T, c *conn) []int {
	t.Helper()
	if err := c.send(newPacket(packetHello)); err != nil {
		t.Fatal(err)
	}
	files, err := c.rights(3, unix.MSG_PEEK)
	if err != nil || len(files) != 3 {
		t.Fatalf("%d descriptors, %v; want those of a grant", len(files), err)
	}
	return files
}

var _ = sceneOf("hand on the connection", func(s *scene) {
	c, err := connect(s.path)
	if err != nil {
		s.fail("connect: %v", err)
	}
	third, err := connect(s.path + ".third")
	if err == nil {
		err = third.send(newPacket(packetGrant), c.fd)
	}
	if err != nil {
		s.fail("hand on the connection: %v", err)
	}
	_ = unix.Close(c.fd)
	s.say("dropped")
	s.untilStdinEnds()
})

// handsOnConnection starts a process that connects for this one, and keeps nothing.
func handsOnConnection(t *testing.T, path string) (*process, *conn) {
	t.Helper()
	third := make(chan []int, 1)
	rawServe(t, path+".third", func(c *conn) {
		files, err := c.rights(1, 0)
		if err != nil {
			t.Error(err)
		}
		third <- files
	})
	broker := start(t, "scene", sceneArgument{"hand on the connection", path})
	files := <-third
	if len(files) != 1 {
		t.Fatalf("%d descriptors, want the connection", len(files))
	}
	c := &conn{fd: files[0]}
	t.Cleanup(c.hangUp)
	broker.expect("dropped")
	if err := c.setDeadline(watchdog); err != nil {
		t.Fatal(err)
	}
	return broker, c
}

// A grant that nobody reads counts against the server's user, three descriptors each.
// So there is one at most, whatever has become of the token and of the process.
func TestT2AGrantThatNobodyReadsIsACopyOfTheToken(t *testing.T) {
	needsRealKernel(t, "qemu-user does not say what waits in a socket")
	for _, dead := range []bool{false, true} {
		t.Run(fmt.Sprintf("its process is dead: %t", dead), func(t *testing.T) {
			path := testPath(t)
			server := listenHere(t, path, nil)
			var former *conn
			holder := 0
			if dead {
				var broker *process
				broker, former = handsOnConnection(t, path)
				peeksAt(t, former)
				broker.kill()
				holder = os.Getpid()
				eventually(t, "the end of the client is settled", func() bool {
					server.mu.Lock()
					defer server.mu.Unlock()
					return serverOf(server).latest.over
				})
			} else {
				former = rawConnect(t, path)
				peeksAt(t, former)
				holder = os.Getpid()
			}
			for range 3 {
				client, err := Dial(testContext(t), path, nil)
				var running *RunningError
				if !errors.As(err, &running) || running.PID != holder || !errors.Is(err, ErrClientRunning) {
					t.Fatalf("Dial beside a grant that nobody has read: %v, %v; want that process %d has it", client, err, holder)
				}
			}
			if err := server.KillPeer(); err == nil {
				t.Error("KillPeer: no error, and there is nobody to kill")
			}
			former.hangUp()
			client := dialHere(t, path, &Options{Wait: true})
			if client.Attachment() != 2 {
				t.Errorf("the honest client is attachment %d, want 2", client.Attachment())
			}
		})
	}
}

// A process that has connected for another holds no token: whatever that one does, it is
// not killed.
func TestT3AProcessThatConnectedForAnotherIsNotKilled(t *testing.T) {
	needsRealKernel(t, "qemu-user does not say what waits in a socket")
	attach := func(t *testing.T, c *conn, files []int) *segment {
		own, err := mapSegment(files[1], uint64(hostileOptions().toServerSize()), true)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(own.release)
		own.control.attachment.Store(1)
		if err := c.send(newPacket(packetReady)); err != nil {
			t.Fatal(err)
		}
		return own
	}
	receives := func(t *testing.T, c *conn) []int {
		if err := c.send(newPacket(packetHello)); err != nil {
			t.Fatal(err)
		}
		_, files, err := c.receive(3)
		if err != nil || len(files) != 3 {
			t.Fatalf("%d descriptors, %v; want those of a grant", len(files), err)
		}
		return files
	}
	for name, holds := range map[string]func(t *testing.T, server *Endpoint, c *conn) []int{
		"it looks at the grant": func(t *testing.T, server *Endpoint, c *conn) []int {
			return looksAt(t, c)
		},
		"it looks at the grant and says ready": func(t *testing.T, server *Endpoint, c *conn) []int {
			files := looksAt(t, c)
			attach(t, c, files)
			nextEvent(t, server, EventAttached)
			return files
		},
		"it leaves the refusal": func(t *testing.T, server *Endpoint, c *conn) []int {
			files := receives(t, c)
			own := attach(t, c, files)
			nextEvent(t, server, EventAttached)
			own.control.writePos.Store(5)
			checkEndOfCorrupt(t, server)
			return files
		},
		"it hinders the look": func(t *testing.T, server *Endpoint, c *conn) []int {
			files := receives(t, c)
			fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", files[2]), unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Close(fd) })
			if ok, err := setLock(fd, identityByte, unix.F_WRLCK); !ok {
				t.Fatalf("lock byte %d: %v", identityByte, err)
			}
			return files
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			options := hostileOptions()
			options.KillOnClose, options.CloseTimeout = true, time.Millisecond
			server := listenHere(t, path, options)
			broker, c := handsOnConnection(t, path)
			files := holds(t, server, c)
			if err := server.KillPeer(); !errors.Is(err, errNoEvidence) {
				t.Errorf("KillPeer: %v, want %v", err, errNoEvidence)
			}
			broker.mustLive(t)
			if err := server.Close(); !errors.Is(err, errNoEvidence) || !errors.Is(err, ErrClientRunning) {
				t.Errorf("Close: %v, want %v and %v", err, errNoEvidence, ErrClientRunning)
			}
			broker.mustLive(t)
			letGo(files[2])
			closeAll(files[:2])
		})
	}
}

// checkEndOfCorrupt waits until Receive says that the client is corrupt. It has not left.
func checkEndOfCorrupt(t *testing.T, server *Endpoint) {
	t.Helper()
	var corrupt *CorruptError
	if _, err := server.Receive(testContext(t)); !errors.As(err, &corrupt) {
		t.Fatalf("Receive: %v, want a *CorruptError", err)
	}
}

// A client that was frozen before it had read its grant has the token all the same.
func TestT3AClientFrozenBeforeItHasReadItsGrantIsKilled(t *testing.T) {
	needsRealKernel(t, "qemu-user does not say what waits in a socket")
	for _, by := range []string{"KillPeer", "KillOnClose"} {
		t.Run(by, func(t *testing.T) {
			path := testPath(t)
			sent := make(chan struct{})
			server := listenHere(t, path, &Options{KillOnClose: true, CloseTimeout: time.Millisecond, hook: func(at step.ID, _ uint64) {
				if at == step.TokenHandedOver {
					close(sent)
				}
			}})
			client := startActor(t, actorArgument{Path: path, DieAt: step.HelloSent.String(), Signal: syscall.SIGSTOP})
			client.tell("dial")
			<-sent
			client.awaitStopped()
			err := error(nil)
			if by == "KillPeer" {
				err = server.KillPeer()
			} else {
				err = server.Close()
			}
			if err != nil {
				t.Fatalf("%s: %v", by, err)
			}
			client.awaitDeath()
		})
	}
}

// The kernel's answer is read with care.
func TestTheOtherEndIsReadFromTheKernelsAnswer(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(pair[:])
	if emulated() {
		t.Skip("qemu-user passes on no questions about sockets")
	}
	if inode, err := otherEnd(pair[0]); err != nil || uint64(inode) != inodeOf(t, pair[1]) {
		t.Errorf("the other end is %d, %v; want %d", inode, err, inodeOf(t, pair[1]))
	}
	for _, answer := range [][]byte{nil, make([]byte, 3), make([]byte, 20), make([]byte, 32), make([]byte, 37), make([]byte, 60)} {
		if inode, err := peerIn(answer); err == nil {
			t.Errorf("%d zeros are read as socket %d", len(answer), inode)
		}
	}
	for text, want := range map[string]bool{"": false, "pos:\t0\nscm_fds: 0\n": false, "pos:\t0\nscm_fds: 3\n": true, "scm_fds\n": false} {
		if got := descriptorsWait(text); got != want {
			t.Errorf("%q says that descriptors wait: %t, want %t", text, got, want)
		}
	}
}

var _ = sceneOf("attach as another user", func(s *scene) {
	if err := os.Chdir(filepath.Dir(s.path)); err != nil { // what is above it may be closed to others
		s.fail("%v", err)
	}
	s.become(nobody)
	r, err := tryRawAttach(filepath.Base(s.path))
	if err == nil {
		r.own.control.attachment.Store(r.grant.Attachment)
		err = r.conn.send(newPacket(packetReady))
	}
	if err != nil {
		s.fail("attach: %v", err)
	}
	s.say("attached")
	if s.next() == "deliver" {
		r.own.control.deliveredPos.Store(recordSize(len(pattern(1))))
	}
	r.own.control.writePos.Store(r.record(r.own.control.writePos.Load(), 9, 0))
	closeAll(r.files)
	r.conn.hangUp()
	s.say("left")
	s.next()
	for i := range r.own.ring.mem[:r.own.ring.size] {
		r.own.ring.mem[i] = 0xff
	}
	r.own.control.writePos.Add(8 * 5)
	r.own.control.readPos.Store(r.peer.control.writePos.Load())
	s.say("written")
	s.untilStdinEnds()
})

// Memory that another user's client had is not handed on: that one may write there. What
// was known of it stays: order, positions, and which messages were handed out.
func TestT2MemoryIsHandedOnToTheSameUserOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	ctx, path := testContext(t), testPath(t)
	if err := os.Chmod(path[:len(path)-2], 0o755); err != nil {
		t.Fatal(err)
	}
	options := hostileOptions()
	options.AllowUIDs = []uint32{0, nobody}
	server := listenHere(t, path, options)
	sendAll(t, server, 1, 2)
	kept := map[uint64]bool{}
	for round := range 2 * maxMemories {
		former := start(t, "scene", sceneArgument{"attach as another user", path})
		former.expect("attached")
		nextEvent(t, server, EventAttached)
		kept[inodeOf(t, memoryOf(server).file)] = true
		former.tell(map[bool]string{true: "deliver", false: "leave"}[round == 0])
		former.expect("left")
		nextEvent(t, server, EventDied)
		client, err := Dial(ctx, path, hostileOptions())
		if err != nil {
			t.Fatal(err)
		}
		nextEvent(t, server, EventAttached)
		kept[inodeOf(t, memoryOf(server).file)] = true
		sendAll(t, client, 3)
		if m, err := server.Receive(ctx); err != nil || m.Kind != 9 || m.Release() != nil {
			t.Fatalf("round %d: of the former client came %+v, %v", round, m, err)
		}
		former.tell("write")
		former.expect("written")
		if _, err := server.Receive(ctx); !errors.Is(err, ErrPeerDied) {
			t.Fatalf("round %d: behind it: %v", round, err)
		}
		if m, err := server.Receive(ctx); err != nil || m.Kind != 3 || checkPattern(m) != nil || m.Release() != nil {
			t.Fatalf("round %d: of its successor came %+v, %v", round, m, err)
		}
		for kind := uint32(1); round == 0 && kind <= 2; kind++ {
			m, err := client.Receive(ctx)
			if err != nil || m.Kind != kind || m.Redelivered != (kind == 1) || checkPattern(m) != nil || m.Release() != nil {
				t.Errorf("the successor received %+v, %v; want message %d, marked if it is the first", m, err, kind)
			}
		}
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
		nextEvent(t, server, EventClosed)
		if _, err := server.Receive(ctx); !errors.Is(err, ErrPeerClosed) {
			t.Fatalf("round %d: at the end of the successor: %v", round, err)
		}
		former.kill()
	}
	if n := server.Stats().Corruptions; n != 0 {
		t.Errorf("%d corruptions are told, want none: nobody had that memory", n)
	}
	if len(kept) != 2 {
		t.Errorf("two users have had %d memories, want one each", len(kept))
	}
}

// memoryOf is the client's memory of now, at a server.
func memoryOf(server *Endpoint) *segment {
	server.mu.Lock()
	defer server.mu.Unlock()
	return server.peer
}
