package model

import "fmt"

// A Fairness is an action, or several taken for one, that is not put off for ever:
// WF_vars or SF_vars of TLA+. As there, a step that changes nothing does not count.
type Fairness[S comparable] struct {
	Name   string
	Strong bool                        // it happens if it is possible again and again; weak: if it is from some time on
	Is     func(from S, a Action) bool // the step is one of the action's
}

// A LeadsTo is From ~> To: behind each state in which From holds comes one, or it
// is the same, in which To does. Without a From that is []<>To.
type LeadsTo[S comparable] struct {
	Name     string
	From, To func(S) bool
}

// A Lasso is a behaviour that is fair and breaks a temporal property: a path, and
// the loop from its last state back there that goes on for ever. A loop without an
// action is that nothing happens any more, and nothing has to.
type Lasso[S comparable] struct {
	Property   string
	Path, Loop Path[S]

	text func(S) string
}

// Error says which property is broken, and how, an action a line.
func (e *Lasso[S]) Error() string {
	ever := "and nothing has to happen any more\n"
	if len(e.Loop.Actions) > 0 {
		ever = "and this for ever:\n" + formatSteps(e.text, e.Loop, len(e.Path.Actions))
	}
	return fmt.Sprintf("model: %s does not hold:\n%s%s", e.Property, formatPath(e.text, e.Path), ever)
}

// Live returns a [*Lasso] if the machine may go on for ever, and fairly, without
// what one of its temporal properties wants; names are these properties, nil: all
// that it has. The graph is of all that the machine can do.
//
// What goes on for ever stays in the end within a strongly connected set of states.
// So for each property it looks for one that avoids To and that fairness allows to
// stay in: O. Lichtenstein and A. Pnueli, Checking That Finite State Concurrent
// Programs Satisfy Their Linear Specification, POPL 1985.
func Live[S comparable](m Machine[S], g *Graph[S], names []string) error {
	f := newFairSearch(m, g)
	for _, p := range m.temporal(names) {
		r := f.without(p)
		start, found := f.stay(r)
		if !found {
			continue
		}
		way := f.edgesTo(r.by, start)
		begin := start
		if len(way) > 0 {
			begin = g.Edges[way[0]].From
		}
		path, on := g.PathTo(begin), g.along(begin, way)
		path = Path[S]{append(path.States, on.States[1:]...), append(path.Actions, on.Actions...)}
		return &Lasso[S]{p.Name, path, g.along(start, f.loop(start)), m.Text}
	}
	return nil
}

// temporal are the properties with these names.
func (m Machine[S]) temporal(names []string) []LeadsTo[S] {
	if names == nil {
		return m.Temporal
	}
	var all []LeadsTo[S]
	for _, name := range names {
		before := len(all)
		for _, p := range m.Temporal {
			if p.Name == name {
				all = append(all, p)
			}
		}
		if len(all) == before {
			panic("model: the machine has no temporal property " + name)
		}
	}
	return all
}

// along is the path from a state over these edges.
func (g *Graph[S]) along(from int32, edges []int32) Path[S] {
	p := Path[S]{States: []S{g.States[from]}}
	for _, e := range edges {
		p.States, p.Actions = append(p.States, g.States[g.Edges[e].To]), append(p.Actions, g.Edges[e].Action)
	}
	return p
}
