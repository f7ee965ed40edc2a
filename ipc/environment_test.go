//go:build linux && (amd64 || arm64)

package ipc

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Machines and processes as they are: descriptors that are closed, file systems that
// are full, limits, namespaces, a processor for both. Each is played by a process of
// its own, and needs nothing installed.

// forbidden ends a scene that this machine does not let be played.
func (s *scene) forbidden(what string, err error) {
	s.say("forbidden %s: %v", what, err)
	os.Exit(0)
}

// playSceneIn is playScene in namespaces of its own.
func playSceneIn(t *testing.T, namespaces uintptr, name, path string) {
	t.Helper()
	needsRealKernel(t, "namespaces, mounts and limits are the kernel's")
	p := startIn(t, namespaces, "scene", sceneArgument{name, path})
	p.ends()
}

// ends waits for the good end of a scene, or for its word that it is forbidden.
func (p *process) ends() {
	p.t.Helper()
	p.says("ok")
}

// says waits for a word of a scene, or for its word that it is forbidden.
func (p *process) says(word string) {
	p.t.Helper()
	line := p.expect("")
	if why, found := strings.CutPrefix(line, "forbidden "); found {
		notRun(p.t, why)
	}
	if line != word {
		p.t.Fatalf("%s said %q, want %q", p.name, line, word)
	}
}

// hideStdout keeps the scene's own words out of the way of descriptor 1.
func (s *scene) hideStdout() {
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 100)
	if err != nil {
		s.fail("dup: %v", err)
	}
	os.Stdout = os.NewFile(uintptr(fd), "the test")
}

// checkStdioClosed fails if one of the standard descriptors stays open: it would be
// one of ours, and what the process prints would go there. The kernel gives such a
// number to a descriptor first, and it is moved up at once.
func (s *scene) checkStdioClosed(behind string) {
	deadline := time.Now().Add(watchdog / 2)
	for fd := 0; fd < 3; runtime.Gosched() {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == unix.EBADF {
			fd++
		} else if time.Now().After(deadline) {
			target, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
			s.fail("T4: descriptor %d is %s behind %s", fd, target, behind)
		}
	}
}

func closeStdio() { closeAll([]int{0, 1, 2}) }

// live plays a server and its clients, one of them corrupt: everything that makes a
// descriptor.
func (s *scene) live(begun func()) {
	server, client := s.pair(hostileOptions())
	begun()
	s.checkStdioClosed("an attachment")
	client.own.control.writePos.Store(7) // its memory is replaced
	if err := client.Close(); err != nil {
		s.fail("close: %v", err)
	}
	again, err := Dial(s.ctx, s.path, &Options{Wait: true})
	if err != nil {
		s.fail("dial again: %v", err)
	}
	s.exchangeBehindEnds(server, again)
	s.checkStdioClosed("an attachment in replaced memory")
	println("what the runtime prints goes nowhere")
	fmt.Fprintln(os.Stderr, "and what the program prints")
	s.closeBoth(server, again)
	s.checkStdioClosed("Close")
}

// exchangeBehindEnds is exchange with a server that has an end to tell first.
func (s *scene) exchangeBehindEnds(server, client *Endpoint) {
	if err := client.Send(s.ctx, 7, []byte("seven")); err != nil {
		s.fail("send: %v", err)
	}
	for {
		m, err := server.ReceiveInto(s.ctx, make([]byte, 5))
		if ended(err) {
			continue
		}
		if err != nil || m.Kind != 7 {
			s.fail("received %+v, %v", m, err)
		}
		return
	}
}

var _ = sceneOf("stdio is closed at the start", func(s *scene) {
	s.hideStdout()
	closeStdio()
	s.live(func() {})
})

var _ = sceneOf("stdio is closed later", func(s *scene) {
	s.hideStdout()
	s.live(closeStdio)
})

func TestT4StandardDescriptorsThatAreClosedStayClosed(t *testing.T) {
	for _, name := range []string{"stdio is closed at the start", "stdio is closed later"} {
		path := testPath(t)
		playSceneIn(t, 0, name, path)
		content, err := os.ReadFile(path + ".lock")
		if err != nil || bytes.Contains(content, []byte("prints")) || !bytes.HasPrefix(content, []byte("tandem lock file")) {
			t.Errorf("%s: the lock file says %q, %v", name, content, err)
		}
		works(t, path)
	}
}

// ownMounts makes mounts of this process its own, with a /proc of its namespace.
func (s *scene) ownMounts() {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		s.forbidden("private mounts", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		s.forbidden("a /proc of its own", err)
	}
}

// mountAt mounts a file system for this process alone.
func (s *scene) mountAt(kind, at, options string) {
	if err := os.MkdirAll(at, 0o755); err != nil {
		s.fail("%v", err)
	}
	if err := unix.Mount(kind, at, kind, 0, options); err != nil {
		s.forbidden("a mount of "+kind, err)
	}
}

const ownMountsOnly = unix.CLONE_NEWNS | unix.CLONE_NEWPID

