package model

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Each mutant breaks in the machine the property that it breaks in the module, an
// invariant after as many steps, and each state that must be reached is reached
// after as many. The matrix also has what else breaks on the way to an invariant's.
func TestLifecycleMutantsAreCaught(t *testing.T) {
	t.Parallel()
	kills := map[string]map[string]string{} // by mutant: a mark for what it breaks
	properties := liveProperties()
	invariants := Lifecycle(LifecycleConfig{}).Invariants
	for _, v := range invariants {
		properties = append(properties, v.Name)
	}
	for _, s := range settings(t, "lifecycle") {
		if s.Kind == "holds" || underRace && s.Distinct > 1000 {
			continue
		}
		row := kills[s.Mutant]
		if row == nil && s.Kind == "mutant" {
			row = map[string]string{}
			kills[s.Mutant] = row
		}
		if s.Exit != exitInvariant {
			neverComes(t, s)
			row[s.Property] = "X"
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
		for _, v := range m.Invariants[:len(invariants)] {
			// Where the lock file is deleted some break without a mutant.
			if row[v.Name] == "" && config.Deletions == 0 && slices.ContainsFunc(g.States, func(x LifecycleState) bool { return !v.Holds(x) }) {
				row[v.Name] = "x"
			}
		}
		row[s.Property] = "X"
	}
	t.Log(matrix(kills, properties))
	if underRace {
		return
	}
	for _, property := range properties {
		if !slices.ContainsFunc(sortedNames(kills), func(mutant string) bool { return kills[mutant][property] == "X" }) {
			t.Errorf("no mutant of the manifest is to break %s", property)
		}
	}
}

// liveProperties are the names of the life cycle's temporal properties.
func liveProperties() (names []string) {
	for _, p := range Lifecycle(LifecycleConfig{Servers: 1, Clients: 1, MaxConn: 1}).Temporal {
		if !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	return names
}

// neverComes sees to it that the mutant breaks its temporal property, that the way
// is one that the machine has and its fairness allows, and that the sound machine
// does not.
func neverComes(t *testing.T, s setting) {
	t.Helper()
	config := lifecycleConfig(t, s)
	judge := func() (Machine[LifecycleState], error) {
		m := Lifecycle(config)
		g, err := Explore(m, Options{Invariants: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		return m, Live(m, g, []string{s.Property})
	}
	m, err := judge()
	if err == nil {
		t.Errorf("%s: %s does not break", s.Name, s.Property)
	} else {
		isLasso(t, s.Name, m, err)
	}
	config.Mut = ""
	if _, err := judge(); err != nil {
		t.Errorf("%s, but without the mutant: %v", s.Name, err)
	}
}

// matrix has a row for each mutant and a column for each property.
func matrix(kills map[string]map[string]string, properties []string) string {
	var out strings.Builder
	out.WriteString("X: the property that the mutant is to break; x: an invariant that breaks before it or with it\n")
	for i, name := range properties {
		fmt.Fprintf(&out, "%20s%s%s\n", "", strings.Repeat("| ", i), name)
	}
	for _, mutant := range sortedNames(kills) {
		fmt.Fprintf(&out, "%-20s", mutant)
		for _, name := range properties {
			fmt.Fprintf(&out, "%-2s", cmp.Or(kills[mutant][name], "."))
		}
		out.WriteString("\n")
	}
	return out.String()
}
