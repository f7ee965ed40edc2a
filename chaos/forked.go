package chaos

import "time"

// ForkedOptions says how much of layer 2 is done.
type ForkedOptions struct {
	// Budget ends the layer, which then has covered a sample that Seed draws,
	// and every operation's first steps; 0 is no bound.
	Budget time.Duration
	Seed   uint64

	// Progress, if set, is called with the number of cases so far.
	Progress func(cases int)

	traced func(trace) // of a test: gets the trace of each case
}
