//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// switched is a command that can be changed.
func switched(t testing.TB) (run func() *exec.Cmd, change func(part string)) {
	var now atomic.Pointer[func() *exec.Cmd]
	change = func(part string) { c := command(t, part); now.Store(&c) }
	change("serve")
	return func() *exec.Cmd { return (*now.Load())() }, change
}

func TestReplaceFailsNoCall(t *testing.T) {
	d := &desk{}
	p, j := startPool(t, Config{Size: 2, Handlers: d.handlers(), AtMostOnce: []string{"echo", "ask"}})
	stop := make(chan struct{})
	var load sync.WaitGroup
	var calls atomic.Int64
	for i := range 6 {
		load.Add(1)
		go func() {
			defer load.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				var err error
				switch i % 3 {
				case 0:
					_, err = p.Call(testContext(t), "echo", []byte("x"))
				case 1:
					_, err = p.Call(testContext(t), "ask", []byte("echo\nx"))
				case 2:
					var parts []string
					parts, err = collect(t, p, "count", "50")
					wantCount(t, parts, 50)
				}
				if err != nil {
					t.Error(err)
					return
				}
				calls.Add(1)
			}
		}()
	}
	for range 5 {
		before := calls.Load()
		eventually(t, "calls go on", func() bool { return calls.Load() > before+20 || t.Failed() })
		if err := p.Replace(testContext(t)); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	load.Wait()
	deaths := j.deaths()
	if len(deaths) != 10 {
		t.Errorf("%d deaths", len(deaths))
	}
	for _, death := range deaths {
		if death.Reason != ReasonReplaced || death.ExitCode != 0 || len(death.Suspects) != 0 {
			t.Errorf("death %v", death)
		}
	}
	freshServesBeforeTheOldLeaves(t, j, 2)
	if left, err := os.ReadDir(p.dir); err != nil || len(left) > 20 {
		t.Errorf("%d files, %v", len(left), err)
	}
	t.Logf("%d calls", calls.Load())
}

// freshServesBeforeTheOldLeaves checks that at least size processes serve from the moment
// when that many do.
func freshServesBeforeTheOldLeaves(t *testing.T, j *journal, size int) {
	t.Helper()
	serving, full := map[uint64]bool{}, false
	for _, event := range j.all() {
		switch event.Kind {
		case EventReady:
			serving[event.Start] = true
			full = full || len(serving) == size
		case EventEnded:
			delete(serving, event.Start)
			if event.Death.Reason == ReasonStopped {
				return // the pool was closed
			}
			if full && len(serving) < size {
				t.Errorf("%d serve after the end of start %d", len(serving), event.Start)
			}
		}
	}
	if !full {
		t.Error("they have not all served")
	}
}

func TestAFreshProcessThatDoesNotServeReplacesNobody(t *testing.T) {
	cmd, change := switched(t)
	p, j := startPool(t, Config{Command: cmd, MaxQuickDeaths: 1, StartTimeout: 10 * time.Second})
	pid := mustCall(t, p, "pid", "")
	change("exit at once")
	for range 3 {
		err := p.Replace(testContext(t))
		wantErrors(t, err, []error{ErrNotReplaced}, ErrWorkerDown, ErrClosed)
		var death *DeathError
		if !errors.As(err, &death) || death.Death.ExitCode != 9 || death.Death.Reason != ReasonExited {
			t.Errorf("error %v", err)
		}
		if now := mustCall(t, p, "pid", ""); now != pid {
			t.Errorf("process %s, it was %s", now, pid)
		}
	}
	change("serve")
	if err := p.Replace(testContext(t)); err != nil {
		t.Error(err)
	}
	if now := mustCall(t, p, "pid", ""); now == pid {
		t.Error("it was not replaced")
	}
	for _, event := range j.all() {
		if event.Kind == EventDown {
			t.Error("the pool was down")
		}
	}
}

func TestReplaceWaitsForWhatTheOldHasBegun(t *testing.T) {
	p, j := startPool(t, Config{StopTimeout: 10 * time.Millisecond, Concurrency: 1})
	gate := filepath.Join(t.TempDir(), "gate")
	begun := make(chan error)
	go func() {
		_, err := p.Call(testContext(t), "open", []byte(gate), AtMostOnce())
		begun <- err
	}()
	eventually(t, "it has begun", func() bool { return p.Stats().Running == 1 })
	ctx, cancel := context.WithCancel(context.Background())
	replaced := make(chan error)
	go func() { replaced <- p.Replace(ctx) }()
	eventually(t, "the fresh one serves", func() bool {
		return j.await(t, "ready", func(e Event) bool { return e.Kind == EventReady && e.Start == 2 }).Start == 2
	})
	mustCall(t, p, "echo", "") // by the fresh one: the old one has no place
	if told, err := p.Notify(testContext(t), "note", nil); told != 2 || err != nil {
		t.Errorf("told %d, %v: the old one is there, too", told, err)
	}
	cancel()
	wantErrors(t, <-replaced, []error{context.Canceled})
	select {
	case err := <-begun:
		t.Fatalf("the old one was not waited for: %v", err)
	default:
	}
	// The next one waits for its turn.
	go func() { replaced <- p.Replace(testContext(t)) }()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-begun; err != nil {
		t.Error(err)
	}
	if err := <-replaced; err != nil {
		t.Error(err)
	}
	if deaths := j.deaths(); len(deaths) != 2 || deaths[0].Start != 1 || deaths[1].Start != 2 {
		t.Errorf("deaths %v", deaths)
	}
}

func TestAnOldProcessThatDiesLeavesItsCallsToTheFreshOne(t *testing.T) {
	p, j := startPool(t, Config{Concurrency: 2})
	gate := filepath.Join(t.TempDir(), "gate")
	begun := make(chan error)
	go func() {
		_, err := p.Call(testContext(t), "open", []byte(gate))
		begun <- err
	}()
	eventually(t, "it has begun", func() bool { return p.Stats().Running == 1 })
	p.mu.Lock()
	old := p.slots[0].current
	p.mu.Unlock()
	replaced := make(chan error)
	go func() { replaced <- p.Replace(testContext(t)) }()
	j.await(t, "ready", func(e Event) bool { return e.Kind == EventReady && e.Start == 2 })
	eventually(t, "it has taken over", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.slots[0].current != old
	})
	old.process.kill()
	if err := <-replaced; err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-begun; err != nil {
		t.Error(err)
	}
	if death := j.deaths()[0]; death.Reason != ReasonExited || len(death.Suspects) != 1 || !death.Suspects[0].Blamed {
		t.Errorf("death %+v", death)
	}
}

func TestCloseEndsReplace(t *testing.T) {
	cmd, change := switched(t)
	p, j := startPool(t, Config{Command: cmd, StopTimeout: 10 * time.Millisecond})
	mustCall(t, p, "echo", "")
	change("never ready")
	replaced := make(chan error)
	go func() { replaced <- p.Replace(testContext(t)) }()
	j.await(t, "its start", func(e Event) bool { return e.Kind == EventStarted && e.Start == 2 })
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	wantErrors(t, <-replaced, []error{ErrNotReplaced, ErrClosed})
	wantErrors(t, p.Replace(testContext(t)), []error{ErrClosed})
}

func TestADeadPlaceIsReplaced(t *testing.T) {
	cmd, change := switched(t)
	change("exit at once")
	p, j := startPool(t, Config{Command: cmd, MinPause: watchdog, MaxQuickDeaths: 1})
	j.await(t, "down", func(e Event) bool { return e.Kind == EventDown })
	change("serve")
	if err := p.Replace(testContext(t)); err != nil {
		t.Error(err)
	}
	mustCall(t, p, "echo", "")
}

func TestRecyclingFailsNoCallAndLeavesNoGap(t *testing.T) {
	const limit = 80
	p, j := startPool(t, Config{MaxCalls: limit, Size: 2, AtMostOnce: []string{"echo"}})
	var load sync.WaitGroup
	for i := range 6 {
		load.Add(1)
		go func() {
			defer load.Done()
			for k := range 200 {
				want := fmt.Sprint(i, k)
				if got, err := p.Call(testContext(t), "echo", []byte(want)); err != nil || string(got) != want {
					t.Errorf("answer %q, %v", got, err)
				}
			}
		}()
	}
	load.Wait()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	answered, deaths := uint64(0), j.deaths()
	for _, death := range deaths {
		if death.Answered > limit {
			t.Errorf("%d calls: %v", death.Answered, death)
		}
		answered += death.Answered
	}
	if answered != 1200 || len(deaths) < 1200/limit {
		t.Errorf("%d calls, %d deaths", answered, len(deaths))
	}
	freshServesBeforeTheOldLeaves(t, j, 2)
}

func TestAWorkerThatHasHadItsCallsLeavesEvenIfNoneReplacesIt(t *testing.T) {
	cmd, change := switched(t)
	p, j := startPool(t, quick(Config{Command: cmd, MaxCalls: 2, MaxQuickDeaths: 2}))
	mustCall(t, p, "echo", "")
	change("exit at once")
	mustCall(t, p, "echo", "")
	_, err := p.Call(testContext(t), "echo", nil)
	wantErrors(t, err, []error{ErrWorkerDown, ErrNotSent})
	change("serve")
	eventually(t, "it serves again", func() bool {
		_, err := p.Call(testContext(t), "echo", nil)
		return err == nil
	})
	if death := j.await(t, "the first end", func(e Event) bool { return e.Kind == EventEnded && e.Start == 1 }).Death; death.Reason != ReasonRetired {
		t.Errorf("death %v", death)
	}
}

// underRace says that the race detector is built in.
var underRace bool

// A worker with too much memory serves until the fresh one does.
func TestTooMuchMemoryLeavesNoGap(t *testing.T) {
	if underRace {
		t.Skip("the race detector takes several times the memory that the worker asks for, so that it is killed")
	}
	const limit = 64 << 20
	p, j := startPool(t, Config{MaxMemory: limit})
	first := mustCall(t, p, "pid", "")
	mustCall(t, p, "grow", string(size(limit+limit/8)))
	eventually(t, "it is replaced", func() bool { return mustCall(t, p, "pid", "") != first })
	death := j.await(t, "the first end", func(e Event) bool { return e.Kind == EventEnded }).Death
	if death.Reason != ReasonRetired || strconv.Itoa(death.PID) != first {
		t.Errorf("death %v", death)
	}
	freshServesBeforeTheOldLeaves(t, j, 1)
}
