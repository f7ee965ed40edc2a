//go:build linux && (amd64 || arm64)

package worker

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Four handlers at a time, 200 requests, one in 20 deadly: every innocent one is answered,
// every deadly one is named, and no other.
func TestEveryInnocentCallIsAnsweredAndEveryDeadlyOneNamed(t *testing.T) {
	p, j := startPool(t, Config{Concurrency: 4})
	const calls, each = 200, 20
	var wg sync.WaitGroup
	for i := range calls {
		wg.Add(1)
		go func() {
			defer wg.Done()
			method := "linger"
			if i%each == 7 {
				method = []string{"exit", "panic"}[i/each%2]
			}
			want := fmt.Sprint(i)
			answer, err := p.Call(testContext(t), method, []byte(want))
			var death *DeathError
			switch {
			case method == "linger" && (err != nil || string(answer) != want):
				t.Errorf("innocent call %d: %q, %v", i, answer, err)
			case method != "linger" && (!errors.Is(err, ErrPoison) || !errors.As(err, &death)):
				t.Errorf("deadly call %d: %q, %v", i, answer, err)
			case method != "linger":
				wantErrors(t, err, nil, ErrNotSent, ErrOutcomeUnknown, ErrWorkerDown)
				if death.Attempts < DefaultMaxAttempts || len(death.Death.Stderr) == 0 {
					t.Errorf("deadly call %d: %+v", i, death)
				}
			}
		}()
	}
	wg.Wait()
	crowded := 0
	for _, death := range j.deaths() {
		if len(death.Suspects) > 1 {
			crowded++
		}
		blamed := 0
		for _, suspect := range death.Suspects {
			if suspect.Attempt > 1 && len(death.Suspects) > 1 {
				t.Errorf("a suspect does not run alone: %+v", death)
			}
			if suspect.Blamed {
				blamed++
			}
			if suspect.Blamed && suspect.Method == "linger" {
				t.Errorf("an innocent call is blamed: %+v", death)
			}
		}
		if blamed > 1 {
			t.Errorf("several are blamed for one death: %+v", death)
		}
	}
	if crowded == 0 {
		t.Error("every suspect was alone from the start: nothing was shown")
	}
	stats := p.Stats()
	if stats.Answered != calls-calls/each {
		t.Errorf("counts %+v", stats)
	}
	if deaths := stats.Deaths; deaths < calls/each*DefaultMaxAttempts {
		t.Errorf("%d deaths: too few for what they are to show", deaths)
	}
	t.Logf("%+v, with several suspects %d", stats, crowded)
}

func TestASuspectRunsAloneUntilItIsNamed(t *testing.T) {
	p, j := startPool(t, Config{MaxAttempts: 2})
	_, err := p.Call(testContext(t), "exit", nil)
	var death *DeathError
	if !errors.As(err, &death) || !errors.Is(err, ErrPoison) {
		t.Fatalf("error %v", err)
	}
	if death.Attempts != 2 || death.Death.ExitCode != 7 || !contains(death.Death.Stderr, "last words") {
		t.Errorf("death %+v", death)
	}
	_, err = p.Call(testContext(t), "exit", nil, MaxAttempts(1))
	if !errors.As(err, &death) || death.Attempts != 1 {
		t.Errorf("death %+v", death)
	}
	if got := mustCall(t, p, "echo", "after it"); got != "after it" {
		t.Errorf("answer %q", got)
	}
	if n := len(j.deaths()); n != 3 {
		t.Errorf("%d deaths", n)
	}
}

func TestTheAttemptIsVisibleToTheHandler(t *testing.T) {
	p, _ := startPool(t, Config{})
	for _, attempt := range []string{"1", "2", "3"} {
		if got := mustCall(t, p, "exit before attempt", attempt); got != attempt {
			t.Errorf("answered at attempt %s, want %s", got, attempt)
		}
	}
}

func TestAnAtMostOnceCallIsNeverStartedTwice(t *testing.T) {
	p, j := startPool(t, Config{AtMostOnce: []string{"exit"}})
	_, err := p.Call(testContext(t), "exit", nil)
	wantErrors(t, err, []error{ErrOutcomeUnknown}, ErrNotSent, ErrPoison)
	_, err = p.Call(testContext(t), "panic", nil, AtMostOnce())
	wantErrors(t, err, []error{ErrOutcomeUnknown}, ErrNotSent, ErrPoison)
	j.await(t, "the second death", func(e Event) bool { return e.Kind == EventEnded && e.Start == 2 })
	for _, death := range j.deaths() {
		if len(death.Suspects) != 1 || death.Suspects[0].Attempt != 1 {
			t.Errorf("death %+v", death)
		}
	}
}

