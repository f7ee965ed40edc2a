//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var _ = sceneOf("hand on the token and drop it", func(s *scene) {
	e, err := Dial(s.ctx, s.path, nil)
	if err != nil {
		s.fail("dial: %v", err)
	}
	c, err := connect(s.path + ".third")
	if err == nil {
		err = c.send(newPacket(packetGrant), e.life.(*client).token)
	}
	if err != nil {
		s.fail("hand on the token: %v", err)
	}
	token := e.life.(*client).token
	var named unix.Stat_t
	if err := unix.Fstat(token, &named); err != nil {
		s.fail("stat the token: %v", err)
	}
	_ = unix.Close(token) // and keep the lock
	// Dial has looked at a copy before it took the token, and closes that aside.
	for ; hasOpen(s, &named); runtime.Gosched() {
		if s.ctx.Err() != nil {
			s.fail("a copy of the token stays open")
		}
	}
	s.say("dropped")
	s.untilStdinEnds()
})

// hasOpen reports whether this process has a descriptor of the file.
func hasOpen(s *scene, file *unix.Stat_t) bool {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		s.fail("own descriptors: %v", err)
	}
	return slices.ContainsFunc(entries, func(entry os.DirEntry) bool {
		fd, err := strconv.Atoi(entry.Name())
		var stat unix.Stat_t
		return err == nil && unix.Fstat(fd, &stat) == nil && stat.Dev == file.Dev && stat.Ino == file.Ino
	})
}

// handsOn starts a client that hands its token to this process.
func handsOn(t *testing.T, name, path string) (*process, int) {
	t.Helper()
	third := make(chan []int, 1)
	rawServe(t, path+".third", func(c *conn) {
		_, files, err := c.receive(1)
		if err != nil {
			t.Error(err)
		}
		third <- files
	})
	p := start(t, "scene", sceneArgument{name, path})
	files := <-third
	if len(files) != 1 {
		t.Fatalf("%d descriptors, want the token", len(files))
	}
	t.Cleanup(func() { closeAll(files) })
	return p, files[0]
}

// alive fails the test if a process has been killed.
func (p *process) mustLive(t *testing.T) {
	t.Helper()
	if o := (owner{pid: p.cmd.Process.Pid, start: startTime(p.cmd.Process.Pid), in: here()}); o.fate() != fateLives {
		t.Error("a process was killed that did not hold the token")
	}
	if err := p.cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("T3: %v", err)
	}
}

// nameClient has the lock file of a path name a client.
func nameClient(t *testing.T, path string, client owner) {
	t.Helper()
	lock, err := openLockFile(testContext(t), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(lock.fd) }()
	r, err := lock.read()
	if err == nil {
		r.client = client
		err = lock.write(r)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// byAnotherClock is a process as a server in another time namespace records it.
func byAnotherClock(p *process) owner {
	pid := p.cmd.Process.Pid
	return owner{pid: pid, start: startTime(pid) + 12345, in: spaces{here().pid, here().time + 1}}
}

// Where start times are shifted, the token alone is the evidence.
func TestT3KillOrphanFromAnotherTimeNamespaceKillsWhoHoldsTheToken(t *testing.T) {
	path := testPath(t)
	server := startActor(t, actorArgument{Path: path})
	server.ask("listening", "listen")
	orphan := startActor(t, actorArgument{Path: path})
	orphan.ask("attached", "dial")
	server.kill()
	nameClient(t, path, byAnotherClock(orphan))
	_, err := Listen(testContext(t), path, nil)
	var running *RunningError
	if !errors.As(err, &running) || running.PID != orphan.cmd.Process.Pid || strings.Contains(err.Error(), "has ended") {
		t.Errorf("Listen: %v, want process %d, which lives", err, orphan.cmd.Process.Pid)
	}
	listenHere(t, path, &Options{KillOrphan: true, CloseTimeout: time.Millisecond})
	orphan.awaitDeath()
}

// What the lock file says is a hint. Whoever does not hold the token is not killed.
func TestT3KillOrphanKillsOnlyWhoHoldsTheToken(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, path string, orphan, other *process)
		scene   string
		says    string
	}{
		"it handed its token on": {nil, "hand on the token and drop it", "does not have it"},
		"it has ended": {func(t *testing.T, path string, orphan, other *process) {
			orphan.kill()
		}, "hand on the token", "nobody was killed"},
		"the lock file names another": {func(t *testing.T, path string, orphan, other *process) {
			pid := other.cmd.Process.Pid
			nameClient(t, path, owner{pid: pid, start: startTime(pid), in: here()})
		}, "hand on the token", "does not have it"},
		"the lock file names another, which started later": {func(t *testing.T, path string, orphan, other *process) {
			nameClient(t, path, owner{pid: other.cmd.Process.Pid, start: 1, in: here()})
		}, "hand on the token", "is not the one"},
		"the lock file names another, by another clock": {func(t *testing.T, path string, orphan, other *process) {
			nameClient(t, path, byAnotherClock(other))
		}, "hand on the token", "does not have it"},
		"the lock file has a number of another PID namespace": {func(t *testing.T, path string, orphan, other *process) {
			pid := orphan.cmd.Process.Pid
			nameClient(t, path, owner{pid: pid, start: startTime(pid), in: spaces{here().pid + 1, here().time}})
		}, "hand on the token", "another PID namespace"},
		"the lock file names nobody": {func(t *testing.T, path string, orphan, other *process) {
			nameClient(t, path, owner{})
		}, "hand on the token", "names none"},
	} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			server := startActor(t, actorArgument{Path: path})
			server.ask("listening", "listen")
			orphan, _ := handsOn(t, c.scene, path)
			if c.scene == "hand on the token and drop it" {
				orphan.expect("dropped")
			}
			other := startActor(t, actorArgument{Path: path + ".other"})
			server.kill()
			gone := name == "it has ended"
			if c.prepare != nil {
				c.prepare(t, path, orphan, other)
			}
			_, err := Listen(testContext(t), path, &Options{KillOrphan: true, CloseTimeout: time.Millisecond})
			if !errors.Is(err, ErrClientRunning) || !errors.Is(err, errNoEvidence) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Listen: %v, want that it %s", err, c.says)
			}
			var running *RunningError
			if gone && (!errors.As(err, &running) || running.PID != os.Getpid()) {
				t.Errorf("Listen: %v, want it to name process %d, which has a copy", err, os.Getpid())
			}
			other.mustLive(t)
			if !gone {
				orphan.mustLive(t)
			}
		})
	}
}

