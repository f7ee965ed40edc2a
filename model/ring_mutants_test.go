package model

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// What holds in the module holds in the machine, in as many states, after as many
// steps; and the states that must be reached are.
func TestRingHolds(t *testing.T) {
	t.Parallel()
	holds(t, "ring", "MCRing", func(s setting) Machine[RingState] { return ringWithReach(ringConfig(t, s)) }, ringParts)
}

func TestGateHolds(t *testing.T) {
	t.Parallel()
	holds(t, "gate", "Gate", func(s setting) Machine[GateState] { return Gate(gateConfig(t, s)) }, gateParts)
}

func TestChannelHolds(t *testing.T) {
	t.Parallel()
	holds(t, "ring", "Channel", func(s setting) Machine[ChannelState] { return Channel(channelConfig(t, s)) },
		func(*testing.T, setting, *Graph[ChannelState]) map[string]string { return nil })
}

// A partsOf finds out about the properties of a setting that are no invariants.
type partsOf[S comparable] func(*testing.T, setting, *Graph[S]) map[string]string

func holds[S comparable](t *testing.T, manifest, module string, of func(setting) Machine[S], other partsOf[S]) {
	for _, s := range settings(t, manifest) {
		if s.Module != module || s.Kind == "mutant" || s.Distinct > large && !*everything || s.Distinct > 2000 && underRace {
			continue
		}
		m := of(s)
		invariants, _ := split(m, s)
		if s.Kind == "reach" {
			breaks(t, m, s)
			continue
		}
		g, err := Explore(m, Options{Invariants: invariants})
		if err != nil {
			t.Errorf("%s: %v", s.Name, err)
			continue
		}
		found := other(t, s, g)
		for _, name := range sortedNames(found) {
			if found[name] != "" {
				t.Errorf("%s: %s: %s", s.Name, name, found[name])
			}
		}
		if all := len(invariants) + len(found); all != len(s.checked) {
			t.Errorf("%s: %d of %v are looked at", s.Name, all, s.checked)
		}
		generated := len(m.Init) + len(g.Edges)
		if len(g.States) != s.Distinct || g.Depth != s.Depth || generated != s.Generated {
			t.Errorf("%s: %d states of %d, depth %d; pinned are %d of %d, depth %d", s.Name,
				len(g.States), generated, g.Depth, s.Distinct, s.Generated, s.Depth)
		}
		t.Logf("%s: %d states: %v hold", s.Name, len(g.States), s.checked)
	}
}

// Each mutant breaks in the machine the property that it breaks in the module,
// after as many steps; and with the rule in its place again, nothing breaks.
func TestRingMutantsAreCaught(t *testing.T) {
	t.Parallel()
	mutantsAreCaught(t, "ring", func(s setting) Machine[RingState] { return Ring(ringConfig(t, s)) }, ringParts)
}

func TestGateMutantsAreCaught(t *testing.T) {
	t.Parallel()
	mutantsAreCaught(t, "gate", func(s setting) Machine[GateState] { return Gate(gateConfig(t, s)) }, gateParts)
}

func mutantsAreCaught[S comparable](t *testing.T, manifest string, of func(setting) Machine[S], other partsOf[S]) {
	if testing.Short() || underRace {
		t.Skip("many states, and one goroutine")
	}
	kills := map[string]map[string]string{} // by mutant and property: a mark
	sound := map[string]bool{}              // by constants: nothing breaks
	properties := map[string]bool{}
	explored := 0
	for _, s := range settings(t, manifest) {
		if s.Kind != "mutant" {
			continue
		}
		m := of(s)
		row := kills[s.Mutant]
		if row == nil {
			row = map[string]string{}
			kills[s.Mutant] = row
		}
		// Each property on its own: the search goes on behind what breaks.
		g, err := Explore(m, Options{Invariants: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		explored += len(g.States)
		if s.Exit == exitInvariant {
			breaks(t, m, s)
		} else if other(t, s, g)[s.Property] == "" {
			t.Errorf("%s: %s does not break", s.Name, s.Property)
		}
		row[s.Property], properties[s.Property] = "X", true
		for _, v := range m.Invariants {
			properties[v.Name] = true
			if row[v.Name] == "" && slices.ContainsFunc(g.States, func(x S) bool { return !v.Holds(x) }) {
				row[v.Name] = "x"
			}
		}
		whole := s.with("Left", "{}")
		if key := fmt.Sprint(whole.constants); !sound[key] {
			sound[key] = true
			g, err := Explore(of(whole), Options{})
			if err != nil {
				t.Errorf("%s, but with all rules: %v", s.Name, err)
			} else if found := other(t, whole, g)[s.Property]; found != "" {
				t.Errorf("%s, but with all rules: %s: %s", s.Name, s.Property, found)
			}
		}
	}
	t.Logf("%d states of mutants\n%s", explored, killMatrix(kills, sortedNames(properties)))
	for property := range properties {
		if !slices.ContainsFunc(sortedNames(kills), func(mutant string) bool { return kills[mutant][property] == "X" }) {
			t.Errorf("no mutant of the manifest is to break %s", property)
		}
	}
}

// What the modules may leave out, the machines may, and nothing else.
func TestMutantsAreThoseOfTheModules(t *testing.T) {
	out := regexp.MustCompile(`Out\("(\w+)"\)`)
	for module, faults := range map[string][]string{"Ring": ringFaults, "Gate": gateFaults} {
		text, err := os.ReadFile("../tla/" + module + ".tla")
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]bool{}
		for _, m := range out.FindAllStringSubmatch(string(text), -1) {
			named[m[1]] = true
		}
		for _, m := range regexp.MustCompile(`Out\(IF .* THEN "(\w+)" ELSE "(\w+)"\)`).FindAllStringSubmatch(string(text), -1) {
			named[m[1]], named[m[2]] = true, true
		}
		if got, want := slices.Sorted(slices.Values(faults)), sortedNames(named); !slices.Equal(got, want) {
			t.Errorf("%s: the machine leaves out\n%v\nthe module\n%v", module, got, want)
		}
	}
}

// breaks sees to it that the mutant breaks its invariant where the module's does.
func breaks[S comparable](t *testing.T, m Machine[S], s setting) {
	t.Helper()
	_, err := Explore(m, Options{Invariants: []string{s.Property}})
	var broken *Counterexample[S]
	if !errors.As(err, &broken) || broken.Invariant != s.Property {
		t.Errorf("%s: %v, and %s must break", s.Name, err, s.Property)
		return
	}
	if got := len(broken.Path.States); got != s.Depth {
		t.Errorf("%s: %s breaks in state %d of the shortest path, in the module in state %d", s.Name, s.Property, got, s.Depth)
	}
}

func killMatrix(kills map[string]map[string]string, properties []string) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 1, ' ', 0)
	fmt.Fprintf(w, "X: as in the module, x: breaks too\t%s\n", strings.Join(properties, "\t"))
	for _, mutant := range sortedNames(kills) {
		fmt.Fprint(w, mutant)
		for _, property := range properties {
			fmt.Fprint(w, "\t", cmp.Or(kills[mutant][property], "."))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
	return out.String()
}

// with is the setting with another value for a constant.
func (s setting) with(constant, value string) setting {
	changed := map[string]string{}
	for name, text := range s.constants {
		changed[name] = text
	}
	if _, there := changed[constant]; !there {
		panic("no constant " + constant)
	}
	changed[constant] = value
	s.constants = changed
	return s
}
