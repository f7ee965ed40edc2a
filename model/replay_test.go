package model

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var seedFlag = flag.Uint64("seed", 0, "what random walks begin with; 0: anew each time")

// seeded is a source of chance, and the line that brings it back.
func seeded(t *testing.T) (random *rand.Rand, again string) {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	again = fmt.Sprintf("again: go test ./model -run '^%s$' -seed %d", t.Name(), seed)
	t.Log(again)
	return rand.New(rand.NewPCG(seed, 0)), again
}

// replayed is a ring with room for everything in the records below.
var replayed = RingConfig{
	Cap: 3, MaxMsg: 12, MaxGen: 1, Client: Consumer, KillP: 1, KillC: 1, Batch: 3, Hold: 3, Aborts: true, Idle: true,
}

// events are what "who name name, who name" stands for.
func events(t *testing.T, text string) []Event {
	t.Helper()
	var all []Event
	for part := range strings.SplitSeq(text, ",") {
		words := strings.Fields(part)
		who, life, _ := strings.Cut(words[0], "/")
		var n int
		if life != "" {
			if _, err := fmt.Sscan(life, &n); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range words[1:] {
			all = append(all, Event{Who: who, Life: n, Name: name})
		}
	}
	return all
}

const sends = "Claimed Filled Sealed Published Notified"

func TestReplayFollowsWhatTheRingCanDo(t *testing.T) {
	kill := func(r Role) []Event { return []Event{RingKill(r)} }
	for _, record := range []struct {
		what   string
		events []Event
		at     int // the event that cannot be; -1: none
	}{
		{"one message", events(t, "P "+sends+", C Peeked Delivered, R Released ReleaseNotified"), -1},
		{"a receiver that waits", events(t, "C DataArmed Sleeping, P "+sends+", C Woken Peeked Delivered"), -1},
		{"a full ring", events(t, "P "+sends+" "+sends+" "+sends+" SpaceArmed Sleeping, C Peeked Delivered, R Released ReleaseNotified, P Woken Claimed"), -1},
		{"a batch", events(t, "P Claimed Filled Sealed Claimed Filled Sealed Published Notified"), -1},
		{"a reservation", events(t, "P Claimed Aborted Claimed Filled Aborted"), -1},
		{"a successor", slices.Concat(events(t, "P "+sends+", C Peeked Delivered"), kill(Consumer),
			events(t, "P.watch EndProven AccountTaken, C/1 SegmentsMapped DataWaitCleared Peeked Delivered, R/1 Released ReleaseNotified")), -1},
		{"published before it is filled", events(t, "P Claimed Published"), 1},
		{"peeked before it is published", events(t, "P Claimed Filled Sealed, C Peeked"), 3},
		{"handed out before it is marked", events(t, "P "+sends+", C Peeked, R Released"), 6},
		{"a fourth message in three slots", events(t, "P "+sends+" "+sends+" "+sends+" Claimed"), 15},
		{"a look before the message came", events(t, "P "+sends+", C DataArmed Sleeping Woken Peeked"), -1},
		{"asleep twice on what is there", events(t, "P "+sends+", C DataArmed Sleeping Woken DataArmed"), 8},
		{"the dead acts", slices.Concat(events(t, "P Claimed"), kill(Producer), events(t, "P Filled")), 2},
		{"a successor before the account", slices.Concat(kill(Consumer), events(t, "P.watch EndProven, C/1 SegmentsMapped")), 2},
		{"more clients than there were deaths", events(t, "C/1 SegmentsMapped"), 0},
		{"a step that there is not", events(t, "P Beaten"), 0},
	} {
		n, err := Replay(Ring(replayed), RingSteps(replayed), record.events)
		var parted *ReplayError
		switch {
		case record.at < 0 && (err != nil || n != len(record.events)):
			t.Errorf("%s: %d of %d: %v", record.what, n, len(record.events), err)
		case record.at >= 0 && (!errors.As(err, &parted) || n != record.at || parted.Index != n):
			t.Errorf("%s: %d, %v; want it to end at %d", record.what, n, err, record.at)
		case parted != nil:
			line, _, _ := strings.Cut(err.Error(), "\n")
			t.Logf("%s: %s", record.what, line)
		}
	}
}

// A walk is a machine at play: what it did, and what exactly would have been
// recorded.
func walk(m Machine[RingState], sees Observer[RingState], random *rand.Rand, steps int) []Event {
	var all []Event
	s := m.Init[0]
	for range steps {
		allowed := m.Actions(s)
		if len(allowed) == 0 {
			break
		}
		a := allowed[random.IntN(len(allowed))]
		if rarely(a) && random.IntN(20) > 0 {
			continue
		}
		next := m.Next(s, a)
		if e, recorded := sees(s, a, next); recorded {
			all = append(all, e)
		}
		s = next
	}
	return all
}

// late is how the same would have been recorded by processes that run at once:
// each thread records at some time before its next act, and the dead leave their
// last unrecorded.
func late(all []Event, random *rand.Rand) []Event {
	var record []Event
	pending := map[string]Event{} // by who
	for _, e := range RingEvents(all) {
		for _, who := range sortedNames(pending) {
			killed := e.Who == Kernel && who[0] != 'P' == strings.HasSuffix(e.Name, "C")
			switch {
			case killed && random.IntN(2) > 0:
				delete(pending, who)
			case killed || who == e.Who || random.IntN(3) == 0:
				record = append(record, pending[who])
				delete(pending, who)
			}
		}
		if e.Early || e.Who == Kernel || random.IntN(2) == 0 {
			record = append(record, e)
		} else {
			pending[e.Who] = e
		}
	}
	return record
}

// walked are rings whose faults are few: each that may happen unrecorded makes a
// search longer.
var walked = []RingConfig{
	{Cap: 2, MaxMsg: 8, MaxGen: 1, Client: Producer, Batch: 1, Hold: 1, Aborts: true, Tso: true},
	{Cap: 3, MaxMsg: 12, MaxGen: 2, Client: Consumer, KillP: 1, KillC: 2, Batch: 3, Hold: 3, Aborts: true, Idle: true},
	{Cap: 3, MaxMsg: 12, MaxGen: 1, Client: Producer, KillP: 2, Batch: 2, Hold: 2, Idle: true},
	{Cap: 2, MaxMsg: 8, MaxGen: 1, Client: Consumer, CancelC: 1, Batch: 1, Hold: 1},
}

// rarely are the actions that would end a walk too soon.
func rarely(a Action) bool { return a.Name == "Killed" || a.Name == "Cancelled" }

func TestReplayFollowsWhatTheRingDid(t *testing.T) {
	random, again := seeded(t)
	names := map[string]int{}
	total, rounds := 0, 8
	if testing.Short() || underRace {
		rounds = 1
	}
	for range rounds {
		for _, config := range walked {
			m, sees := Ring(config), RingSteps(config)
			all := walk(m, sees, random, 300)
			total += len(all)
			for _, e := range all {
				names[e.Name]++
			}
			if n, err := Replay(m, sees, all); err != nil {
				t.Fatalf("%+v: %d of %d: %v\n%v\n%s", config, n, len(all), err, all, again)
			}
			all = late(all, random)
			if n, err := ReplayConcurrent(m, sees, all); err != nil {
				t.Fatalf("%+v: late: %d of %d: %v\n%v\n%s", config, n, len(all), err, all, again)
			}
		}
	}
	t.Logf("%d events: %v", total, names)
}

// corruptions are what may happen to a record: an event of a thread is lost, or
// it and the next are told in the wrong order, or it has another name. The
// threads are those in which no event can be missed: a consumer takes two messages
// as well as one.
var corruptions = map[string]func(all []Event, i, next int){
	"lost":    func(all []Event, i, _ int) { all[i] = Event{} },
	"swapped": func(all []Event, i, next int) { all[i], all[next] = all[next], all[i] },
	"renamed": func(all []Event, i, _ int) {
		if all[i].Name = "Sealed" + all[i].Name; all[i].Name == "SealedFilled" {
			all[i].Name = "Sealed"
		}
	},
}

// followed is the next event of the thread of event i, or -1: there is none, or it
// shows nothing, because what is recorded early, and is its thread's last, need not
// have happened. It is about threads that do not look at headers.
func followed(all []Event, i int) int {
	var next []int
	for k := i + 1; k < len(all) && len(next) < 2; k++ {
		if all[k].Who == all[i].Who && all[k].Life == all[i].Life {
			next = append(next, k)
		}
	}
	if len(next) == 0 || len(next) == 1 && RingEvents(all[next[0]:][:1])[0].Early {
		return -1
	}
	return next[0]
}

func TestReplayRejectsWhatTheRingDidNot(t *testing.T) {
	random, again := seeded(t)
	for _, config := range walked[:3] {
		config.Aborts = false // or who fills and gives up may as well not have filled
		m, sees := Ring(config), RingSteps(config)
		all := walk(m, sees, random, 120)
		for _, name := range sortedNames(corruptions) {
			i := random.IntN(len(all) / 2)
			next := -1
			for ; next < 0 && i < len(all); i++ {
				if all[i].Who == "P" || all[i].Who == "R" {
					next = followed(all, i)
				}
			}
			if next < 0 {
				continue
			}
			i--
			bad := slices.Clone(all)
			corruptions[name](bad, i, next)
			bad = slices.DeleteFunc(bad, func(e Event) bool { return e.Name == "" })
			var parted *ReplayError
			n, err := Replay(m, sees, bad)
			if !errors.As(err, &parted) || n < i || n > next {
				t.Errorf("%s at %d to %d: %d, %v\n%v\n%s", name, i, next, n, err, bad, again)
			}
			if n, err := ReplayConcurrent(m, sees, RingEvents(bad)); !errors.As(err, &parted) {
				t.Errorf("%s, recorded at once: %d of %d, %v\n%v\n%s", name, n, len(bad), err, bad, again)
			}
		}
	}
}

func TestReplayWayIsARunOfTheMachine(t *testing.T) {
	random, again := seeded(t)
	m, sees := Ring(walked[0]), RingSteps(walked[0])
	record := late(walk(m, sees, random, 100), random)
	way, err := ReplayWay(m, sees, record)
	if err != nil {
		t.Fatalf("%v\n%s", err, again)
	}
	s, seen := m.Init[0], 0
	for i, p := range way {
		if p.From != s {
			t.Fatalf("action %d, %v, does not begin where the one before ended\n%s", i, p.Action, again)
		}
		if s, err = m.Do(s, p.Action); err != nil || s != p.To {
			t.Fatalf("action %d, %v: %v\n%s", i, p.Action, err, again)
		}
		if _, recorded := sees(p.From, p.Action, p.To); recorded {
			seen++
		}
	}
	// What was recorded early, and nothing of its thread behind it, need not have
	// happened.
	last := map[string]Event{}
	for _, e := range record {
		last[e.Who] = e
	}
	for _, e := range last {
		if e.Early {
			seen++
		}
	}
	if seen < len(record) {
		t.Errorf("%d recorded actions for %d events\n%s", seen, len(record), again)
	}
}

// A mayfly is a machine whose process acts, or not, and is killed, again and again.
type mayfly struct {
	lives int
	acted bool
}

// What the dead have left unrecorded matters to nobody: a search that kept it would
// have as many places as there are sets of lives.
func TestReplayForgetsTheDead(t *testing.T) {
	m := Machine[mayfly]{
		Init: []mayfly{{}},
		Actions: func(s mayfly) []Action {
			if s.acted {
				return []Action{{Name: "Killed"}}
			}
			return []Action{{Name: "Acted"}, {Name: "Killed"}}
		},
		Next: func(s mayfly, a Action) mayfly {
			if a.Name == "Killed" {
				return mayfly{lives: s.lives + 1}
			}
			return mayfly{s.lives, true}
		},
		Text: func(s mayfly) string { return fmt.Sprintf("/\\ lives = %d", s.lives) },
	}
	sees := func(from mayfly, a Action, _ mayfly) (Event, bool) {
		if a.Name == "Killed" {
			return Event{Who: Kernel, Name: "Killed"}, true
		}
		return Event{Who: "x", Life: from.lives, Name: "Acted"}, true
	}
	var killed []Event
	for range 40 {
		killed = append(killed, Event{Who: Kernel, Name: "Killed"})
	}
	for _, record := range []struct {
		last []Event
		at   int // the event that cannot be; -1: none
	}{
		{events(t, "x/40 Acted"), -1},
		{events(t, "x/40 Acted, x/39 Acted"), -1}, // which it did while it lived
		{events(t, "x/39 Acted Acted"), 41},
		{events(t, "x/41 Acted"), 40},
	} {
		n, err := ReplayConcurrent(m, sees, slices.Concat(killed, record.last))
		var parted *ReplayError
		if record.at < 0 && err != nil || record.at >= 0 && (!errors.As(err, &parted) || n != record.at) {
			t.Errorf("%v: followed to event %d: %v", record.last, n, err)
		}
	}
}

// A search that is given up is no verdict.
func TestReplaySaysThatASearchWasGivenUp(t *testing.T) {
	step := rule[int]{Action{"Step", ""}, func(s *int) bool { *s++; return true }}
	counter := machine([]int{0}, []rule[int]{step}, nil, func(s int) string { return fmt.Sprint(s) })
	sees := func(int, Action, int) (Event, bool) { return Event{}, false }
	_, err := Replay(counter, sees, []Event{{Who: "somebody", Name: "Never"}})
	var undecided *UndecidedError
	if !errors.As(err, &undecided) || undecided.Index != 0 || undecided.Events != 1 {
		t.Errorf("a machine without an end and an event that never comes: %v", err)
	}
}
