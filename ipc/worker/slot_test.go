//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/ipc"
)

var (
	_ = part("exit at once", func() { fmt.Fprintln(os.Stderr, "cannot begin"); os.Exit(9) })
	_ = part("exit in good order", func() {})
	_ = part("never ready", func() { <-time.After(10 * watchdog) })
	_ = part("leave the channel", func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancelled := Handlers{"cancel": func(context.Context, *Request) ([]byte, error) { cancel(); return nil, nil }}
		_ = Serve(ctx, cancelled)
		<-time.After(10 * watchdog)
	})
	_ = part("deaf to SIGTERM", func() {
		ignoreTerm()
		leave(Serve(context.Background(), testHandlers))
		<-time.After(10 * watchdog)
	})
	_ = part("let a child serve", func() {
		ours, theirs, err := os.Pipe()
		leave(err)
		binary, err := os.Executable()
		leave(err)
		child := exec.Command(binary)
		child.Env = append(os.Environ(), partVariable+"=serve in the place of its parent")
		child.ExtraFiles = []*os.File{theirs}
		leave(child.Start())
		leave(theirs.Close())
		_, err = ours.Read(make([]byte, 1)) // until the child lets this one go
		if err == io.EOF {
			err = nil
		}
		leave(err)
	})
	_ = part("serve in the place of its parent", func() {
		leave(Serve(context.Background(), Handlers{"let go": func(context.Context, *Request) ([]byte, error) {
			return nil, os.NewFile(3, "pipe").Close()
		}}))
	})
	_ = part("fork and serve", func() {
		child := exec.Command("sleep", "60")
		child.Stdout, child.Stderr = os.Stdout, os.Stderr // as a careless program does
		leave(child.Start())
		fmt.Println(child.Process.Pid)
		os.Exit(0)
	})
)

func quick(c Config) Config {
	c.MinPause, c.MaxPause = time.Millisecond, 2*time.Millisecond
	return c
}

func TestWorkersThatDieAtOnceAreAnErrorAndAreTriedAgain(t *testing.T) {
	for part, want := range map[string]struct {
		exit int
		text string
	}{"exit at once": {9, "cannot begin"}, "exit in good order": {0, ""}} {
		t.Run(part, func(t *testing.T) {
			p, j := startPool(t, quick(Config{Command: command(t, part), MaxQuickDeaths: 3}))
			_, err := p.Call(testContext(t), "echo", nil)
			wantErrors(t, err, []error{ErrWorkerDown, ErrNotSent}, ErrOutcomeUnknown, ErrPoison)
			var death *DeathError
			if !errors.As(err, &death) || death.Death.ExitCode != want.exit || want.text != "" && !contains(death.Death.Stderr, want.text) {
				t.Errorf("error %+v", err)
			}
			down := j.await(t, "down", func(e Event) bool { return e.Kind == EventDown })
			_, err = p.Call(testContext(t), "echo", nil)
			wantErrors(t, err, []error{ErrWorkerDown, ErrNotSent})
			j.await(t, "another try", func(e Event) bool { return e.Kind == EventStarted && e.Start > down.Start })
		})
	}
}

func TestACommandThatCannotBeStartedIsAnError(t *testing.T) {
	p, j := startPool(t, quick(Config{Command: func() *exec.Cmd { return exec.Command("/nowhere/at/all") }}))
	_, err := p.Call(testContext(t), "echo", nil)
	wantErrors(t, err, []error{ErrWorkerDown, ErrNotSent})
	var death *DeathError
	if !errors.As(err, &death) || death.Death.Reason != ReasonNotStarted || !errors.Is(death.Death.Err, os.ErrNotExist) {
		t.Errorf("error %+v", err)
	}
	j.await(t, "down", func(e Event) bool { return e.Kind == EventDown })
	p, _ = startPool(t, quick(Config{Command: func() *exec.Cmd { return nil }}))
	_, err = p.Call(testContext(t), "echo", nil)
	wantErrors(t, err, []error{ErrWorkerDown})
}

