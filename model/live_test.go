package model

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A fairness is told here by its kind, WF or SF, and by the actions that it is made
// of, in order.

// What is fair in the module is fair in the machine, strongly or weakly, and is made
// of the same actions.
func TestFairnessIsThatOfTheModules(t *testing.T) {
	life := LifecycleConfig{Servers: 1, Clients: 1, MaxConn: 1, FreezeWho: []string{"s1"}, ThawsFair: true, Returns: true}
	anywhere := Lifecycle(life).Init[0]
	anywhere.cli[0].pc, anywhere.cli[0].k = cOver, 1 // where no step is an exception
	ring := RingConfig{Cap: 1, MaxMsg: 1, MaxGen: 1, Client: Producer, Batch: 1, Eager: true}
	doors := GateConfig{Goroutines: 1}
	for _, m := range []struct {
		module, heading string
		fair            []string
		least           int
	}{
		{"Lifecycle", "Fairness ==", fairnessOf(Lifecycle(life), newLifecycle(life).rules(), anywhere), 14},
		{"Ring", "Fair ==", fairnessOf(Ring(ring), newRing(ring).rules(), RingState{}), 9},
		{"Gate", "FairSpec ==", fairnessOf(Gate(doors), (&gate{GateConfig: doors}).rules(), GateState{}), 4},
	} {
		text, err := os.ReadFile("../tla/" + m.module + ".tla")
		if err != nil {
			t.Fatal(err)
		}
		want := moduleFairness(string(text), m.heading)
		if len(want) < m.least {
			t.Errorf("%s has only %d fairnesses: %q", m.module, len(want), want)
		}
		if !slices.Equal(m.fair, want) {
			t.Errorf("%s: in the machine are fair\n%s\nin the module\n%s", m.module, strings.Join(m.fair, "\n"), strings.Join(want, "\n"))
		}
	}
}

