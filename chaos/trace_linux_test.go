package chaos

import (
	"errors"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/model"
)

// scenes plays scenes until it is enough, and at most so many.
func scenes(t *testing.T, most int, enough func(trace) bool) {
	t.Helper()
	seed := seedOf(t)
	for i := range uint64(most) {
		played, err := playScene(watched(t), seed+i)
		if err != nil {
			t.Fatalf("seed %d: %v", seed+i, err)
		}
		if played.Lost > 0 {
			t.Fatalf("seed %d: %d events found no room", seed+i, played.Lost)
		}
		if enough(played) {
			return
		}
	}
}

func TestTraces(t *testing.T) {
	report, err := Traces(t.Context(), TraceOptions{Budget: budgetOf(2*time.Second, 6*time.Second), Seed: seedOf(t)})
	if err != nil {
		t.Fatal(err)
	}
	show(t, report)
}

func TestTraceCorruptionsAreRejected(t *testing.T) {
	const most = 60 // some scenes end before much has happened
	kinds := 35
	if testing.Short() {
		kinds = 10
	}
	rejected := map[string]int{}
	judge := func(all []model.Event, corruptions []corruption, replay func([]model.Event) (int, error)) {
		for _, c := range corruptions {
			if rejected[c.what] >= 3 {
				continue
			}
			bad, ok := c.spoil(all)
			if !ok {
				continue
			}
			var parted *model.ReplayError
			if n, err := replay(bad); !errors.As(err, &parted) {
				t.Errorf("%s: %d of %d events, %v: a trace that cannot be is accepted", c.what, n, len(bad), err)
				for i, e := range bad {
					t.Log(i, e)
				}
			}
			rejected[c.what]++
		}
	}
	scenes(t, most, func(played trace) bool {
		for _, r := range played.ringTraces() {
			judge(r.Events, ringCorruptions, func(bad []model.Event) (int, error) {
				spoilt := *r
				spoilt.Events = bad
				return spoilt.replay()
			})
		}
		l := played.lifeTrace()
		judge(l.Events, lifeCorruptions, func(bad []model.Event) (int, error) {
			spoilt := *l
			spoilt.Events = bad
			return spoilt.replay()
		})
		return len(rejected) >= kinds
	})
	t.Logf("%d kinds of corruption: %v", len(rejected), rejected)
	if len(rejected) < 10 {
		t.Errorf("only %d kinds of corruption were tried", len(rejected))
	}
}
