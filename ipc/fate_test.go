//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A sleeper lives until its standard input ends.
var _ = part("sleeper", func(p *player) { p.untilStdinEnds() })

// sleeper starts one, as another user, and returns how to end it: it is then a zombie
// until it is waited for.
func (s *scene) sleeper(user uint32) (o owner, end, wait func()) {
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), partVariable+"=sleeper")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	stdin, err := c.StdinPipe()
	leash, held, pipeErr := os.Pipe()
	c.ExtraFiles = []*os.File{leash}
	if err = errors.Join(err, pipeErr); err == nil {
		err = c.Start()
	}
	if err != nil {
		s.forbidden("a process of another user", err)
	}
	fmt.Fprintln(stdin, "{}")
	o = owner{pid: c.Process.Pid, start: startTime(c.Process.Pid), in: here()}
	end = func() {
		_ = stdin.Close()
		_ = held.Close()
		for _, over := seen(o.pid); !over; _, over = seen(o.pid) { // the watchdog of the test ends it
			runtime.Gosched()
		}
	}
	return o, end, func() { _ = c.Wait() }
}

// fates ends the scene unless each owner has its fate.
func (s *scene) fates(when string, wants map[string]fate, o owner) {
	for name, changed := range map[string]owner{
		"as recorded":              o,
		"of another start":         {o.pid, o.start + 1, o.in},
		"without a start":          {o.pid, 0, o.in},
		"of no number":             {0, o.start, o.in},
		"of another PID namespace": {o.pid, o.start, spaces{o.in.pid + 1, o.in.time}},
		"of another clock":         {o.pid, o.start, spaces{o.in.pid, o.in.time + 1}},
		"of unknown namespaces":    {o.pid, o.start, spaces{}},
		"of unknown namespaces, and of another start": {o.pid, o.start + 1, spaces{}},
	} {
		if got, want := changed.fate(), wants[name]; got != want {
			s.fail("L5: a process %s, %s: its fate is %d, want %d (%s)", name, when, got, want, changed.whyUnknown())
		}
	}
}

var _ = sceneOf("what can be seen of a process", func(s *scene) {
	s.ownMounts()
	o, end, wait := s.sleeper(nobody)
	s.fates("which lives", map[string]fate{"as recorded": fateLives, "of another start": fateEnded, "of unknown namespaces": fateLives}, o)
	end()
	s.fates("which is a zombie", map[string]fate{"as recorded": fateEnded, "of another start": fateEnded, "of unknown namespaces": fateEnded}, o)
	wait()
	s.fates("which is gone", map[string]fate{
		"as recorded": fateEnded, "of another start": fateEnded, "without a start": fateEnded, "of another clock": fateEnded,
	}, o)

	o, end, wait = s.sleeper(nobody)
	if err := unix.Mount("proc", "/proc", "proc", 0, "hidepid=2"); err != nil {
		s.forbidden("a /proc that hides processes", err)
	}
	s.become(nobody - 1)
	if startTime(o.pid) != 0 {
		s.forbidden("hidepid", errors.New("it hides nothing"))
	}
	s.fates("which is hidden", nil, o)
	_ = end
	_ = wait
})

// A process is called ended on the kernel's word only.
func TestL5WhatCannotBeSeenIsNotCalledEnded(t *testing.T) {
	playSceneIn(t, ownMountsOnly, "what can be seen of a process", testPath(t))
}

var _ = sceneOf("a server that is refused elsewhere", func(s *scene) {
	s.ownMounts()
	_, err := Listen(s.ctx, s.path, nil)
	s.say("ready")
	s.answer("refused", err)
})

