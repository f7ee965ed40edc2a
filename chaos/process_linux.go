package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// partVariable names the part that a process plays.
const partVariable = "TANDEM_CHAOS_PART"

// leashFd is the number of the leash in a player: a pipe whose other end only
// the process that started it holds.
const leashFd = 3

// The exit statuses of a player.
const (
	exitNoPart  = 3
	exitOrphan  = 4 // the process that started it is gone
	exitMistake = 5 // it said FAIL first
)

// parts are the programs that a process can play.
var parts = map[string]func(*player){}

// register makes a part known, by a package variable in the part's file:
//
//	var _ = register("echo", func(p *player) { ... })
func register(name string, play func(*player)) bool {
	parts[name] = play
	return true
}

// Main plays the part that the environment names, and does not return then.
// Without one it returns at once. It is called first in the main function of a
// binary that runs a layer with processes of its own, and in its TestMain.
func Main() {
	name := os.Getenv(partVariable)
	if name == "" {
		return
	}
	play, ok := parts[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "no part %q\n", name)
		os.Exit(exitNoPart)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(leashFd, "leash"))
		os.Exit(exitOrphan)
	}()
	p := &player{lines: bufio.NewReader(os.Stdin), argument: []byte("null")}
	p.argument = []byte(p.next())
	if !stepped[name] {
		postLookout()
	}
	play(p)
	os.Exit(0)
}

// A player is the inside of a process that plays a part.
type player struct {
	argument []byte
	lines    *bufio.Reader
}

// arg decodes the argument of the part.
func (p *player) arg(into any) {
	if err := json.Unmarshal(p.argument, into); err != nil {
		p.fail("argument: %v", err)
	}
}

// say sends one line to the process that started this one: in one write, so
// that lines of several goroutines do not mix and none is lost by a kill.
func (p *player) say(format string, args ...any) {
	_, _ = os.Stdout.WriteString(fmt.Sprintf(format, args...) + "\n")
}

// next waits for one line. When the other process is gone, so is this one.
func (p *player) next() string {
	line, err := p.lines.ReadString('\n')
	if err != nil {
		os.Exit(exitOrphan)
	}
	return strings.TrimSuffix(line, "\n")
}

func (p *player) fail(format string, args ...any) {
	p.say("FAIL "+format, args...)
	os.Exit(exitMistake)
}

// signalSelf sends a signal, as SIGKILL or SIGSTOP, to the calling thread: it
// takes it before it returns from the call, where another thread would take it a
// little later.
func signalSelf(signal syscall.Signal) {
	runtime.LockOSThread()
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), signal)
	runtime.UnlockOSThread()
}

// A process is a player as the process that started it sees it.
type process struct {
	part  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string   // what it says; closed at its end
	done  chan struct{} // closed when it has ended and was waited for
	log   *tail         // what it wrote to its standard error

	mu    sync.Mutex // guards the pidfd, which is -1 when it was closed
	pidfd int
}

// start starts this binary again as the given part. The process does not
// outlive this one: the kernel kills it when its parent dies, and its leash ends
// it where the kernel cannot tell.
func start(part string, argument any) (*process, error) {
	p := &process{part: part, pidfd: -1, lines: make(chan string, 4096), done: make(chan struct{}), log: &tail{}}
	c, err := cast(part, argument, p.log)
	if err != nil {
		return nil, err
	}
	defer c.leash.Close()
	p.cmd, p.stdin = c.cmd, c.stdin
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := startOnLastingThread(p.cmd); err != nil {
		_ = c.held.Close()
		return nil, err
	}
	// Not by SysProcAttr.PidFD, which an emulator (qemu-user) refuses. The number is
	// nobody else's until listen has waited for the process.
	if p.pidfd, err = unix.PidfdOpen(p.cmd.Process.Pid, 0); err != nil {
		p.pidfd = -1
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		_ = c.held.Close()
		return nil, fmt.Errorf("open a pidfd of %s: %w", part, err)
	}
	go p.listen(c.stdout, c.held)
	p.tell("%s", c.argument)
	return p, nil
}

// A casting is a process that is about to be started to play a part.
type casting struct {
	cmd      *exec.Cmd
	stdin    io.WriteCloser
	stdout   io.ReadCloser
	leash    *os.File // the process's end of the leash; ours is closed once it has started
	held     *os.File // our end: the process ends when it is closed
	argument []byte   // its first line
}

// cast prepares this binary to play a part.
func cast(part string, argument any, log io.Writer) (c casting, err error) {
	postLookout()
	if c.argument, err = json.Marshal(argument); err != nil {
		return c, err
	}
	binary, err := os.Executable()
	if err != nil {
		return c, err
	}
	c.cmd = exec.Command(binary)
	c.cmd.Env = append(os.Environ(), partVariable+"="+part)
	c.cmd.Stderr = log
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return c, err
	}
	if c.stdout, err = c.cmd.StdoutPipe(); err != nil {
		return c, err
	}
	if c.leash, c.held, err = os.Pipe(); err != nil {
		return c, err
	}
	c.cmd.ExtraFiles = []*os.File{c.leash}
	return c, nil
}

