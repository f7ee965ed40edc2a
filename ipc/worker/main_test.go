//go:build linux && (amd64 || arm64)

package worker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The test binary plays the worker: a pool starts it again with the name of a part
// in the environment, and it runs that part instead of the tests.
const partVariable = "TANDEM_TEST_PART"

// parts are the programs that a worker process can play; the file of the tests that
// need one registers it.
var parts = map[string]func(){
	"serve": func() { leave(Serve(context.Background(), testHandlers)) },
}

// ServeExamples is the main function of the examples' workers.
var ServeExamples func() error

func part(name string, play func()) bool {
	parts[name] = play
	return true
}

func TestMain(m *testing.M) {
	if name := os.Getenv(partVariable); name != "" {
		play, ok := parts[name]
		if !ok {
			fmt.Fprintf(os.Stderr, "no part %q\n", name)
			os.Exit(3)
		}
		play()
		os.Exit(0)
	}
	if IsWorker() { // of an example
		leave(ServeExamples())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func leave(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// testHandlers are what a worker of the tests can do.
var testHandlers = Handlers{
	"echo": func(_ context.Context, r *Request) ([]byte, error) { return r.Data, nil },
	"attempt": func(_ context.Context, r *Request) ([]byte, error) {
		return []byte(strconv.Itoa(r.Attempt)), nil
	},
	"fail":   func(_ context.Context, r *Request) ([]byte, error) { return nil, errors.New(string(r.Data)) },
	"goexit": func(context.Context, *Request) ([]byte, error) { runtime.Goexit(); return nil, nil },
	"panic":  func(_ context.Context, r *Request) ([]byte, error) { panic(string(r.Data)) },
	"exit": func(_ context.Context, r *Request) ([]byte, error) {
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(7)
		return nil, nil
	},
	"exit before attempt": func(_ context.Context, r *Request) ([]byte, error) {
		if n, _ := strconv.Atoi(string(r.Data)); r.Attempt < n {
			os.Exit(7)
		}
		return []byte(strconv.Itoa(r.Attempt)), nil
	},
	// linger is innocent, and there when a neighbour dies.
	"linger": func(ctx context.Context, r *Request) ([]byte, error) {
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Millisecond):
		}
		return r.Data, nil
	},
	"pid": func(context.Context, *Request) ([]byte, error) {
		return strconv.AppendInt(nil, int64(os.Getpid()), 10), nil
	},
	"large": func(_ context.Context, r *Request) ([]byte, error) {
		return make([]byte, binary.LittleEndian.Uint32(r.Data)), nil
	},
	"hang": func(context.Context, *Request) ([]byte, error) { select {} },
	"wait": func(ctx context.Context, _ *Request) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() },
	"freeze": func(context.Context, *Request) ([]byte, error) {
		leave(stopSelf())
		select {} // the signal comes a little later
	},
	"stdout": func(_ context.Context, r *Request) ([]byte, error) {
		_, err := os.Stdout.Write(r.Data)
		return nil, err
	},
	"allowed": func(ctx context.Context, _ *Request) ([]byte, error) { return remaining(ctx), nil },
	"grow": func(_ context.Context, r *Request) ([]byte, error) {
		grown = append(grown, bytes.Repeat([]byte{1}, int(binary.LittleEndian.Uint32(r.Data))))
		return nil, nil
	},
	// open waits until a file is there, whose name is the request.
	"open": func(ctx context.Context, r *Request) ([]byte, error) {
		return nil, untilFile(ctx, string(r.Data))
	},
}

var grown [][]byte

func stopSelf() error {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	return self.Signal(syscall.SIGSTOP)
}

func remaining(ctx context.Context) []byte {
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil
	}
	return []byte(time.Until(deadline).String())
}

func untilFile(ctx context.Context, name string) error {
	for {
		if _, err := os.Stat(name); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// watchdog bounds every wait of a test; it claims nothing.
var watchdog = func() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("TANDEM_TEST_WATCHDOG")); err == nil {
		return d // of a test that is to fail
	}
	return 60 * time.Second
}()

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	t.Cleanup(cancel)
	return ctx
}