func TestAFrozenWorkerIsKilled(t *testing.T) {
	p, j := startPool(t, Config{HangTimeout: 400 * time.Millisecond, MaxAttempts: 1})
	_, err := p.Call(testContext(t), "freeze", nil)
	wantErrors(t, err, []error{ErrPoison})
	death := j.await(t, "a death", func(e Event) bool { return e.Kind == EventEnded }).Death
	if death.Reason != ReasonHung {
		t.Errorf("death %v", death)
	}
}

// A call that waits in the channel of a dead worker is not started by its successor, which
// would run it twice.
func TestTheNextWorkerDoesNotStartWhatWasSentToItsPredecessor(t *testing.T) {
	p, _ := startPool(t, Config{Command: command(t, "serve once it is told"), Concurrency: 8, StartTimeout: watchdog})
	counted := t.TempDir()
	t.Setenv("TANDEM_TEST_DIR", counted)
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := p.Call(testContext(t), "count", nil, AtMostOnce()); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if runs, err := os.ReadDir(counted); err != nil || len(runs) != 8 {
		t.Errorf("%d runs of 8 calls, %v", len(runs), err)
	}
	if stats := p.Stats(); stats.Starts != 2 || stats.Unasked != 0 {
		t.Errorf("counts %+v", stats)
	}
}

// The first worker says hello, takes nothing, and dies when eight calls wait in its
// channel. The second one serves.
var _ = roguePart("serve once it is told", func(r *rogue) {
	if r.start == 1 {
		r.hello()
		for r.endpoint.Stats().Received == 0 {
			m, err := r.endpoint.Receive(context.Background())
			leave(err)
			_ = m
		}
		<-time.After(50 * time.Millisecond) // for more calls to come; it is no matter how many do
		os.Exit(0)
	}
	leave(r.endpoint.Close())
	leave(os.Setenv(variable, fmt.Sprintf("%d:%d:%s", r.start, DefaultMaxMessage, r.endpoint.Path())))
	leave(Serve(context.Background(), Handlers{"count": func(context.Context, *Request) ([]byte, error) {
		f, err := os.CreateTemp(os.Getenv("TANDEM_TEST_DIR"), "run")
		if err != nil {
			return nil, err
		}
		return nil, f.Close()
	}}))
	os.Exit(0)
})

// A worker answers and is gone, while what it has sent is still to be received: none
// of these calls is a suspect, and none is made again.
func TestAnswersOfADeadWorkerAreReceivedFirst(t *testing.T) {
	const calls = 8
	t.Setenv("TANDEM_TEST_DIR", t.TempDir())
	p, j := startPool(t, Config{Command: command(t, "answer all and die"), Concurrency: calls})
	var wg sync.WaitGroup
	for range calls {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if answer, err := p.Call(testContext(t), "echo", nil, AtMostOnce()); err != nil || string(answer) != "answer" {
				t.Errorf("%q, %v", answer, err)
			}
		}()
	}
	dir := os.Getenv("TANDEM_TEST_DIR")
	if err := untilFile(testContext(t), filepath.Join(dir, "all there")); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock() // so that nothing is received
	ended := p.slots[0].current.process.ended
	err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600)
	<-ended
	p.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	death := j.await(t, "a death", func(e Event) bool { return e.Kind == EventEnded }).Death
	if death.Answered != calls || len(death.Suspects) != 0 {
		t.Errorf("death %+v", death)
	}
}

var _ = roguePart("answer all and die", func(r *rogue) {
	r.hello()
	var ids []uint64
	for len(ids) < 8 {
		ids = append(ids, r.request())
	}
	dir := os.Getenv("TANDEM_TEST_DIR")
	leave(os.WriteFile(filepath.Join(dir, "all there"), nil, 0o600))
	leave(untilFile(context.Background(), filepath.Join(dir, "go")))
	for range 20000 { // so that there is much to be received first
		r.send(kindStarted, header{}, nil)
	}
	for _, id := range ids {
		r.send(kindStarted, header{id: id}, nil)
	}
	for _, id := range ids {
		r.send(kindAnswer, header{id: id}, []byte("answer"))
	}
	os.Exit(0)
})