// listen takes what the process says, until its end. Once that is known, nothing of
// the process is open any more but its pidfd.
func (p *process) listen(stdout io.Reader, held *os.File) {
	reader := bufio.NewReader(stdout)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			break // what a killed process has not finished is not said
		}
		p.lines <- strings.TrimSuffix(line, "\n")
	}
	close(p.lines)
	_ = p.cmd.Wait()
	_ = held.Close()
	close(p.done)
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

func startOnLastingThread(cmd *exec.Cmd) error {
	result := make(chan error)
	starter() <- func() { result <- cmd.Start() }
	return <-result
}

// tell sends one line to the process. One that is gone does not mind.
func (p *process) tell(format string, args ...any) { fmt.Fprintf(p.stdin, format+"\n", args...) }

// hear waits for the next line. It returns errEnded at the end of the process.
func (p *process) hear(ctx context.Context) (string, error) {
	select {
	case line, ok := <-p.lines:
		if !ok {
			<-p.done
			return "", fmt.Errorf("%s: %w (%v)%s", p.part, errEnded, p.cmd.ProcessState, p.log)
		}
		return line, nil
	case <-ctx.Done():
		return "", fmt.Errorf("%s says nothing: %w%s", p.part, context.Cause(ctx), p.log)
	}
}

// expect waits for a line that begins with prefix, and returns what follows.
func (p *process) expect(ctx context.Context, prefix string) (string, error) {
	line, err := p.hear(ctx)
	if err != nil {
		return "", fmt.Errorf("want %q: %w", prefix, err)
	}
	rest, found := strings.CutPrefix(line, prefix)
	if !found {
		return "", fmt.Errorf("%s said %q, want %q%s", p.part, line, prefix, p.log)
	}
	return strings.TrimSpace(rest), nil
}

// ask tells the process to do something and returns what it answers behind want.
func (p *process) ask(ctx context.Context, want, line string) (string, error) {
	p.tell("%s", line)
	return p.expect(ctx, want)
}

// signal sends a signal to the process, by its pidfd and not by its number.
func (p *process) signal(signal syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd < 0 {
		return os.ErrProcessDone
	}
	return unix.PidfdSendSignal(p.pidfd, signal, nil, 0)
}

// wait waits for the end of the process and returns the signal that ended it, or
// 0 if it exited. What it still says is dropped. It tells a process that reads
// that nothing more comes, which ends it.
func (p *process) wait(ctx context.Context) (syscall.Signal, error) {
	_ = p.stdin.Close()
	return p.awaitEnd(ctx)
}

// awaitEnd is wait without a word to the process: it is to end by itself.
func (p *process) awaitEnd(ctx context.Context) (syscall.Signal, error) {
	lines := p.lines
	for {
		select {
		case <-p.done:
			p.forget()
			if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
				return status.Signal(), nil
			}
			return 0, nil
		case _, ok := <-lines:
			if !ok {
				lines = nil
			}
		case <-ctx.Done():
			return 0, fmt.Errorf("%s does not end: %w%s", p.part, context.Cause(ctx), p.log)
		}
	}
}

// forget closes the handle of a process that was waited for.
func (p *process) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd >= 0 {
		_ = unix.Close(p.pidfd)
		p.pidfd = -1
	}
}

// kill ends the process with SIGKILL and waits for it.
func (p *process) kill() {
	_ = p.signal(syscall.SIGKILL)
	_, _ = p.wait(context.Background())
}

// pause is what awaitStop found.
type pause int

const (
	stopped pause = iota + 1 // every thread of the process is stopped
	ended                    // it has ended instead
)

// awaitStop waits, in the kernel, until the process is stopped or has ended. The
// channel gets one value; a process that does neither keeps it waiting. It waits by
// a descriptor of its own: the pidfd may be closed meanwhile, and its number another
// process's.
func (p *process) awaitStop() <-chan pause {
	found := make(chan pause, 1)
	p.mu.Lock()
	pidfd, err := unix.FcntlInt(uintptr(p.pidfd), unix.F_DUPFD_CLOEXEC, 0)
	p.mu.Unlock()
	if err != nil { // it was waited for
		found <- ended
		return found
	}
	go func() {
		defer unix.Close(pidfd)
		for {
			var info unix.Siginfo
			err := unix.Waitid(unix.P_PIDFD, pidfd, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case err == nil && info.Code == cldStopped:
				// Taken, so that the next stop is seen as another.
				_ = unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WSTOPPED|unix.WNOHANG, nil)
				found <- stopped
			default:
				found <- ended
			}
			return
		}
	}()
	return found
}

const cldStopped = 5 // CLD_STOPPED of <asm-generic/siginfo.h>

// A tail keeps the end of what a process writes to its standard error.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if excess := len(t.text) - tailSize; excess > 0 {
		t.text = append(t.text[:0], t.text[excess:]...)
	}
	return len(p), nil
}

// String is empty, or the text with an introduction.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.text) == 0 {
		return ""
	}
	return "; it wrote: " + string(t.text)
}
