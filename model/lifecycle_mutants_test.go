package model

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Each mutant breaks in the machine the invariant that it breaks in the module,
// after as many steps, and each state that must be reached is reached after as many.
// The matrix of mutants and invariants also has what else breaks on the way there.
func TestLifecycleMutantsAreCaught(t *testing.T) {
	t.Parallel()
	kills := map[string]map[string]string{} // by mutant: a mark for what it breaks
	invariants := Lifecycle(LifecycleConfig{}).Invariants
	var left []string
	for _, s := range settings(t, "lifecycle") {
		switch {
		case s.Kind == "holds":
			continue
		case s.Exit != exitInvariant:
			left = append(left, fmt.Sprintf("%s: %s is temporal, and the machine has no fairness", s.Name, s.Property))
			continue
		case underRace && s.Distinct > 1000:
			continue
		}
		config := lifecycleConfig(t, s)
		m := withReach(config)
		g, err := Explore(m, Options{Invariants: []string{s.Property}})
		var broken *Counterexample[LifecycleState]
		if !errors.As(err, &broken) || broken.Invariant != s.Property {
			t.Errorf("%s: %v in %d states, and %s must break", s.Name, err, len(g.States), s.Property)
			continue
		}
		if got := len(broken.Path.States); got != s.Depth {
			t.Errorf("%s: %s breaks in state %d of the shortest path, in the module in state %d", s.Name, s.Property, got, s.Depth)
		}
		if s.Kind != "mutant" {
			continue
		}
		row := kills[s.Mutant]
		if row == nil {
			row = map[string]string{}
			kills[s.Mutant] = row
		}
		for _, v := range m.Invariants[:len(invariants)] {
			// Where the lock file is deleted some break without a mutant.
			if row[v.Name] == "" && config.Deletions == 0 && slices.ContainsFunc(g.States, func(x LifecycleState) bool { return !v.Holds(x) }) {
				row[v.Name] = "x"
			}
		}
		row[s.Property] = "X"
	}
	t.Log(matrix(kills, invariants))
	for _, reason := range left {
		t.Log("not here: ", reason)
	}
	if underRace {
		return
	}
	for _, v := range invariants {
		if !slices.ContainsFunc(sortedNames(kills), func(mutant string) bool { return kills[mutant][v.Name] == "X" }) {
			t.Errorf("no mutant of the manifest is to break %s", v.Name)
		}
	}
}

// matrix has a row for each mutant and a column for each invariant.
func matrix(kills map[string]map[string]string, invariants []Invariant[LifecycleState]) string {
	var out strings.Builder
	out.WriteString("X: the invariant that the mutant is to break; x: one that breaks before it or with it\n")
	for i, v := range invariants {
		fmt.Fprintf(&out, "%20s%s%s\n", "", strings.Repeat("| ", i), v.Name)
	}
	for _, mutant := range sortedNames(kills) {
		fmt.Fprintf(&out, "%-20s", mutant)
		for _, v := range invariants {
			fmt.Fprintf(&out, "%-2s", cmp.Or(kills[mutant][v.Name], "."))
		}
		out.WriteString("\n")
	}
	return out.String()
}

// Each mutant of the machine does something that the sound machine does not, or
// does not do what that does: also those whose property is temporal.
func TestLifecycleMutantsShow(t *testing.T) {
	t.Parallel()
	if underRace {
		t.Skip("one goroutine")
	}
	for _, s := range settings(t, "lifecycle") {
		if s.Kind != "mutant" || s.Exit == exitInvariant {
			continue
		}
		config := lifecycleConfig(t, s)
		mutant, err := Explore(Lifecycle(config), Options{Invariants: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		config.Mut = ""
		sound, err := Explore(Lifecycle(config), Options{Invariants: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d states and %d edges, without the mutant %d and %d", s.Name,
			len(mutant.States), len(mutant.Edges), len(sound.States), len(sound.Edges))
		if slices.Equal(mutant.States, sound.States) && slices.Equal(mutant.Edges, sound.Edges) {
			t.Errorf("%s does what the sound machine does", s.Name)
		}
	}
}
