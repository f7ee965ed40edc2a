//go:build linux && (amd64 || arm64)

package worker

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Rows of docs/FAILURES.md that no other file shows, and the times that it names.

// patient is a configuration for a machine that may be so busy that a process takes long
// to start, or does not run for a while.
func patient(c Config) Config {
	c.StartTimeout, c.HangTimeout = watchdog, watchdog
	return c
}

// A worker is killed by somebody else while it has calls: all of them are answered, by
// the next one.
func TestCallsOutliveAKillFromElsewhere(t *testing.T) {
	p, j := startPool(t, patient(Config{Concurrency: 4}))
	gate := filepath.Join(t.TempDir(), "gate")
	var calls sync.WaitGroup
	for range 4 {
		calls.Add(1)
		go func() {
			defer calls.Done()
			if _, err := p.Call(testContext(t), "open", []byte(gate)); err != nil {
				t.Error(err)
			}
		}()
	}
	eventually(t, "all of them are with the worker", func() bool { return p.Stats().Running == 4 })
	p.killed(t)
	death := j.await(t, "its end", func(e Event) bool { return e.Kind == EventEnded }).Death
	if death.Reason != ReasonExited || death.Signal.String() != "killed" {
		t.Errorf("death %+v", death)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	calls.Wait()
}

// killed has the kernel kill the process of the only worker, through its handle, as
// somebody else would.
func (p *Pool) killed(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	process := p.slots[0].current.process
	p.mu.Unlock()
	process.kill()
	<-process.ended
}

// A handler that ends its process in good order has not answered either.
func TestAHandlerThatExitsWithStatusZeroHasNotAnswered(t *testing.T) {
	p, j := startPool(t, patient(Config{Command: command(t, "exits with status zero"), MaxAttempts: 2}))
	_, err := p.Call(testContext(t), "bye", nil)
	wantErrors(t, err, []error{ErrPoison}, ErrNotSent)
	for _, death := range j.deaths() {
		if death.Reason != ReasonExited || death.ExitCode != 0 || len(death.Suspects) != 1 || !death.Suspects[0].Blamed {
			t.Errorf("death %+v", death)
		}
	}
}

// A panic in a goroutine of the handler's own ends the process like one in the handler.
func TestAPanicBesideAHandlerIsTheCallsDeed(t *testing.T) {
	p, _ := startPool(t, patient(Config{Command: command(t, "exits with status zero"), MaxAttempts: 2}))
	_, err := p.Call(testContext(t), "panic beside", nil)
	wantErrors(t, err, []error{ErrPoison}, ErrNotSent)
	var death *DeathError
	if !errors.As(err, &death) || death.Death.ExitCode != 2 || !contains(death.Death.Stderr, "panic: beside it") {
		t.Errorf("error %+v", err)
	}
}

var _ = part("exits with status zero", func() {
	leave(Serve(context.Background(), Handlers{
		"bye":          func(context.Context, *Request) ([]byte, error) { os.Exit(0); return nil, nil },
		"panic beside": func(context.Context, *Request) ([]byte, error) { go panic("beside it"); select {} },
	}))
})

// Something cleans up under the pool. The worker that is there goes on; the next one
// finds no channel, and the calls say so.
func TestAPoolWhoseDirectoryIsRemovedSaysSo(t *testing.T) {
	p, j := startPool(t, patient(quick(Config{MaxQuickDeaths: 2})))
	mustCall(t, p, "echo", "before it")
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	if got := mustCall(t, p, "echo", "behind it"); got != "behind it" {
		t.Errorf("answer %q", got)
	}
	p.killed(t)
	j.await(t, "down", func(e Event) bool { return e.Kind == EventDown })
	_, err := p.Call(testContext(t), "echo", nil)
	wantErrors(t, err, []error{ErrWorkerDown, ErrNotSent})
	var death *DeathError
	if !errors.As(err, &death) || !strings.Contains(strings.Join(death.Death.Stderr, "\n"), "there is no such directory") {
		t.Errorf("error %v", err)
	}
}

// The service's writer takes nothing. A handler that prints more than a pipe holds waits
// for it; others do not.
func TestAnOutputThatTakesNothingHoldsUpOnlyHandlersThatPrint(t *testing.T) {
	gate := make(gatedOutput)
	p, _ := startPool(t, patient(Config{Output: gate, Concurrency: 2, Grace: 10 * watchdog}))
	_, err := p.Call(testContext(t), "stdout", bytes.Repeat([]byte("line\n"), 1<<17), Timeout(50*time.Millisecond))
	wantErrors(t, err, []error{context.DeadlineExceeded, ErrOutcomeUnknown})
	if got := mustCall(t, p, "echo", "beside it"); got != "beside it" {
		t.Errorf("answer %q", got)
	}
	close(gate)
	eventually(t, "the handler has printed", func() bool { return p.Stats().Late == 1 })
}

// A gatedOutput takes nothing until it is closed.
type gatedOutput chan struct{}

func (g gatedOutput) Write(b []byte) (int, error) {
	<-g
	return len(b), nil
}

// What docs/FAILURES.md says of times is printed here; none of it is asserted.
func TestTheTimesOfADeathArePrinted(t *testing.T) {
	p, j := startPool(t, patient(Config{}))
	var ready, answered []time.Duration
	for start := uint64(1); start <= 10; start++ {
		j.await(t, "ready", func(e Event) bool { return e.Kind == EventReady && e.Start == start })
		mustCall(t, p, "echo", "") // it is of use, so that the next one starts at once
		killed := time.Now()
		p.killed(t)
		mustCall(t, p, "echo", "")
		answered = append(answered, time.Since(killed))
		next := j.await(t, "the next one", func(e Event) bool { return e.Kind == EventReady && e.Start == start+1 })
		ready = append(ready, next.Time.Sub(killed))
	}
	for what, times := range map[string][]time.Duration{
		"SIGKILL to EventReady of the next process": ready,
		"SIGKILL to the answer of a call made then": answered,
	} {
		slices.Sort(times)
		t.Logf("%s: least %v, median %v, most %v of %d", what, times[0], times[len(times)/2], times[len(times)-1], len(times))
	}
}