// fairnessOf are a machine's.
func fairnessOf[S comparable](m Machine[S], rules []rule[S], state S) (all []string) {
	for _, fair := range m.Fair {
		var actions []string
		for _, r := range rules {
			if fair.Is(state, r.Action) {
				actions = append(actions, r.Name)
			}
		}
		all = append(all, told(fair.Strong, actions))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func told(strong bool, actions []string) string {
	slices.Sort(actions)
	kind := "WF "
	if strong {
		kind = "SF "
	}
	return kind + strings.Join(slices.Compact(actions), " ")
}

// moduleFairness are those under a heading of a module.
func moduleFairness(module, heading string) (all []string) {
	_, definitions, _ := strings.Cut(module, "\nSpec ==")
	definitions, body, _ := strings.Cut(definitions, "\n"+heading+"\n")
	body, _, _ = strings.Cut(body, "\n\n")
	for _, m := range regexp.MustCompile(`([WS])F_vars\(((?:[^()]|\([^()]*\))*)\)`).FindAllStringSubmatch(body, -1) {
		all = append(all, told(m[1] == "S", stepsOf(definitions, m[2])))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// stepsOf are the actions that a formula names, itself or by what is defined.
func stepsOf(definitions, formula string) (actions []string) {
	for _, m := range regexp.MustCompile(`(~?)\b([A-Z]\w+)`).FindAllStringSubmatch(formula, -1) {
		defined := regexp.MustCompile(`\n` + m[2] + `(?:\(\w\))? ==`).FindStringIndex(definitions)
		switch {
		case m[1] != "": // an exception
		case defined == nil:
			actions = append(actions, m[2])
		default:
			rest := definitions[defined[1]:]
			if next := regexp.MustCompile(`\n(?:\w|\n)`).FindStringIndex(rest); next != nil {
				rest = rest[:next[0]]
			}
			actions = append(actions, stepsOf(definitions, rest)...)
		}
	}
	return actions
}

// Each fairness is needed: without it some property that holds does not.
func TestFairnessIsNeeded(t *testing.T) {
	t.Parallel()
	if underRace {
		t.Skip("one goroutine")
	}
	isNeeded(t, "lifecycle", "MCLifecycle", func(s setting) Machine[LifecycleState] { return Lifecycle(lifecycleConfig(t, s)) })
	isNeeded(t, "ring", "MCRing", func(s setting) Machine[RingState] { return Ring(ringConfig(t, s)) },
		"CancelGoesOn", "Renewed") // nothing is cancelled where they are judged
	isNeeded(t, "gate", "Gate", func(s setting) Machine[GateState] { return Gate(gateConfig(t, s)) },
		"Published", "GateTaken") // who is cancelled in the queue leaves, and who waits has the gate
}

// isNeeded looks at what a manifest's small configurations say of all fairnesses, but
// of some of which nothing there depends.
func isNeeded[S comparable](t *testing.T, manifest, module string, of func(setting) Machine[S], but ...string) {
	t.Helper()
	needed := map[string]string{} // by name without whose it is: what breaks without it
	for _, s := range settings(t, manifest) {
		if s.Kind != "holds" || s.Distinct > large || s.Module != module {
			continue
		}
		m := of(s)
		_, temporal := split(m, s)
		temporal = slices.DeleteFunc(temporal, func(name string) bool { return name == "Refines" })
		if len(temporal) == 0 {
			continue
		}
		g, err := Explore(m, Options{Invariants: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		for _, fair := range m.Fair {
			kind, _, _ := strings.Cut(fair.Name, "(")
			if needed[kind] != "" {
				continue
			}
			without := m
			without.Fair = slices.DeleteFunc(slices.Clone(m.Fair), func(f Fairness[S]) bool {
				return f.Name == kind || strings.HasPrefix(f.Name, kind+"(")
			})
			needed[kind] = ""
			if err := Live(without, g, temporal); err != nil {
				isLasso(t, s.Name, without, err)
				needed[kind], _, _ = strings.Cut(s.Name+": "+err.Error(), "\n")
			}
		}
	}
	if len(needed) == 0 {
		t.Errorf("nothing of %s is looked at", module)
	}
	for _, kind := range sortedNames(needed) {
		t.Log(kind, ": ", needed[kind])
		if is := needed[kind] != ""; is == slices.Contains(but, kind) {
			t.Errorf("%s: something that holds needs %s: %v", module, kind, is)
		}
	}
}

// All temporal properties hold, too, beside what no configuration of the manifest
// has beside one: an option, a client that is dropped, a standby server.
func TestLifecycleIsLiveElsewhere(t *testing.T) {
	t.Parallel()
	if underRace {
		t.Skip("one goroutine")
	}
	one := LifecycleConfig{Servers: 1, Clients: 1, MaxConn: 1, MaxGen: 2, HangTicks: 1, ThawsFair: true, Returns: true}
	killed, dropped, patient := one, one, one
	killed.ClosesS, killed.KillOnClose, killed.Timeouts = 1, true, 1
	dropped.ClosesS, dropped.ClosesC, dropped.Expels = 1, 1, 1
	patient.ClosesS, patient.ClosesC, patient.Timeouts, patient.Wait = 1, 1, 1, true
	standby := one
	standby.Servers, standby.KillsS, standby.Wait = 2, 1, true
	for _, config := range []LifecycleConfig{killed, dropped, patient, standby} {
		m := Lifecycle(config)
		g, err := Explore(m, Options{})
		if err == nil {
			err = Live(m, g, nil)
		}
		if err != nil {
			t.Errorf("%+v: %v", config, err)
		}
		t.Logf("%d states", len(g.States))
	}
}

// Nobody has to do what uses up a budget of faults; all else somebody has to, but for
// calling a server hung and taking a verdict back. So the actions that are fair in
// some states only are so in the right ones.
func TestLifecycleFairnessUsesUpNoBudget(t *testing.T) {
	t.Parallel()
	not := []string{"ServerHung", "ServerRecovered", "ClientRecovered"}
	seen := map[string]bool{}
	for _, name := range []string{"lifecycle_live_closes", "lifecycle_live_closes_slow", "lifecycle_live_thaws"} {
		m := Lifecycle(lifecycleConfig(t, settingNamed(t, "lifecycle", name)))
		g, err := Explore(m, Options{Invariants: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range g.Edges {
			from, to := g.States[e.From], g.States[e.To]
			uses := from.left != to.left
			fair := slices.ContainsFunc(m.Fair, func(f Fairness[LifecycleState]) bool { return f.Is(from, e.Action) })
			if fair == uses && !slices.Contains(not, e.Action.Name) {
				t.Fatalf("%s: %v uses up a budget: %v, and is fair: %v, in\n%s", name, e.Action, uses, fair, m.Text(from))
			}
			if uses {
				seen[e.Action.Name] = true
			}
		}
	}
	for _, action := range []string{"TokenAwaited", "DialFailed", "GoodbyeSaid"} {
		if !seen[action] {
			t.Errorf("%s uses up no budget", action)
		}
	}
}
