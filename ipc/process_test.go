//go:build linux && (amd64 || arm64)

package ipc

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"

	"golang.org/x/sys/unix"
)

// The test binary plays the other process: a test starts it again with the name
// of a part in the environment, and it runs that part instead of the tests.
const (
	partVariable = "TANDEM_TEST_PART"
)

// parts are the programs that a test process can play. Each registers itself in
// the file of the tests that need it, by a package variable:
//
//	var _ = part("echo", func(p *player) { ... })
var parts = map[string]func(*player){}

func part(name string, play func(*player)) bool {
	parts[name] = play
	return true
}

func TestMain(m *testing.M) {
	if os.Getenv(olderKernelVariable) != "" {
		if err := deny(unix.SYS_FUTEX_WAITV, unix.ENOSYS); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
	}
	go lookOut()
	if name := os.Getenv(partVariable); name != "" {
		play, ok := parts[name]
		if !ok {
			fmt.Fprintf(os.Stderr, "no part %q\n", name)
			os.Exit(3)
		}
		go exitWithTheTest()
		p := &player{lines: bufio.NewScanner(os.Stdin)}
		p.ctx, p.cancel = context.WithCancel(context.Background())
		if !p.lines.Scan() { // the argument comes first
			os.Exit(3)
		}
		p.argument = []byte(p.lines.Text())
		play(p)
		os.Exit(0)
	}
	status := m.Run()
	if noWaitv.Load() {
		fmt.Println(waitvMissed)
	}
	os.Exit(status)
}

// lookOut gives the process a timer: where it has none, Go 1.26 can stop the world
// for a minute, and a call that is done looks like one that does not come back.
func lookOut() {
	for range time.NewTicker(10 * time.Millisecond).C {
	}
}

// exitWithTheTest ends a player when the test that started it is gone, by
// whatever end: nobody else holds the other end of this pipe.
func exitWithTheTest() {
	_, _ = io.Copy(io.Discard, os.NewFile(3, "the test"))
	os.Exit(4)
}

// A player is the inside of a test process.
type player struct {
	ctx      context.Context
	cancel   context.CancelFunc
	argument []byte
	lines    *bufio.Scanner
	mu       sync.Mutex
}

// arg decodes the argument of the part.
func (p *player) arg(into any) {
	if err := json.Unmarshal(p.argument, into); err != nil {
		p.fail("argument: %v", err)
	}
}

// say sends one line to the test.
func (p *player) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Printf(format+"\n", args...)
}

// next waits for one line from the test. When the test is gone, so is the player.
func (p *player) next() string {
	if !p.lines.Scan() {
		os.Exit(4)
	}
	return p.lines.Text()
}

// untilStdinEnds exits with the test, for players that do not listen to it.
func (p *player) untilStdinEnds() {
	for p.lines.Scan() {
	}
	os.Exit(4)
}

func (p *player) fail(format string, args ...any) {
	p.say("FAIL "+format, args...)
	os.Exit(5)
}

// signalAt returns a hook that sends a signal to this process, as SIGKILL or
// SIGSTOP, when it reaches a step for the n-th time; n counts from 1. The calling
// thread goes no further.
func signalAt(at step.ID, n int, signal syscall.Signal) func(step.ID, uint64) {
	var mu sync.Mutex
	count := 0
	return func(reached step.ID, _ uint64) {
		if reached != at {
			return
		}
		mu.Lock()
		count++
		hit := count == n
		mu.Unlock()
		if hit {
			// To this thread: it takes the signal before it returns from the
			// call, where another thread would take it a little later.
			runtime.LockOSThread()
			_ = syscall.Tgkill(syscall.Getpid(), syscall.Gettid(), signal)
			runtime.UnlockOSThread()
		}
	}
}

// stepNamed finds a step by its name.
func stepNamed(name string) step.ID {
	for _, s := range step.All() {
		if s.String() == name {
			return s
		}
	}
	return 0
}

// A process is a test process as the test sees it.
type process struct {
	t     testing.TB
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
	done  chan struct{} // closed when it has ended and was waited for
	err   error         // of Wait, valid behind done
	log   *syncBuffer
}

// starter starts processes on one thread that never ends: the kernel sends the
// parent's death signal when the thread ends that started the child.
var starter = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// start starts the test binary as the given part. The process does not outlive
// the test, whatever happens: it sees the end of its pipe, and the kernel kills
// one that is stopped and sees nothing.
func start(t testing.TB, name string, argument any) *process {
	t.Helper()
	return startIn(t, 0, name, argument)
}

// notRun skips a test that this machine forbids, and says so where everything is to
// be checked.
func notRun(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		fmt.Fprintf(os.Stderr, "NOT RUN: %s: %s\n", t.Name(), why)
	}
	t.Skip("NOT RUN: " + why)
}

const firstInherited = 4 // behind standard input, output, errors and the leash

