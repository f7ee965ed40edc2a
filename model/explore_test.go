package model

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// stairs is a machine that goes up by one or two, and down by one.
func stairs(top int) Machine[int] {
	step := func(n int) func(*int) bool {
		return func(s *int) bool {
			*s += n
			return *s >= 0 && *s <= top
		}
	}
	return machine([]int{0}, []rule[int]{
		{Action{"Up", "1"}, step(1)},
		{Action{"Up", "2"}, step(2)},
		{Action{"Down", ""}, step(-1)},
	}, []Invariant[int]{
		{"Low", func(s int) bool { return s < 5 }},
		{"Lower", func(s int) bool { return s < 4 }},
	}, func(s int) string {
		var w stateText
		w.number("height", s)
		return w.String()
	})
}

func TestExploreGoesEverywhere(t *testing.T) {
	g, err := Explore(stairs(4), Options{Invariants: []string{"Low"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []int{0, 1, 2, 3, 4}; !slices.Equal(g.States, want) || len(g.Edges) != 4+3+4 || g.Depth != 3 {
		t.Errorf("states %v, %d edges, depth %d", g.States, len(g.Edges), g.Depth)
	}
	if p := g.PathTo(4); len(p.Actions) != 2 || p.States[0] != 0 || p.States[2] != 4 {
		t.Errorf("the way to 4 is %v", p)
	}
}

func TestCounterexampleIsShortestAndReadable(t *testing.T) {
	g, err := Explore(stairs(9), Options{Invariants: []string{"Low", "Lower"}})
	var broken *Counterexample[int]
	if !errors.As(err, &broken) || broken.Invariant != "Lower" || len(broken.Path.Actions) != 2 {
		t.Fatalf("%v in %d states", err, len(g.States))
	}
	const want = "model: Lower does not hold after 2 actions:\n/\\ height = 0\n  1 Up(2)  height 0 -> 2\n  2 Up(2)  height 2 -> 4\n"
	if err.Error() != want {
		t.Errorf("%q\nwant %q", err, want)
	}
	if _, err = Explore(stairs(9), Options{}); !errors.As(err, &broken) {
		t.Errorf("all invariants: %v", err)
	}
	if _, err = Explore(stairs(9), Options{Invariants: []string{}}); err != nil {
		t.Errorf("no invariants: %v", err)
	}
}

func TestExploreGivesUpAtItsBound(t *testing.T) {
	g, err := Explore(stairs(100), Options{Invariants: []string{}, Bound: 7})
	var tooMany *BoundError
	if !errors.As(err, &tooMany) || len(g.States) != 7 {
		t.Errorf("%d states, %v", len(g.States), err)
	}
}

// Nobody must take a machine that does not know something for one that it judges.
func TestMistakesOfTheCallerPanic(t *testing.T) {
	whole, _ := Explore(stairs(1), Options{})
	part, _ := Explore(stairs(9), Options{})
	for what, mistake := range map[string]func(){
		"an unknown invariant":   func() { _, _ = Explore(stairs(1), Options{Invariants: []string{"Law"}}) },
		"an unknown fault":       func() { Gate(GateConfig{Goroutines: 1, Left: []string{"NoGates"}}) },
		"an unknown role":        func() { Channel(ChannelConfig{Client: "X"}) },
		"a ring without room":    func() { Ring(RingConfig{Cap: maxCap + 1, Client: Producer}) },
		"too many goroutines":    func() { Gate(GateConfig{Goroutines: maxGoroutines + 1}) },
		"an action out of place": func() { stairs(1).Next(0, Action{"Down", ""}) },
		"an unknown action":      func() { stairs(1).Next(0, Action{"Jump", ""}) },
		"an unknown property":    func() { _ = Live(stairs(1), whole, []string{"Law"}) },
		"a part of a graph":      func() { _ = Live(stairs(9), part, nil) },
	} {
		func() {
			defer func() {
				if text, is := recover().(string); !is || !strings.HasPrefix(text, "model: ") {
					t.Errorf("%s: %q", what, text)
				}
			}()
			mistake()
		}()
	}
}

func TestDoSaysWhatIsAllowed(t *testing.T) {
	m := stairs(1)
	if s, err := m.Do(0, Action{"Up", "1"}); err != nil || s != 1 {
		t.Errorf("%d, %v", s, err)
	}
	_, err := m.Do(1, Action{"Up", "2"})
	const want = "model: Up(2) is not allowed, only [Down], in\n/\\ height = 1"
	if err == nil || err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

// BenchmarkExplore tells how many states a second the search looks at.
func BenchmarkExplore(b *testing.B) {
	m := Ring(RingConfig{Cap: 2, MaxMsg: 3, MaxGen: 1, Client: Consumer, Batch: 2, Hold: 2, KillC: 1})
	states := 0
	for b.Loop() {
		g, err := Explore(m, Options{})
		if err != nil {
			b.Fatal(err)
		}
		states += len(g.States)
	}
	b.ReportMetric(float64(states)/b.Elapsed().Seconds(), "states/s")
}
