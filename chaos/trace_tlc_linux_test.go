package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tandem-ipc/tandem/model"
)

// A checked is a trace as the checker gets it.
type checked struct {
	fields string // of the record, besides the events
	events []model.Event
	bad    string // what was done to it; empty: it must be accepted
}

// splitNumber takes the number off the end of a name.
func splitNumber(name string) (string, int) {
	if i := strings.LastIndexByte(name, ' '); i >= 0 {
		if n, err := strconv.Atoi(name[i+1:]); err == nil {
			return name[:i], n
		}
	}
	return name, 0
}

// text is the trace as a record of TLA+.
func (c checked) text() string {
	type thread struct {
		key  string
		last int
		text []string
	}
	var threads []*thread
	byKey := map[string]*thread{}
	at := make([]*thread, len(c.events))
	for i, e := range c.events {
		key := fmt.Sprintf("<<%q, %d>>", e.Who, e.Life)
		if byKey[key] == nil {
			byKey[key] = &thread{key: key}
			threads = append(threads, byKey[key])
		}
		at[i] = byKey[key]
	}
	never := len(c.events) + 1
	for i, e := range c.events {
		begin, end := at[i].last, i+1
		if e.Early {
			begin, end = i+1, never
			if j := slices.Index(at[i+1:], at[i]); j >= 0 {
				end = i + 2 + j
			}
		}
		at[i].last = i + 1
		name, place := splitNumber(e.Name)
		at[i].text = append(at[i].text, fmt.Sprintf("[n |-> %q, v |-> %d, b |-> %d, e |-> %d]", name, place, begin, end))
	}
	var all []string
	for _, t := range threads {
		all = append(all, fmt.Sprintf("(%s :> <<%s>>)", t.key, strings.Join(t.text, ", ")))
	}
	return fmt.Sprintf("[%s, ev |-> %s]", c.fields, strings.Join(all, " @@ "))
}

var accepted = regexp.MustCompile(`(?m)^<<"ACCEPT", (\d+)>>`)

var visited = regexp.MustCompile(`(?m)^\d+ states generated, \d+ distinct states found`)

// checkTraces lets the checker judge all traces in one run, and compares.
func checkTraces(t *testing.T, module string, constants []string, traces []checked) {
	t.Helper()
	dir := t.TempDir()
	modules, err := filepath.Glob("../tla/*.tla")
	if err != nil || len(modules) == 0 {
		t.Fatalf("no modules: %v", err)
	}
	for _, path := range modules {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, filepath.Base(path)), string(text))
	}
	var records []string
	for _, c := range traces {
		records = append(records, c.text())
	}
	write(t, filepath.Join(dir, "TraceData.tla"),
		"---- MODULE TraceData ----\nEXTENDS TLC\nTraces == <<\n"+strings.Join(records, ",\n")+"\n>>\n====\n")
	write(t, filepath.Join(dir, "trace.cfg"), "INIT TraceInit\nNEXT TraceNext\nINVARIANT Accepts\nCHECK_DEADLOCK FALSE\nCONSTANTS\n  "+
		strings.Join(constants, "\n  ")+"\n")
	script, err := filepath.Abs("../ci/tlc.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), script, "-workers", "2", "-checkpoint", "0", "-metadir", filepath.Join(dir, "meta"), "-config", "trace.cfg", module)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "JAVA_FLAGS=-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx1g -Xss16m -Djava.io.tmpdir="+dir)
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: tlc: %v\n%s", module, err, last(string(text), 6000))
	}
	verdict := make([]bool, len(traces))
	for _, m := range accepted.FindAllSubmatch(text, -1) {
		n, _ := strconv.Atoi(string(m[1]))
		verdict[n-1] = true
	}
	good := 0
	for i, c := range traces {
		switch {
		case verdict[i] && c.bad != "":
			t.Errorf("%s: trace %d, %s, is accepted though it cannot be\n%v", module, i+1, c.bad, c.events)
		case !verdict[i] && c.bad == "":
			t.Errorf("%s: trace %d of real processes is rejected\n%v", module, i+1, c.events)
		case verdict[i]:
			good++
		}
	}
	t.Logf("%s: %d traces accepted, %d rejected; %s", module, good, len(traces)-good, visited.FindString(string(text)))
}

func last(text string, n int) string { return text[max(0, len(text)-n):] }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// needTLC skips the test where there is no checker, but never where everything
// must be checked.
func needTLC(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("short: THE CHECKER OF TLA+ HAS NOT SEEN THESE TRACES, only the model has")
	}
	text, err := exec.Command("../ci/tlc.sh", "-h").CombinedOutput()
	var exit *exec.ExitError
	if err == nil || errors.As(err, &exit) && exit.ExitCode() != 77 && exit.ExitCode() != 78 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("the traces cannot be checked: %v\n%s", err, text)
	}
	t.Skipf("THE CHECKER OF TLA+ HAS NOT SEEN THESE TRACES: %v\n%s", err, text)
}

