package worker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// variable tells a worker what it is: the number of its start, MaxMessage, and the path of
// its channel.
const variable = "TANDEM_WORKER"

// asksVariable tells it MaxAsks. It is apart so that a worker of an older version gets as far
// as its hello, which says what is wrong.
const asksVariable = "TANDEM_WORKER_ASKS"

// isWorker is asked before Serve forgets it.
var isWorker = os.Getenv(variable) != ""

// IsWorker reports whether a pool has started this process: then its main function
// calls Serve. So one program can be both service and worker. A test of a service whose
// workers are Self asks in TestMain.
func IsWorker() bool { return isWorker }

// Self is a Config.Command that starts this program again, with the same environment and
// the given arguments. It starts what lies at the program's path then: if that was
// replaced by another version, the next start is of that one, be it Replace or after a
// death. Who does not want that gives each version a path of its own.
func Self(arguments ...string) func() *exec.Cmd {
	return func() *exec.Cmd {
		program, err := os.Executable()
		if err != nil {
			program = os.Args[0]
		}
		return exec.Command(program, arguments...)
	}
}

// outputTimeout is how long the last lines of an ended process are waited for: a
// process that it left behind may hold the pipe open.
const outputTimeout = time.Second

// A starter starts processes on one thread, which lives as long as the pool: the
// kernel sends the parent's death signal when the thread ends that started the
// child, and Go ends threads.
type starter chan<- func()

func newStarter() starter {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for job := range jobs {
			job()
		}
	}()
	return jobs
}

func (s starter) stop() { close(s) }

func (s starter) start(cmd *exec.Cmd) error {
	done := make(chan error)
	s <- func() { done <- cmd.Start() }
	return <-done
}

// termsVariable tells it the generation of its channel, and what a pool must agree to that
// takes it over. It is set only if one may.
const termsVariable = "TANDEM_WORKER_TERMS"

// A process is a worker's process. The nil process takes every call and does nothing.
type process struct {
	cmd    *exec.Cmd // nil if it was adopted, as is output; then pidfd is set
	output *output
	pidfd  *os.File
	pid    int
	begun  time.Time
	killed atomic.Int64     // when kill was first called, in nanoseconds of its life; 0: never
	ended  chan struct{}    // closed when the process has ended
	state  *os.ProcessState // how it ended; nil if that is not known. Set before ended is closed
}

// launch starts a worker's process.
func (s *slot) launch(y *stay) (*process, error) {
	p := s.pool
	cmd, err := p.command()
	if err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Environ(), fmt.Sprintf("%s=%d:%d:%s", variable, y.start, p.config.MaxMessage, s.endpoint.Path()), fmt.Sprintf("%s=%d", asksVariable, p.config.MaxAsks))
	if p.config.Outlive && !p.private {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d:%s", termsVariable, s.endpoint.Generation(), p.config.terms(cmd)))
	}
	confine(cmd, p.config.Outlive)
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = outputTimeout // for readers and writers that the caller has set
	}
	var pipes pipes
	defer pipes.closeTheirs()
	err = errors.Join(pipes.connect(&cmd.Stdout, "stdout"), pipes.connect(&cmd.Stderr, "stderr"))
	if err == nil {
		err = p.starter.start(cmd)
	}
	if err != nil {
		pipes.closeOurs()
		return nil, err
	}
	o := &output{pool: p, worker: s.index, pid: cmd.Process.Pid}
	for _, pipe := range pipes {
		o.follow(pipe.stream, pipe.ours, pipe.stream == "stderr")
	}
	process := &process{cmd: cmd, output: o, pid: cmd.Process.Pid, begun: time.Now(), ended: make(chan struct{})}
	pidfd := pidfdOf(process.pid)
	go func() {
		process.see(pidfd)
		pipes.setDeadline(time.Now().Add(outputTimeout))
		close(process.ended)
	}()
	return process, nil
}

// statusTimeout is how long the status of an ended process is waited for, and then how
// often it is looked for.
const statusTimeout = time.Second

