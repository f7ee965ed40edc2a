//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// What a process does under a limit is a scene: it is played by a process of its
// own, because limits, users and denied system calls cannot be taken back.
var scenes = map[string]func(*scene){}

func sceneOf(name string, play func(*scene)) bool {
	scenes[name] = play
	return true
}

// A scene is the inside of such a process. It fails by saying so.
type scene struct {
	*player
	path string
}

// dialOnce dials with a context that ends when the first attempt begins.
func (s *scene) dialOnce() error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	_, err := Dial(ctx, s.path, &Options{hook: func(at step.ID, _ uint64) {
		if at == step.DialBegun {
			cancel()
		}
	}})
	return err
}

func (s *scene) Helper()                           {}
func (s *scene) Fatalf(format string, args ...any) { s.fail(format, args...) }

type sceneArgument struct{ Name, Path string }

var _ = part("scene", func(p *player) {
	var a sceneArgument
	p.arg(&a)
	// What the runtime opens once, for good, is open before anything is counted.
	reader, writer, err := os.Pipe()
	if err != nil {
		p.fail("pipe: %v", err)
	}
	_, _ = reader.Close(), writer.Close()
	scenes[a.Name](&scene{p, a.Path})
	p.say("ok")
})

// playScene runs a scene and waits for its good end.
func playScene(t *testing.T, name, path string) {
	t.Helper()
	start(t, "scene", sceneArgument{name, path}).expect("ok")
}

// must ends the scene unless the error is one of a kind and says what is wanted.
func (s *scene) must(what string, err, is error, says ...string) {
	if err == nil || !errors.Is(err, is) {
		s.fail("%s gave %v, want %v", what, err, is)
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			s.fail("%s says %q, which does not tell %q", what, err, text)
		}
	}
}

// pair listens and dials, and has both send and receive.
func (s *scene) pair(o *Options) (server, client *Endpoint) {
	server, err := Listen(s.ctx, s.path, o)
	if err != nil {
		s.fail("listen: %v", err)
	}
	if client, err = Dial(s.ctx, s.path, o); err != nil {
		s.fail("dial: %v", err)
	}
	s.exchange(server, client)
	return server, client
}

// exchange sends a message each way.
func (s *scene) exchange(server, client *Endpoint) {
	for _, d := range [][2]*Endpoint{{server, client}, {client, server}} {
		if err := d[0].Send(s.ctx, 7, []byte("seven")); err != nil {
			s.fail("send: %v", err)
		}
		m, err := d[1].ReceiveInto(s.ctx, make([]byte, 5))
		if err != nil || m.Kind != 7 || string(m.Data) != "seven" {
			s.fail("received %+v, %v", m, err)
		}
	}
}

func (s *scene) closeBoth(server, client *Endpoint) {
	if err := client.Close(); err != nil {
		s.fail("close of the client: %v", err)
	}
	if err := server.Close(); err != nil {
		s.fail("close of the server: %v", err)
	}
}

// limitFiles sets RLIMIT_NOFILE, and returns how to set it back.
func (s *scene) limitFiles(limit uint64) (restore func()) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		s.fail("getrlimit: %v", err)
	}
	set := func(value uint64) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: value, Max: old.Max}); err != nil {
			s.fail("setrlimit: %v", err)
		}
	}
	set(limit)
	return func() { set(old.Cur) }
}

// withEachFileLimit tries with ever more descriptors until it works. Each attempt
// before that must fail with EMFILE and leave nothing.
func (s *scene) withEachFileLimit(what string, least int, try func() (*Endpoint, error)) *Endpoint {
	before := footprintOf(s.path)
	for limit, failures := uint64(3), 0; ; limit, failures = limit+1, failures+1 {
		restore := s.limitFiles(limit)
		e, err := try()
		restore()
		if err == nil {
			if failures < least {
				s.fail("%s works after %d failures, want at least %d: the limit was not felt", what, failures, least)
			}
			return e
		}
		s.must(what, err, unix.EMFILE, "RLIMIT_NOFILE")
		nothingLeft(s, s.path, before)
	}
}

var _ = sceneOf("listen without descriptors", func(s *scene) {
	server := s.withEachFileLimit("Listen", 4, func() (*Endpoint, error) { return Listen(s.ctx, s.path, nil) })
	client, err := Dial(s.ctx, s.path, nil)
	if err != nil {
		s.fail("dial: %v", err)
	}
	s.exchange(server, client)
	s.closeBoth(server, client)
})

func TestListenWithoutDescriptorsLeavesNothing(t *testing.T) {
	path := testPath(t)
	playScene(t, "listen without descriptors", path)
	works(t, path)
}

var _ = sceneOf("dial without descriptors", func(s *scene) {
	client := s.withEachFileLimit("Dial", 4, func() (*Endpoint, error) { return Dial(s.ctx, s.path, nil) })
	m, err := client.Receive(s.ctx)
	if err != nil || string(m.Data) != "seven" {
		s.fail("received %+v, %v", m, err)
	}
	_ = m.Release()
	if err := client.Close(); err != nil {
		s.fail("close: %v", err)
	}
})