// spoilt are the ways in which a trace can be spoilt that were not seen before.
func spoilt(fields string, events []model.Event, corruptions []corruption, seen map[string]bool) (all []checked) {
	for _, c := range corruptions {
		if bad, ok := c.spoil(events); ok && !seen[c.what] {
			seen[c.what] = true
			all = append(all, checked{fields, bad, c.what})
		}
	}
	return all
}

// A tracedLayer is a layer whose traces are checked.
type tracedLayer struct {
	name string
	play func(t *testing.T, each func(trace))
}

// tracedLayers are the layers 2, 5, 6 and 7, each for a moment.
var tracedLayers = []tracedLayer{
	{"forked", func(t *testing.T, each func(trace)) {
		report, err := Forked(t.Context(), ForkedOptions{Budget: 3 * time.Second, Seed: seedOf(t), traced: each})
		if err != nil || report.Verdict != Pass {
			t.Error(err, report)
		}
	}},
	{"rapid", func(t *testing.T, each func(trace)) {
		defer seedRapid(t)()
		defer setFlag(t, "rapid.checks", "5")()
		how := staging{replays: newReplayer(), report: NewReport("rapid", 0), traced: each}
		rapid.Check(t, func(t *rapid.T) { playStage(t, how) })
	}},
	{"campaign", func(t *testing.T, each func(trace)) {
		o := CampaignOptions{Seed: drawnSeed(t), Kills: 12, Dir: t.TempDir(), Keep: 1 << 20}
		for !drawSwarm(episodeSeed(o.Seed, 1)).Traced || !drawSwarm(episodeSeed(o.Seed, 2)).Traced {
			o.Seed++
		}
		report, err := Campaign(t.Context(), o)
		if err != nil || report.Verdict != Pass {
			t.Error(err, report)
		}
		for home, d := range savedEpisodes(t, o.Dir) {
			played, err := d.trace(home)
			if err != nil {
				t.Fatal(err)
			}
			each(played)
		}
	}},
	{"traces", func(t *testing.T, each func(trace)) {
		scenes(t, 4, func(played trace) bool { each(played); return false })
	}},
}

// A docket for the checker: its traces, the bounds of all of them, and what they
// took.
type checkerDocket struct {
	mu           sync.Mutex
	rings, lives []checked
	bounds       model.RingConfig
	life         model.LifecycleConfig
	seen         map[string]bool // corruptions
	report       *Report
}

// How many traces of each layer the checker sees, and how much of the beginning of
// each: the beginning of a run is one. It is not told of those who were refused.
const (
	checkedEach  = 4
	checkedLeast = 8
	checkedRing  = 32
	checkedLife  = 50
)

// beginning is about the first n events. It does not end between a death and the
// record of it: others may know of it already.
func beginning(events []model.Event, n int) []model.Event {
	n = min(n, len(events))
	for k := len(events) - 1; k >= n; k-- {
		victim, killed := guardedOf(events[k].Who)
		if !killed {
			continue
		}
		last := k - 1
		for ; last >= 0; last-- {
			if process, _ := guardedOf(events[last].Who); process == victim {
				break
			}
		}
		if last+1 < n {
			n, k = last+1, len(events)
		}
	}
	return events[:n]
}

// alone reports whether nobody is refused in a life cycle.
func alone(events []model.Event) bool {
	return !slices.ContainsFunc(events, func(e model.Event) bool {
		who := strings.TrimPrefix(e.Who, "Killed ")
		return strings.HasPrefix(who, "s2") || strings.HasPrefix(who, "c2")
	})
}

// killed reports whether somebody dies in a trace.
func killed(events []model.Event) bool {
	return slices.ContainsFunc(events, func(e model.Event) bool {
		_, kill := guardedOf(e.Who)
		return kill
	})
}

// wanted reports whether a trace is wanted where there are so many of its layer: half
// of the places are for traces with a death.
func wanted(events []model.Event, there int) bool { return there < checkedEach/2 || killed(events) }

