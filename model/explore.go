package model

import (
	"fmt"
	"slices"
	"strings"
)

// Options are how far [Explore] goes, and what it looks at. The zero value is
// everything.
type Options struct {
	Invariants []string // by name; nil: all that the machine has, empty: none
	Bound      int      // states at which it gives up; 0: never
}

// A Graph is all that a machine can do: its states, in the order in which they
// were found, which is by their distance from the first, and its edges.
type Graph[S comparable] struct {
	States []S
	Edges  []Edge
	Depth  int // states on the longest of the shortest paths, as TLC counts

	found []int32 // for each state the edge that led there first; -1: initial
	whole bool    // nothing is missing
}

// An Edge leads from one state of a [Graph] to another. There may be several
// between the same two.
type Edge struct {
	From, To int32
	Action   Action
}

// A Path is states with the actions in between, one fewer.
type Path[S comparable] struct {
	States  []S
	Actions []Action
}

// A BoundError says that there are more states than [Explore] was to look at.
type BoundError struct {
	Bound int
}

func (e *BoundError) Error() string {
	return fmt.Sprintf("model: there are more than %d states", e.Bound)
}

// A Counterexample is a shortest path to a state in which an invariant does not
// hold.
type Counterexample[S comparable] struct {
	Invariant string
	Path      Path[S]

	text func(S) string
}

// Error says which invariant is broken, and how, an action a line, with what it
// changes.
func (e *Counterexample[S]) Error() string {
	return fmt.Sprintf("model: %s does not hold after %d actions:\n%s", e.Invariant, len(e.Path.Actions), formatPath(e.text, e.Path))
}

// Format returns the path in a form to read: the first state, then an action a
// line with what it changes.
func (m Machine[S]) Format(p Path[S]) string {
	return formatPath(m.Text, p)
}

// Explore goes through all states that the machine can reach, breadth first. It
// stops at the first that breaks an invariant, with a [*Counterexample], or at the
// bound, with a [*BoundError]; the graph is then what it saw until there.
func Explore[S comparable](m Machine[S], o Options) (*Graph[S], error) {
	invariants := m.chosen(o.Invariants)
	g := &Graph[S]{}
	known := map[S]int32{}
	last, level := 0, 0 // the states from last on are as far away as level
	add := func(s S, by int32) (int32, error) {
		if at, seen := known[s]; seen {
			return at, nil
		}
		at := int32(len(g.States))
		known[s] = at
		g.States, g.found = append(g.States, s), append(g.found, by)
		for _, invariant := range invariants {
			if !invariant.Holds(s) {
				return at, &Counterexample[S]{invariant.Name, g.PathTo(at), m.Text}
			}
		}
		if len(g.States) == o.Bound {
			return at, &BoundError{o.Bound}
		}
		return at, nil
	}
	for _, s := range m.Init {
		if _, err := add(s, -1); err != nil {
			return g, err
		}
	}
	for from := 0; from < len(g.States); from++ {
		if from == last {
			last, level = len(g.States), level+1
			g.Depth = level
		}
		for _, a := range m.Actions(g.States[from]) {
			edge := int32(len(g.Edges))
			g.Edges = append(g.Edges, Edge{From: int32(from), Action: a})
			to, err := add(m.Next(g.States[from], a), edge)
			g.Edges[edge].To = to
			if err != nil {
				return g, err
			}
		}
	}
	g.whole = true
	return g, nil
}

// chosen are the invariants with these names. One that the machine does not have
// is a mistake of the caller that would otherwise pass for a proof.
func (m Machine[S]) chosen(names []string) []Invariant[S] {
	if names == nil {
		return m.Invariants
	}
	var all []Invariant[S]
	for _, name := range names {
		i := slices.IndexFunc(m.Invariants, func(v Invariant[S]) bool { return v.Name == name })
		if i < 0 {
			panic("model: the machine has no invariant " + name)
		}
		all = append(all, m.Invariants[i])
	}
	return all
}

// PathTo returns a shortest path from an initial state to the one with this index.
func (g *Graph[S]) PathTo(state int32) Path[S] {
	p := Path[S]{States: []S{g.States[state]}}
	for g.found[state] >= 0 {
		e := g.Edges[g.found[state]]
		state = e.From
		p.States, p.Actions = append(p.States, g.States[state]), append(p.Actions, e.Action)
	}
	slices.Reverse(p.States)
	slices.Reverse(p.Actions)
	return p
}

func formatPath[S comparable](text func(S) string, p Path[S]) string {
	return strings.TrimRight(text(p.States[0]), "\n") + "\n" + formatSteps(text, p, 0)
}

// formatSteps are the path's actions, numbered from behind the first ones.
func formatSteps[S comparable](text func(S) string, p Path[S], before int) string {
	var out strings.Builder
	width := 0
	for _, a := range p.Actions {
		width = max(width, len(a.String()))
	}
	for i, a := range p.Actions {
		changes, err := changed(text(p.States[i]), text(p.States[i+1]))
		if err != nil {
			changes = []string{err.Error()}
		}
		fmt.Fprintf(&out, "%3d %-*s  %s\n", before+i+1, width, a, strings.Join(changes, ", "))
	}
	return out.String()
}