// see returns after the process has ended. Its pidfd, if there is one, says that it has.
// As a rule see has its status then. But the kernel gives that to a tracer first, and a
// worker can have a tracer that never takes it. Then the status stays unknown, and a
// goroutine without a thread reaps the process when the tracer has gone.
func (p *process) see(pidfd *os.File) {
	if pidfd != nil {
		awaitPidfd(pidfd)
		_ = pidfd.Close()
		begun := time.Now()
		for wait := 50 * time.Microsecond; !hasStatus(p.pid); wait *= 2 {
			if time.Since(begun) > statusTimeout {
				go func() {
					for !hasStatus(p.pid) {
						time.Sleep(statusTimeout)
					}
					_ = p.cmd.Wait()
				}()
				return
			}
			time.Sleep(wait)
		}
	}
	_ = p.cmd.Wait() // ProcessState says how it ended
	p.state = p.cmd.ProcessState
}

// command calls Config.Command, in a goroutine of its own: the user's code may end it.
func (p *Pool) command() (*exec.Cmd, error) {
	var cmd *exec.Cmd
	err := errors.New("worker: Config.Command has ended its goroutine")
	called := make(chan struct{})
	go func() {
		defer close(called)
		if cmd, err = p.config.Command(), nil; cmd == nil {
			err = errors.New("worker: Config.Command returned nil")
		}
	}()
	<-called
	return cmd, err
}

// pipes are the streams of a process that the pool reads.
type pipes []struct {
	stream       string
	ours, theirs *os.File
}

// connect makes a pipe for a stream that the caller has not set.
func (p *pipes) connect(to *io.Writer, stream string) error {
	if *to != nil {
		return nil
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	*to = theirs
	*p = append(*p, struct {
		stream       string
		ours, theirs *os.File
	}{stream, ours, theirs})
	return nil
}

func (p *pipes) closeTheirs() {
	for _, pipe := range *p {
		_ = pipe.theirs.Close()
	}
}

func (p *pipes) closeOurs() {
	for _, pipe := range *p {
		_ = pipe.ours.Close()
	}
}

func (p *pipes) setDeadline(at time.Time) {
	for _, pipe := range *p {
		_ = pipe.ours.SetReadDeadline(at)
	}
}

// kill sends SIGKILL, through the handle that the process was started with.
func (p *process) kill() {
	if p != nil {
		p.killed.CompareAndSwap(0, max(1, int64(time.Since(p.begun))))
	}
	p.signal(syscall.SIGKILL)
}

// killPatience is how long a killed process is waited for. The kernel can keep one for
// ever, as on a file system that does not answer: it is left to it, and the next one gets
// its channel when it has let go of that.
func (c Config) killPatience() time.Duration { return 2 * max(c.StopTimeout, time.Second) }

// isLost reports whether kill was called longer than patience ago, which does not matter
// once ended is closed.
func (p *process) isLost(patience time.Duration) bool {
	killed := time.Duration(p.killed.Load())
	return killed != 0 && time.Since(p.begun)-killed > patience
}

func (p *process) terminate() { p.signal(syscall.SIGTERM) }

func (p *process) signal(signal syscall.Signal) {
	switch {
	case p == nil:
	case p.cmd == nil:
		signalByPidfd(p.pidfd, signal)
	default:
		_ = p.cmd.Process.Signal(signal)
	}
}

// pidOf is the process's number, 0 for none.
func (p *process) pidOf() int {
	if p == nil {
		return 0
	}
	return p.pid
}

// describe adds to a death how the process ended.
//
// Preconditions: ended is closed, or the process is lost.
func (p *process) describe(d *Death) {
	d.PID, d.Uptime = p.pid, time.Since(p.begun)
	if p.cmd == nil {
		return // its status is its parent's to know
	}
	select {
	case <-p.ended:
	default:
		d.Stderr = p.output.lastLines()
		return
	}
	p.output.await()
	d.Stderr = p.output.lastLines()
	if p.state == nil {
		return
	}
	d.ExitCode = p.state.ExitCode()
	if status, ok := p.state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		d.Signal = status.Signal()
	}
}