var _ = sceneOf("a full file system", func(s *scene) {
	s.ownMounts()
	directory := filepath.Dir(s.path)
	s.mountAt("tmpfs", directory, "mode=0700,size=8k,nr_inodes=6")
	before := footprintOf("")
	fill := func(name string) (remove func()) {
		file := filepath.Join(directory, name)
		content := bytes.Repeat([]byte{1}, 64<<10)
		_ = os.WriteFile(file, content, 0o600) // as far as it goes
		return func() { _ = os.Remove(file) }
	}
	refused := func(what string) {
		_, err := Listen(s.ctx, s.path, nil)
		s.must("Listen beside "+what, err, unix.ENOSPC)
		nothingLeft(s, "", before)
		s.must("Dial beside "+what, s.dialOnce(), errNoServer)
	}
	remove := fill("bytes")
	refused("no bytes")
	remove()
	s.closeBoth(s.pair(nil))
	_ = os.Remove(s.path + ".lock")
	_ = os.Remove(s.path + ".token")
	var names []func()
	for i := range 5 {
		names = append(names, fill(fmt.Sprint(i)))
	}
	refused("no inodes")
	for _, remove := range names {
		remove()
	}
	s.closeBoth(s.pair(nil))
	nothingLeft(s, "", before)
})

func TestAFullFileSystemIsAnErrorOfListen(t *testing.T) {
	playSceneIn(t, ownMountsOnly, "a full file system", testPath(t))
}

var _ = sceneOf("a read-only directory", func(s *scene) {
	s.ownMounts()
	directory := filepath.Dir(s.path)
	if err := unix.Mount(directory, directory, "", unix.MS_BIND, ""); err != nil {
		s.forbidden("a bind mount", err)
	}
	if err := unix.Mount("", directory, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		s.forbidden("a read-only bind mount", err)
	}
	before := footprintOf("")
	_, err := Listen(s.ctx, s.path+"2", nil)
	s.must("Listen", err, unix.EROFS, "is read-only: use a path on another one")
	nothingLeft(s, "", before)
	client, err := Dial(s.ctx, s.path, nil)
	if err != nil {
		s.fail("dial: %v", err)
	}
	if m, err := client.Receive(s.ctx); err != nil || m.Release() != nil || checkPattern(m) != nil {
		s.fail("received %+v, %v", m, err)
	}
	if err := client.Close(); err != nil {
		s.fail("close: %v", err)
	}
})

func TestAClientNeedsToWriteNothingInTheDirectory(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, nil)
	sendAll(t, server, 3)
	playSceneIn(t, ownMountsOnly, "a read-only directory", path)
	nextEvent(t, server, EventAttached)
	nextEvent(t, server, EventClosed)
}

var _ = sceneOf("a lock file in the lower layer", func(s *scene) {
	s.ownMounts()
	directory := filepath.Dir(s.path)
	s.mountAt("tmpfs", directory, "mode=0700,size=16m")
	layers := map[string]string{}
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		layers[name] = filepath.Join(directory, name)
		if err := os.Mkdir(layers[name], 0o755); err != nil {
			s.fail("%v", err)
		}
	}
	s.path = filepath.Join(layers["lower"], "s")
	s.closeBoth(s.pair(nil)) // leaves its lock file in what becomes the lower layer
	s.mountAt("overlay", layers["merged"], fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", layers["lower"], layers["upper"], layers["work"]))
	s.path = filepath.Join(layers["merged"], "s")
	server, client := s.pair(nil)
	if server.Generation() != 2 {
		s.fail("the server has generation %d, want 2: the lock file counts", server.Generation())
	}
	_, err := Listen(s.ctx, s.path, nil)
	s.must("a second Listen", err, ErrServerRunning)
	_, err = Dial(s.ctx, s.path, nil)
	s.must("a second Dial", err, ErrClientRunning)
	s.closeBoth(server, client)
	s.closeBoth(s.pair(nil))
})

func TestL1L2ALockFileOnOverlayfsLocks(t *testing.T) {
	playSceneIn(t, ownMountsOnly, "a lock file in the lower layer", testPath(t))
}

// The kernel refuses O_CREAT on a file that is there and another's, in a directory like
// /tmp (fs.protected_regular): a server that root starts there finds a user's. It is
// played by a filter, for the setting is the whole machine's.
var _ = sceneOf("protected regular files", func(s *scene) {
	s.closeBoth(s.pair(nil)) // leaves its files
	for _, mode := range []uint32{0, oursMode} {
		flags := argument{2, openFlags | unix.O_CREAT}
		if err := deny(unix.SYS_OPENAT, unix.EACCES, flags, argument{3, mode}); err != nil {
			s.forbidden("a filter", err)
		}
	}
	server, client := s.pair(nil)
	if server.Generation() != 2 {
		s.fail("the server has generation %d, want 2", server.Generation())
	}
	s.closeBoth(server, client)
})

func TestL1FilesOfAnotherUserAreOpenedAndNotMade(t *testing.T) {
	playScene(t, "protected regular files", testPath(t))
}

