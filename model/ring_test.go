package model

import (
	"slices"
	"strings"
	"testing"
)

func ringConfig(t *testing.T, s setting) RingConfig {
	t.Helper()
	var config RingConfig
	s.fill(t, &config)
	return config
}

// ringsCompared are configurations that together take every action, each small
// enough for the checker to write down in seconds: some of the manifest, and some
// of these with other constants.
func ringsCompared(t *testing.T) []setting {
	t.Helper()
	var all []setting
	for _, chosen := range []struct{ name, changes string }{
		{"ring_live_plain", ""},                                // store buffers
		{"ring_live_plain", "KillC=1 MaxMsg=1"},                // and what a death leaves in them
		{"ring_views", ""},                                     // several messages held
		{"ring_consumers_die", ""},                             // three clients, one after the other
		{"ring_aborts", "MaxMsg=1"},                            // reservations given back, clients that produce
		{"ring_generations", ""},                               // both die
		{"ring_waits_kept", ""},                                // a client dies, a call is cancelled
		{"ring_live_held", ""},                                 // sleeps end for no reason
		{"ring_live_frozen", ""},                               // a side freezes
		{"ring_batches", "MaxMsg=2"},                           // batches, a client dies
		{"ring_cancels_produces", "KillP=0"},                   // a Send is cancelled
		{"ring_cancels_produces", "KillP=0 KillC=1 CancelP=0"}, // and fails
		{"ring_mut_PublishBeforeFill_M4", ""},
		{"ring_mut_CounterAfterFlags_M7", `Left={"CounterAfterFlags","ReleaseBeforeCopy","NotifyBeforePublish","PositionAfterEnd"}`},
	} {
		s := settingNamed(t, "ring", chosen.name)
		for _, change := range strings.Fields(chosen.changes) {
			constant, value, _ := strings.Cut(change, "=")
			s = s.with(constant, value)
			s.Name += "," + constant
		}
		all = append(all, s)
	}
	return all
}

// With -everything all are compared, the mutants too: nothing stops the checker
// at what they break.
func TestRingEqualsItsModule(t *testing.T) {
	all := ringsCompared(t)
	if *everything {
		all = slices.DeleteFunc(settings(t, "ring"), func(s setting) bool { return s.Module != "MCRing" })
	}
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			equalToTLC(t, Ring(ringConfig(t, s)), s)
		})
	}
}

// What is compared must do everything that there is to do.
func TestRingsComparedTakeEveryAction(t *testing.T) {
	t.Parallel()
	if underRace {
		t.Skip("many states, and one goroutine")
	}
	missing := map[string]bool{}
	for _, r := range newRing(RingConfig{Cap: 1, Client: Consumer, Batch: 1}).rules() {
		missing[r.Name] = true
	}
	if len(missing) < 50 {
		t.Fatalf("the machine has only %d actions", len(missing))
	}
	for _, s := range ringsCompared(t) {
		g, err := Explore(Ring(ringConfig(t, s)), Options{Invariants: []string{}})
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

// The comparison finds a rule left out, an action that is missing, that leads
// elsewhere or has another's name, another beginning, and a variable that is not
// looked at.
func TestComparisonIsNotBlind(t *testing.T) {
	t.Parallel()
	s := settingNamed(t, "ring", "ring_mut_NoPositionCompare_M1_Live").with("Left", "{}")
	d := runTLC(t, s)
	config := ringConfig(t, s)
	sound := Ring(config)
	if report, err := compare(sound, d); err != nil {
		t.Fatal(err)
	} else {
		t.Log(report)
	}
	faulty := config
	faulty.Left = []string{"WakeBelow"}
	missing, elsewhere, renamed, begun, blind := sound, sound, sound, sound, sound
	missing.Actions = func(x RingState) []Action {
		return slices.DeleteFunc(sound.Actions(x), func(a Action) bool { return a.Name == "Sealed" })
	}
	elsewhere.Next = func(x RingState, a Action) RingState {
		next := sound.Next(x, a)
		if a.Name == "HandedOut" {
			next.Mark++
		}
		return next
	}
	other := strings.NewReplacer("SpaceArmed", "DataArmed", "DataArmed", "SpaceArmed") // one operator in the module
	renamed.Actions = func(x RingState) []Action {
		all := sound.Actions(x)
		for i := range all {
			all[i].Name = other.Replace(all[i].Name)
		}
		return all
	}
	renamed.Next = func(x RingState, a Action) RingState {
		return sound.Next(x, Action{other.Replace(a.Name), a.Args})
	}
	begun.Init = append(slices.Clone(sound.Init), sound.Next(sound.Init[0], sound.Actions(sound.Init[0])[0]))
	blind.Text = func(x RingState) string {
		x.Seen = [threads]int16{}
		return sound.Text(x)
	}
	for _, plant := range []struct {
		what    string
		machine Machine[RingState]
		finding string
	}{
		{"a rule left out", Ring(faulty), "there only the module does DataWaitLoaded: pc.P \"published\" -> \"notify\""},
		{"an action missing", missing, "there only the module does Sealed"},
		{"an action that leads elsewhere", elsewhere, "there only the machine does HandedOut: cursor.C 0 -> 1, held 0 -> 1, mark 0 -> 1"},
		{"another's name", renamed, "there only the module does DataArmed"},
		{"another beginning", begun, "the machine begins in"},
		{"a variable that is not looked at", blind, "two states of the machine have one text"},
	} {
		differs(t, plant.what, plant.machine, d, plant.finding)
	}
}