func TestC8DialWithoutDescriptorsRefusesTheWholeGrant(t *testing.T) {
	needsRealKernel(t, cutOffLeaks)
	path := testPath(t)
	server := listenHere(t, path, nil)
	if err := server.Send(testContext(t), 7, []byte("seven")); err != nil {
		t.Fatal(err)
	}
	playScene(t, "dial without descriptors", path)
	nextEvent(t, server, EventAttached)
	nextEvent(t, server, EventClosed)
	if got := server.Stats().Attachments; got != 1 {
		t.Errorf("%d attachments, want only the one with all descriptors", got)
	}
}

// A filler occupies descriptors.
type filler []int

// fill opens files until the process has no descriptor left.
func (f *filler) fill(s *scene) {
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			s.must("open", err, unix.EMFILE)
			return
		}
		*f = append(*f, fd)
	}
}

// free closes so many of them.
func (f *filler) free(count int) {
	closeAll((*f)[:count])
	*f = (*f)[count:]
}

var _ = sceneOf("serve without descriptors", func(s *scene) {
	accepted, handedOver := make(chan struct{}, 1000), make(chan struct{}, 1000)
	server, err := Listen(s.ctx, s.path, &Options{hook: func(at step.ID, _ uint64) {
		switch at {
		case step.ConnectionAccepted:
			accepted <- struct{}{}
		case step.TokenHandedOver:
			handedOver <- struct{}{}
		}
	}})
	if err != nil {
		s.fail("listen: %v", err)
	}
	go func() {
		for m, err := range server.Messages(s.ctx) {
			if err == nil {
				err = server.Send(s.ctx, m.Kind, m.Data)
				_ = m.Release()
			}
			if err != nil && !ended(err) {
				return
			}
		}
	}()
	s.say("listening")
	for event := range server.Events() {
		if event.Kind == EventAttached {
			break
		}
	}
	<-accepted
	<-handedOver // what admission needs is closed again
	restore := s.limitFiles(64)
	var files filler
	files.fill(s)
	s.say("full")
	s.next()
	for full := len(files); len(files) < full+2; { // the first client's connection and its process
		files.fill(s)
	}
	s.say("full again")
	s.next()
	files.free(1) // enough to accept; to admit, only if something else lets one go
	<-accepted
	s.say("accepted")
	s.next()
	files.free(len(files))
	restore()
	s.say("free")
	s.next()
	if err := server.Close(); err != nil {
		s.fail("close: %v", err)
	}
})

func TestAServerWithoutDescriptorsKeepsItsClientAndAdmitsTheNextLater(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	server := start(t, "scene", sceneArgument{"serve without descriptors", path})
	server.expect("listening")
	echo := func(client *Endpoint) {
		t.Helper()
		if err := client.Send(ctx, 1, pattern(1)); err != nil {
			t.Fatal(err)
		}
		m, err := client.Receive(ctx)
		if err != nil || checkPattern(m) != nil {
			t.Fatalf("the echo: %+v, %v", m, err)
		}
		_ = m.Release()
	}
	first := dialHere(t, path, nil)
	server.expect("full")
	echo(first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	server.tell("closed")
	server.expect("full again")
	waiting := make(chan *Endpoint)
	go func() { // it waits until there are descriptors again
		client, err := Dial(ctx, path, nil)
		if err != nil {
			t.Errorf("a client that waits in the backlog: %v", err)
		}
		waiting <- client
	}()
	server.tell("free one")
	server.expect("accepted")
	server.tell("free all")
	server.expect("free")
	second := <-waiting
	if second == nil {
		return
	}
	echo(second)
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	server.tell("close")
	server.expect("ok")
}

// limitMemory leaves so many bytes of address space: enough for the threads that
// the run time may start, and too little for a ring of 256 MiB, mapped twice.
func (s *scene) limitMemory(left uint64) {
	content, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		s.fail("%v", err)
	}
	pages, err := strconv.ParseUint(strings.Fields(string(content))[0], 10, 64)
	if err != nil {
		s.fail("%v", err)
	}
	limit := pages*uint64(os.Getpagesize()) + left
	if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		s.fail("setrlimit: %v", err)
	}
}

// enoughForThreads is more than the threads of a small process ever need, and
// less than a ring of 256 MiB takes, mapped twice.
const enoughForThreads = 384 << 20

var _ = sceneOf("listen without address space", func(s *scene) {
	before := footprintOf(s.path)
	s.limitMemory(enoughForThreads)
	for _, o := range []*Options{{ToServerSize: 256 << 20}, {ToClientSize: 256 << 20}} {
		_, err := Listen(s.ctx, s.path, o)
		s.must("Listen", err, unix.ENOMEM, "smaller ring")
		nothingLeft(s, s.path, before)
	}
	s.closeBoth(s.pair(nil))
	nothingLeft(s, s.path, before)
})