// command starts the test binary as the given part.
func command(t testing.TB, name string) func() *exec.Cmd {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return func() *exec.Cmd {
		cmd := exec.Command(binary)
		// The race detector would have each worker sleep for a second at its exit.
		cmd.Env = append(os.Environ(), partVariable+"="+name, "GORACE=atexit_sleep_ms=0")
		return cmd
	}
}

// A journal keeps the events of a pool.
type journal struct {
	stream *eventStream // that it reads; nil if all is read when it is asked

	mu     sync.Mutex
	events []Event
	grown  chan struct{} // closed and replaced with each event
}

func newJournal() *journal { return &journal{grown: make(chan struct{})} }

func (j *journal) add(event Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, event)
	close(j.grown)
	j.grown = make(chan struct{})
}

// await returns the first event that is wanted.
func (j *journal) await(t testing.TB, what string, want func(Event) bool) Event {
	t.Helper()
	timeout := time.After(watchdog)
	for {
		j.mu.Lock()
		events, grown := j.events, j.grown
		j.mu.Unlock()
		for _, event := range events {
			if want(event) {
				return event
			}
		}
		select {
		case <-grown:
		case <-timeout:
			t.Fatalf("no event: %s; there were %+v\n%s", what, events, stacks())
		}
	}
}

// all are the events that have been told by now.
func (j *journal) all() []Event {
	for idle := j.stream == nil; !idle; runtime.Gosched() {
		j.stream.mu.Lock()
		idle = !j.stream.busy
		j.stream.mu.Unlock()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.events)
}

func (j *journal) deaths() (deaths []Death) {
	for _, event := range j.all() {
		if event.Kind == EventEnded {
			deaths = append(deaths, *event.Death)
		}
	}
	return deaths
}

// openPools counts the pools of the running test.
var openPools int

// startPool starts a pool that is closed with the test. It fails the test if
// Close does, if a goroutine stays, or if the directory does.
func startPool(t testing.TB, config Config) (*Pool, *journal) {
	t.Helper()
	if config.Command == nil {
		config.Command = command(t, "serve")
	}
	if config.Output == nil {
		config.Output = io.Discard
	}
	j := newJournal()
	config.OnEvent = j.add
	before, first := runtime.NumGoroutine(), openPools == 0
	openPools++
	p, err := Start(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	j.stream = &p.events
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if _, err := os.Stat(p.dir); config.Dir == "" && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the directory is left: %v", err)
		}
		j.nobodyIsLeft(t)
		openPools--
		if first { // it is closed last, and nothing is left of the others
			eventually(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= before })
		}
	})
	return p, j
}

// nobodyIsLeft checks that each process that was started was told to have ended.
func (j *journal) nobodyIsLeft(t testing.TB) {
	open := map[uint64]bool{}
	for _, event := range j.all() {
		switch event.Kind {
		case EventStarted, EventAdopted:
			open[event.Start] = true
		case EventEnded:
			delete(open, event.Start)
		}
	}
	if len(open) > 0 {
		t.Errorf("starts without an end: %v", open)
	}
}

// notRun skips a test that this machine forbids, and says so where everything is to be
// checked.
func notRun(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		fmt.Fprintf(os.Stderr, "NOT RUN: %s: %s\n", t.Name(), why)
	}
	t.Skip("NOT RUN: " + why)
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(watchdog); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s\n%s", what, stacks())
		}
	}
}

func stacks() string {
	buffer := make([]byte, 1<<20)
	return string(buffer[:runtime.Stack(buffer, true)])
}

// call is a call that must be answered.
func mustCall(t testing.TB, p *Pool, method, request string) string {
	t.Helper()
	answer, err := p.Call(testContext(t), method, []byte(request))
	if err != nil {
		t.Fatalf("%s(%.40q): %v", method, request, err)
	}
	return string(answer)
}

func size(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// wantErrors checks an error against what it must and must not be.
func wantErrors(t testing.TB, err error, is []error, not ...error) {
	t.Helper()
	for _, want := range is {
		if !errors.Is(err, want) {
			t.Errorf("error %q is not %q", err, want)
		}
	}
	for _, other := range not {
		if errors.Is(err, other) {
			t.Errorf("error %q is also %q", err, other)
		}
	}
}

func contains(lines []string, text string) bool {
	return strings.Contains(strings.Join(lines, "\n"), text)
}
