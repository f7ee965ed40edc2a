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
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The user's code runs in the calls of this package: the methods of a context, codecs, readers of
// streams, and memory that may fault. It may panic, or end its goroutine. What a call had taken
// then is free again.

// faulting is memory that faults: a file that was truncated under its mapping.
func faulting(size int) []byte {
	file, err := unix.MemfdCreate("truncated", unix.MFD_CLOEXEC)
	leave(err)
	defer unix.Close(file)
	leave(unix.Ftruncate(file, int64(size)))
	memory, err := unix.Mmap(file, 0, size, unix.PROT_READ, unix.MAP_SHARED)
	leave(err)
	leave(unix.Ftruncate(file, 0))
	return memory // its mapping ends with the process
}

// returns reports whether f returns. Its memory may fault, its code may panic, or end its goroutine.
func returns(f func()) (returned bool) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() { _ = recover() }()
		debug.SetPanicOnFault(true)
		f()
		returned = true
	}()
	<-ended
	return returned
}

// A deserter is a context that does not return from the n-th call of its methods.
type deserter struct {
	context.Context
	calls  *atomic.Int64
	n      int64
	desert func()
}

func (d deserter) hit() {
	if d.calls.Add(1) == d.n {
		d.desert()
	}
}

func (d deserter) Done() <-chan struct{}       { d.hit(); return d.Context.Done() }
func (d deserter) Err() error                  { d.hit(); return d.Context.Err() }
func (d deserter) Deadline() (time.Time, bool) { d.hit(); return d.Context.Deadline() }
func (d deserter) Value(key any) any           { d.hit(); return d.Context.Value(key) }

// ways are the ones in which user code does not return.
var ways = map[string]func(){"panic": func() { panic("user code") }, "Goexit": runtime.Goexit}

// misuses calls a call again and again, each time with user code that does not return: memory that
// faults, and a context at each call of its methods.
func misuses(ctx context.Context, call func(ctx context.Context, data []byte)) error {
	bad := faulting(1000)
	for range 2 * DefaultConcurrency {
		if returns(func() { call(ctx, bad) }) {
			return errors.New("a call with memory that faults returns")
		}
	}
	for name, desert := range ways {
		for n := int64(1); ; n++ {
			d := deserter{ctx, new(atomic.Int64), n, desert}
			returned := returns(func() { call(d, []byte("sound")) })
			if d.calls.Load() < n && n > 1 {
				break // it has no n-th call
			}
			if returned {
				return fmt.Errorf("%s in call %d of %d of its context: it returns", name, n, d.calls.Load())
			}
		}
	}
	return nil
}

// A codec that does not return.
type deserting struct{ desert func() }

func (d deserting) Encode(any) ([]byte, error) { d.desert(); return nil, nil }
func (d deserting) Decode([]byte, any) error   { d.desert(); return nil }

// An encoder encodes, and does not return from Decode.
type encoder struct{ deserting }

func (encoder) Encode(value any) ([]byte, error) { return value.([]byte), nil }

// unhurried is a configuration of workers that nobody kills because they are slow.
func unhurried(c Config) Config {
	c.Grace, c.StopTimeout = watchdog, watchdog/2
	return patient(c)
}

var userCalls = map[string]func(p *Pool, ctx context.Context, data []byte){
	"Call":   func(p *Pool, ctx context.Context, data []byte) { _, _ = p.Call(ctx, "echo", data) },
	"Notify": func(p *Pool, ctx context.Context, data []byte) { _, _ = p.Notify(ctx, "nothing", data) },
	"Stream": func(p *Pool, ctx context.Context, data []byte) {
		for range p.Stream(ctx, "echo", data) {
		}
	},
}

func TestUserCodeThatDoesNotReturnKeepsNothing(t *testing.T) {
	for name, call := range userCalls {
		t.Run(name, func(t *testing.T) {
			p, j := startPool(t, unhurried(Config{MaxMessage: 2000}))
			mustCall(t, p, "echo", "")
			if err := misuses(testContext(t), func(ctx context.Context, data []byte) { call(p, ctx, data) }); err != nil {
				t.Fatal(err)
			}
			keepsNothing(t, p, j)
		})
	}
}

func TestACodecOrAReaderThatDoesNotReturnKeepsNothing(t *testing.T) {
	for name, desert := range ways {
		t.Run(name, func(t *testing.T) {
			p, j := startPool(t, unhurried(Config{MaxMessage: 2000}))
			neither := Method[[]byte, []byte]{"echo", deserting{desert}}
			encodes := Method[[]byte, []byte]{"echo", encoder{deserting{desert}}}
			ctx := testContext(t)
			for what, f := range map[string]func(){
				"Encode of Call":   func() { _, _ = neither.Call(ctx, p, nil) },
				"Decode of Call":   func() { _, _ = encodes.Call(ctx, p, nil) },
				"Encode of Notify": func() { _, _ = neither.Notify(ctx, p, nil) },
				"Encode of Stream": func() {
					for range neither.Stream(ctx, p, nil) {
					}
				},
				"Decode of Stream": func() {
					for range encodes.Stream(ctx, p, []byte("part")) {
					}
				},
				"the reader of a stream": func() {
					for range p.Stream(ctx, "endless", []byte("100")) {
						desert()
					}
				},
			} {
				for range 2 * DefaultConcurrency {
					if returns(f) {
						t.Fatalf("%s returns", what)
					}
				}
			}
			keepsNothing(t, p, j)
		})
	}
}

