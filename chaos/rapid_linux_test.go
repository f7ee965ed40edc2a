package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/tandem-ipc/tandem/model"
)

// A staging is how a stage is played: with a reference that does not know of
// redelivery, if that is planted; who follows its traces, and hears of them, and of what
// could not be followed, which may not come again; and who hears of each action.
type staging struct {
	forgets bool
	replays *replayer
	report  *Report
	traced  func(trace)
	refused func(what string)
	acted   func()
}

// playStage is the property.
func playStage(t *rapid.T, how staging) {
	directory, err := newDirectory()
	if err != nil {
		t.Fatalf("harness: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	g := &stage{t: t, ctx: ctx, path: filepath.Join(directory, "s"), toServer: newDirection(model.Producer), toClient: newDirection(model.Consumer)}
	g.toClient.forgetful = how.forgets
	g.start = -(8 * uint64(evenly(1+traceRingSize/8).Draw(t, "start")))
	if g.flight, err = newFlight(""); err != nil {
		t.Fatalf("harness: %v", err)
	}
	end := func() {
		for side, m := range g.members {
			if m != nil {
				g.slay(m)
				g.members[side] = nil
			}
		}
	}
	defer func() {
		cancel()
		end()
		g.flight.close()
		_ = os.RemoveAll(directory)
	}()
	t.Repeat(map[string]func(*rapid.T){"": g.check, "act": func(t *rapid.T) {
		if how.acted != nil {
			how.acted()
		}
		g.act(t)
	}})
	if how.replays == nil {
		return
	}
	end()
	played, err := g.flight.land()
	if err != nil {
		t.Fatalf("harness: %v", err)
	}
	played = played.settled()
	for _, rejected := range how.replays.replay(&played, how.report) {
		if how.refused != nil {
			how.refused(rejected.What)
		}
		t.Log(rejected.What)
		t.Fatalf("%s: the specification does not allow what was recorded", rejected.Contract)
	}
	if how.traced != nil {
		how.traced(played)
	}
}

// evenly draws one of so many numbers, each as likely as the others: rapid itself
// prefers small ones, and what stands first in a list.
func evenly(all int) *rapid.Generator[int] {
	return rapid.Custom(func(t *rapid.T) (n int) {
		const bits = 12
		for range bits {
			n = 2*n + count(rapid.Bool().Draw(t, "bit"))
		}
		return n * all >> bits
	})
}

// act does one of the things that make sense now; those that build something up
// are more likely than those that tear it down.
func (g *stage) act(t *rapid.T) {
	g.t = t
	type action struct {
		name string
		side int
		do   func(side int)
	}
	var all []action
	offer := func(name string, weight, side int, makesSense bool, do func(int)) {
		for i := 0; i < weight && makesSense; i++ {
			all = append(all, action{name, side, do})
		}
	}
	noServer, noClient := g.members[serverSide] == nil, g.members[clientSide] == nil
	answering := g.runs(serverSide) && (!g.owed[serverSide] || g.waits[serverSide].verb != "")
	offer("start", 1+6*count(noServer && noClient), serverSide, true, g.startServer)
	offer("start", 1+6*count(noClient), clientSide, answering, g.startClient)
	for _, side := range []int{serverSide, clientSide} {
		free, other := g.free(side), 1-side
		offer("send", 4, side, free && g.out(side).more(), g.send)
		offer("receive", 4, side, free, g.receive)
		offer("call briefly", 1, side, free, g.brief)
		offer("wait to receive", 2, side, free && g.in(side).idle(), g.waitToReceive)
		offer("wait to send", 4, side, free && !g.out(side).hasRoom() && !(side == clientSide && g.orphaned), g.waitToSend)
		offer("release", 2, side, free && len(g.in(side).held) > 0, g.release)
		offer("wait until hung", 1, side, free && g.up[other] && g.frozen[other], g.wait)
		offer("thaw", 2, side, g.frozen[side], g.thaw)
		offer("freeze", 1, side, free, g.freeze)
		offer("close", 1, side, free && !(side == serverSide && g.frozen[clientSide]), g.close)
		offer("kill", 1, side, g.up[side] && !(side == serverSide && g.leaving), g.kill)
	}
	offer("restart", 2, clientSide, answering && g.free(clientSide), g.restart)
	a := all[evenly(len(all)).Draw(t, "action")]
	t.Logf("%s %s", sideNames[a.side], a.name)
	a.do(a.side)
	g.settle(serverSide)
	g.settle(clientSide)
	g.settle(serverSide) // for whom the client's answer may have made space
}

func TestRapidPairIsWhatTheModelSays(t *testing.T) {
	defer seedRapid(t)()
	how := staging{replays: newReplayer(), report: NewReport("rapid", 0)}
	var first sync.Once
	how.refused = func(what string) { first.Do(func() { t.Log(what) }) }
	rapid.Check(t, func(t *rapid.T) { playStage(t, how) })
	how.report.coverage()
	for _, failure := range how.report.Failures {
		t.Errorf("%s: %s", failure.Contract, failure.What)
	}
	for _, note := range how.report.Notes {
		t.Log(note)
	}
}

// A hearer is a test that notes what rapid says of it.
type hearer struct {
	testing.TB
	said   strings.Builder
	failed bool
}

func (h *hearer) Helper()                    {}
func (h *hearer) Name() string               { return "planted" }
func (h *hearer) Logf(f string, args ...any) { fmt.Fprintf(&h.said, f+"\n", args...) }
func (h *hearer) Log(args ...any)            { fmt.Fprintln(&h.said, args...) }
func (h *hearer) Errorf(f string, a ...any)  { h.Logf(f, a...); h.failed = true }
func (h *hearer) Fail()                      { h.failed = true }
func (h *hearer) Failed() bool               { return h.failed }
func (h *hearer) FailNow()                   { h.failed = true; runtime.Goexit() }

// A reference that forgets redelivery must be found out, by a run that fails the
// same way each time and shrinks: how far in this time is the machine's affair, but
// what is left is never longer than what failed first. Six actions can show it.
func TestRapidFindsAPlantedBugAndShrinksIt(t *testing.T) {
	defer seedRapid(t)()
	defer setFlag(t, "rapid.nofailfile", "true")()
	checks, steps, shrink := "500", "30", "6s"
	if testing.Short() { // rapid itself takes a fifth of the checks, and half of the steps
		checks, steps, shrink = "2500", "60", "2s"
	}
	defer setFlag(t, "rapid.checks", checks)()
	defer setFlag(t, "rapid.steps", steps)()
	defer setFlag(t, "rapid.shrinktime", shrink)()
	h := &hearer{}
	runs, first := 0, 0 // first is the length of the run that failed first
	done := make(chan struct{})
	go func() {
		defer close(done)
		rapid.Check(h, func(t *rapid.T) {
			runs++
			acted := 0
			defer func() {
				if t.Failed() && first == 0 {
					first = acted
				}
			}()
			playStage(t, staging{forgets: true, acted: func() { acted++ }})
		})
	}()
	<-done
	said := h.said.String()
	if !h.failed || !strings.Contains(said, "M3 AtLeastOnce: the client receives") || strings.Contains(said, "flaky") {
		t.Fatalf("not found: %s", said)
	}
	actions := strings.Count(said, `draw action: "act"`)
	t.Logf("shrunk from %d actions to %d, in %d runs:\n%s", first, actions, runs, said)
	if actions == 0 || actions > first {
		t.Errorf("what failed first had %d actions, what is left has %d", first, actions)
	}
}

// seedRapid draws the seed of a test, if none was given, and prints how to give it
// again: rapid prints one only if it fails. It returns what forgets the seed.
func seedRapid(t *testing.T) (forget func()) {
	t.Helper()
	forget = func() {}
	if flag.Lookup("rapid.seed").Value.String() == "0" {
		forget = setFlag(t, "rapid.seed", fmt.Sprint(max(rand.Uint64(), 1))) // 0 is none
	}
	short := ""
	if testing.Short() { // a run of another length draws other things
		short = " -short"
	}
	pattern := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	t.Logf("again: go test ./chaos -run '%s'%s -rapid.seed %v", pattern, short, flag.Lookup("rapid.seed").Value)
	return forget
}

// setFlag sets a flag of rapid's and returns what sets it back.
func setFlag(t *testing.T, name, value string) func() {
	old := flag.Lookup(name).Value.String()
	if err := flag.Set(name, value); err != nil {
		t.Fatal(err)
	}
	return func() { _ = flag.Set(name, old) }
}
