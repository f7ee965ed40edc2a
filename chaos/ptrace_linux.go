//go:build amd64 || arm64

package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A tracee is a player of which every thread is traced, so that this process
// decides about each of its instructions and system calls. The kernel binds a
// tracee to the thread that traces it: one locked thread starts it and makes all
// calls of it. The tracee does not outlive that thread.
type tracee struct {
	part    string
	cmd     *exec.Cmd
	pid     int
	threads map[int]*tracedThread
	status  unix.WaitStatus // of its end
	guard   *time.Timer     // kills it when it takes too long

	stdin  io.WriteCloser
	leash  io.Closer
	lines  chan string // what it says
	log    *tail
	helped bool // its other threads run while the one that is stepped sleeps
}

// A tracedThread is one thread of a tracee.
type tracedThread struct {
	id      int
	stopped bool
	inCall  bool // between a system call's entry and its exit
	signal  int  // to be delivered when it goes on
}

// A stop says why a thread of the tracee stopped.
type stop int

const (
	stopEnded  stop = iota // the tracee is gone, and was waited for
	stopPaused             // interrupted, or new
	stopEntry              // about to make a system call
	stopExit               // back from one
	stopStep               // one instruction further
	stopSignal             // about to take a signal
)

// traceOptions: system calls are told from other traps, new threads are traced
// too, and the tracee dies with its tracer.
const traceOptions = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL

// traceeLimit bounds the life of a tracee: it needs a second at most.
const traceeLimit = watchdog / 3

// errNoTrace says that this machine does not let one process trace another.
var errNoTrace = errors.New("ptrace is not permitted here")

// onThread runs what starts and traces tracees: they belong to one thread.
func onThread(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f()
}

// onThreads runs it so many times at once, each time on a thread of its own, and
// waits for all.
func onThreads(count int, f func()) {
	var group sync.WaitGroup
	for range count {
		group.Add(1)
		go onThread(func() {
			defer group.Done()
			f()
		})
	}
	group.Wait()
}

// startTraced starts this binary as the given part and stops it, with all its
// threads, before it has read its argument. The calling thread is locked, and
// stays so until the tracee has ended.
func startTraced(part string, argument any) (*tracee, error) {
	t := &tracee{part: part, threads: map[int]*tracedThread{}, lines: make(chan string, 64), log: &tail{}}
	c, err := cast(part, argument, t.log)
	if err != nil {
		return nil, err
	}
	defer c.leash.Close()
	t.cmd, t.stdin, t.leash = c.cmd, c.stdin, c.held
	// A process group of its own: waiting for the group waits for this tracee's
	// threads and for no other child.
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := t.cmd.Start(); err != nil {
		_ = c.held.Close()
		return nil, err
	}
	t.pid = t.cmd.Process.Pid
	go t.listen(c.stdout)
	t.guard = time.AfterFunc(traceeLimit, func() { _ = t.cmd.Process.Kill() })
	if err := t.seize(); err != nil {
		t.kill()
		return nil, err
	}
	t.tell("%s", c.argument)
	return t, nil
}

// listen takes what the tracee says. One that says more than anybody hears is
// stopped by the pipe.
func (t *tracee) listen(stdout io.ReadCloser) {
	defer close(t.lines)
	defer stdout.Close()
	reader := bufio.NewReader(stdout)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return
		}
		t.lines <- strings.TrimSuffix(line, "\n")
	}
}

// stable is a text without what differs from run to run.
func stable(text string) string { return unstable.ReplaceAllString(text, "…") }

var unstable = regexp.MustCompile(`[^ ]*/tandem[0-9]+|process [0-9]+`)

func (t *tracee) tell(format string, args ...any) { fmt.Fprintf(t.stdin, format+"\n", args...) }

// seize takes hold of every thread. New ones may appear until all others are
// held, so it looks until it finds no more.
func (t *tracee) seize() error {
	for {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", t.pid))
		if err != nil {
			return err
		}
		found := false
		for _, entry := range entries {
			id, _ := strconv.Atoi(entry.Name())
			if t.threads[id] != nil {
				continue
			}
			if err := t.seizeThread(id); err != nil {
				return err
			}
			found = true
		}
		if !found {
			return nil
		}
	}
}

func (t *tracee) seizeThread(id int) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(id), 0, traceOptions, 0, 0)
	switch {
	case errno == unix.ESRCH:
		return nil // it has ended meanwhile
	case errno != 0 && !t.traced(id): // else it was traced from its birth
		return fmt.Errorf("%w: %w", errNoTrace, errno)
	}
	thread := &tracedThread{id: id}
	t.threads[id] = thread
	return t.pause(thread)
}

// traced reports whether the calling thread traces that one.
func (t *tracee) traced(id int) bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", t.pid, id))
	return strings.Contains(string(status), fmt.Sprintf("TracerPid:\t%d\n", unix.Gettid()))
}

// pause stops one thread, wherever it is.
func (t *tracee) pause(thread *tracedThread) error {
	if thread.stopped {
		return nil
	}
	if err := unix.PtraceInterrupt(thread.id); err != nil && err != unix.ESRCH {
		return fmt.Errorf("interrupt a thread of %s: %w", t.part, err)
	}
	for !thread.stopped && t.threads[thread.id] != nil {
		if _, why, err := t.next(); err != nil || why == stopEnded {
			return errors.Join(err, t.gone(why))
		}
	}
	return nil
}

// gone is an error if the tracee has ended.
func (t *tracee) gone(why stop) error {
	if why != stopEnded {
		return nil
	}
	return fmt.Errorf("%s: %w (%s)%s%s", t.part, errEnded, statusText(t.status), t.said(), t.log)
}

