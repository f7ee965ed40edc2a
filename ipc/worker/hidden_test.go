//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/ipc"
)

var (
	// A tracer traces its parent, says so, and never waits for it: the kernel gives the
	// status of a process to its tracer first. It ends when the test does.
	_ = part("tracer", func() {
		runtime.LockOSThread()
		if err := unix.PtraceSeize(os.Getppid()); err != nil {
			fmt.Printf("forbidden: %v\n", err)
			return
		}
		fmt.Println("traces")
		_, _ = io.Copy(io.Discard, os.Stdin)
	})

	// It has itself traced, says so in its only answer, and ends. A signal would stop its
	// first thread for good, which is the one that is traced: that one blocks them all, and
	// does nothing else.
	_ = roguePart("is traced", func(r *rogue) {
		if unix.Gettid() != os.Getpid() {
			leave(errors.New("this is not the first thread"))
		}
		var all unix.Sigset_t
		for i := range all.Val {
			all.Val[i] = ^all.Val[i]
		}
		leave(unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil))
		go r.isTraced()
		<-time.After(10 * watchdog)
	})

	// They answer all that they get. One releases nothing, and one the first, when that is
	// in the way.
	_ = roguePart("releases nothing", func(r *rogue) { r.hoard(0) })
	_ = roguePart("releases one", func(r *rogue) { r.hoard(1) })
)

// In init the main goroutine is on the first thread.
func init() {
	if os.Getenv(partVariable) == "is traced" {
		runtime.LockOSThread()
	}
}

func (r *rogue) isTraced() {
	_ = unix.Prctl(unix.PR_SET_PTRACER, ^uintptr(0), 0, 0, 0) // where only those above may trace
	binary, err := os.Executable()
	leave(err)
	tracer := exec.Command(binary)
	tracer.Env = append(os.Environ(), partVariable+"=tracer")
	tracer.Stdin = os.NewFile(3, "the test")
	tracer.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := tracer.StdoutPipe()
	leave(err)
	leave(tracer.Start())
	word := make([]byte, 100)
	n, err := out.Read(word)
	leave(err)
	r.hello()
	id := r.request()
	r.send(kindStarted, header{id: id}, nil)
	r.send(kindAnswer, header{id: id}, word[:n])
	os.Exit(7)
}

func (r *rogue) hoard(releases int) {
	r.hello()
	var held []ipc.Message
	for {
		m, err := r.endpoint.Receive(context.Background())
		if errors.Is(err, ipc.ErrViewsHeld) {
			if releases > 0 {
				releases--
				_ = held[0].Release()
			}
			continue
		}
		leave(err)
		held = append(held, m)
		if h, err := parseHeader(m.Kind, m.Data); err == nil && m.Kind == kindRequest {
			r.send(kindStarted, header{id: h.id}, nil)
			r.send(kindAnswer, header{id: h.id}, []byte("yes"))
		}
	}
}

// A traced worker has ended when it is dead, though its tracer has its status.
func TestAWorkerThatATracerHidesHasEnded(t *testing.T) {
	held, letGo, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	defer letGo.Close()
	hidden, serve := command(t, "is traced"), command(t, "serve")
	p, j := startPool(t, patient(Config{StopTimeout: 10 * watchdog, Command: func() *exec.Cmd {
		cmd := hidden()
		cmd.ExtraFiles = []*os.File{held}
		hidden = serve
		return cmd
	}}))
	if says := mustCall(t, p, "echo", ""); says != "traces\n" {
		notRun(t, says)
	}
	death := j.await(t, "its end", func(e Event) bool { return e.Kind == EventEnded }).Death
	if death.ExitCode != -1 || death.Signal != 0 || death.Reason != ReasonExited {
		t.Errorf("death %+v", death)
	}
	mustCall(t, p, "echo", "") // the next one serves
	_ = letGo.Close()          // the tracer ends, and the worker is waited for
	eventually(t, "the worker is waited for", func() bool { return unix.Kill(death.PID, 0) == unix.ESRCH })
}

