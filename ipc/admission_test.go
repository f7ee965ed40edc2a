//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/ipc/step"
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
		options.Hook = func(at step.ID, _ uint64) {
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
