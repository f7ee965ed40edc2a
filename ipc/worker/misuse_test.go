//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// What programs do that were written from the documentation alone.

// A service that forgets IsWorker would start itself, which would start itself again.
func TestAWorkerThatStartsAPoolInsteadOfServingIsRefused(t *testing.T) {
	p, _ := startPool(t, quick(Config{Command: command(t, "starts a pool"), MaxQuickDeaths: 1}))
	_, err := p.Call(testContext(t), "echo", nil)
	wantErrors(t, err, []error{ErrWorkerDown, ErrNotSent})
	if !strings.Contains(err.Error(), "must call Serve") {
		t.Errorf("%v, want that it says what is missing", err)
	}
}

var _ = part("starts a pool", func() {
	_, err := Start(context.Background(), Config{Command: func() *exec.Cmd { return exec.Command("false") }}) // and not itself
	leave(err)
	select {}
})

// Behind Serve a worker may be a service too.
func TestAWorkerThatServesMayStartAPool(t *testing.T) {
	p, _ := startPool(t, Config{Command: command(t, "serves and starts a pool")})
	if got := mustCall(t, p, "both", ""); got != "true 1" {
		t.Errorf("%q, want that it is a worker, and has one", got)
	}
}

var _ = part("serves and starts a pool", func() {
	leave(Serve(context.Background(), Handlers{"both": func(ctx context.Context, _ *Request) ([]byte, error) {
		binary, err := os.Executable()
		if err != nil {
			return nil, err
		}
		p, err := Start(ctx, Config{Command: func() *exec.Cmd {
			cmd := exec.Command(binary)
			cmd.Env = append(os.Environ(), partVariable+"=serve")
			return cmd
		}})
		if err != nil {
			return nil, err
		}
		answer, err := p.Call(ctx, "attempt", nil)
		return fmt.Appendf(nil, "%v %s", IsWorker(), answer), errors.Join(err, p.Close())
	}}))
})

// A worker that lasts for long, and never serves, is no more use than one that dies at once.
func TestAWorkerThatNeverServedHasDiedQuickly(t *testing.T) {
	for _, part := range []string{"never ready", "fails late"} {
		t.Run(part, func(t *testing.T) {
			p, _ := startPool(t, quick(Config{Command: command(t, part), StartTimeout: 200 * time.Millisecond, MinUptime: time.Millisecond, MaxQuickDeaths: 3}))
			_, err := p.Call(testContext(t), "echo", nil)
			wantErrors(t, err, []error{ErrWorkerDown, ErrNotSent})
		})
	}
}

var _ = part("fails late", func() {
	time.Sleep(5 * time.Millisecond) // sleep: it is to last longer than MinUptime
	leave(errors.New("no licence"))
})

var noRequest *Request

//go:noinline
func deep(n int) {
	if n == 0 {
		panic("the reason")
	}
	deep(n - 1)
}

// The last line of a Go program that has panicked is one of a stack. What it died of
// stands before, however deep the stack.
func TestADeathSaysWhatAGoProgramHasDiedOf(t *testing.T) {
	for method, want := range map[string]string{
		"panic": "panic: the reason", "deep": "panic: the reason", "nil": "panic: runtime error: invalid memory address",
		"fatal": "fatal error: sync: unlock of unlocked mutex", "overflow": "fatal error: stack overflow",
	} {
		t.Run(method, func(t *testing.T) {
			p, j := startPool(t, Config{Command: command(t, "dies in every way"), MaxAttempts: 1})
			_, err := p.Call(testContext(t), method, nil)
			wantErrors(t, err, []error{ErrPoison})
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error is %v, want %q in it", err, want)
			}
			death := j.await(t, "a death", func(e Event) bool { return e.Kind == EventEnded }).Death
			all := strings.Join(death.Stderr, "\n")
			if !strings.Contains(all, want) || len(death.Stderr) > keptLines+keptCause+1 {
				t.Errorf("%d lines were kept:\n%s", len(death.Stderr), all)
			}
		})
	}
}

var _ = part("dies in every way", func() {
	leave(Serve(context.Background(), Handlers{
		"panic": func(context.Context, *Request) ([]byte, error) { panic("the reason") },
		"deep":  func(context.Context, *Request) ([]byte, error) { deep(12); return nil, nil },
		"nil":   func(context.Context, *Request) ([]byte, error) { return noRequest.Data, nil },
		"fatal": func(context.Context, *Request) ([]byte, error) { new(sync.Mutex).Unlock(); return nil, nil },
		"overflow": func(context.Context, *Request) ([]byte, error) {
			debug.SetMaxStack(1 << 20) // else it takes a gigabyte, and its time
			var f func(int) int
			f = func(n int) int { return f(n+1) + 1 }
			return []byte{byte(f(0))}, nil
		},
	}))
})

// The last line counts where a program ends in an orderly way, and what it said of a
// panic before was not its end.
func TestTheKeptLinesAreTheFirstOfTheCauseAndTheLast(t *testing.T) {
	o := &output{}
	for i := range 100 {
		switch i {
		case 10:
			o.keep("panic: that was recovered")
		case 40:
			o.keep("panic: the last")
		default:
			o.keep(fmt.Sprint(i))
		}
	}
	lines := o.lastLines()
	if len(lines) != keptCause+1+keptLines || lines[0] != "panic: the last" || lines[1] != "41" || lines[keptCause] != "[…]" || lines[keptCause+1] != "80" || lines[len(lines)-1] != "99" {
		t.Errorf("%q", lines)
	}
	for exit, want := range map[int]string{panicStatus: "panic: the last", 1: "99"} {
		if text := (Death{Stderr: lines, ExitCode: exit}).String(); !strings.HasSuffix(text, fmt.Sprintf("%q", want)) {
			t.Errorf("exit status %d: %s, want %q at its end", exit, text, want)
		}
	}
}