// While other calls keep all workers busy, one worker gets no new ones until it is
// empty and takes the suspect.
func TestASuspectIsNotStarved(t *testing.T) {
	p := &Pool{config: Config{Concurrency: 4}, ordinary: list.New(), suspects: list.New()}
	newCall := func(queue *list.List) *call {
		c := &call{kick: make(chan struct{}, 1), done: make(chan outcome, 1)}
		p.enqueue(c, queue)
		return c
	}
	for i := range 2 {
		s := newSlot(p, i, nil)
		s.current = newStay(s, uint64(i))
		s.current.serving = true
		p.slots = append(p.slots, s)
		newCall(p.ordinary)
		p.schedule()
	}
	suspect := newCall(p.suspects)
	for range 8 {
		newCall(p.ordinary)
	}
	p.schedule()
	kept := p.leastLoaded(nil)
	if suspect.flight != nil || len(kept.flights) != 1 || p.ordinary.Len() != 5 {
		t.Fatalf("the worker that was kept has %d calls, %d wait", len(kept.flights), p.ordinary.Len())
	}
	for _, f := range kept.flights {
		p.land(f)
	}
	p.schedule()
	if suspect.flight == nil || suspect.flight.stay != kept || len(kept.flights) != 1 {
		t.Errorf("the suspect has no worker of its own, which has %d calls", len(kept.flights))
	}
}

func TestCallsThatHadNotStartedGoElsewhereWithoutBlame(t *testing.T) {
	p, j := startPool(t, Config{Command: command(t, "dies with calls that it has not started"), Concurrency: 4})
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if got, err := p.Call(testContext(t), "attempt", nil, AtMostOnce(), MaxAttempts(1)); err != nil || string(got) != "1" {
				t.Errorf("%q, %v", got, err)
			}
		}()
	}
	wg.Wait()
	if deaths := j.deaths(); len(deaths) != 1 || len(deaths[0].Suspects) != 0 {
		t.Errorf("deaths %+v", deaths)
	}
}

var _ = roguePart("dies with calls that it has not started", func(r *rogue) {
	if r.start == 1 {
		r.hello()
		for range 4 {
			r.request()
		}
		os.Exit(0)
	}
	leave(r.endpoint.Close())
	leave(os.Setenv(variable, fmt.Sprintf("%d:%d:%s", r.start, DefaultMaxMessage, r.endpoint.Path())))
	leave(Serve(context.Background(), testHandlers))
	os.Exit(0)
})

// A suspect whose next worker ends before it has started it is still a suspect.
func TestASuspectThatHadNotStartedStillRunsAlone(t *testing.T) {
	p, j := startPool(t, quick(Config{Command: command(t, "dies with suspects that it has not started"), Concurrency: 3}))
	var wg sync.WaitGroup
	call := func() {
		defer wg.Done()
		got, err := p.Call(testContext(t), "company", nil)
		if err != nil {
			t.Error(err)
			return
		}
		var attempt, most int
		if _, err := fmt.Sscan(string(got), &attempt, &most); err != nil || attempt > 1 && most != 1 {
			t.Errorf("attempt %d runs with %d others, %v", attempt, most-1, err)
		}
	}
	for range 6 { // three of them are suspects
		wg.Add(1)
		go call()
	}
	wg.Wait()
	for i, death := range j.deaths() {
		if want := []int{3, 0}[i]; len(death.Suspects) != want {
			t.Errorf("death %d has the suspects %+v", i, death.Suspects)
		}
	}
}

func init() {
	var running atomic.Int64
	testHandlers["company"] = func(_ context.Context, r *Request) ([]byte, error) {
		most := running.Add(1)
		defer running.Add(-1)
		<-time.After(20 * time.Millisecond) // so that others would come
		return fmt.Appendf(nil, "%d %d", r.Attempt, max(most, running.Load())), nil
	}
}

var _ = roguePart("dies with suspects that it has not started", func(r *rogue) {
	switch r.start {
	case 1:
		r.hello()
		for range 3 {
			r.send(kindStarted, header{id: r.request()}, nil)
		}
		os.Exit(0)
	case 2:
		r.hello()
		r.request()
		os.Exit(0)
	}
	leave(r.endpoint.Close())
	leave(os.Setenv(variable, fmt.Sprintf("%d:%d:%s", r.start, DefaultMaxMessage, r.endpoint.Path())))
	leave(Serve(context.Background(), testHandlers))
	os.Exit(0)
})