// A worker that answers, and releases nothing that it was sent, keeps no call for longer
// than Timeout, and is ended: else it would be the one with the fewest calls, and get
// each new one.
// Another sender finds space between two looks of one that finds none: that is no long time
// without space, however old the worker is.
func TestASenderThatFindsSpaceStarvesNoOther(t *testing.T) {
	y := &stay{begun: time.Now().Add(-10000 * time.Hour)}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				y.fullSince.Store(0)
			}
		}
	}()
	for range 100_000 {
		if long := y.starved(); long > 1000*time.Hour {
			t.Errorf("nobody has found space for %v", long)
			break
		}
	}
	close(stop)
	<-stopped
}

func TestAWorkerThatTakesNothingKeepsNoCall(t *testing.T) {
	p, j := startPool(t, quick(Config{Command: command(t, "releases nothing"), MaxMessage: 30000,
		Timeout: 100 * time.Millisecond, HangTimeout: time.Second, StopTimeout: 50 * time.Millisecond}))
	ctx := testContext(t)
	for {
		_, err := p.Call(ctx, "echo", make([]byte, 30000))
		if err == nil {
			continue // it had room
		}
		wantErrors(t, err, []error{ErrNotSent, context.DeadlineExceeded}, ErrOutcomeUnknown)
		if ctx.Err() != nil {
			t.Error("Timeout has not ended the call")
		}
		break
	}
	dead := func() bool { return len(j.deaths()) > 0 }
	for !dead() && ctx.Err() == nil { // somebody asks again and again
		_, _ = p.Call(ctx, "echo", make([]byte, 30000))
	}
	if !dead() || j.deaths()[0].Reason != ReasonHung || j.deaths()[0].Uptime < time.Second {
		t.Errorf("deaths %+v", j.deaths())
	}
}

// It takes one more, and then nothing: who waits still is not forgotten for that.
func TestAWorkerThatTakesOneMoreAndThenNothingIsKilled(t *testing.T) {
	p, j := startPool(t, quick(Config{Command: command(t, "releases one"), MaxMessage: 30000, Concurrency: 4,
		HangTimeout: time.Second, StopTimeout: 50 * time.Millisecond}))
	var calls sync.WaitGroup
	for range 4 { // two have room, and a third one later
		calls.Go(func() {
			if _, err := p.Call(testContext(t), "echo", make([]byte, 30000)); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if deaths := j.deaths(); len(deaths) == 0 || deaths[0].Reason != ReasonHung {
		t.Errorf("deaths %+v", deaths)
	}
}

// What the kernel does not let go of is not waited for for ever.
func TestAWorkerThatCannotBeKilledIsLeft(t *testing.T) {
	p, _ := startPool(t, patient(Config{StopTimeout: 50 * time.Millisecond}))
	mustCall(t, p, "echo", "")
	gone := exec.Command("/proc/self/exe", "-test.run", "^$")
	if err := gone.Start(); err != nil {
		t.Fatal(err)
	}
	pidfd := pidfdOf(gone.Process.Pid)
	if pidfd == nil {
		notRun(t, "no pidfd")
	}
	_ = gone.Wait() // so the signals go nowhere
	stuck := func() *process {
		return &process{pidfd: pidfd, begun: time.Now(), ended: make(chan struct{})} // which nobody closes
	}
	y := newStay(p.slots[0], 1000)
	process := stuck()
	y.process = process
	y.kill(ReasonNotReady, nil)
	p.slots[0].watch(y, process)
	if !process.isLost(p.config.killPatience()) {
		t.Error("the supervisor has left it before its time")
	}
	process = stuck()
	y = newStay(p.slots[0], 1001)
	y.dismiss(ReasonRetired, process)
	if killed := process.killed.Load(); killed == 0 {
		t.Error("it was not killed")
	}
	_ = pidfd.Close()
}
