package model

import (
	"fmt"
	"slices"
	"testing"
)

// parts are the properties that the setting checks and that are no invariants,
// each with what breaks it, empty if nothing does.
func parts[S comparable](t *testing.T, s setting, m Machine[S], g *Graph[S], refines func() error) map[string]string {
	t.Helper()
	_, others := split(m, s)
	found := map[string]string{}
	for _, name := range others {
		found[name] = ""
		if name == "Refines" {
			if err := refines(); err != nil {
				found[name] = err.Error()
			}
		} else if err := Live(m, g, []string{name}); err != nil {
			isLasso(t, s.Name, m, err)
			found[name] = err.Error()
		}
	}
	return found
}

func ringParts(t *testing.T, s setting, g *Graph[RingState]) map[string]string {
	t.Helper()
	config := ringConfig(t, s)
	c, m := newRing(config), Ring(config)
	return parts(t, s, m, g, func() error { return refines(m, g, Channel(c.promise.ChannelConfig), c.channel) })
}

func gateParts(t *testing.T, s setting, g *Graph[GateState]) map[string]string {
	t.Helper()
	return parts(t, s, Gate(gateConfig(t, s)), g, nil)
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
