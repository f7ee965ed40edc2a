package model

import (
	"fmt"
	"slices"
)

// A fairSearch is a graph with what its machine's fairness says of it. Sets of
// fairnesses have a bit for each.
type fairSearch[S comparable] struct {
	g            *Graph[S]
	first        []int32 // of each state the first of its edges, and one more
	weak, strong uint64
	enabled      []uint64 // by state: what is possible
	happens      []uint64 // by edge: what it is a step of
	part         []int32  // by state: the set of states that it is in
	parts        int32    // sets up to now
	index, low   []int32  // by state, of the search for strongly connected sets
	clock        int32
}

func newFairSearch[S comparable](m Machine[S], g *Graph[S]) *fairSearch[S] {
	if !g.whole || len(m.Fair) > 64 {
		panic(fmt.Sprintf("model: there is more than the graph has, or than 64 fairnesses: %v, %d", g.whole, len(m.Fair)))
	}
	n := len(g.States)
	f := &fairSearch[S]{
		g: g, first: make([]int32, n+1), enabled: make([]uint64, n), happens: make([]uint64, len(g.Edges)),
		part: make([]int32, n), index: make([]int32, n), low: make([]int32, n),
	}
	for i, fair := range m.Fair {
		if fair.Strong {
			f.strong |= 1 << i
		} else {
			f.weak |= 1 << i
		}
	}
	for e, edge := range g.Edges { // which Explore has added state by state
		f.first[edge.From+1] = int32(e + 1)
		for i, fair := range m.Fair {
			if edge.From != edge.To && fair.Is(g.States[edge.From], edge.Action) {
				f.happens[e] |= 1 << i
			}
		}
		f.enabled[edge.From] |= f.happens[e]
	}
	for i := range n {
		f.first[i+1] = max(f.first[i], f.first[i+1]) // nothing leads on from some
	}
	return f
}

// What is reached by a search are states, in its order, and by state the edge that
// led there: -1 if it began there, -2 if it did not get there.
type reached struct {
	states, by []int32
}

// without is what is reached from the property's From without its To.
func (f *fairSearch[S]) without(p LeadsTo[S]) reached {
	r := reached{by: make([]int32, len(f.g.States))}
	avoids := make([]bool, len(r.by))
	for i, s := range f.g.States {
		r.by[i] = -2
		if avoids[i] = !p.To(s); avoids[i] && (p.From == nil || p.From(s)) {
			r.by[i], r.states = -1, append(r.states, int32(i))
		}
	}
	for at := 0; at < len(r.states); at++ {
		for e := f.first[r.states[at]]; e < f.first[r.states[at]+1]; e++ {
			if to := f.g.Edges[e].To; avoids[to] && r.by[to] == -2 {
				r.by[to], r.states = e, append(r.states, to)
			}
		}
	}
	return r
}

// edgesTo are the edges by which a search got to a state.
func (f *fairSearch[S]) edgesTo(by []int32, state int32) (edges []int32) {
	for by[state] >= 0 {
		edges = append(edges, by[state])
		state = f.g.Edges[by[state]].From
	}
	slices.Reverse(edges)
	return edges
}

// stay finds among these states a set in which fairness allows to stay, and of
// all such sets' states the first. The set is the state's part.
func (f *fairSearch[S]) stay(in reached) (start int32, is bool) {
	rank := make([]int32, len(f.g.States))
	for i, s := range in.states {
		rank[s] = int32(i)
	}
	nearer := func(a, b int32) int { return int(rank[a] - rank[b]) }
	for todo := [][]int32{in.states}; len(todo) > 0; {
		states := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, set := range f.connected(states) {
			possible, always, happens := f.survey(set)
			starves := f.strong & possible &^ happens
			switch {
			case f.weak&always&^happens != 0: // in each part of it too
			case starves != 0:
				rest := slices.DeleteFunc(set, func(i int32) bool { return f.enabled[i]&starves != 0 })
				todo = append(todo, rest)
			default:
				if first := slices.MinFunc(set, nearer); !is || nearer(first, start) < 0 {
					start, is = first, true
				}
			}
		}
	}
	return start, is
}

