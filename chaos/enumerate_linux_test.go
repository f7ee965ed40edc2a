package chaos

import (
	"flag"
	"testing"
	"time"
)

var (
	replayAt   = flag.String("chaos.at", "", "the case to play again, as LAYER=COORDINATE")
	drawFlag   = flag.Uint64("chaos.seed", 0, "the seed of what is drawn; 0 is a new one")
	fullFlag   = flag.Bool("chaos.full", false, "die everywhere, however long it takes: -chaos.budget bounds it")
	longFlag   = flag.Int("chaos.longest", 0, "the longest sequences of the enumeration; 0 is 3")
	depthFlag  = flag.Int("chaos.depth", 0, "how many deaths a case of the enumeration has; 0 is 2")
	budgetFlag = flag.Duration("chaos.budget", 0, "how long each layer may take; 0 is its default")
)

// seedOf is the seed of a run, printed so that it can be given again.
func seedOf(t testing.TB) uint64 {
	seed := *drawFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed: -chaos.seed %d", seed)
	return seed
}

// budgetOf is how long a layer may take.
func budgetOf(short, usual time.Duration) time.Duration {
	switch {
	case *budgetFlag > 0:
		return *budgetFlag
	case testing.Short():
		return short
	}
	return usual
}

func TestPlayAgain(t *testing.T) {
	if *replayAt == "" {
		t.Skip("nothing to play again: see -chaos.at")
	}
	report, err := PlayAgain(t.Context(), *replayAt)
	if err != nil {
		t.Fatal(err)
	}
	show(t, report)
}

func TestEnumerator(t *testing.T) {
	o := EnumerateOptions{Seed: seedOf(t), Full: *fullFlag, Longest: *longFlag, Depth: *depthFlag}
	if o.Budget = budgetOf(2*time.Second, 10*time.Second); o.Full {
		o.Budget = *budgetFlag
	}
	report, err := Enumerate(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	show(t, report)
}
