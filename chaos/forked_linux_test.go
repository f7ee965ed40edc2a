package chaos

import (
	"context"
	"testing"
	"time"
)

func TestForked(t *testing.T) {
	report, err := Forked(t.Context(), ForkedOptions{Budget: budgetOf(2*time.Second, 10*time.Second), Seed: seedOf(t)})
	if err != nil {
		t.Fatal(err)
	}
	show(t, report)
}

// A layer that is broken off says nothing of the cases that it could not finish.
func TestForkedThatIsBrokenOffHasNoFailures(t *testing.T) {
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		report, err := Forked(ctx, ForkedOptions{Seed: seedOf(t), Progress: func(cases int) {
			if cases == 10 {
				cancel()
			}
		}})
		cancel()
		if err == nil || report.Failed > 0 || report.Cases < 10 {
			t.Errorf("%v: %v", err, report)
		}
	}
}