// setLimit sets a limit of this process, for good.
func (s *scene) setLimit(resource int, limit uint64) {
	if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		s.forbidden("a limit", err)
	}
}

var _ = sceneOf("a limit of the size of files", func(s *scene) {
	before := footprintOf(s.path)
	s.setLimit(unix.RLIMIT_FSIZE, 100<<10)
	_, err := Listen(s.ctx, s.path, nil)
	s.must("Listen", err, unix.EFBIG, "RLIMIT_FSIZE")
	nothingLeft(s, s.path, before)
	s.closeBoth(s.pair(hostileOptions()))
})

// The limit stops the write of the lock file's text in its middle.
var _ = sceneOf("a limit of the size of files below that of the lock file", func(s *scene) {
	s.setLimit(unix.RLIMIT_FSIZE, uint64(textSize/2))
	_, err := Listen(s.ctx, s.path, nil)
	s.must("Listen", err, unix.EFBIG, ".lock", "RLIMIT_FSIZE")
})

var _ = sceneOf("a limit of locked memory", func(s *scene) {
	s.setLimit(unix.RLIMIT_MEMLOCK, 0)
	if err := os.Chdir(filepath.Dir(s.path)); err != nil {
		s.fail("%v", err)
	}
	s.path = filepath.Base(s.path) // the directory's parent may be closed to nobody
	if os.Geteuid() == 0 {
		s.become(nobody)
	}
	s.closeBoth(s.pair(nil))
})

func TestLimitsOfFilesAndOfLockedMemory(t *testing.T) {
	path := testPath(t)
	playSceneIn(t, 0, "a limit of the size of files", path)
	playSceneIn(t, 0, "a limit of the size of files below that of the lock file", testPath(t))
	path = testPath(t)
	if os.Geteuid() == 0 { // the scene becomes one whom the limit holds for
		if err := os.Chown(filepath.Dir(path), nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	playSceneIn(t, 0, "a limit of locked memory", path)
}

// onOneProcessor leaves this process one processor, of the kernel and of Go.
func (s *scene) onOneProcessor() {
	first, _, err := allowedProcessors()
	if err == nil {
		err = runOnOne(first)
	}
	if err != nil {
		s.forbidden("one processor", err)
	}
	runtime.GOMAXPROCS(1)
}

const roundsOnOneProcessor = 2000

var _ = sceneOf("echo on one processor", func(s *scene) {
	s.onOneProcessor()
	client, err := Dial(s.ctx, s.path, nil)
	if err != nil {
		s.fail("dial: %v", err)
	}
	s.say("attached")
	for range roundsOnOneProcessor {
		m, err := client.Receive(s.ctx)
		if err == nil {
			err = client.Send(s.ctx, m.Kind, m.Data)
		}
		if err == nil {
			err = m.Release()
		}
		if err != nil {
			s.fail("echo: %v", err)
		}
	}
	if err := client.Close(); err != nil {
		s.fail("close: %v", err)
	}
})

var _ = sceneOf("call on one processor", func(s *scene) {
	s.onOneProcessor()
	server, err := Listen(s.ctx, s.path, nil)
	if err != nil {
		s.fail("listen: %v", err)
	}
	s.say("listening")
	for kind := range uint32(roundsOnOneProcessor) {
		if err := server.Send(s.ctx, kind, pattern(kind)); err != nil {
			s.fail("send: %v", err)
		}
		m, err := server.Receive(s.ctx)
		if err == nil && m.Kind != kind {
			err = errors.New("another message")
		}
		if err == nil {
			err = checkPattern(m)
		}
		if err == nil {
			err = m.Release()
		}
		if err != nil {
			s.fail("round %d: %v", kind, err)
		}
	}
	if err := server.Close(); err != nil {
		s.fail("close: %v", err)
	}
})

func TestM7BothProcessesOnOneProcessorGoOn(t *testing.T) {
	path := testPath(t)
	server := start(t, "scene", sceneArgument{"call on one processor", path})
	server.expect("listening")
	client := start(t, "scene", sceneArgument{"echo on one processor", path})
	client.expect("attached")
	client.ends()
	server.ends()
}

// wallClock is what reads or compares the time of day, which jumps. Everything that
// ipc waits for is measured by the monotonic clock, which a time.Time of Now carries.
var wallClock = map[string]string{
	"Unix": "", "UnixNano": "", "UnixMilli": "", "UnixMicro": "", "Date": "", "UTC": "", "Local": "", "In": "", "Round": "", "Truncate": "",
	"CLOCK_REALTIME": "", "CLOCK_TAI": "", "Gettimeofday": "", "TimerfdCreate": "",
}

func TestL5L6OnlyTheMonotonicClockDecides(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if of, ok := selector.X.(*ast.Ident); ok && of.Name == "time" && selector.Sel.Name == "Now" {
				looked++
			}
			if _, found := wallClock[selector.Sel.Name]; found {
				t.Errorf("%s: %s depends on the time of day", set.Position(selector.Pos()), selector.Sel.Name)
			}
			return true
		})
	}
	if looked == 0 {
		t.Error("nobody looks at the time, so nothing was checked")
	}
}