func TestAPoolThatWasDownServesAgain(t *testing.T) {
	repaired := filepath.Join(t.TempDir(), "repaired")
	bad, good := command(t, "exit at once"), command(t, "serve")
	p, j := startPool(t, quick(Config{MaxQuickDeaths: 2, Concurrency: 1, Command: func() *exec.Cmd {
		if _, err := os.Stat(repaired); err != nil {
			return bad()
		}
		return good()
	}}))
	j.await(t, "down", func(e Event) bool { return e.Kind == EventDown })
	if err := os.WriteFile(repaired, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	j.await(t, "ready", func(e Event) bool { return e.Kind == EventReady })
	// It has not proven itself yet; but it serves, so that calls may wait for it.
	gate := filepath.Join(t.TempDir(), "gate")
	ended := make(chan error)
	for range 2 {
		go func() {
			_, err := p.Call(testContext(t), "open", []byte(gate))
			ended <- err
		}()
	}
	eventually(t, "one runs and one waits", func() bool { s := p.Stats(); return s.Running == 1 && s.Waiting == 1 })
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestAWorkerThatNeverBecomesReadyIsKilled(t *testing.T) {
	p, j := startPool(t, quick(Config{Command: command(t, "never ready"), StartTimeout: 50 * time.Millisecond, MaxQuickDeaths: 2}))
	_, err := p.Call(testContext(t), "echo", nil)
	wantErrors(t, err, []error{ErrWorkerDown, ErrNotSent})
	if death := j.deaths()[0]; death.Reason != ReasonNotReady || death.Signal == 0 {
		t.Errorf("death %v", death)
	}
}

func TestAWorkerThatLeavesItsChannelAndGoesOnIsKilled(t *testing.T) {
	p, j := startPool(t, Config{Command: command(t, "leave the channel"), StopTimeout: 20 * time.Millisecond})
	mustCall(t, p, "cancel", "")
	death := j.await(t, "a death", func(e Event) bool { return e.Kind == EventEnded }).Death
	if death.Reason != ReasonLeft {
		t.Errorf("death %v", death)
	}
}

func TestAWorkerDeafToSIGTERMIsKilled(t *testing.T) {
	p, j := startPool(t, Config{Command: command(t, "deaf to SIGTERM"), StopTimeout: 20 * time.Millisecond})
	mustCall(t, p, "echo", "")
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if death := j.deaths()[0]; death.Reason != ReasonStopped || death.Signal.String() != "killed" {
		t.Errorf("death %v", death)
	}
}

func TestAProcessThatAWorkerLeavesBehindHoldsNobodyUp(t *testing.T) {
	pids := &text{}
	_, j := startPool(t, quick(Config{Command: command(t, "fork and serve"), MaxQuickDeaths: 2, Output: pids}))
	j.await(t, "down", func(e Event) bool { return e.Kind == EventDown })
	eventually(t, "the child is named", func() bool { return strings.Count(pids.String(), "\n") >= 2 })
	for line := range strings.Lines(pids.String()) {
		_, pid, _ := strings.Cut(strings.TrimSpace(line), ": ")
		killSleeper(t, pid)
	}
}

// A shell that does not exec is such a worker. What serves in its place ends with it.
func TestAWorkerWhoseChildServesEndsWithIt(t *testing.T) {
	p, j := startPool(t, quick(Config{Command: command(t, "let a child serve"), StopTimeout: 20 * time.Millisecond, StartTimeout: time.Hour}))
	mustCall(t, p, "let go", "")
	j.await(t, "its end", func(e Event) bool { return e.Kind == EventEnded })
	mustCall(t, p, "let go", "") // the next one is not kept out
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestOutputIsHandedOnLineByLine(t *testing.T) {
	out := &text{}
	p, _ := startPool(t, Config{Output: out})
	mustCall(t, p, "stdout", "first\nsecond, no end")
	_ = p.Close()
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "worker 0[") || !strings.HasSuffix(lines[0], "]: first") || !strings.HasSuffix(lines[1], "]: second, no end") {
		t.Errorf("output %q", lines)
	}

	out = &text{}
	p, _ = startPool(t, Config{Logger: slog.New(slog.NewTextHandler(out, nil))})
	mustCall(t, p, "stdout", strings.Repeat("x", maxLine+1)+"\n")
	_ = p.Close()
	if got := out.String(); strings.Count(got, "stream=stdout") != 2 || !strings.Contains(got, "worker=0") {
		t.Errorf("log %q", got)
	}
}

// A text collects what is written to it.
type text struct {
	mu sync.Mutex
	b  strings.Builder
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

func TestAWorkerIsReplacedAfterItsCalls(t *testing.T) {
	p, j := startPool(t, Config{MaxCalls: 3, Concurrency: 2})
	pids := map[string]int{}
	for range 9 {
		pids[mustCall(t, p, "pid", "")]++
	}
	if len(pids) != 3 {
		t.Errorf("calls by process: %v", pids)
	}
	for _, death := range j.deaths() {
		if death.Reason != ReasonRetired || death.ExitCode != 0 || death.Answered != 3 {
			t.Errorf("death %v", death)
		}
	}
}

func TestAWorkerWithTooMuchMemoryIsReplaced(t *testing.T) {
	const limit = 64 << 20
	p, j := startPool(t, Config{MaxMemory: limit})
	// If it is found out before it has answered, and with how much, is chance.
	if _, err := p.Call(testContext(t), "grow", size(limit+limit/4), MaxAttempts(1)); err != nil && !errors.Is(err, ErrPoison) {
		t.Fatal(err)
	}
	death := j.await(t, "a death", func(e Event) bool { return e.Kind == EventEnded }).Death
	if death.Reason != ReasonRetired && death.Reason != ReasonMemory {
		t.Errorf("death %v", death)
	}
	mustCall(t, p, "echo", "")
}

func TestTheDirectoryIsPrivate(t *testing.T) {
	p, _ := startPool(t, Config{})
	info, err := os.Stat(p.dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestConfigsThatMakeNoSenseAreRefused(t *testing.T) {
	ok := command(t, "serve")
	for name, c := range map[string]Config{
		"no command":        {},
		"negative size":     {Command: ok, Size: -1},
		"negative timeout":  {Command: ok, StartTimeout: -1},
		"too large":         {Command: ok, MaxMessage: MaxMaxMessage + 1},
		"pauses":            {Command: ok, MinPause: 2, MaxPause: 1},
		"negative calls":    {Command: ok, MaxCalls: -1},
		"no such directory": {Command: ok, Dir: "/nowhere/at/all"},
		"hang timeout":      {Command: ok, HangTimeout: 1},
	} {
		if p, err := Start(context.Background(), c); err == nil {
			_ = p.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestServeElsewhereIsAnError(t *testing.T) {
	if err := Serve(context.Background(), nil); !errors.Is(err, ErrNotAWorker) {
		t.Errorf("error %v", err)
	}
	for _, value := range []string{"", "x", "1:2", "x:2:p", "1:x:p"} {
		t.Setenv(variable, value)
		if err := Serve(context.Background(), nil); !errors.Is(err, ErrNotAWorker) {
			t.Errorf("%q: error %v", value, err)
		}
	}
}

// The service of these tests is a process of its own, which is killed. The pool
// writes what its workers say to the pipe that the test reads.
var _ = part("service", func() {
	part := os.Getenv("TANDEM_TEST_WORKER")
	p, err := Start(context.Background(), Config{Command: func() *exec.Cmd {
		cmd := Self()()
		cmd.Env = append(os.Environ(), partVariable+"="+part)
		cmd.Stdout = os.Stdout
		return cmd
	}})
	leave(err)
	_, err = p.Call(context.Background(), "hang", nil)
	leave(err)
})

var (
	_ = part("serve until death", func() {
		fmt.Println("serving")
		err := Serve(context.Background(), testHandlers)
		fmt.Println("left", errors.Is(err, ipc.ErrPeerDied))
	})
	_ = part("never look", func() {
		fmt.Println("serving")
		<-time.After(10 * watchdog)
	})
)

func TestWorkersLeaveWhenTheServiceIsKilled(t *testing.T) {
	for _, part := range []string{"serve until death", "never look"} {
		t.Run(part, func(t *testing.T) {
			cmd := command(t, "service")()
			cmd.Env = append(cmd.Env, "TANDEM_TEST_WORKER="+part, "TMPDIR="+t.TempDir())
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			cmd.Stdout = writer
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_ = writer.Close()
			defer func() { _ = cmd.Process.Kill() }()
			buffer := make([]byte, 64)
			n, err := reader.Read(buffer)
			if err != nil || !strings.HasPrefix(string(buffer[:n]), "serving") {
				t.Fatalf("%q, %v", buffer[:n], err)
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			// The worker alone holds the other end of the pipe now: it ends with the worker.
			_ = reader.SetReadDeadline(time.Now().Add(watchdog))
			if rest, err := io.ReadAll(reader); err != nil {
				t.Errorf("the worker lives: %q, %v", rest, err)
			}
		})
	}
}

// The kernel kills a child when the thread ends that has started it. Goroutines that
// end while they are locked to their thread end it.
func TestWorkersAreStartedOnAThreadThatStays(t *testing.T) {
	starter := newStarter()
	defer starter.stop()
	threads := map[int]bool{}
	for range 20 {
		done := make(chan struct{})
		starter <- func() {
			threads[unix.Gettid()] = true
			close(done)
		}
		<-done
		// At once, so that they take all threads that are free.
		var locked, ended sync.WaitGroup
		locked.Add(16)
		ended.Add(16)
		for range 16 {
			go func() {
				defer ended.Done()
				runtime.LockOSThread()
				locked.Done()
				locked.Wait()
			}()
		}
		ended.Wait()
	}
	if len(threads) != 1 {
		t.Errorf("%d threads", len(threads))
	}
}
