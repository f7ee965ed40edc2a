//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// elsewhere is a container of its own: its processes, mounts, network and names.
const elsewhere = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// obey plays an endpoint that does what the test says, a line each.
func (s *scene) obey(e *Endpoint) {
	s.say("ready as process %d", os.Getpid())
	for {
		switch verb := s.next(); verb {
		case "send":
			s.answer("sent", e.Send(s.ctx, 7, pattern(7)))
		case "receive":
			m, err := e.Receive(s.ctx)
			if err == nil {
				err = errors.Join(checkPattern(m), m.Release())
			}
			s.answer("received", err)
		case "kill":
			s.answer("killed", e.KillPeer())
		case "redial":
			next, err := e.Redial(s.ctx)
			if err == nil {
				e = next
			}
			s.answer("redialled", err)
		case "close":
			s.answer("closed", e.Close())
			return
		}
	}
}

// answer says what came of it, in one line.
func (s *scene) answer(what string, err error) {
	s.say("%s %s", what, strings.ReplaceAll(fmt.Sprint(err), "\n", "; "))
}

var _ = sceneOf("a server elsewhere", func(s *scene) {
	s.ownMounts()
	server, err := Listen(s.ctx, s.path, nil)
	if err != nil {
		s.fail("listen: %v", err)
	}
	s.obey(server)
})

var _ = sceneOf("a client elsewhere", func(s *scene) {
	s.ownMounts()
	client, err := Dial(s.ctx, s.path, nil)
	if err != nil {
		s.fail("dial: %v", err)
	}
	s.obey(client)
})

// A client whose path leads nowhere has inherited the directory of its server.
var _ = sceneOf("a client that has inherited the directory", func(s *scene) {
	s.ownMounts()
	s.mountAt("tmpfs", filepath.Dir(s.path), "mode=0700")
	if _, err := Dial(s.ctx, s.path, &Options{FailFast: true}); !errors.Is(err, ErrNoServer) {
		s.fail("dial where the directory is hidden: %v, want %v", err, ErrNoServer)
	}
	client, err := Dial(s.ctx, fmt.Sprintf("/proc/self/fd/%d/%s", firstInherited, filepath.Base(s.path)), nil)
	if err != nil {
		s.fail("dial: %v", err)
	}
	s.obey(client)
})

// startElsewhere starts a scene that obeys in namespaces of its own.
func startElsewhere(t *testing.T, name, path string, inherits ...*os.File) *process {
	t.Helper()
	needsRealKernel(t, "namespaces are the kernel's")
	p := startIn(t, elsewhere, "scene", sceneArgument{name, path}, inherits...)
	p.isReady()
	return p
}

func (p *process) isReady() {
	p.t.Helper()
	line := p.expect("")
	if why, found := strings.CutPrefix(line, "forbidden "); found {
		notRun(p.t, why)
	}
	if !strings.HasPrefix(line, "ready") {
		p.t.Fatalf("%s said %q, want ready", p.name, line)
	}
}

// A process needs no path of its own to its server: a descriptor of the directory does.
func TestL7AClientWithAnInheritedDirectory(t *testing.T) {
	path := testPath(t)
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer directory.Close()
	options := &Options{Wait: true, CloseTimeout: time.Millisecond}
	server := listenHere(t, path, options)
	client := startElsewhere(t, "a client that has inherited the directory", path, directory)
	nextEvent(t, server, EventAttached)
	for range 2 {
		sendAll(t, server, 7)
		client.ask("received <nil>", "receive")
		if err := server.Close(); !errors.Is(err, ErrClientRunning) { // the next one is found through it too
			t.Fatal(err)
		}
		client.tell("redial")
		server = listenHere(t, path, options)
		client.expect("redialled <nil>")
		nextEvent(t, server, EventAttached)
	}
	client.ask("closed <nil>", "close")
}

