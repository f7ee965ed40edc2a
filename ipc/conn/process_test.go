//go:build linux && (amd64 || arm64)

package conn

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The test binary plays the other process: a test starts it again with the name of
// a part in the environment, and it runs that part instead of the tests.
const partVariable = "TANDEM_TEST_PART"

var parts = map[string]func(path string){}

func part(name string, play func(path string)) bool {
	parts[name] = play
	return true
}

func TestMain(m *testing.M) {
	go lookOut()
	if name := os.Getenv(partVariable); name != "" {
		go exitWithTheTest()
		parts[name](os.Args[1])
		os.Exit(0)
	}
	code := m.Run()
	if left := goroutinesLeft(); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines of this package are left behind:\n%s", left)
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

// exitWithTheTest ends a player when the test is gone, by whatever end: nobody else
// holds the other end of its standard input.
func exitWithTheTest() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(4)
}

// goroutinesLeft returns the stacks of goroutines that run code of this package,
// after they were given time to end.
func goroutinesLeft() (left string) {
	for deadline := time.Now().Add(watchdog); time.Now().Before(deadline); runtime.Gosched() {
		left = ""
		for stack := range strings.SplitSeq(stacks(), "\n\n") {
			if strings.Contains(stack, "ipc/conn.(*") || strings.Contains(stack, "ipc.(*") || strings.Contains(stack, "ipc/conn.serve") {
				left += stack + "\n\n"
			}
		}
		if left == "" {
			return ""
		}
	}
	return left
}

// say sends one line to the test.
func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func check(err error) {
	if err != nil {
		say("FAIL %v", err)
		os.Exit(5)
	}
}

// A process is a test process as the test sees it.
type process struct {
	t     testing.TB
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner
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

// start starts the test binary as the given part. It does not outlive the test.
func start(t testing.TB, name, path string) *process {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, name: name, cmd: exec.Command(binary, path)}
	p.cmd.Env = append(os.Environ(), partVariable+"="+name)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
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
	p.stdin, p.lines, p.ended = stdin, bufio.NewScanner(stdout), sync.OnceValue(p.cmd.Wait)
	t.Cleanup(p.kill)
	return p
}

// expect waits for a line.
func (p *process) expect(want string) {
	p.t.Helper()
	line := within(p.t, p.name+" says "+want, func() string {
		p.lines.Scan()
		return p.lines.Text()
	})
	if line != want {
		p.t.Fatalf("%s said %q, want %q", p.name, line, want)
	}
}

// kill ends the process with SIGKILL and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.ended()
}

// freeze stops the process, and waits until each of its threads has stopped.
func (p *process) freeze() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		p.t.Fatal(err)
	}
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

func (p *process) thaw() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }
