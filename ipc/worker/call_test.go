//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func TestACallIsAnswered(t *testing.T) {
	p, _ := startPool(t, Config{})
	if got := mustCall(t, p, "echo", "question"); got != "question" {
		t.Errorf("answer %q", got)
	}
	if got := mustCall(t, p, "echo", ""); got != "" {
		t.Errorf("answer %q to nothing", got)
	}
}

func TestCallsOfManyGoroutinesKeepTheirAnswers(t *testing.T) {
	p, _ := startPool(t, Config{Size: 2, Concurrency: 3})
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for k := range 25 {
				want := fmt.Sprintf("%d of %d", k, i)
				if got, err := p.Call(testContext(t), "echo", []byte(want)); err != nil || string(got) != want {
					t.Errorf("answer %q, %v, want %q", got, err, want)
				}
			}
		}()
	}
	wg.Wait()
	if stats := p.Stats(); stats.Answered != 800 || stats.Unasked+stats.Stale+stats.Late != 0 || stats.Running+stats.Waiting != 0 {
		t.Errorf("counts %+v", stats)
	}
}

func TestAHandlersErrorIsTheCallers(t *testing.T) {
	p, _ := startPool(t, Config{})
	_, err := p.Call(testContext(t), "fail", []byte("no such picture"))
	var remote *RemoteError
	if !errors.As(err, &remote) || remote.Message != "no such picture" || remote.Method != "fail" {
		t.Errorf("error %v", err)
	}
	wantErrors(t, err, nil, ErrNotSent, ErrOutcomeUnknown)
	_, err = p.Call(testContext(t), "goexit", nil)
	if !errors.As(err, &remote) {
		t.Errorf("a handler that ends its goroutine: %v", err)
	}
	_, err = p.Call(testContext(t), "nothing", nil)
	wantErrors(t, err, []error{ErrUnknownMethod}, ErrOutcomeUnknown)
	if stats := p.Stats(); stats.Deaths != 0 || stats.Answered != 3 {
		t.Errorf("counts %+v", stats)
	}
}

func TestWhatIsTooLargeIsAnErrorAtOnce(t *testing.T) {
	p, _ := startPool(t, Config{MaxMessage: 1 << 16})
	if got := mustCall(t, p, "echo", string(make([]byte, 1<<16))); len(got) != 1<<16 {
		t.Errorf("the largest message came back with %d bytes", len(got))
	}
	_, err := p.Call(testContext(t), "echo", make([]byte, 1<<16+1))
	wantErrors(t, err, []error{ErrTooLarge, ErrNotSent}, ErrOutcomeUnknown)
	_, err = p.Call(testContext(t), "large", size(1<<16+1))
	wantErrors(t, err, []error{ErrTooLarge}, ErrNotSent)
	_, err = p.Call(testContext(t), string(make([]byte, 256)), nil)
	wantErrors(t, err, []error{ErrUnknownMethod, ErrNotSent})
	if stats := p.Stats(); stats.Deaths != 0 {
		t.Errorf("counts %+v", stats)
	}
}

func TestLargeMessagesBothWaysDoNotBlockEachOther(t *testing.T) {
	const large = 1 << 16
	p, _ := startPool(t, Config{MaxMessage: large, Concurrency: 8}) // a ring holds one
	var wg sync.WaitGroup
	for range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 20 {
				if got, err := p.Call(testContext(t), "echo", make([]byte, large)); err != nil || len(got) != large {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			}
		}()
	}
	wg.Wait()
}