// keepsNothing checks that all places and credits are free, that the worker is the first one, and that it
// leaves when it is told to.
func keepsNothing(t *testing.T, p *Pool, j *journal) {
	t.Helper()
	eventually(t, "no call is there", func() bool {
		stats := p.Stats()
		return stats.Running == 0 && stats.Waiting == 0
	})
	for range 2 * DefaultConcurrency {
		if got := mustCall(t, p, "echo", "sound"); got != "sound" {
			t.Fatalf("answer %q", got)
		}
	}
	if told, err := p.Notify(testContext(t), "nothing", nil); told != 1 || err != nil {
		t.Errorf("a sound notification: told %d, %v", told, err)
	}
	p.mu.Lock()
	y := p.slots[0].current
	p.mu.Unlock()
	eventually(t, "all credit is there", func() bool {
		y.allowance.mu.Lock()
		defer y.allowance.mu.Unlock()
		return y.allowance.left == p.config.MaxMessage
	})
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if deaths := j.deaths(); len(deaths) != 1 || deaths[0].Reason != ReasonStopped || deaths[0].Signal != 0 || deaths[0].ExitCode != 0 {
		t.Errorf("deaths %v", deaths)
	}
}

// misusers are what handlers call. A handler misuses them, and then looks whether anything is taken.
var misusers = map[string]func(r *Request, ctx context.Context, data []byte) error{
	"Ask":  func(_ *Request, ctx context.Context, data []byte) error { _, err := Ask(ctx, "echo", data); return err },
	"Tell": func(_ *Request, ctx context.Context, data []byte) error { return Tell(ctx, "echo", data) },
	"Send": func(r *Request, _ context.Context, data []byte) error { return r.Send(data) },
}

func init() {
	testHandlers["misuse"] = func(ctx context.Context, r *Request) ([]byte, error) {
		call := misusers[string(r.Data)]
		bad := faulting(1000)
		for range 100 {
			if returns(func() { _ = call(r, ctx, bad) }) {
				return nil, errors.New("a call with memory that faults returns")
			}
		}
		if string(r.Data) != "Send" { // which has no context
			err := misuses(ctx, func(ctx context.Context, data []byte) { _ = call(r, ctx, data) })
			if err != nil {
				return nil, err
			}
		}
		if err := call(r, ctx, nil); err != nil {
			return nil, err
		}
		return nil, nothingIsTaken(ctx, r)
	}
	for name, desert := range ways {
		testHandlers["an error that ends by "+name] = func(context.Context, *Request) ([]byte, error) {
			return nil, desertingError{desert}
		}
	}
}

// nothingIsTaken waits until the credit of a worker is whole and all places of its asks are free.
func nothingIsTaken(ctx context.Context, r *Request) error {
	w := ctx.Value(serverKey{}).(*server)
	for ; ; runtime.Gosched() {
		w.asker.mu.Lock()
		open := len(w.asker.open)
		w.asker.mu.Unlock()
		w.allowance.mu.Lock()
		left := w.allowance.left
		w.allowance.mu.Unlock()
		ofStream := w.maxMessage
		if r.out != nil {
			r.out.allowance.mu.Lock()
			ofStream = r.out.allowance.left
			r.out.allowance.mu.Unlock()
		}
		switch {
		// What has come and is less than half a window is credited later, see intake.
		case 2*left > w.maxMessage && ofStream >= w.maxMessage-messageCost && len(w.asker.places) == 0 && open == 0:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("credit of %d and %d, of %d; %d places are taken, %d asks are open", left, ofStream, w.maxMessage, len(w.asker.places), open)
		}
	}
}