// survey says what is possible somewhere in a set, what everywhere, and what
// happens inside.
func (f *fairSearch[S]) survey(set []int32) (possible, always, happens uint64) {
	always = ^uint64(0)
	for _, i := range set {
		possible |= f.enabled[i]
		always &= f.enabled[i]
		for e := f.first[i]; e < f.first[i+1]; e++ {
			if f.part[f.g.Edges[e].To] == f.part[i] {
				happens |= f.happens[e]
			}
		}
	}
	return possible, always, happens
}

// connected divides the states into their strongly connected sets, each a part of
// its own: Tarjan's algorithm. A state alone is one, whether or not an edge leads
// back there, for a behaviour may stutter.
func (f *fairSearch[S]) connected(states []int32) (sets [][]int32) {
	f.parts++
	here, since := f.parts, f.clock
	for _, i := range states {
		f.part[i] = here
	}
	var open []int32
	var calls []struct{ state, edge int32 }
	enter := func(i int32) {
		f.clock++
		f.index[i], f.low[i] = f.clock, f.clock
		open, calls = append(open, i), append(calls, struct{ state, edge int32 }{i, f.first[i]})
	}
	for _, root := range states {
		if f.index[root] <= since {
			enter(root)
		}
		for len(calls) > 0 {
			at := &calls[len(calls)-1]
			if at.edge < f.first[at.state+1] {
				to := f.g.Edges[at.edge].To
				at.edge++
				if f.part[to] == here && f.index[to] > since {
					f.low[at.state] = min(f.low[at.state], f.index[to])
				} else if f.part[to] == here { // else it is elsewhere, or in a set already
					enter(to)
				}
				continue
			}
			i := at.state
			calls = calls[:len(calls)-1]
			if len(calls) > 0 {
				up := calls[len(calls)-1].state
				f.low[up] = min(f.low[up], f.low[i])
			}
			if f.low[i] == f.index[i] {
				f.parts++
				from := len(open)
				for from--; ; from-- {
					f.part[open[from]] = f.parts
					if open[from] == i {
						break
					}
				}
				sets, open = append(sets, slices.Clone(open[from:])), open[:from]
			}
		}
	}
	return sets
}

// loop leads from a state round its set, past whatever makes it fair to stay there.
func (f *fairSearch[S]) loop(start int32) (edges []int32) {
	var set []int32
	for i, part := range f.part {
		if part == f.part[start] {
			set = append(set, int32(i))
		}
	}
	possible, _, _ := f.survey(set)
	due := f.strong&possible | f.weak&f.enabled[start]
	serves := func(e int32) uint64 { return f.happens[e] | f.weak&^f.enabled[f.g.Edges[e].To] }
	for at := start; due != 0 || at != start; {
		way := f.way(at, func(e int32) bool { return due&serves(e) != 0 || due == 0 && f.g.Edges[e].To == start })
		for _, e := range way {
			due &^= serves(e)
			at = f.g.Edges[e].To
		}
		edges = append(edges, way...)
	}
	return edges
}

// way leads inside a set from one of its states over an edge that is wanted.
func (f *fairSearch[S]) way(from int32, wanted func(edge int32) bool) []int32 {
	by := make([]int32, len(f.g.States))
	for i := range by {
		by[i] = -2
	}
	by[from] = -1
	for todo := []int32{from}; ; todo = todo[1:] {
		for e := f.first[todo[0]]; e < f.first[todo[0]+1]; e++ {
			to := f.g.Edges[e].To
			if f.part[to] != f.part[from] || to == todo[0] {
				continue
			}
			if wanted(e) {
				return append(f.edgesTo(by, todo[0]), e)
			}
			if by[to] == -2 {
				by[to], todo = e, append(todo, to)
			}
		}
	}
}
