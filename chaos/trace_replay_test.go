package chaos

import "testing"

// The report names the searches that were given up. More than a few of them are a failure.
func TestWhatIsGivenUpIsToldAndIsNotMuch(t *testing.T) {
	for _, c := range []struct {
		given, decided int
		fails, notes   bool
	}{{0, 10, false, false}, {1, 0, false, true}, {2, 0, true, false}, {2, mostUndecided, false, true}, {3, mostUndecided, true, false}} {
		r := NewReport("traces", 0)
		r.Count(undecidedTraces, c.given)
		r.Count("life cycles replayed", c.decided)
		r.checkDecided()
		if fails, notes := len(r.Failures) > 0, len(r.Notes) > 0; fails != c.fails || notes != c.notes {
			t.Errorf("%d given up of %d: fails %v, notes %v", c.given, c.given+c.decided, fails, notes)
		}
	}
}
