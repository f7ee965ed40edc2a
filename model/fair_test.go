package model

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// maze is a machine of places and of ways "A 0 1" between them: A leads from 0 to 1.
// It begins at 0.
func maze(ways ...string) Machine[int] {
	var rules []rule[int]
	for _, way := range ways {
		var name string
		var from, to int
		if _, err := fmt.Sscan(way, &name, &from, &to); err != nil {
			panic(err)
		}
		rules = append(rules, rule[int]{Action{name, fmt.Sprintf("%d-%d", from, to)}, func(s *int) bool {
			there := *s == from
			*s = to
			return there
		}})
	}
	return machine([]int{0}, rules, nil, func(s int) string {
		var w stateText
		w.number("place", s)
		return w.String()
	})
}

// fairness is, for "WF A, SF B C", weak of A and strong of whatever is B or C.
func fairness(text string) (all []Fairness[int]) {
	for _, one := range strings.Split(text, ", ") {
		if words := strings.Fields(one); len(words) > 0 {
			all = append(all, Fairness[int]{one, words[0] == "SF", func(_ int, a Action) bool { return slices.Contains(words[1:], a.Name) }})
		}
	}
	return all
}

func in(places ...int) func(int) bool {
	return func(s int) bool { return slices.Contains(places, s) }
}

// Each pair differs in one thing, of fairness, property or ways, and in what is so.
func TestLiveKnowsWhatIsFair(t *testing.T) {
	t.Parallel()
	round := []string{"Go 0 1", "Back 1 0", "Leave 0 2"}
	sides := []string{"Go 0 1", "Back 1 0", "Turn 0 2", "Return 2 0", "Leave 2 3"}
	for _, c := range []struct {
		what     string
		ways     []string
		fair     string
		from, to func(int) bool
		holds    bool
	}{
		{"nobody has to go", []string{"Go 0 1"}, "", nil, in(1), false},
		{"somebody has to go", []string{"Go 0 1"}, "WF Go", nil, in(1), true},
		{"the end is not to", []string{"Go 0 1"}, "WF Go", nil, in(0), false},
		{"a way back, which nobody has to go", []string{"Go 0 1", "Back 1 0"}, "WF Go", nil, in(0), false},
		{"a way back, which somebody has to go", []string{"Go 0 1", "Back 1 0"}, "WF Go, WF Back", nil, in(0), true},
		{"what changes nothing is never due", []string{"Spin 0 0", "Go 0 1"}, "WF Spin", nil, in(1), false},
		{"what changes nothing does not serve", []string{"Spin 0 0", "Go 0 1"}, "WF Spin Go", nil, in(1), true},
		{"possible now and then, and weak", round, "WF Go, WF Back, WF Leave", nil, in(2), false},
		{"possible now and then, and strong", round, "WF Go, WF Back, SF Leave", nil, in(2), true},
		{"one action of two goes on", round, "WF Go Leave, WF Back", nil, in(2), false},
		{"two in turns are fair to both", append(round, "Leave 1 2"), "WF Go, WF Back", nil, in(2), false},
		{"possible everywhere, and weak", append(round, "Leave 1 2"), "WF Go, WF Back, WF Leave", nil, in(2), true},
		{"strong, but it need not get where it is possible", sides, "WF Go, WF Back, SF Leave", nil, in(3), false},
		{"strong, and it has to get there", sides, "WF Go, WF Back, SF Turn, SF Leave", nil, in(3), true},
		{"not for ever, but from there", round, "WF Go, WF Back", in(2), in(0), false},
		{"each time from there", round, "WF Go, WF Back", in(1), in(0), true},
		{"from nowhere", round, "", in(7), in(8), true},
		{"at once", round, "", in(0), in(0), true},
		{"behind it as much as one likes", []string{"Go 0 1", "Go 1 2"}, "WF Go", in(0), in(1), true},
		{"but not again", []string{"Go 0 1", "Go 1 2"}, "WF Go", nil, in(1), false},
	} {
		m := maze(c.ways...)
		m.Fair, m.Temporal = fairness(c.fair), []LeadsTo[int]{{"Comes", c.from, c.to}}
		g, err := Explore(m, Options{})
		if err != nil {
			t.Fatal(err)
		}
		err = Live(m, g, nil)
		if (err == nil) != c.holds {
			t.Errorf("%s: %v", c.what, err)
		}
		if err != nil {
			isLasso(t, c.what, m, err)
		}
	}
}

// isLasso sees to it that the error is a fair behaviour of the machine that breaks
// its property, by the definitions and without a graph.
func isLasso[S comparable](t *testing.T, what string, m Machine[S], err error) {
	t.Helper()
	var l *Lasso[S]
	if !errors.As(err, &l) {
		t.Errorf("%s: %v is no lasso", what, err)
		return
	}
	complain := func(about string) { t.Errorf("%s: %s, in %v", what, about, err) }
	if !slices.Contains(m.Init, l.Path.States[0]) {
		complain("it does not begin where the machine does")
	}
	end := len(l.Path.States) - 1
	for _, p := range []Path[S]{l.Path, l.Loop} {
		for i, a := range p.Actions {
			if next, err := m.Do(p.States[i], a); err != nil || next != p.States[i+1] {
				complain(fmt.Sprintf("%v is no step of the machine", a))
			}
		}
	}
	if l.Path.States[end] != l.Loop.States[0] || l.Loop.States[0] != l.Loop.States[len(l.Loop.States)-1] {
		complain("it is no loop")
	}
	breaks := func(p LeadsTo[S]) bool {
		if p.Name != l.Property || slices.ContainsFunc(l.Loop.States, p.To) {
			return false
		}
		for i := end; i >= 0 && !p.To(l.Path.States[i]); i-- {
			if p.From == nil || p.From(l.Path.States[i]) {
				return true
			}
		}
		return false
	}
	if !slices.ContainsFunc(m.Temporal, breaks) {
		complain("it does what it ought to")
	}
	for _, fair := range m.Fair {
		possible := func(s S) bool {
			return slices.ContainsFunc(m.Actions(s), func(a Action) bool { return fair.Is(s, a) && m.Next(s, a) != s })
		}
		happens, somewhere, everywhere := false, false, true
		for i, s := range l.Loop.States {
			is := possible(s)
			somewhere, everywhere = somewhere || is, everywhere && is
			happens = happens || i < len(l.Loop.Actions) && l.Loop.States[i+1] != s && fair.Is(s, l.Loop.Actions[i])
		}
		if !happens && (everywhere || somewhere && fair.Strong) {
			complain(fair.Name + " is put off for ever")
		}
	}
}

