//go:build linux && (amd64 || arm64)

package tandemgrpc

import (
	"bufio"
	"context"
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
)

// The test binary plays the other process: a test starts it again with the name of a
// part in the environment, and it runs that part instead of the tests.
const partVariable = "TANDEM_TEST_PART"

var parts = map[string]func(arguments []string){}

func part(name string, play func(arguments []string)) bool {
	parts[name] = play
	return true
}

// watchdog bounds every wait of a test. It is a watchdog's bound, not a claim.
const watchdog = 2 * time.Minute

func TestMain(m *testing.M) {
	go lookOut()
	if name := os.Getenv(partVariable); name != "" {
		go listenToTheTest()
		parts[name](os.Args[1:])
		os.Exit(0)
	}
	code := m.Run()
	if left := goroutinesLeft(); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines are left behind:\n%s", left)
		code = 1
	}
	os.Exit(code)
}

// lookOut gives the process a timer: where it has none, Go 1.26 can stop the world
// for a minute.
func lookOut() {
	for range time.NewTicker(10 * time.Millisecond).C {
	}
}

// goroutinesLeft returns the stacks of goroutines that belong to a pair or to gRPC, after
// they were given time to end.
func goroutinesLeft() (left string) {
	for deadline := time.Now().Add(watchdog); time.Now().Before(deadline); runtime.Gosched() {
		left = ""
		for stack := range strings.SplitSeq(stacks(), "\n\n") {
			if strings.Contains(stack, "tandem/ipc") || strings.Contains(stack, "grpc/internal/transport") {
				left += stack + "\n\n"
			}
		}
		if left == "" {
			return ""
		}
	}
	return left
}

func stacks() string {
	buffer := make([]byte, 1<<20)
	return string(buffer[:runtime.Stack(buffer, true)])
}

// say sends one line to the test.
func say(format string, arguments ...any) { fmt.Printf(format+"\n", arguments...) }

func check(err error) {
	if err != nil {
		say("FAIL %v", err)
		os.Exit(5)
	}
}

// told has the lines that the test has written, by what they say.
var told = map[string]chan struct{}{"stop": make(chan struct{}), "answer": make(chan struct{}), "leave": make(chan struct{})}

// listenToTheTest ends the process when the test is gone, by whatever end: nobody else
// holds the other end of its standard input.
func listenToTheTest() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		told[lines.Text()] <- struct{}{}
	}
	os.Exit(4)
}

// A process is a part as the test sees it.
type process struct {
	t     testing.TB
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // what it says; closed at its end
	ended func() error
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

// start starts a part. It does not outlive the test.
func start(t testing.TB, name string, arguments ...string) *process {
	t.Helper()
	return startAs(t, nil, name, arguments...)
}

func startAs(t testing.TB, user *syscall.Credential, name string, arguments ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: exec.Command("/proc/self/exe", arguments...)}
	p.cmd.Env = append(os.Environ(), partVariable+"="+name)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: user}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error)
	starter() <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	p.stdin, p.lines, p.ended = stdin, make(chan string, 100), sync.OnceValue(p.cmd.Wait)
	t.Cleanup(p.kill)
	go func() {
		defer close(p.lines)
		for said := bufio.NewScanner(stdout); said.Scan(); {
			p.lines <- said.Text()
		}
	}()
	return p
}

// hear waits for a line.
func (p *process) hear() string {
	p.t.Helper()
	return within(p.t, p.name+" says something", func() string { return <-p.lines })
}

// expect waits for this line.
func (p *process) expect(want string) {
	p.t.Helper()
	if line := p.hear(); line != want {
		p.t.Fatalf("%s said %q, want %q", p.name, line, want)
	}
}

// tell writes a line to a part that waits for it in told.
func (p *process) tell(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

// wait waits for the end of a part that ends by itself, in good order.
func (p *process) wait() {
	p.t.Helper()
	if err := within(p.t, p.name+" ends", p.ended); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// kill ends the process with SIGKILL and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.ended()
}

// freeze stops the process, and waits until it has stopped.
func (p *process) freeze() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, p.name+" stops", func() bool {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		return strings.Contains(string(status), "State:\tT")
	})
}

func (p *process) thaw() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

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

// within returns what f returns, and fails the test if it does not return.
func within[T any](t testing.TB, what string, f func() T) T {
	t.Helper()
	returned := make(chan T, 1)
	go func() { returned <- f() }()
	select {
	case value := <-returned:
		return value
	case <-time.After(watchdog):
		t.Fatalf("does not return: %s\n%s", what, stacks())
		panic("unreachable")
	}
}
