package chaos

import "time"

// EnumerateOptions says how much of the enumeration is done.
type EnumerateOptions struct {
	// Budget ends the enumeration, which then has covered a sample that Seed
	// draws; 0 is no bound.
	Budget time.Duration
	Seed   uint64

	// Longest is the length of the longest sequences, 3 if 0; Depth is how many
	// deaths a case may have, 2 if 0.
	Longest, Depth int

	// Full goes through everything in order instead of drawing samples.
	Full bool

	// Progress, if set, is called with the number of cases so far.
	Progress func(cases int)
}

// A task is what one process of the enumerator is told to do: the cases of one
// sequence.
type task struct {
	Recorded   bool // the machines of the specification follow the cases
	Actor      string
	Operations []string
	Firsts     int // how many first deaths to draw; all if negative
	Seconds    int // and second ones for each of them
	Seed       uint64
	Until      time.Time // the zero time is never
}

// playAgain is the line that plays a case of a layer again: see [PlayAgain].
func playAgain(layer, coordinate string) string {
	return "go test ./chaos -run 'TestPlayAgain$' -chaos.at '" + layer + "=" + coordinate + "'"
}