func TestDeadlineAndCancellationReachTheHandler(t *testing.T) {
	p, _ := startPool(t, Config{})
	if got := mustCall(t, p, "allowed", ""); got == "" {
		t.Error("the handler has no deadline")
	}
	if got, err := p.Call(context.Background(), "allowed", nil); err != nil || len(got) != 0 {
		t.Errorf("a deadline where none was set: %q, %v", got, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		_, err := p.Call(ctx, "wait", nil)
		ended <- err
	}()
	eventually(t, "the call runs", func() bool { return p.Stats().Running == 1 })
	cancel()
	wantErrors(t, <-ended, []error{context.Canceled})
	eventually(t, "the handler has heard of it", func() bool { return p.Stats().Running == 0 })
	if deaths := p.Stats().Deaths; deaths != 0 {
		t.Errorf("%d deaths: the handler had to be killed", deaths)
	}

	ctx, cancel = context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err := p.Call(ctx, "wait", nil)
	wantErrors(t, err, []error{context.DeadlineExceeded})
	eventually(t, "the handler's own deadline ends it", func() bool { return p.Stats().Running == 0 })
	<-ctx.Done() // the handler's deadline may have come a little before
	_, err = p.Call(ctx, "echo", nil)
	wantErrors(t, err, []error{ErrNotSent, context.DeadlineExceeded}, ErrOutcomeUnknown)
}

func TestATimeoutCountsOnlyTheTimeWithAWorker(t *testing.T) {
	p, _ := startPool(t, Config{Concurrency: 1, Timeout: 50 * time.Millisecond})
	gate := filepath.Join(t.TempDir(), "gate")
	first, second := make(chan error), make(chan error)
	go func() {
		_, err := p.Call(testContext(t), "open", []byte(gate), Timeout(0))
		first <- err
	}()
	eventually(t, "the only place is taken", func() bool { return p.Stats().Running == 1 })
	go func() {
		_, err := p.Call(testContext(t), "wait", nil)
		second <- err
	}()
	eventually(t, "the other call waits", func() bool { return p.Stats().Waiting == 1 })
	select {
	case err := <-second:
		t.Fatalf("it has not waited: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
	wantErrors(t, <-second, []error{context.DeadlineExceeded}, ErrNotSent)
}

func TestACallThatWaitsForAPlaceWasNotSent(t *testing.T) {
	p, _ := startPool(t, Config{Concurrency: 1})
	gate := filepath.Join(t.TempDir(), "gate")
	first := make(chan error)
	go func() {
		_, err := p.Call(testContext(t), "open", []byte(gate))
		first <- err
	}()
	eventually(t, "the only place is taken", func() bool { return p.Stats().Running == 1 })
	ctx, cancel := context.WithCancel(context.Background())
	second := make(chan error)
	go func() {
		_, err := p.Call(ctx, "echo", nil)
		second <- err
	}()
	eventually(t, "the other call waits", func() bool { return p.Stats().Waiting == 1 })
	cancel()
	wantErrors(t, <-second, []error{ErrNotSent, context.Canceled}, ErrOutcomeUnknown)
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestAStuckHandlerIsKilledAndItsNeighbourRunsAgain(t *testing.T) {
	p, j := startPool(t, Config{Grace: 50 * time.Millisecond, Concurrency: 2})
	gate := filepath.Join(t.TempDir(), "gate")
	neighbour := make(chan error)
	go func() {
		_, err := p.Call(testContext(t), "open", []byte(gate))
		neighbour <- err
	}()
	eventually(t, "the neighbour runs", func() bool { return p.Stats().Running == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := p.Call(ctx, "hang", nil)
	wantErrors(t, err, []error{context.DeadlineExceeded})
	death := j.await(t, "the stuck one is killed", func(e Event) bool { return e.Kind == EventEnded }).Death
	if death.Reason != ReasonStuck {
		t.Errorf("death %v", death)
	}
	for _, suspect := range death.Suspects {
		if suspect.Blamed != (suspect.Method == "hang") {
			t.Errorf("suspect %+v", suspect)
		}
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-neighbour; err != nil {
		t.Errorf("the neighbour: %v", err)
	}
}

func TestCloseLetsCallsEndAndAdmitsNone(t *testing.T) {
	p, j := startPool(t, Config{Concurrency: 1})
	gate := filepath.Join(t.TempDir(), "gate")
	running, waiting := make(chan error), make(chan error)
	go func() {
		_, err := p.Call(testContext(t), "open", []byte(gate))
		running <- err
	}()
	eventually(t, "a call runs", func() bool { return p.Stats().Running == 1 })
	go func() {
		_, err := p.Call(testContext(t), "echo", nil)
		waiting <- err
	}()
	eventually(t, "a call waits", func() bool { return p.Stats().Waiting == 1 })
	closed := make(chan error)
	go func() { closed <- p.Close() }()
	wantErrors(t, <-waiting, []error{ErrClosed, ErrNotSent}, ErrOutcomeUnknown)
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-running; err != nil {
		t.Errorf("the call that ran: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	_, err := p.Call(testContext(t), "echo", nil)
	wantErrors(t, err, []error{ErrClosed, ErrNotSent})
	if deaths := j.deaths(); len(deaths) != 1 || deaths[0].Reason != ReasonStopped || deaths[0].ExitCode != 0 {
		t.Errorf("deaths %v", deaths)
	}
}

func TestCloseKillsAWorkerThatDoesNotLeave(t *testing.T) {
	p, j := startPool(t, Config{StopTimeout: 20 * time.Millisecond})
	ended := make(chan error)
	go func() {
		_, err := p.Call(testContext(t), "hang", nil)
		ended <- err
	}()
	j.await(t, "it serves", func(e Event) bool { return e.Kind == EventReady })
	eventually(t, "a call runs", func() bool { return p.Stats().Running == 1 })
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	wantErrors(t, <-ended, []error{ErrClosed})
	if deaths := j.deaths(); len(deaths) != 1 || deaths[0].Signal == 0 {
		t.Errorf("deaths %v", deaths)
	}
}

// Also what is not started again after any death ends with the pool, and says so.
func TestWhatCloseBreaksOffSaysThatThePoolIsClosed(t *testing.T) {
	p, _ := startPool(t, Config{StopTimeout: 100 * time.Millisecond})
	begun, ended := make(chan struct{}), make(chan error, 2)
	go func() {
		_, err := p.Call(testContext(t), "hang", nil, AtMostOnce())
		ended <- err
	}()
	go func() {
		var once sync.Once
		for _, err := range p.Stream(testContext(t), "part, then hang", nil) {
			once.Do(func() { close(begun) })
			if err != nil {
				ended <- err
			}
		}
	}()
	<-begun
	eventually(t, "both run", func() bool { return p.Stats().Running == 2 })
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		wantErrors(t, <-ended, []error{ErrClosed, ErrOutcomeUnknown}, ErrNotSent)
	}
}

func TestThePoolEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p, err := Start(ctx, Config{Command: command(t, "serve")})
	if err != nil {
		t.Fatal(err)
	}
	mustCall(t, p, "echo", "")
	cancel()
	<-p.closed
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