func TestUserCodeThatDoesNotReturnKeepsNothingInAWorker(t *testing.T) {
	for name := range misusers {
		t.Run(name, func(t *testing.T) {
			p, _ := startPool(t, unhurried(Config{MaxMessage: 10_000, MaxAsks: 4, Handlers: testHandlers}))
			ctx, cancel := context.WithTimeout(testContext(t), watchdog/2)
			defer cancel()
			for _, err := range p.Stream(ctx, "misuse", []byte(name)) {
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A desertingError is an error whose text does not come.
type desertingError struct{ desert func() }

func (e desertingError) Error() string { e.desert(); return "" }

// A method of a handler's error that ends the goroutine is like a handler that does.
func TestAnErrorThatEndsItsGoroutineIsAnAnswer(t *testing.T) {
	p, _ := startPool(t, unhurried(Config{Handlers: testHandlers, MaxAsks: 1}))
	var remote *RemoteError
	for range 2 * DefaultConcurrency {
		for _, method := range []string{"an error that ends by Goexit", "ask"} {
			_, err := p.Call(testContext(t), method, []byte("an error that ends by Goexit"))
			if !errors.As(err, &remote) || !strings.Contains(remote.Message, errGoexit.Error()) {
				t.Fatalf("%s: %v", method, err)
			}
		}
	}
	_, err := p.Call(testContext(t), "an error that ends by panic", nil, MaxAttempts(1))
	wantErrors(t, err, []error{ErrPoison})
}

// An asking error asks the pool for its text.
type askingError struct{ pool *Pool }

func (e askingError) Error() string { return fmt.Sprint(e.pool.Stats().Starts, " starts") }

type askingContext struct {
	context.Context
	pool *Pool
}

func (c askingContext) Err() error {
	if c.Context.Err() == nil {
		return nil
	}
	return askingError{c.pool}
}

// The text of a context's error may need the pool.
func TestTheTextOfAContextsErrorIsNotMadeUnderALock(t *testing.T) {
	p, _ := startPool(t, unhurried(Config{}))
	mustCall(t, p, "echo", "")
	for range 3 {
		ctx, cancel := context.WithCancel(testContext(t))
		ended := make(chan error, 1)
		go func() {
			_, err := p.Call(askingContext{ctx, p}, "wait", nil)
			ended <- err
		}()
		eventually(t, "the call is there", func() bool { return p.Stats().Running == 1 })
		cancel()
		select {
		case err := <-ended:
			if asking := (askingError{}); !errors.As(err, &asking) || !strings.HasSuffix(err.Error(), ": 1 starts") {
				t.Errorf("error %v", err)
			}
		case <-time.After(watchdog):
			go panic("the call does not end\n" + stacks()) // nor would the pool
			select {}
		}
		eventually(t, "its handler ends", func() bool { return p.Stats().Running == 0 })
	}
}

// Start leaves nothing behind if its context does not return.
func TestAContextThatDoesNotReturnFromStartLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for name, desert := range ways {
		for n := int64(1); ; n++ {
			before := runtime.NumGoroutine()
			d := deserter{testContext(t), new(atomic.Int64), n, desert}
			j := newJournal()
			var p *Pool
			config := patient(Config{Size: 2, Command: command(t, "serve"), OnEvent: j.add})
			if returned := returns(func() { p, _ = Start(d, config) }); returned {
				if p == nil {
					t.Fatalf("%s in call %d: no pool", name, n)
				}
				d.calls.Store(n) // the pool ends its use of the context in a goroutine of its own
				leave(p.Close())
				break
			}
			j.nobodyIsLeft(t)
			if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
				t.Fatalf("%s in call %d: left behind: %v, %v", name, n, left, err)
			}
			eventually(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= before })
		}
	}
}

// A command that ends its goroutine is one that could not be made, and the next one is tried.
func TestACommandThatEndsItsGoroutineIsAnError(t *testing.T) {
	var calls atomic.Int64
	sound := command(t, "serve")
	p, j := startPool(t, patient(quick(Config{Command: func() *exec.Cmd {
		if calls.Add(1) == 1 {
			runtime.Goexit()
		}
		return sound()
	}})))
	mustCall(t, p, "echo", "")
	if deaths := j.deaths(); len(deaths) != 1 || deaths[0].Reason != ReasonNotStarted || !strings.Contains(deaths[0].Err.Error(), "goroutine") {
		t.Errorf("deaths %v", deaths)
	}
}

// A desertingWriter ends the goroutine that writes to it.
type desertingWriter struct{ lines atomic.Int64 }

func (w *desertingWriter) Write([]byte) (int, error) { w.lines.Add(1); runtime.Goexit(); return 0, nil }

// A writer, or a logger, that ends its goroutine loses a line, and nothing else.
func TestAnOutputThatEndsItsGoroutineLosesOneLine(t *testing.T) {
	for name, configure := range map[string]func(*Config, io.Writer){
		"Output": func(c *Config, w io.Writer) { c.Output = w },
		"Logger": func(c *Config, w io.Writer) { c.Logger = slog.New(slog.NewTextHandler(w, nil)) },
	} {
		t.Run(name, func(t *testing.T) {
			var w desertingWriter
			config := patient(Config{})
			configure(&config, &w)
			p, j := startPool(t, config)
			for n := int64(1); n < 10; n++ {
				mustCall(t, p, "stdout", "line\n")
				eventually(t, "the line comes", func() bool { return w.lines.Load() == n })
			}
			mustCall(t, p, "echo", "")
			if deaths := j.deaths(); len(deaths) > 0 {
				t.Errorf("deaths %v", deaths)
			}
		})
	}
}

// An output that takes nothing holds up no line of another pool.
func TestAnOutputThatTakesNothingHoldsUpNoOtherPool(t *testing.T) {
	gate := make(gatedOutput)
	stuck, _ := startPool(t, patient(Config{Output: gate}))
	defer close(gate)
	mustCall(t, stuck, "stdout", "line\n")
	var lines lineCounter
	p, _ := startPool(t, patient(Config{Output: &lines}))
	mustCall(t, p, "stdout", "line\n")
	eventually(t, "the line comes", func() bool { return lines.Load() == 1 })
}

type lineCounter struct{ atomic.Int64 }

func (c *lineCounter) Write(b []byte) (int, error) { c.Add(1); return len(b), nil }