// Servers and clients in containers of their own do not see each other's processes.
func TestL5AnOrphanInAnotherContainerIsNotCalledEnded(t *testing.T) {
	path := testPath(t)
	server := startElsewhere(t, "a server elsewhere", path)
	_, err := Listen(testContext(t), path, nil)
	var running *RunningError
	if !errors.As(err, &running) || !errors.Is(err, ErrServerRunning) || running.PID != server.cmd.Process.Pid || strings.Contains(err.Error(), "has ended") {
		t.Errorf("beside a server in a container: %v, want process %d", err, server.cmd.Process.Pid)
	}
	client := startElsewhere(t, "a client elsewhere", path)
	server.kill()
	third := startElsewhere(t, "a server that is refused elsewhere", path)
	if line := third.expect("refused "); !strings.Contains(line, ErrClientRunning.Error()) || strings.Contains(line, "has ended") || !strings.Contains(line, "PID namespace") {
		t.Errorf("beside an orphan that it cannot see a server is told: %s", line)
	}
	_, err = Listen(testContext(t), path, nil) // from above both can be seen
	if !errors.As(err, &running) || running.PID != client.cmd.Process.Pid || strings.Contains(err.Error(), "has ended") {
		t.Errorf("beside an orphan in a container: %v, want process %d", err, client.cmd.Process.Pid)
	}
}

var _ = sceneOf("hand on the server lock and the listener", func(s *scene) {
	server, err := Listen(s.ctx, s.path, nil)
	if err != nil {
		s.fail("listen: %v", err)
	}
	c, err := connect(s.path + ".third")
	for _, fd := range []int{serverOf(server).lock.fd, serverOf(server).listener} {
		if err == nil {
			err = c.send(newPacket(packetGrant), fd)
		}
	}
	if err != nil {
		s.fail("hand on: %v", err)
	}
	s.untilStdinEnds()
})

// A process that was forked without exec has copies of the server lock and of the
// socket. It keeps servers out, and is not called the server.
func TestL3ACopyOfTheServerLockIsToldApartFromTheServer(t *testing.T) {
	path := testPath(t)
	copied := make(chan []int, 2)
	rawServe(t, path+".third", func(c *conn) {
		for range 2 {
			_, files, err := c.receive(1)
			if err != nil {
				t.Error(err)
			}
			copied <- files
		}
	})
	server := start(t, "scene", sceneArgument{"hand on the server lock and the listener", path})
	copies := append(<-copied, <-copied...)
	t.Cleanup(func() { closeAll(copies) })
	if len(copies) != 2 {
		t.Fatalf("%d descriptors, want 2", len(copies))
	}
	_, err := Listen(testContext(t), path, nil)
	var running *RunningError
	if !errors.As(err, &running) || running.PID != server.cmd.Process.Pid || strings.Contains(err.Error(), "copy") {
		t.Errorf("beside the server: %v, want process %d", err, server.cmd.Process.Pid)
	}
	server.kill()
	_, err = Listen(testContext(t), path, nil)
	if !errors.As(err, &running) || !errors.Is(err, ErrServerRunning) || running.PID != os.Getpid() || !strings.Contains(err.Error(), "a copy of its lock lives on") {
		t.Errorf("behind its death: %v, want that process %d has a copy", err, os.Getpid())
	}
	ctx, cancel := context.WithCancel(testContext(t))
	tries := 0
	_, err = Dial(ctx, path, &Options{HandshakeTimeout: 10 * time.Millisecond, hook: func(at step.ID, _ uint64) {
		if at == step.HelloSent {
			if tries++; tries == 3 {
				cancel()
			}
		}
	}})
	if !errors.Is(err, context.Canceled) || strings.Count(err.Error(), "has a copy of its socket") != 2 {
		t.Errorf("Dial: %v, want that the socket has a copy, of the last try and of the one before", err)
	}
	closeAll(copies)
	copies = nil
	works(t, path)
}

var _ = sceneOf("a server that may not test a lock", func(s *scene) {
	server, err := Listen(s.ctx, s.path, &Options{CloseTimeout: time.Millisecond})
	if err != nil {
		s.fail("listen: %v", err)
	}
	s.say("listening")
	if event := <-server.Events(); event.Kind != EventAttached {
		s.fail("%+v", event)
	}
	if err := deny(unix.SYS_FCNTL, unix.EPERM, argument{1, unix.F_OFD_GETLK}); err != nil {
		s.fail("%v", err)
	}
	s.say("denied")
	s.next()
	s.answer("closed", server.Close())
})

