package model

import (
	"maps"
	"slices"
)

// RingActions are the names of all actions of the ring, without those that belong
// to mutants only.
func RingActions() []string {
	all := namesOf(newRing(RingConfig{Cap: 1, Batch: 1, Client: Consumer}).rules())
	return slices.DeleteFunc(all, func(name string) bool {
		return slices.Contains([]string{"CountLate", "CopiedLate", "PositionLate", "PublishedEarly", "PublishedLate"}, name)
	})
}

// LifecycleActions are the names of all actions of the life cycle.
func LifecycleActions() []string {
	return namesOf(newLifecycle(LifecycleConfig{Servers: 1, Clients: 1, MaxConn: 1, MaxGen: 1}).rules())
}

func namesOf[S comparable](rules []rule[S]) []string {
	all := map[string]bool{}
	for _, r := range rules {
		all[r.Name] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// LifecycleGraph are the edges, as [LifecycleEdges] tells them, that one server and
// one client can take that are killed, close, and freeze, with one connection.
func LifecycleGraph() ([]string, error) {
	one := LifecycleConfig{Servers: 1, Clients: 1, MaxConn: 1, MaxGen: 1, HangTicks: 1}
	dies, leaves, stops := one, one, one
	dies.KillsS, dies.ClosesS, dies.KillsC = 1, 1, 1
	leaves.KillsS, leaves.KillsC, leaves.ClosesC = 1, 1, 1
	stops.Freezes, stops.FreezeWho, stops.ClosesS, stops.ClosesC = 1, []string{"s1", "c1"}, 1, 1
	all := map[string]bool{}
	for _, config := range []LifecycleConfig{dies, leaves, stops} {
		g, err := Explore(Lifecycle(config), Options{Invariants: []string{}})
		if err != nil {
			return nil, err
		}
		for _, e := range g.Edges {
			for _, edge := range LifecycleEdges(g.States[e.From], e.Action, g.States[e.To]) {
				all[edge] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all)), nil
}