// A handler that takes a Tell, and waits for what does not come, ends with its context some
// time after the workers have left.
func TestAHandlerThatWasToldHoldsUpNoClose(t *testing.T) {
	began, ended, enough := make(chan struct{}), make(chan error, 1), make(chan struct{})
	p, _ := startPool(t, Config{Command: command(t, "tells"), StopTimeout: 20 * time.Millisecond, Handlers: Handlers{
		"progress": func(ctx context.Context, _ *Request) ([]byte, error) {
			close(began)
			select {
			case <-ctx.Done():
			case <-enough:
			}
			ended <- ctx.Err()
			return nil, nil
		}}})
	mustCall(t, p, "tell", "")
	<-began
	closed := make(chan error, 1)
	go func() { closed <- p.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(watchdog):
		t.Error("Close waits for it")
		close(enough)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("its context ended with %v", err)
	}
}

var _ = part("tells", func() {
	leave(Serve(context.Background(), Handlers{"tell": func(ctx context.Context, _ *Request) ([]byte, error) {
		return nil, Tell(ctx, "progress", nil)
	}}))
})

func TestARelativeDirLeadsACommandElsewhereToTheChannel(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("here", 0o700); err != nil {
		t.Fatal(err)
	}
	serve := command(t, "serve")
	p, _ := startPool(t, Config{Dir: "here", Command: func() *exec.Cmd {
		cmd := serve()
		cmd.Dir = "/"
		return cmd
	}})
	mustCall(t, p, "echo", "")
	if left, err := filepath.Glob("here/*"); err != nil || len(left) == 0 {
		t.Errorf("the channels are elsewhere: %v, %v", left, err)
	}
}

func TestASessionAndASignalOfTheUsersStay(t *testing.T) {
	serve := command(t, "serve")
	p, _ := startPool(t, Config{Command: func() *exec.Cmd {
		cmd := serve()
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
		return cmd
	}})
	mustCall(t, p, "echo", "")
	p.mu.Lock()
	attributes := p.slots[0].current.process.cmd.SysProcAttr
	p.mu.Unlock()
	if !attributes.Setsid || attributes.Setpgid || attributes.Pdeathsig != syscall.SIGTERM {
		t.Errorf("it was started with %+v", attributes)
	}
}

// With Adopt, a Command is called to compare it with what is there.
func TestACommandThatEndsItsGoroutineKeepsNoPlaceThatAdopts(t *testing.T) {
	f, _ := orphans(t, "waits", 1)
	config := heir(t, f, 1)
	serve, first := config.Command, true
	config.Command = func() *exec.Cmd {
		if first {
			first = false
			runtime.Goexit()
		}
		return serve()
	}
	p, j := startPool(t, config)
	j.await(t, "a worker that serves", func(e Event) bool { return e.Kind == EventReady })
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	f.end()
}

func TestAPoolThatStartHasNotMadeIsClosed(t *testing.T) {
	for name, p := range map[string]*Pool{"nil": nil, "zero": {}} {
		ctx := testContext(t)
		_, err := p.Call(ctx, "echo", nil)
		wantErrors(t, err, []error{ErrClosed, ErrNotSent})
		for _, err := range p.Stream(ctx, "echo", nil) {
			wantErrors(t, err, []error{ErrClosed, ErrNotSent})
		}
		if _, err := p.Notify(ctx, "echo", nil); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: Notify: %v", name, err)
		}
		if err := p.Replace(ctx); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: Replace: %v", name, err)
		}
		if err := p.Close(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: Close: %v", name, err)
		}
		if p.Stats() != (Stats{}) {
			t.Errorf("%s: it counts", name)
		}
	}
}

func TestANilContextOrOptionIsNoPanic(t *testing.T) {
	var none context.Context
	if _, err := Start(none, Config{Command: command(t, "serve")}); !errors.Is(err, errNoContext) {
		t.Errorf("Start: %v", err)
	}
	p, _ := startPool(t, Config{})
	_, err := p.Call(none, "echo", nil)
	wantErrors(t, err, []error{errNoContext, ErrNotSent})
	for _, err := range p.Stream(none, "echo", nil) {
		wantErrors(t, err, []error{errNoContext, ErrNotSent})
	}
	if _, err := p.Notify(none, "echo", nil); !errors.Is(err, errNoContext) {
		t.Errorf("Notify: %v", err)
	}
	if err := p.Replace(none); !errors.Is(err, errNoContext) {
		t.Errorf("Replace: %v", err)
	}
	if _, err := p.Call(testContext(t), "echo", nil, nil); err != nil {
		t.Errorf("a nil option: %v", err)
	}
}

// What ipc advises is about its own options, which a pool has not.
func TestAnErrorOfAChannelSaysWhoseTheOptionsAre(t *testing.T) {
	dir := t.TempDir()
	startPool(t, Config{Dir: dir})
	_, err := Start(context.Background(), Config{Command: command(t, "serve"), Dir: dir})
	if !errors.Is(err, ipc.ErrServerRunning) || !strings.Contains(err.Error(), "Config.Dir") {
		t.Errorf("%v, want that it names Config.Dir", err)
	}
}