var _ = sceneOf("dial without address space", func(s *scene) {
	before := footprintOf("")
	s.limitMemory(enoughForThreads)
	_, err := Dial(s.ctx, s.path, nil)
	s.must("Dial", err, unix.ENOMEM, "smaller ring")
	nothingLeft(s, "", before)
})

func TestTooLittleAddressSpaceIsToldAndLeavesNothing(t *testing.T) {
	needsRealKernel(t, "qemu-user passes on no limit of the address space, which is its own too")
	path := testPath(t)
	playScene(t, "listen without address space", path)
	server := listenHere(t, path, &Options{ToServerSize: 256 << 20})
	before := footprintOf(path)
	playScene(t, "dial without address space", path)
	nothingLeft(t, path, before)
	client := dialHere(t, path, nil)
	if got := nextEvent(t, server, EventAttached); got.Attachment != client.Attachment() {
		t.Errorf("event of attachment %d, want %d: a client without memory never attached", got.Attachment, client.Attachment())
	}
}

// nobody is an unprivileged user and group.
const nobody = 65534

// become drops every privilege of the process.
func (s *scene) become(user int) {
	for _, err := range []error{syscall.Setgroups(nil), syscall.Setgid(user), syscall.Setuid(user)} {
		if err != nil {
			s.fail("become %d: %v", user, err)
		}
	}
}

var _ = sceneOf("use a closed directory", func(s *scene) {
	s.become(nobody)
	before := footprintOf("")
	_, err := Listen(s.ctx, s.path, nil)
	const shut = "may not go through the directory "
	s.must("Listen", err, fs.ErrPermission, "write in its directory", shut)
	_, err = Dial(s.ctx, s.path, nil)
	s.must("Dial", err, fs.ErrPermission, shut)
	s.must("Dial", err, ErrRefused)
	_, directory, _ := strings.Cut(err.Error(), shut)
	directory, _, _ = strings.Cut(directory, ":")
	if strings.Contains(err.Error(), "AllowUIDs") || !strings.HasPrefix(s.path, directory+"/") {
		s.fail("Dial blames the server, or another directory: %v", err)
	}
	_, err = Dial(s.ctx, "/proc/version", nil) // which this user may not write: there is no server to refuse him
	s.must("Dial", err, ErrForeign, "not a socket")
	nothingLeft(s, "", before)
})

var _ = sceneOf("dial as another user", func(s *scene) {
	s.become(nobody)
	before := footprintOf("")
	_, err := Dial(s.ctx, s.path, nil)
	s.must("Dial", err, ErrRefused, "AllowUIDs")
	_, err = Listen(s.ctx, s.path, nil)
	s.must("Listen", err, fs.ErrPermission, "write in its directory")
	nothingLeft(s, "", before)
})

var _ = sceneOf("exchange as another user", func(s *scene) {
	s.become(nobody)
	client, err := Dial(s.ctx, s.path, nil)
	if err != nil {
		s.fail("dial: %v", err)
	}
	s.say("attached")
	for m, err := range client.Messages(s.ctx) {
		if errors.Is(err, ErrPeerClosed) {
			break
		}
		if err != nil {
			s.fail("receive: %v", err)
		}
		if err := client.Send(s.ctx, m.Kind, m.Data); err != nil {
			s.fail("send: %v", err)
		}
		_ = m.Release()
	}
	if err := client.Close(); err != nil {
		s.fail("close: %v", err)
	}
})

// A directory that shuts a user out is named, and the server is not blamed for it.
func TestADirectoryThatShutsAUserOutIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		notRun(t, "only root becomes another user")
	}
	playScene(t, "use a closed directory", testPath(t))
}

func TestT2OnlyTheListedUsersMayAttach(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	path := testPath(t)
	playScene(t, "use a closed directory", path)
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, allowed := range map[string][]uint32{"nobody else": nil, "others": {1, 2, nobody - 1}} {
		server := listenHere(t, path, &Options{AllowUIDs: allowed})
		before := footprintOf(path)
		playScene(t, "dial as another user", path)
		nothingLeft(t, path, before)
		if got := server.Stats().Attachments; got != 0 {
			t.Errorf("with %s allowed: %d attachments, want none", name, got)
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
	}
	server := listenHere(t, path, &Options{AllowUIDs: []uint32{0, nobody}})
	client := start(t, "scene", sceneArgument{"exchange as another user", path})
	client.expect("attached")
	nextEvent(t, server, EventAttached)
	if got := server.Peer().UID; got != nobody {
		t.Errorf("the peer's user is %d, want %d", got, nobody)
	}
	if err := server.Send(testContext(t), 3, pattern(3)); err != nil {
		t.Fatal(err)
	}
	if m, err := server.Receive(testContext(t)); err != nil || checkPattern(m) != nil {
		t.Errorf("the answer: %+v, %v", m, err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	client.expect("ok")
	works(t, path)
}
