//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// spoil makes a descriptor name a socket, which nobody can open again, and returns
// what makes it name its file again.
func spoil(t *testing.T, fd int) (mend func()) {
	t.Helper()
	saved, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	if err := unix.Dup3(socket, fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Dup3(saved, fd, unix.O_CLOEXEC); err != nil {
			t.Error(err)
		}
		_ = unix.Close(saved)
	}
}

func TestAServerThatCannotAdmitSaysWhy(t *testing.T) {
	path := testPath(t)
	listening := listenHere(t, path, quickOptions())
	for range 2 { // it is told again after somebody was admitted
		mend := spoil(t, listening.life.(*server).lock.fd) // it cannot record the client
		ctx, cancel := context.WithCancel(testContext(t))
		dialed := make(chan error, 1)
		tries := make(chan struct{}, 1<<16)
		options := quickOptions()
		options.hook = func(at step.ID, _ uint64) {
			if at == step.DialBegun {
				tries <- struct{}{}
			}
		}
		go func() {
			_, err := Dial(ctx, path, options)
			dialed <- err
		}()
		event := nextEvent(t, listening, EventAdmissionFailed)
		if event.Err == nil || !strings.HasPrefix(event.Err.Error(), "ipc: ") {
			t.Errorf("the event says %v, want what the server lacks", event.Err)
		}
		for range 3 { // the first two have ended
			select {
			case <-tries:
			case <-ctx.Done():
				t.Fatal("the client does not try again")
			}
		}
		cancel()
		if err := <-dialed; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "EventAdmissionFailed") {
			t.Errorf("Dial: %v, want that it was cancelled and where the reason is", err)
		}
		mend()
		client := dialHere(t, path, quickOptions())
		nextEvent(t, listening, EventAttached) // and no other event, however often the client tried
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		nextEvent(t, listening, EventClosed)
	}
}

// The calls of a handshake, and what the server may be told instead of what it asked
// for: by a sandbox, for want of memory, or because too many descriptors of its user
// are on their way.
var handshakeCalls = []struct {
	deniable
	errno unix.Errno
	heard string // by the client, which tries again; empty if it is not heard
	full  bool   // another client is attached, so that the newcomer is refused
}{
	{deniable{"accept4", unix.SYS_ACCEPT4, nil}, unix.EMFILE, "", false},
	{deniable{"SO_PEERCRED", unix.SYS_GETSOCKOPT, []argument{{2, unix.SO_PEERCRED}}}, unix.EPERM, "EventAdmissionFailed", false},
	{deniable{"SO_RCVTIMEO", unix.SYS_SETSOCKOPT, []argument{{2, unix.SO_RCVTIMEO}}}, unix.ENOBUFS, "EventAdmissionFailed", false},
	{deniable{"recvmsg", unix.SYS_RECVMSG, nil}, unix.EPERM, "EventAdmissionFailed", false},
	{deniable{"sendmsg", unix.SYS_SENDMSG, nil}, unix.EACCES, "ended the handshake", false},
	{deniable{"sendmsg", unix.SYS_SENDMSG, nil}, unix.ENOBUFS, "ended the handshake", false},
	{deniable{"sendmsg", unix.SYS_SENDMSG, nil}, unix.ETOOMANYREFS, "ended the handshake", false},
	{deniable{"sendmsg", unix.SYS_SENDMSG, nil}, unix.EPERM, "ended the handshake", true},
}

var _ = func() bool {
	for i, c := range handshakeCalls {
		sceneOf(fmt.Sprint("a handshake is denied a call ", i), func(s *scene) {
			server, err := Listen(s.ctx, s.path, nil)
			if err != nil {
				s.fail("%v", err)
			}
			s.say("listening")
			if c.full {
				s.say("told %v", (<-server.Events()).Kind)
			}
			if err := deny(c.call, c.errno, c.only...); err != nil {
				s.fail("%v", err)
			}
			s.say("denied")
			for event := range server.Events() {
				if event.Kind == EventAdmissionFailed {
					s.say("told %v %t %v", event.Kind, errors.Is(event.Err, c.errno), event.Err)
				}
			}
		})
	}
	return true
}()