func TestL5L7AClientInNamespacesOfItsOwn(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, nil)
	for _, end := range []string{"killed", "killed by its server", "closed"} {
		client := startElsewhere(t, "a client elsewhere", path)
		if attached := nextEvent(t, server, EventAttached); attached.PID == 0 {
			t.Errorf("the client is in a namespace below this one, and has no number here")
		}
		sendAll(t, server, 7)
		client.ask("received <nil>", "receive")
		client.ask("sent <nil>", "send")
		wants, kind := ErrPeerDied, EventDied
		switch end {
		case "killed":
			client.kill()
		case "killed by its server":
			if err := server.KillPeer(); err != nil {
				t.Errorf("KillPeer: %v", err)
			}
		case "closed":
			client.ask("closed <nil>", "close")
			wants, kind = ErrPeerClosed, EventClosed
		}
		if kinds, err := receiveAll(t, server); kinds != "7" || !errors.Is(err, wants) {
			t.Errorf("of a client that was %s came %q, then %v", end, kinds, err)
		}
		client.wait()
		nextEvent(t, server, kind)
	}
	works(t, path+"2")
}

func TestL5L6AServerInNamespacesOfItsOwn(t *testing.T) {
	path := testPath(t)
	server := startElsewhere(t, "a server elsewhere", path)
	client := dialHere(t, path, nil)
	sendAll(t, client, 7)
	server.ask("received <nil>", "receive")
	server.ask("sent <nil>", "send")
	server.kill()
	if kinds, err := receiveAll(t, client); kinds != "7" || !errors.Is(err, ErrPeerDied) {
		t.Errorf("of a server that was killed came %q, then %v", kinds, err)
	}
	next := startElsewhere(t, "a server elsewhere", path+"2") // not beside the client that holds its token
	other := dialHere(t, path+"2", nil)
	next.ask("killed", "kill")
	next.kill()
	if _, err := receiveAll(t, other); !errors.Is(err, ErrPeerDied) {
		t.Errorf("the end of the other server is told as %v", err)
	}
}

func TestT3KillPeerAcrossNamespacesKillsOrSaysWhyNot(t *testing.T) {
	path := testPath(t)
	server := startElsewhere(t, "a server elsewhere", path)
	client := startElsewhere(t, "a client elsewhere", path)
	client.ask("sent <nil>", "send")
	server.ask("received <nil>", "receive")
	answer := server.ask("killed", "kill")
	switch {
	case answer == "<nil>":
		client.awaitDeath()
		if line := server.ask("received", "receive"); !strings.Contains(line, "died") {
			t.Errorf("behind the kill the server received %q", line)
		}
	case strings.Contains(answer, "it is in another PID namespace: end it there"): // the kernel forbids it
		client.ask("sent <nil>", "send")
		server.ask("received <nil>", "receive")
	default:
		t.Errorf("KillPeer of a client in a sibling namespace: %s; that does not say why", answer)
	}
}

// A freezer is a cgroup that stops all its processes, as a container's pause does.
type freezer struct{ directory, file, frozen, thawed string }

// newFreezer makes one, of either version of cgroups, for a process.
func newFreezer(t *testing.T, pid int) freezer {
	t.Helper()
	var last error
	for _, f := range []freezer{
		{"/sys/fs/cgroup", "cgroup.freeze", "1", "0"},
		{"/sys/fs/cgroup/unified", "cgroup.freeze", "1", "0"},
		{"/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED"},
	} {
		var err error
		if f.directory, err = os.MkdirTemp(f.directory, "tandem"); err != nil {
			last = err
			continue
		}
		if err = f.set(f.thawed); err == nil {
			err = f.write("cgroup.procs", fmt.Sprint(pid))
		}
		if err == nil {
			return f
		}
		_ = os.Remove(f.directory)
		last = err
	}
	notRun(t, fmt.Sprintf("no cgroup can be frozen: %v", last))
	return freezer{}
}

func (f freezer) set(state string) error { return f.write(f.file, state) }