// startIn is start in namespaces of its own, CLONE_NEWPID and so on. Where that is
// forbidden the test is not run. What the process inherits begins at firstInherited.
func startIn(t testing.TB, namespaces uintptr, name string, argument any, inherits ...*os.File) *process {
	t.Helper()
	encoded, err := json.Marshal(argument)
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, name: name, cmd: exec.Command(binary), lines: make(chan string, 4096), done: make(chan struct{}), log: &syncBuffer{}}
	// One arena: where the C library is linked in, each thread would reserve its
	// own, which tests that limit the address space would meet.
	p.cmd.Env = append(os.Environ(), partVariable+"="+name, "MALLOC_ARENA_MAX=1")
	p.cmd.Stderr = p.log
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	leash, held, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer leash.Close()
	p.cmd.ExtraFiles = append([]*os.File{leash}, inherits...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: namespaces}
	if namespaces != 0 && os.Geteuid() != 0 { // who is not root may be root in a user namespace
		attributes := p.cmd.SysProcAttr
		attributes.Cloneflags |= syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	started := make(chan error)
	starter() <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		_, _ = held.Close(), stdout.Close()
		if namespaces != 0 {
			notRun(t, fmt.Sprintf("namespaces are forbidden: %v", err))
		}
		t.Fatal(err)
	}
	go func() {
		defer held.Close()
		scanner := bufio.NewScanner(stdout)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			p.lines <- scanner.Text()
		}
		close(p.lines)
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() && p.log.String() != "" {
			t.Logf("%s wrote: %s", name, p.log.String())
		}
	})
	p.tell("%s", encoded)
	return p
}

// tell sends one line to the process. A process that is gone does not mind.
func (p *process) tell(format string, args ...any) { fmt.Fprintf(p.stdin, format+"\n", args...) }

// expect waits for a line that begins with prefix, and returns what follows.
// Any other line fails the test.
func (p *process) expect(prefix string) string {
	p.t.Helper()
	select {
	case line, ok := <-p.lines:
		if !ok {
			<-p.done
			p.t.Fatalf("%s ended (%v), want a line %q; it wrote: %s", p.name, p.err, prefix, p.log.String())
		}
		rest, found := strings.CutPrefix(line, prefix)
		if !found {
			p.skips(line)
			p.t.Fatalf("%s said %q, want %q", p.name, line, prefix)
		}
		return strings.TrimSpace(rest)
	case <-time.After(watchdog):
		p.t.Fatalf("%s says nothing, want %q; goroutines of the test:\n%s", p.name, prefix, stacks())
	}
	return ""
}

// kill ends the process with SIGKILL and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	p.wait()
}

// signal sends a signal to the process through its handle.
func (p *process) signal(signal syscall.Signal) { _ = p.cmd.Process.Signal(signal) }

// wait waits for the end of the process and returns the signal that ended it, or
// 0 if it exited.
func (p *process) wait() syscall.Signal {
	p.t.Helper()
	_ = p.stdin.Close()
	timeout := time.After(watchdog)
	for {
		select {
		case <-p.done:
			if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				return status.Signal()
			}
			return 0
		case _, ok := <-p.lines: // nobody listens any more
			if !ok {
				p.lines = nil
			}
		case <-timeout:
			_ = p.cmd.Process.Kill()
			p.t.Fatalf("%s does not end", p.name)
		}
	}
}

// awaitDeath waits until the process was killed by its own hook, without
// touching its standard input before.
func (p *process) awaitDeath() {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(watchdog):
		p.t.Fatalf("%s was to die at a step and lives: the step was never reached", p.name)
	}
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		p.t.Fatalf("%s ended with %v, want SIGKILL at a step: the step was never reached; it wrote: %s", p.name, p.err, p.log.String())
	}
}

// watchdog bounds every wait of a test. It is a watchdog's bound, not a claim;
// chaos/mutants_test.go, whose tests are to fail, makes it shorter.
var watchdog = func() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("TANDEM_TEST_WATCHDOG")); err == nil {
		return d
	}
	return 60 * time.Second
}()

// testContext ends with the test or the watchdog.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	t.Cleanup(cancel)
	return ctx
}

// testPath is a fresh path for a socket, short enough for its address.
func testPath(t testing.TB) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "tandem")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	return filepath.Join(directory, "s")
}

// eventually waits until the condition holds; the watchdog bounds it.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(watchdog); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s\n%s", what, stacks())
		}
	}
}

// nextEvent waits for the next event and checks its kind.
func nextEvent(t testing.TB, e *Endpoint, want EventKind) Event {
	t.Helper()
	for {
		select {
		case event, ok := <-e.Events():
			switch {
			case ok && event.Kind == want:
				return event
			case ok && (event.Kind == EventHung || event.Kind == EventRecovered):
				// A starved machine makes anybody silent for a while.
			default:
				t.Fatalf("event %+v, want %v", event, want)
			}
		case <-time.After(watchdog):
			t.Fatalf("no event, want %v\n%s", want, stacks())
		}
	}
}

// awaitStopped waits until every thread of the process is stopped by SIGSTOP.
func (p *process) awaitStopped() {
	p.t.Helper()
	eventually(p.t, p.name+" stops", func() bool {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid))
		for _, thread := range threads {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", p.cmd.Process.Pid, thread.Name()))
			if !strings.Contains(string(status), "State:\tT") {
				return false
			}
		}
		return err == nil && len(threads) > 0
	})
}

// awaitState waits until the endpoint sees its peer in a state.
func awaitState(t testing.TB, e *Endpoint, want PeerState) {
	t.Helper()
	eventually(t, "the peer is "+want.String(), func() bool { return e.Peer().State == want })
}

func stacks() string {
	buffer := make([]byte, 1<<20)
	return string(buffer[:runtime.Stack(buffer, true)])
}

// A syncBuffer collects what a process writes to its standard error.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