// said is what the tracee has said and nobody has heard.
func (t *tracee) said() (text string) {
	for line := range t.lines {
		text += "; it said: " + line
	}
	return text
}

func statusText(status unix.WaitStatus) string {
	if status.Signaled() {
		return "by " + status.Signal().String()
	}
	return fmt.Sprintf("with status %d", status.ExitStatus())
}

// next waits until a thread stops, and says which one and why. A thread that has
// stopped does nothing until it is resumed.
func (t *tracee) next() (*tracedThread, stop, error) {
	for {
		var status unix.WaitStatus
		id, err := unix.Wait4(-t.pid, &status, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD:
			t.end()
			return nil, stopEnded, nil
		case err != nil:
			return nil, stopEnded, fmt.Errorf("wait for %s: %w", t.part, err)
		case !status.Stopped():
			delete(t.threads, id)
			if id == t.pid {
				t.status = status // the first thread is reported last
			}
			continue
		}
		thread := t.threads[id]
		if thread == nil { // born traced
			thread = &tracedThread{id: id}
			t.threads[id] = thread
		}
		thread.stopped = true
		return thread, thread.why(status), nil
	}
}

// why tells the kinds of stops apart.
func (th *tracedThread) why(status unix.WaitStatus) stop {
	signal, event := status.StopSignal(), int(status)>>16
	switch {
	case signal == unix.SIGTRAP|0x80:
		th.inCall = !th.inCall
		if th.inCall {
			return stopEntry
		}
		return stopExit
	case event != 0:
		return stopPaused
	case signal == unix.SIGTRAP:
		return stopStep
	}
	th.signal = int(signal)
	return stopSignal
}

// run lets a stopped thread go on to its next signal.
func (t *tracee) run(thread *tracedThread) error { return t.resume(thread, unix.PtraceCont) }

// runToCall lets a stopped thread go on to its next system call's entry or exit.
func (t *tracee) runToCall(thread *tracedThread) error { return t.resume(thread, unix.PtraceSyscall) }

func (t *tracee) resume(thread *tracedThread, how func(thread, signal int) error) error {
	signal := thread.signal
	thread.stopped, thread.signal = false, 0
	return orDead(how(thread.id, signal))
}

// orDead forgives that a tracee was killed: the next wait tells of it.
func orDead(err error) error {
	if err == unix.ESRCH {
		return nil
	}
	return err
}

// resumeAll lets every stopped thread go on.
func (t *tracee) resumeAll(resume func(*tracedThread) error) error {
	for _, thread := range t.threads {
		if !thread.stopped {
			continue
		}
		if err := resume(thread); err != nil {
			return err
		}
	}
	return nil
}

// freezeOthers stops every thread but one, for good: what one thread stores is
// then all that is stored.
func (t *tracee) freezeOthers(but *tracedThread) error {
	for {
		var running *tracedThread
		for _, thread := range t.threads {
			if thread != but && !thread.stopped {
				running = thread
			}
		}
		if running == nil {
			return nil
		}
		if err := t.pause(running); err != nil {
			return err
		}
	}
}

// step lets a stopped thread execute one instruction; a system call is one. A
// signal that waits for the thread is dropped: in one that is only stepped, and
// killed then, nothing is to run but what is stepped.
func (t *tracee) step(thread *tracedThread) error {
	for {
		thread.stopped, thread.inCall, thread.signal = false, false, 0
		if err := orDead(unix.PtraceSingleStep(thread.id)); err != nil {
			return fmt.Errorf("step %s: %w", t.part, err)
		}
		why, err := t.await(thread)
		if err != nil || why == stopStep {
			return err
		}
	}
}

// await waits until one thread stops, while the others stay as they are. Where it is
// helped, and sleeps, the others run meanwhile: it waits for one of them, as Dial does
// for the goroutine that connects.
func (t *tracee) await(thread *tracedThread) (stop, error) {
	if t.helped && t.fallsAsleep(thread) {
		return t.awaitWoken(thread)
	}
	for {
		stopped, why, err := t.next()
		if err == nil {
			err = t.gone(why)
		}
		if err != nil || stopped == thread {
			return why, err
		}
	}
}

// fallsAsleep reports whether a thread that runs sleeps in a system call before it
// stops.
func (t *tracee) fallsAsleep(thread *tracedThread) bool {
	for looks := 0; ; looks++ {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, thread.id, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT|unix.WNOHANG|unix.WALL, nil)
		if err != nil && err != unix.EINTR || info.Signo != 0 {
			return false
		}
		if looks > 100 && looks%20 == 0 && t.asleep(thread.id) {
			return true
		}
		runtime.Gosched()
	}
}

// awaitWoken is await for one that sleeps.
func (t *tracee) awaitWoken(thread *tracedThread) (stop, error) {
	if err := t.resumeAll(t.run); err != nil {
		return 0, err
	}
	for {
		stopped, why, err := t.next()
		if err == nil {
			err = t.gone(why)
		}
		if err != nil {
			return why, err
		}
		if stopped == thread {
			return why, t.freezeOthers(thread)
		}
		if err := t.run(stopped); err != nil {
			return why, err
		}
	}
}

// kill ends the tracee with SIGKILL and waits for it.
func (t *tracee) kill() {
	if t.guard == nil {
		return
	}
	_ = t.cmd.Process.Kill()
	for {
		if _, why, err := t.next(); why == stopEnded || err != nil {
			return
		}
	}
}

// end gives back what this process holds of a tracee that was waited for.
func (t *tracee) end() {
	if t.guard == nil {
		return
	}
	t.guard.Stop()
	t.guard = nil
	_ = t.stdin.Close()
	_ = t.leash.Close()
	_ = t.cmd.Process.Release()
}