func TestL5ACloseThatCannotTestTheTokenDoesNotSayThatItIsHeld(t *testing.T) {
	for _, end := range []string{"closed", "killed"} {
		path := testPath(t)
		server := start(t, "scene", sceneArgument{"a server that may not test a lock", path})
		server.expect("listening")
		client := startActor(t, actorArgument{Path: path})
		client.ask("attached", "dial")
		server.expect("denied")
		if end == "closed" {
			client.ask("closed", "close")
		} else {
			client.kill()
		}
		server.tell("close")
		answer := server.expect("closed ")
		if answer != "<nil>" && !strings.Contains(answer, "is not known") || strings.Contains(answer, "has not left") {
			t.Errorf("of a client that has %s a server that cannot test its token says: %s", end, answer)
		}
		if end == "closed" && !strings.Contains(answer, "sandbox") {
			t.Errorf("it does not say why: %s", answer)
		}
	}
}

var _ = sceneOf("a client that may test nothing", func(s *scene) {
	for _, d := range []deniable{
		{"SO_PEERPIDFD", unix.SYS_GETSOCKOPT, []argument{{2, unix.SO_PEERPIDFD}}},
		{"pidfd_open", unix.SYS_PIDFD_OPEN, nil},
		{"F_OFD_GETLK", unix.SYS_FCNTL, []argument{{1, unix.F_OFD_GETLK}}},
	} {
		if err := deny(d.call, unix.EPERM, d.only...); err != nil {
			s.fail("%v", err)
		}
	}
	client, err := Dial(s.ctx, s.path, &Options{HandshakeTimeout: 50 * time.Millisecond})
	if err != nil {
		s.fail("dial: %v", err)
	}
	s.say("attached")
	_, err = client.Receive(s.ctx)
	s.answer("received", err)
	if err := client.Close(); err != nil {
		s.fail("close: %v", err)
	}
})

func TestL5AClientThatCannotTestTheServerDoesNotSayThatItLives(t *testing.T) {
	path := testPath(t)
	server := startActor(t, actorArgument{Path: path})
	server.ask("listening", "listen")
	client := start(t, "scene", sceneArgument{"a client that may test nothing", path})
	client.expect("attached")
	server.kill()
	if line := client.expect("received "); strings.Contains(line, "the server lives") || strings.Contains(line, "died") || !strings.Contains(line, "cannot be seen") {
		t.Errorf("of a server that was killed a client that can test nothing says: %s", line)
	}
	client.expect("ok")
}

func TestWhoMayLookAtAProcessIsSaidAsItIs(t *testing.T) {
	denied := &fs.PathError{Op: "open", Path: "/proc/1/fdinfo", Err: unix.EACCES}
	if err := whyNotSeen(os.Getpid(), denied); !errors.Is(err, errNoEvidence) || !strings.Contains(err.Error(), "not dumpable") || strings.Contains(err.Error(), "as its user") {
		t.Errorf("of a process of this user: %v", err)
	}
	if os.Geteuid() != 0 {
		return
	}
	path := testPath(t)
	other := start(t, "scene", sceneArgument{"be nobody", path})
	other.expect("nobody")
	if err := whyNotSeen(other.cmd.Process.Pid, denied); !strings.Contains(err.Error(), "as its user") {
		t.Errorf("of a process of another user: %v", err)
	}
}

var _ = sceneOf("be nobody", func(s *scene) {
	s.become(nobody)
	s.say("nobody")
	s.untilStdinEnds()
})

var _ = sceneOf("nobody without /proc", func(s *scene) {
	directory := filepath.Dir(s.path)
	if err := errors.Join(os.Chown(directory, nobody, nobody), unix.Chroot(directory), os.Chdir("/")); err != nil {
		s.forbidden("a root of its own", err)
	}
	s.become(nobody)
	server, err := Listen(s.ctx, "/s", nil)
	if err != nil {
		s.fail("listen: %v", err)
	}
	_, err = Dial(s.ctx, "/s", nil)
	s.must("Dial", err, ErrServerUser, "is /proc mounted?")
	if err := server.Close(); err != nil {
		s.fail("close: %v", err)
	}
})

func TestT2WhoIsNobodyForWantOfProcIsToldSo(t *testing.T) {
	playSceneIn(t, 0, "nobody without /proc", testPath(t))
}
