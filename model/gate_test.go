package model

import (
	"fmt"
	"testing"
)

func gateConfig(t *testing.T, s setting) GateConfig {
	t.Helper()
	var config GateConfig
	s.fill(t, &config)
	return config
}

// TestGateEqualsItsModule compares states and edges. The mutants are machines
// too: nothing stops the checker, for it checks nothing here.
func TestGateEqualsItsModule(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range settings(t, "gate") {
		constants := fmt.Sprint(s.constants)
		if seen[constants] {
			continue // and another property
		}
		seen[constants] = true
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			equalToTLC(t, Gate(gateConfig(t, s)), s)
		})
	}
}