// take takes what the checker can be asked about, of the first traces of a layer,
// and counts what all of them took.
func (c *checkerDocket) take(t *testing.T, replays *replayer, played trace, rings, lives, deaths *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rejected := range replays.replay(&played, c.report) {
		t.Error(rejected)
	}
	for _, r := range played.ringTraces() {
		if played.LifeOnly || *rings == checkedEach {
			continue
		}
		config := r.config()
		if r.Events = beginning(r.Events, checkedRing); len(r.Events) < checkedLeast || !wanted(r.Events, *rings) {
			continue
		}
		*rings++
		*deaths += count(killed(r.Events))
		c.bounds.KillP = max(c.bounds.KillP, config.KillP, config.KillC)
		c.bounds.CancelP = max(c.bounds.CancelP, config.CancelP, config.CancelC)
		c.bounds.MaxMsg = max(c.bounds.MaxMsg, config.MaxMsg)
		fields := fmt.Sprintf("client |-> %q, cancels |-> [P |-> %d, C |-> %d]", config.Client, config.CancelP, config.CancelC)
		c.rings = append(c.rings, checked{fields, r.Events, ""})
		c.rings = append(c.rings, spoilt(fields, r.Events, ringCorruptions, c.seen)...)
	}
	l := played.lifeTrace()
	config := l.config()
	l.Events = beginning(l.Events, checkedLife)
	if len(l.Events) < checkedLeast || *lives == checkedEach || !wanted(l.Events, *lives) || !alone(l.Events) || config.KillOnClose {
		return
	}
	*lives++
	*deaths += count(killed(l.Events))
	c.life.KillsS, c.life.KillsC = max(c.life.KillsS, config.KillsS), max(c.life.KillsC, config.KillsC)
	c.life.ClosesS, c.life.ClosesC = max(c.life.ClosesS, config.ClosesS), max(c.life.ClosesC, config.ClosesC)
	fields := fmt.Sprint("closes |-> ", config.ClosesS)
	c.lives = append(c.lives, checked{fields, l.Events, ""})
	c.lives = append(c.lives, spoilt(fields, l.Events, lifeCorruptions, c.seen)...)
}

// takeGenerations takes the record of TestTraceTellsTheGenerationsApart.
func (c *checkerDocket) takeGenerations() {
	real, tooSoon := generations()
	c.life.KillsC, c.life.ClosesS = max(c.life.KillsC, real.KillsC), max(c.life.ClosesS, real.ClosesS)
	fields := fmt.Sprint("closes |-> ", real.ClosesS)
	c.lives = append(c.lives, checked{fields, real.Events, ""}, checked{fields, tooSoon.Events, "an end in another generation"})
}

func TestTraceCheckerAgrees(t *testing.T) {
	needTLC(t)
	c := &checkerDocket{bounds: model.RingConfig{KillP: 1, MaxMsg: traceSlots}, seen: map[string]bool{}, report: NewReport("traces", 0)}
	var missing []string
	for _, layer := range tracedLayers {
		rings, lives, deaths, replays := 0, 0, 0, newReplayer()
		for tries := 0; tries < 5 && (rings == 0 || lives == 0 || deaths == 0); tries++ { // few get far on a starved machine
			layer.play(t, func(played trace) { c.take(t, replays, played, &rings, &lives, &deaths) })
		}
		t.Logf("%s: %d directions and %d life cycles for the checker, %d of them with a death", layer.name, rings, lives, deaths)
		if rings == 0 || lives == 0 || deaths == 0 {
			missing = append(missing, layer.name)
		}
	}
	if len(missing) > 0 {
		t.Errorf("no traces, or none with a death, of the layers %v", missing)
	}
	if len(c.seen) < 20 {
		t.Errorf("only %d kinds of corruption were tried", len(c.seen))
	}
	c.takeGenerations()
	c.report.coverage()
	for _, note := range c.report.Notes {
		t.Log(note)
	}
	checkTraces(t, "TraceLifecycle", []string{
		`Servers = {"s1"}`, `Clients = {"c1"}`, "MaxConn = 4", fmt.Sprint("MaxGen = ", maxGenerations),
		fmt.Sprint("KillsS = ", c.life.KillsS), fmt.Sprint("KillsC = ", c.life.KillsC),
		fmt.Sprint("ClosesS = ", c.life.ClosesS), fmt.Sprint("ClosesC = ", c.life.ClosesC),
		"Expels = 0", "Timeouts = 0", "Freezes = 0", "FreezeWho = {}", "HangTicks = 1", "Deletions = 0", "TokenDeletions = 0", "Copies = 0", "Formers = 0", "Wait = TRUE",
		"KillOrphan = FALSE", "KillOnClose = FALSE", "KillHung = FALSE", "ThawsFair = FALSE", "Returns = FALSE", `Mut = "none"`, "Off = {}",
	}, c.lives)
	checkTraces(t, "TraceRings", []string{
		fmt.Sprint("Cap = ", traceSlots), fmt.Sprint("MaxMsg = ", c.bounds.MaxMsg), fmt.Sprint("MaxKills = ", c.bounds.KillP),
		fmt.Sprint("MaxCancels = ", c.bounds.CancelP), fmt.Sprint("Batch = ", traceSlots), fmt.Sprint("Hold = ", traceSlots+1),
	}, c.rings)
}
