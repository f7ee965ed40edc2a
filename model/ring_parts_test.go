package model

import (
	"fmt"
	"slices"
	"testing"
)

// An inTheEnd is what must follow from a state, in the end. A machine has no
// fairness; but where no path at all leads on, other than by what nobody has to
// do, no fairness helps. So this finds the mutants of temporal properties, and
// proves nothing of the machine without them: that is the module's.
type inTheEnd[S comparable] struct {
	from, to func(*S) bool
}

// stuck returns a path to a state from which the end cannot be reached.
func stuck[S comparable](g *Graph[S], p inTheEnd[S], must func(Action) bool) (Path[S], bool) {
	back := make([][]int32, len(g.States))
	for _, e := range g.Edges {
		if must(e.Action) {
			back[e.To] = append(back[e.To], e.From)
		}
	}
	can := make([]bool, len(g.States))
	var todo []int32
	for i := range g.States {
		if can[i] = p.to(&g.States[i]); can[i] {
			todo = append(todo, int32(i))
		}
	}
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, from := range back[i] {
			if !can[from] {
				can[from] = true
				todo = append(todo, from)
			}
		}
	}
	for i := range g.States {
		if !can[i] && p.from(&g.States[i]) {
			return g.PathTo(int32(i)), true
		}
	}
	return Path[S]{}, false
}

// ringInTheEnd are the ring's temporal properties.
func ringInTheEnd(c *ring) map[string][]inTheEnd[RingState] {
	server := peer(c.client)
	all := map[string][]inTheEnd[RingState]{
		"M5_Live": {{
			from: func(s *RingState) bool { return s.Fin != "" },
			to:   func(s *RingState) bool { return s.Fin == "" },
		}},
		"L7_Live": {{
			from: func(s *RingState) bool { return true },
			to:   func(s *RingState) bool { return int(s.Mem[readPos]) == c.MaxMsg || !s.Up[server] },
		}},
		"M7_Held": {{
			from: func(s *RingState) bool {
				return s.PC[producer] == ringAsleep && s.PC[consumer] == ringAsleep && int(s.Held) == c.Cap
			},
			to: func(s *RingState) bool {
				return s.PC[consumer] == ringIdle || s.PC[consumer] == ringDisarmIdle || int(s.Held) < c.Cap
			},
		}},
	}
	for i := 1; i <= c.MaxMsg; i++ {
		all["M1_Live"] = append(all["M1_Live"], inTheEnd[RingState]{
			from: func(s *RingState) bool { return s.Log.Len() >= i },
			to:   func(s *RingState) bool { return int(s.Mem[readPos]) >= i || !s.Up[server] },
		})
	}
	for r := range 2 {
		all["M7_Live"] = append(all["M7_Live"], inTheEnd[RingState]{
			from: func(s *RingState) bool { return s.PC[r] == ringAsleep && c.due(s, r) },
			to:   func(s *RingState) bool { return s.PC[r] != ringAsleep },
		})
	}
	return all
}

// Nobody must: die, freeze, cancel, be woken for nothing, fill a larger batch,
// give a reservation back, start a new generation.
var ringMay = []string{"Killed", "Frozen", "Cancelled", "WokenForNothing", "BatchContinued", "Aborted", "NewGeneration"}

// ringParts are the properties that the setting checks and that are no invariants,
// each with a path to where the machine parts from it, empty if it does not.
func ringParts(t *testing.T, s setting, g *Graph[RingState]) map[string]string {
	t.Helper()
	config := ringConfig(t, s)
	c, m := newRing(config), Ring(config)
	must := func(a Action) bool {
		return !slices.Contains(ringMay, a.Name) && (a.Name != "Released" || s.constants["Eager"] == "TRUE")
	}
	properties := ringInTheEnd(c)
	found := map[string]string{}
	for _, name := range s.checked {
		switch {
		case name == "Refines":
			found[name] = ""
			if err := refines(m, g, Channel(c.promise.ChannelConfig), c.channel); err != nil {
				found[name] = err.Error()
			}
		case properties[name] != nil:
			found[name] = ""
			for _, p := range properties[name] {
				if path, is := stuck(g, p, must); is {
					found[name] = m.Format(path)
				}
			}
		}
	}
	return found
}

// gateParts is the same of a gate.
func gateParts(t *testing.T, s setting, g *Graph[GateState]) map[string]string {
	t.Helper()
	if !slices.Contains(s.checked, "M7_Live") {
		return nil
	}
	config := gateConfig(t, s)
	found := map[string]string{"M7_Live": ""}
	for i := range config.Goroutines {
		p := inTheEnd[GateState]{
			from: func(s *GateState) bool { return s.Cancel[i] },
			to:   func(s *GateState) bool { return s.PC[i] == gateDone },
		}
		if path, is := stuck(g, p, func(a Action) bool { return a.Name != "Cancelled" }); is {
			found["M7_Live"] = Gate(config).Format(path)
		}
	}
	return found
}

// refines looks at each step of a machine as one of another.
func refines[S, A comparable](m Machine[S], g *Graph[S], abstract Machine[A], as func(S) A) error {
	for _, s := range m.Init {
		if !slices.Contains(abstract.Init, as(s)) {
			return fmt.Errorf("the beginning is none of the other's:\n%s", m.Text(s))
		}
	}
	follow := map[A]map[A]bool{}
	for _, e := range g.Edges {
		from, to := as(g.States[e.From]), as(g.States[e.To])
		if from == to {
			continue
		}
		if follow[from] == nil {
			follow[from] = map[A]bool{}
			for _, a := range abstract.Actions(from) {
				follow[from][abstract.Next(from, a)] = true
			}
		}
		if !follow[from][to] {
			return fmt.Errorf("the last step is none of the other's:\n%s%v: %s", m.Format(g.PathTo(e.From)), e.Action,
				difference(abstract.Text(from), abstract.Text(to)))
		}
	}
	return nil
}