// So is the client that is attached: it has handed its token on.
func TestT3KillPeerKillsOnlyWhoHoldsTheToken(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, &Options{CloseTimeout: time.Millisecond, KillOnClose: true})
	client, token := handsOn(t, "hand on the token and drop it", path)
	nextEvent(t, server, EventAttached)
	client.expect("dropped")
	if err := server.KillPeer(); !errors.Is(err, errNoEvidence) {
		t.Errorf("KillPeer: %v, want %v", err, errNoEvidence)
	}
	client.mustLive(t)
	if err := server.Close(); !errors.Is(err, errNoEvidence) || !errors.Is(err, ErrClientRunning) {
		t.Errorf("Close: %v, want %v and %v", err, errNoEvidence, ErrClientRunning)
	}
	client.mustLive(t)
	letGo(token)
	works(t, path)
}

// A copy of the token that outlives the client hides no death. It keeps newcomers
// out, who are told so, and a kill says that it has no effect.
func TestACopyOfTheTokenIsToldApartFromTheClient(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, nil)
	client, token := handsOn(t, "hand on the token", path)
	nextEvent(t, server, EventAttached)
	client.kill()
	nextEvent(t, server, EventDied)
	_, err := Dial(testContext(t), path, nil)
	var running *RunningError
	if !errors.As(err, &running) || running.PID != os.Getpid() || !errors.Is(err, ErrClientRunning) || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("Dial: %v, want that process %d has a copy of the token", err, os.Getpid())
	}
	if err := server.KillPeer(); !errors.Is(err, errNoClient) || !strings.Contains(err.Error(), "no effect") {
		t.Errorf("KillPeer: %v, want that it has no effect", err)
	}
	_ = unix.Close(token)
	if got, end := receiveAll(t, server); got != "" || !errors.Is(end, ErrPeerDied) {
		t.Errorf("of the first client: %q, then %v", got, end)
	}
	checkNextClient(t, server, path)
}

// Each descriptor may take long to look at, for the kernel lists all locks of its file. So
// the time is looked at before each of them, and of the list only the beginning is read.
func TestT1ALookAtDescriptorsWithManyLocksIsBounded(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	looks := 0
	_, err := eachDescriptor(ctx, os.Getpid(), func(string) (bool, error) {
		looks++
		cancel()
		return false, nil
	})
	if looks != 1 || !errors.Is(err, errNoEvidence) {
		t.Errorf("%d looks behind the end of the time, %v", looks-1, err)
	}
	file, err := unix.MemfdCreate("locks", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(file)
	for i := int64(2000); i >= 0; i-- {
		if ok, err := setLock(file, 2*i, unix.F_RDLCK); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	all, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", file))
	if err != nil || len(all) <= maxInfo {
		t.Fatalf("%d bytes, %v: the test is blind", len(all), err)
	}
	begin, err := infoOf(os.Getpid(), fmt.Sprint(file), func(string) bool { return true })
	if err != nil || len(begin) > maxInfo {
		t.Errorf("%d bytes were read, %v", len(begin), err)
	}
	if locks := locksIn(begin); len(locks) == 0 || locks[0].first != tokenByte {
		t.Errorf("of the token nothing is seen among %d locks", len(locks))
	}
}
