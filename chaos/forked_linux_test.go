package chaos

import (
	"testing"
	"time"
)

func TestForked(t *testing.T) {
	report, err := Forked(t.Context(), ForkedOptions{Budget: budgetOf(5*time.Second, 10*time.Second), Seed: seedOf(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(report, report.Counts)
	if report.Verdict != Pass {
		t.Fail()
	}
}
