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
	"testing"

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
		who, number := splitNumber(e.Who)
		key := fmt.Sprintf("<<%q, %d, %d>>", who, number, e.Life)
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

func TestTraceCheckerAgrees(t *testing.T) {
	needTLC(t)
	var rings, lives []checked
	bounds := model.RingConfig{KillP: 1, MaxMsg: traceSlots}
	life := model.LifecycleConfig{}
	seen := map[string]bool{}
	scenes(t, 6, func(played trace) bool {
		for _, r := range played.ringTraces() {
			if len(r.Events) < 8 || len(r.Events) > 40 || len(rings) > 30 {
				continue
			}
			c := r.config()
			bounds.KillP, bounds.CancelP = max(bounds.KillP, c.KillP, c.KillC), max(bounds.CancelP, c.CancelP, c.CancelC)
			bounds.MaxMsg = max(bounds.MaxMsg, c.MaxMsg)
			fields := fmt.Sprintf("client |-> %q, cancels |-> [P |-> %d, C |-> %d]", c.Client, c.CancelP, c.CancelC)
			rings = append(rings, checked{fields, r.Events, ""})
			rings = append(rings, spoilt(fields, r.Events, ringCorruptions, seen)...)
		}
		l := played.lifeTrace()
		if len(l.Events) > 80 {
			return false
		}
		c := l.config()
		life.KillsS, life.KillsC = max(life.KillsS, c.KillsS), max(life.KillsC, c.KillsC)
		life.ClosesS, life.ClosesC = max(life.ClosesS, c.ClosesS), max(life.ClosesC, c.ClosesC)
		fields := fmt.Sprint("closes |-> ", c.ClosesS)
		lives = append(lives, checked{fields, l.Events, ""})
		lives = append(lives, spoilt(fields, l.Events, lifeCorruptions, seen)...)
		return len(lives) > 20 && len(rings) > 20
	})
	if len(seen) < 20 {
		t.Errorf("only %d kinds of corruption were tried", len(seen))
	}
	checkTraces(t, "TraceLifecycle", []string{
		`Servers = {"s1"}`, `Clients = {"c1"}`, "MaxConn = 4", fmt.Sprint("MaxGen = ", maxGenerations),
		fmt.Sprint("KillsS = ", life.KillsS), fmt.Sprint("KillsC = ", life.KillsC),
		fmt.Sprint("ClosesS = ", life.ClosesS), fmt.Sprint("ClosesC = ", life.ClosesC),
		"Expels = 0", "Timeouts = 0", "Freezes = 0", "FreezeWho = {}", "HangTicks = 1", "Deletions = 0", "Wait = TRUE",
		"KillOrphan = FALSE", "KillOnClose = FALSE", "KillHung = FALSE", "ThawsFair = FALSE", "Returns = FALSE", `Mut = "none"`, "Off = {}",
	}, lives)
	checkTraces(t, "TraceRings", []string{
		fmt.Sprint("Cap = ", traceSlots), fmt.Sprint("MaxMsg = ", bounds.MaxMsg), fmt.Sprint("MaxKills = ", bounds.KillP),
		fmt.Sprint("MaxCancels = ", bounds.CancelP), fmt.Sprint("Batch = ", traceSlots), fmt.Sprint("Hold = ", traceSlots+1),
	}, rings)
}