func TestL7AServerThatIsDeniedACallOfTheHandshakeSaysSo(t *testing.T) {
	for i, c := range handshakeCalls {
		t.Run(fmt.Sprintf("%s/%v", c.name, c.errno), func(t *testing.T) {
			path := testPath(t)
			server := start(t, "scene", sceneArgument{fmt.Sprint("a handshake is denied a call ", i), path})
			server.expect("listening")
			if c.full {
				dialHere(t, path, nil)
				server.expect("told " + EventAttached.String())
			}
			server.expect("denied")
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			tries, dialed := make(chan struct{}, 1<<16), make(chan error, 1)
			go func() {
				client, err := Dial(ctx, path, &Options{hook: func(at step.ID, _ uint64) {
					if at == step.DialBegun {
						tries <- struct{}{}
					}
				}})
				if err == nil { // the server had waited in accept4 before that was denied
					err = client.Close()
				}
				dialed <- err
			}()
			server.expect("told " + EventAdmissionFailed.String() + " true ipc: ")
			for range 3 { // the first two have ended
				if c.heard == "" {
					break
				}
				select {
				case <-tries:
				case <-ctx.Done():
					t.Fatal("the client does not try again")
				}
			}
			cancel()
			if err := <-dialed; c.heard != "" && (!errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), c.heard)) {
				t.Errorf("Dial: %v, want %q", err, c.heard)
			}
		})
	}
}

// What the peer does is no lack of the server.
func TestT2AClientCannotMakeTheServerSayThatItAdmitsNobody(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, &Options{HandshakeTimeout: 20 * time.Millisecond, AllowUIDs: []uint32{uint32(os.Geteuid())}})
	s := serverOf(server)
	for i, act := range []func(c *conn){
		func(*conn) {}, // it leaves
		func(c *conn) { _ = c.send(newPacket(packetReady)) },
		func(c *conn) { _ = c.send(newPacket(packetHello), 0) },
		func(c *conn) { _, _ = unix.Write(c.fd, []byte("what")) },
		func(c *conn) {
			_ = unix.Shutdown(c.fd, unix.SHUT_RD) // it hears nothing
			_ = c.send(newPacket(packetHello))
		},
		func(c *conn) { _, _, _ = c.receive(0) }, // it is silent, until the server ends it
	} {
		c := rawConnect(t, path)
		act(c)
		c.hangUp()
		eventually(t, fmt.Sprintf("the server is done with connection %d", i), func() bool {
			s.e.mu.Lock()
			defer s.e.mu.Unlock()
			return s.connections == uint64(i+1) && len(s.slots) == 0 && s.current == nil
		})
	}
	checkNextClient(t, server, path)
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	for event := range server.Events() {
		if event.Kind == EventAdmissionFailed {
			t.Errorf("%+v", event)
		}
	}
}

// admitting are the system calls of an admission that may fail, or be denied.
var admitting = []lack{
	{"the lock file to read", unix.SYS_PREAD64, unix.EIO, nil, unix.EIO, []string{"read", "another file system"}},
	{"the lock file to write", unix.SYS_PWRITE64, unix.EIO, nil, unix.EIO, []string{"write", "another file system"}},
	{"locks of a fresh token file", unix.SYS_FCNTL, unix.EACCES, []argument{{1, unix.F_OFD_SETLK}}, unix.EACCES, []string{"fresh token file", "sandbox"}},
	{"locks on this file system", unix.SYS_FCNTL, unix.ENOLCK, []argument{{1, unix.F_OFD_SETLK}}, unix.ENOLCK, []string{"local one"}},
	{"rename", unix.SYS_RENAMEAT, unix.EPERM, nil, unix.EPERM, []string{"rename", "another path"}},
}

func init() {
	for _, l := range admitting {
		sceneOf("admit without "+l.name, func(s *scene) {
			before := footprintOf(s.path)
			server, err := Listen(s.ctx, s.path, quickOptions())
			if err != nil {
				s.fail("listen: %v", err)
			}
			if err := deny(l.call, l.errno, l.only...); err != nil {
				s.fail("%v", err)
			}
			ctx, cancel := context.WithCancel(s.ctx)
			told := make(chan Event, 1)
			go func() {
				defer cancel() // else the client goes on trying
				told <- <-server.Events()
			}()
			_, err = Dial(ctx, s.path, quickOptions())
			s.must("Dial", err, context.Canceled)
			event := <-told
			s.must("the event "+event.Kind.String(), event.Err, l.is, l.says...)
			if err := server.Close(); err != nil {
				s.fail("close: %v", err)
			}
			nothingLeft(s, s.path, before)
		})
	}
}

// The server goes on: it tells what it lacks, and leaves nothing of the attempt.
func TestAServerThatLacksSomethingAdmitsNobodyAndSaysWhat(t *testing.T) {
	for _, l := range admitting {
		t.Run(l.name, func(t *testing.T) {
			path := testPath(t)
			playScene(t, "admit without "+l.name, path)
			works(t, path)
		})
	}
}
