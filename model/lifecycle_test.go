package model

import (
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var everything = flag.Bool("everything", false, "compare every configuration of the life cycle, and explore the large ones too")

// lifecycleConfig is the machine's configuration, as a cfg has it.
func lifecycleConfig(t *testing.T, s setting) LifecycleConfig {
	t.Helper()
	config := LifecycleConfig{Servers: len(s.members("Servers")), Clients: len(s.members("Clients"))}
	s.fill(t, &config, "Servers", "Clients", "s1", "s2", "c1", "c2")
	return config
}

// compared are the configurations that are compared each time: together they do
// every action, and have one and two of each kind of process. The rest, mutants
// included, is compared with -everything.
var compared = []string{
	"lifecycle_hangs", "lifecycle_kills", "lifecycle_live_close_frozen", "lifecycle_live_orphan",
	"lifecycle_expels", "lifecycle_reach_CloseGivesUp_slow", "lifecycle_reach_LetsGoOfCopy", "lifecycle_reach_GrantToDead", "lifecycle_reach_TwoLockFiles", "lifecycle_mut_TakesTruncated_L3",
	"lifecycle_deletion_token", "lifecycle_live_copies", "lifecycle_live_copies_server", "lifecycle_live_formers",
}

// endless are mutants that let clients come for ever, and count them: with two
// clients the checker would not end, so they are compared with one, which may
// die, as may its server.
var endless = []string{
	"lifecycle_mut_NoToken_L2", "lifecycle_mut_NoToken_L4", "lifecycle_mut_TakesTruncated_L2", "lifecycle_mut_TokenByPath_L4",
}

func TestLifecycleEqualsItsModule(t *testing.T) {
	found := 0
	for _, s := range settings(t, "lifecycle") {
		chosen := slices.Contains(compared, s.Name)
		if chosen {
			found++
		}
		if !chosen && (!*everything || s.Tier == "long") {
			continue
		}
		if slices.Contains(endless, s.Name) {
			s.constants["Clients"] = "{c1}"
			if s.constants["Deletions"] == "0" {
				s.constants["KillsC"], s.constants["KillsS"] = "1", "1"
			}
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			equalToTLC(t, Lifecycle(lifecycleConfig(t, s)), s)
		})
	}
	if found != len(compared) {
		t.Errorf("%d of %d configurations are in the manifest", found, len(compared))
	}
}