// Small machines at random: the search finds what is found by looking at each set
// of states.
func TestLiveFindsWhatIsThere(t *testing.T) {
	t.Parallel()
	const places = 6
	r := rand.New(rand.NewPCG(1, 2))
	broken := 0
	const machines = 3000
	for i := range machines {
		var ways []string
		for range 3 + r.IntN(12) {
			way := fmt.Sprintf("%c %d %d", 'A'+r.IntN(4), r.IntN(places), r.IntN(places))
			if !slices.Contains(ways, way) {
				ways = append(ways, way)
			}
		}
		m := maze(ways...)
		m.Fair = fairness([]string{"WF A, SF B", "WF A, WF B, SF C", "SF A, SF B", "SF A D, SF B, WF C D", "WF A, WF B C, WF D"}[r.IntN(5)])
		some := func() func(int) bool {
			set := r.Uint32()
			return func(s int) bool { return set&(1<<s) != 0 }
		}
		m.Temporal = []LeadsTo[int]{{"Comes", some(), some()}}
		g, err := Explore(m, Options{})
		if err != nil {
			t.Fatal(err)
		}
		err = Live(m, g, []string{"Comes"})
		if is := staysSomewhere(m, places); is != (err != nil) {
			t.Fatalf("machine %d, %q with %v: %v, there is one: %v", i, ways, m.Fair, err, is)
		}
		if err != nil {
			broken++
			isLasso(t, fmt.Sprint("machine ", i), m, err)
		}
	}
	t.Logf("%d of %d are broken", broken, machines)
	if broken < machines/10 || broken > machines*9/10 {
		t.Errorf("%d of %d are broken: what is compared is nearly always the same", broken, machines)
	}
}

// staysSomewhere reports whether there is a set of states for which the property
// does not come and in all of which a fair behaviour may be again and again.
func staysSomewhere(m Machine[int], places int) bool {
	p := m.Temporal[0]
	// What is reached, over steps within a set of places, from some of them.
	closure := func(from, within uint) uint {
		for before := uint(0); from != before; {
			before = from
			for s := range places {
				if from&(1<<s) != 0 {
					for _, a := range m.Actions(s) {
						from |= 1 << m.Next(s, a) & within
					}
				}
			}
		}
		return from
	}
	all := uint(1)<<places - 1
	reached, avoids, start := closure(1, all), uint(0), uint(0)
	for s := range places {
		if !p.To(s) {
			avoids |= 1 << s
		}
		if p.From(s) {
			start |= 1 << s
		}
	}
	reached = closure(start&reached&avoids, avoids)
	for set := uint(1); set <= all; set++ {
		ok := set&^reached == 0
		for s := range places {
			ok = ok && (set&(1<<s) == 0 || closure(1<<s, set) == set)
		}
		for _, fair := range m.Fair {
			happens, somewhere, everywhere := false, false, true
			for s := range places {
				if set&(1<<s) == 0 {
					continue
				}
				possible := false
				for _, a := range m.Actions(s) {
					if next := m.Next(s, a); next != s && fair.Is(s, a) {
						possible, happens = true, happens || set&(1<<next) != 0
					}
				}
				somewhere, everywhere = somewhere || possible, everywhere && possible
			}
			ok = ok && (happens || !everywhere && !(somewhere && fair.Strong))
		}
		if ok {
			return true
		}
	}
	return false
}

func TestLassoIsReadable(t *testing.T) {
	m := maze("Go 0 1", "Go 1 2", "Back 2 1", "Leave 2 3")
	m.Fair, m.Temporal = fairness("WF Go, WF Back"), []LeadsTo[int]{{"Comes", in(1), in(3)}, {"Stays", in(3), in(0)}}
	g, err := Explore(m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for property, want := range map[string]string{
		"Comes": "model: Comes does not hold:\n/\\ place = 0\n  1 Go(0-1)  place 0 -> 1\n" +
			"and this for ever:\n  2 Go(1-2)    place 1 -> 2\n  3 Back(2-1)  place 2 -> 1\n",
		"Stays": "model: Stays does not hold:\n/\\ place = 0\n  1 Go(0-1)     place 0 -> 1\n  2 Go(1-2)     place 1 -> 2\n" +
			"  3 Leave(2-3)  place 2 -> 3\nand nothing has to happen any more\n",
	} {
		if err := Live(m, g, []string{property}); err == nil || err.Error() != want {
			t.Errorf("%q\nwant %q", err, want)
		}
	}
}