// write writes to a file that the kernel has made.
func (f freezer) write(name, content string) error {
	file, err := os.OpenFile(filepath.Join(f.directory, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(content)
	return errors.Join(err, file.Close())
}

var _ = sceneOf("a client that obeys", func(s *scene) {
	client, err := Dial(s.ctx, s.path, quickOptions())
	if err != nil {
		s.fail("dial: %v", err)
	}
	s.obey(client)
})

// awaitEvent is nextEvent beside hangs of a machine that is busy.
func awaitEvent(t *testing.T, e *Endpoint, want EventKind) {
	t.Helper()
	timeout := testContext(t)
	for {
		select {
		case event := <-e.Events():
			if event.Kind == want {
				return
			}
			if event.Kind != EventHung && event.Kind != EventRecovered {
				t.Fatalf("event %v, want %v", event.Kind, want)
			}
		case <-timeout.Done():
			t.Fatalf("no event %v", want)
		}
	}
}

func TestL5L6AFrozenContainerIsHungAndNotDead(t *testing.T) {
	needsRealKernel(t, "cgroups are the kernel's")
	path := testPath(t)
	server := listenHere(t, path, quickOptions())
	client := start(t, "scene", sceneArgument{"a client that obeys", path})
	frozen := newFreezer(t, client.cmd.Process.Pid)
	t.Cleanup(func() { // a frozen process may have no end, and a cgroup lasts as long as its processes
		_ = frozen.set(frozen.thawed)
		client.kill()
		eventually(t, "the cgroup is removed", func() bool { return os.Remove(frozen.directory) == nil })
	})
	client.isReady()
	awaitEvent(t, server, EventAttached)
	if err := frozen.set(frozen.frozen); err != nil {
		t.Fatal(err)
	}
	awaitEvent(t, server, EventHung)
	if _, err := Dial(testContext(t), path, nil); !errors.Is(err, ErrClientRunning) {
		t.Errorf("beside a frozen client another is told %v", err)
	}
	if err := frozen.set(frozen.thawed); err != nil {
		t.Fatal(err)
	}
	awaitEvent(t, server, EventRecovered)
	sendAll(t, server, 7)
	client.ask("received <nil>", "receive")
	if err := frozen.set(frozen.frozen); err != nil {
		t.Fatal(err)
	}
	awaitEvent(t, server, EventHung)
	if err := server.KillPeer(); err != nil {
		t.Errorf("KillPeer of a frozen client: %v", err)
	}
	_ = frozen.set(frozen.thawed) // in an old freezer nobody dies
	awaitEvent(t, server, EventDied)
}

// The directory of the path is mounted into the client's container: that outlives a
// restart of the server, which a mount of the socket alone does not.
var _ = sceneOf("a client with the directory mounted", func(s *scene) {
	s.ownMounts()
	view := filepath.Join(filepath.Dir(s.path), "view")
	if err := unix.Mount(filepath.Join(filepath.Dir(s.path), "shared"), view, "", unix.MS_BIND, ""); err != nil {
		s.forbidden("a bind mount", err)
	}
	s.path = filepath.Join(view, "s")
	client, err := Dial(s.ctx, s.path, nil)
	if err != nil {
		s.fail("dial: %v", err)
	}
	s.obey(client)
})

func TestL7AClientWithTheDirectoryMountedFindsTheNextServer(t *testing.T) {
	path := testPath(t)
	for _, name := range []string{"view", "shared"} {
		if err := os.Mkdir(filepath.Join(filepath.Dir(path), name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	shared := filepath.Join(filepath.Dir(path), "shared", "s")
	server := startActor(t, actorArgument{Path: shared})
	server.ask("listening 1", "listen")
	client := startElsewhere(t, "a client with the directory mounted", path)
	server.kill()
	client.ask("received", "receive")
	client.tell("redial")
	next := listenHere(t, shared, &Options{Wait: true})
	client.expect("redialled <nil>")
	sendAll(t, next, 7)
	client.ask("received <nil>", "receive")
	client.ask("closed <nil>", "close")
}
