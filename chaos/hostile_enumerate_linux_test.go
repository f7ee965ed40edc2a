package chaos

import (
	"testing"
	"time"
)

// TestEnumeratorHostile plays the enumerator's cases with hostile clients alone.
func TestEnumeratorHostile(t *testing.T) {
	e := &enumeration{options: EnumerateOptions{Seed: seedOf(t)}, report: NewReport("enumerator", 0)}
	if err := e.hostileCases(t.Context(), time.Now().Add(budgetOf(time.Second, 3*time.Second))); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cases", e.report.Counts["hostile cases"])
	show(t, e.report.Finish(1))
}
