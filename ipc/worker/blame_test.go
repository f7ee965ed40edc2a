//go:build linux && (amd64 || arm64)

package worker

import (
	"errors"
	"fmt"
	"sync"
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
