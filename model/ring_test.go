package model

import (
	"slices"
	"testing"
)

func ringConfig(t *testing.T, s setting) RingConfig {
	t.Helper()
	var config RingConfig
	s.fill(t, &config, "Eager") // which is about fairness
	return config
}

// ringsCompared are configurations with every kind of fault, each small enough
// for the checker to write down in seconds.
var ringsCompared = []string{
	"ring_plain",         // store buffers
	"ring_views",         // several messages held
	"ring_generations",   // both die
	"ring_consumers_die", // two clients, one after the other
	"ring_aborts",        // reservations given back
	"ring_waits_kept",    // a client dies, a call is cancelled
	"ring_live_held",     // sleeps end for no reason
	"ring_live_frozen",   // a side freezes
}

func TestRingEqualsItsModule(t *testing.T) {
	for _, s := range settings(t, "ring") {
		if !slices.Contains(ringsCompared, s.Name) {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			equalToTLC(t, Ring(ringConfig(t, s)), s)
		})
	}
}