// What is compared must do everything that there is to do.
func TestLifecycleComparedConfigurationsDoEveryAction(t *testing.T) {
	missing := map[string]bool{}
	for _, r := range newLifecycle(LifecycleConfig{Servers: 1, Clients: 1, MaxConn: 1}).rules() {
		missing[r.Name] = true
	}
	if len(missing) < 60 {
		t.Fatalf("the machine has only %d actions", len(missing))
	}
	for _, name := range compared {
		s := settingNamed(t, "lifecycle", name)
		g, err := Explore(Lifecycle(lifecycleConfig(t, s)), Options{Invariants: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range g.Edges {
			delete(missing, e.Action.Name)
		}
	}
	if len(missing) > 0 {
		t.Errorf("nowhere among what is compared happens %v", sortedNames(missing))
	}
}

// The comparison finds a rule that is left out, an action that is missing or has
// another's name, and a variable that is not looked at.
func TestLifecycleComparisonIsNotBlind(t *testing.T) {
	s := settingNamed(t, "lifecycle", "lifecycle_reach_EndNotProven")
	d := runTLC(t, s)
	config := lifecycleConfig(t, s)
	sound := Lifecycle(config)
	if report, err := compare(sound, d); err != nil {
		t.Fatal(err)
	} else {
		t.Log(report)
	}
	mutant := config
	mutant.Mut = "ForkKeepsToken"
	forgetful, nameless, textless := sound, sound, sound
	forgetful.Actions = func(x LifecycleState) []Action {
		return slices.DeleteFunc(sound.Actions(x), func(a Action) bool { return a.Name == "EndSeen" })
	}
	nameless.Actions = func(x LifecycleState) []Action {
		all := sound.Actions(x)
		for i := range all {
			all[i].Name = strings.Replace(all[i].Name, "ReadySent", "ReadyFailed", 1)
		}
		return all
	}
	nameless.Next = func(x LifecycleState, a Action) LifecycleState {
		a.Name = strings.Replace(a.Name, "ReadyFailed", "ReadySent", 1)
		return sound.Next(x, a)
	}
	textless.Text = func(x LifecycleState) string {
		text := sound.Text(x)
		return text[:strings.Index(text, `/\ record`)] + text[strings.Index(text, `/\ path`):]
	}
	for _, plant := range []struct {
		what    string
		machine Machine[LifecycleState]
		finding string
	}{
		{"a rule left out", Lifecycle(mutant), "only the machine does KernelFreesToken"},
		{"an action missing", forgetful, "only the module does EndSeen"},
		{"another's name", nameless, "only the machine does ReadyFailed"},
		{"a variable missing", textless, "two states of the machine have one text"},
	} {
		differs(t, plant.what, plant.machine, d, plant.finding)
	}
}

// Every mutant of the module is one of the machine, and the other way round.
func TestLifecycleMutantsAreThoseOfTheModule(t *testing.T) {
	text, err := os.ReadFile("../tla/Lifecycle.tla")
	if err != nil {
		t.Fatal(err)
	}
	ofModule := map[string]bool{}
	for _, m := range regexp.MustCompile(`Mut (?:=|#) "(\w+)"`).FindAllStringSubmatch(string(text), -1) {
		ofModule[m[1]] = true
	}
	if len(ofModule) < 30 {
		t.Errorf("the module has only %d mutants", len(ofModule))
	}
	if got, want := slices.Sorted(slices.Values(lifecycleMutants)), sortedNames(ofModule); !slices.Equal(got, want) {
		t.Errorf("the machine's mutants are\n%v\nthe module's\n%v", got, want)
	}
	defer func() {
		if recover() == nil {
			t.Error("a mutant that there is not is explored as if it were one")
		}
	}()
	Lifecycle(LifecycleConfig{Servers: 1, Clients: 1, MaxConn: 1, Mut: "NoTokne"})
}

// symmetric reports whether the checker counts states that differ by the names of
// processes as one.
func (s setting) symmetric(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile("../tla/cfg/" + s.Name + ".cfg")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(text), "\nSYMMETRY")
}

// large is how many pinned states are explored only with -everything.
const large = 10_000

// What holds in the module holds in the machine, in as many states.
func TestLifecycleHolds(t *testing.T) {
	for _, s := range settings(t, "lifecycle") {
		symmetric := s.symmetric(t)
		if s.Kind != "holds" || !*everything && (s.Distinct > large || symmetric && 2*s.Distinct > large || underRace) {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			m := withReach(lifecycleConfig(t, s))
			invariants, temporal := split(m, s)
			g, err := Explore(m, Options{Invariants: invariants})
			if err != nil {
				t.Fatal(err)
			}
			if err := Live(m, g, temporal); err != nil {
				t.Error(err)
			}
			if symmetric {
				t.Logf("%d states, of which %d are alike; depth %d", len(g.States), s.Distinct, g.Depth)
			} else if len(g.States) != s.Distinct {
				t.Errorf("%d states, pinned %d", len(g.States), s.Distinct)
			}
			if g.Depth != s.Depth {
				t.Errorf("depth %d, pinned %d", g.Depth, s.Depth)
			}
		})
	}
}

// split divides what the cfg checks into the machine's invariants and the rest,
// which are temporal.
func split[S comparable](m Machine[S], s setting) (invariants, temporal []string) {
	invariants, temporal = []string{}, []string{} // nil would be all
	for _, name := range s.checked {
		if slices.ContainsFunc(m.Invariants, func(v Invariant[S]) bool { return v.Name == name }) {
			invariants = append(invariants, name)
		} else {
			temporal = append(temporal, name)
		}
	}
	return invariants, temporal
}
