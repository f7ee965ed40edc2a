package ipc

import "testing"

// Where a spin never pays, as with one processor for both processes, it is tried less and
// less often, but never given up: the peer may get a processor of its own.
func TestASpinThatNeverPaysIsTriedLessAndLessOften(t *testing.T) {
	e, w := &Endpoint{}, &waiter{}
	const waits = 1 << 20
	spins, last := 0, 0
	for i := range waits {
		if e.spinBudget(w) == maxSpin {
			spins, last = spins+1, i
		}
		w.adapt(false)
	}
	if most := waits/lastProbe + 20; spins > most || waits-last > 2*lastProbe {
		t.Errorf("%d full spins in %d waits, the last in wait %d; want %d at most, and one in each %d", spins, waits, last, most, lastProbe)
	}
	for range 2 {
		w.adapt(true)
		if e.spinBudget(w) != maxSpin {
			t.Error("a spin that paid is not made again")
		}
	}
	for misses := range firstProbe {
		w.adapt(false)
		if full := e.spinBudget(w) == maxSpin; full != (misses == firstProbe-1) {
			t.Fatalf("after %d misses: full spin %v", misses+1, full)
		}
	}
}
