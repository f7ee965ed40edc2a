package model

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// underRace is set in binaries with the race detector. Everything here is one
// goroutine, and the checker another process: what is large is left out.
var underRace bool

// A dump is the graph that the checker has written down.
type dump struct {
	states  []string // canonical texts
	initial []int32
	edges   []map[arrow]bool // by source
}

// An arrow is an edge's other end, and its action's name.
type arrow struct {
	name string
	to   int32
}

// equalToTLC compares the machine with the module: the same initial states, the
// same states, the same edges with the same names.
func equalToTLC[S comparable](t *testing.T, m Machine[S], s setting) {
	t.Helper()
	if _, known := areEqual.Load(s.Name); known {
		return
	}
	d := runTLC(t, s)
	report, err := compare(m, d)
	if err != nil {
		t.Fatalf("%s: %v", s.Name, err)
	}
	t.Logf("%s: %s", s.Name, report)
	areEqual.Store(s.Name, true)
}

// areEqual holds the configurations that are known to be equal: neither side can
// come out otherwise next time, and -count asks for the same again.
var areEqual sync.Map

// tlcRuns bounds how many checkers run at once.
var tlcRuns = make(chan struct{}, max(1, runtime.NumCPU()))

// runTLC lets the checker go through all states of a configuration.
func runTLC(t *testing.T, s setting) *dump {
	t.Helper()
	needTLC(t)
	dir := t.TempDir()
	copyModules(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "all.cfg"), []byte(s.cfg()), 0o644); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("../ci/tlc.sh")
	if err != nil {
		t.Fatal(err)
	}
	tlcRuns <- struct{}{}
	defer func() { <-tlcRuns }()
	cmd := exec.CommandContext(t.Context(), script, "-workers", "1", "-checkpoint", "0", "-fp", "1",
		"-metadir", filepath.Join(dir, "meta"), "-config", "all.cfg", "-dump", "dot,actionlabels", "graph.dot", s.Module)
	cmd.Dir = dir
	// Compiling well costs more than it brings in runs of some seconds.
	cmd.Env = append(os.Environ(), "JAVA_FLAGS=-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx1g -Xss16m -Djava.io.tmpdir="+dir)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: tlc: %v\n%s", s.Name, err, text)
	}
	d, err := readDot(filepath.Join(dir, "graph.dot"))
	if err != nil {
		t.Fatalf("%s: %v", s.Name, err)
	}
	return d
}

// noTLC is why there is no checker, if there is none. It is asked once: to begin
// takes a checker as long as some runs.
var noTLC = sync.OnceValue(func() error {
	text, err := exec.Command("../ci/tlc.sh", "-h").CombinedOutput()
	var exit *exec.ExitError
	if err == nil || errors.As(err, &exit) && exit.ExitCode() != 77 && exit.ExitCode() != 78 {
		return nil
	}
	return fmt.Errorf("%w\n%s", err, text)
})

// needTLC skips the test where there is no checker, but never where everything
// must be checked.
func needTLC(t *testing.T) {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("short: the checker is not run")
	case underRace:
		t.Skip("the checker is another process: nothing here is for the race detector")
	case noTLC() == nil:
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("the machines cannot be compared: %v", noTLC())
	}
	t.Skipf("NOT COMPARED with the specification: %v", noTLC())
}

// copyModules puts the modules into the directory, where the checker may write.
func copyModules(t *testing.T, dir string) {
	t.Helper()
	paths, err := filepath.Glob("../tla/*.tla")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no modules: %v", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	dotState = regexp.MustCompile(`^(-?\d+) \[label="(.*)"(,style = filled)?\];?$`)
	dotEdge  = regexp.MustCompile(`^(-?\d+) -> (-?\d+) \[label="(\w+)"`)
	unescape = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n")
)

// readDot reads what -dump dot,actionlabels has written.
func readDot(path string) (*dump, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	d := &dump{}
	index := map[string]int32{} // by fingerprint
	at := func(fingerprint string) int32 {
		i, known := index[fingerprint]
		if !known {
			i = int32(len(d.states))
			index[fingerprint] = i
			d.states, d.edges = append(d.states, ""), append(d.edges, map[arrow]bool{})
		}
		return i
	}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := dotEdge.FindStringSubmatch(line); m != nil {
			d.edges[at(m[1])][arrow{m[3], at(m[2])}] = true
		} else if m := dotState.FindStringSubmatch(line); m != nil {
			text, err := canonical(unescape.Replace(m[2]))
			if err != nil {
				return nil, fmt.Errorf("%w in %q", err, line)
			}
			i := at(m[1])
			d.states[i] = text
			if m[3] != "" {
				d.initial = append(d.initial, i)
			}
		}
	}
	return d, errors.Join(lines.Err(), d.whole())
}

// whole reports what a dump that was read rightly would not lack.
func (d *dump) whole() error {
	if len(d.initial) == 0 {
		return errors.New("the dump has no initial state")
	}
	for i, text := range d.states {
		if text == "" {
			return fmt.Errorf("state %d of the dump has no text", i)
		}
	}
	return nil
}

// differs holds that the comparison with a machine in which something is planted
// finds just that.
func differs[S comparable](t *testing.T, what string, m Machine[S], d *dump, finding string) {
	t.Helper()
	report, err := compare(m, d)
	if err == nil || !strings.Contains(err.Error(), finding) {
		t.Errorf("%s: %s, %v; want one with %q", what, report, err, finding)
		return
	}
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	t.Logf("%s: %s", what, lines[len(lines)-1])
}

// compare explores the machine and returns what both are like, or an error that
// tells the difference that is nearest to an initial state, and how to get there.
func compare[S comparable](m Machine[S], d *dump) (string, error) {
	g, err := Explore(m, Options{Invariants: []string{}, Bound: 2*len(d.states) + 1000})
	var tooMany *BoundError // then there is a difference, and before the bound
	if err != nil && !errors.As(err, &tooMany) {
		return "", err
	}
	theirs := make(map[string]int32, len(d.states))
	for i, text := range d.states {
		theirs[text] = int32(i)
	}
	texts, err := distinctTexts(m, g)
	if err != nil {
		return "", err
	}
	if err := sameBeginning(m, d); err != nil {
		return "", err
	}
	count, next := 0, 0 // the edges of one state are next to each other
	for i := range g.States {
		module := d.edges[theirs[texts[i]]] // known: it is no edge that differs which leads here
		var extra []string
		machine := map[arrow]bool{}
		for ; next < len(g.Edges) && g.Edges[next].From == int32(i); next++ {
			e := g.Edges[next]
			to, known := theirs[texts[e.To]]
			if a := (arrow{e.Action.Name, to}); known && module[a] {
				machine[a] = true
			} else {
				extra = append(extra, "there only the machine does "+e.Action.String()+": "+difference(texts[i], texts[e.To]))
			}
		}
		for a := range module {
			if !machine[a] {
				extra = append(extra, "there only the module does "+a.name+": "+difference(texts[i], d.states[a.to]))
			}
		}
		if extra != nil {
			slices.Sort(extra)
			return "", fmt.Errorf("%s%s", m.Format(g.PathTo(int32(i))), strings.Join(extra, "\n"))
		}
		count += len(module)
	}
	if len(g.States) != len(d.states) {
		return "", fmt.Errorf("%d states of the machine, %d of the module, though no edge differs", len(g.States), len(d.states))
	}
	return fmt.Sprintf("%d states and %d labelled edges are the same", len(g.States), count), nil
}

// distinctTexts are the states' canonical texts. Two states with one text would
// hide from the comparison.
func distinctTexts[S comparable](m Machine[S], g *Graph[S]) ([]string, error) {
	texts := make([]string, len(g.States))
	seen := make(map[string]bool, len(texts))
	for i, s := range g.States {
		text, err := canonical(m.Text(s))
		if err != nil {
			return nil, err
		}
		if seen[text] {
			return nil, fmt.Errorf("two states of the machine have one text:\n%s", text)
		}
		texts[i], seen[text] = text, true
	}
	return texts, nil
}

func sameBeginning[S comparable](m Machine[S], d *dump) error {
	machine, module := map[string]bool{}, map[string]bool{}
	for _, s := range m.Init {
		text, err := canonical(m.Text(s))
		if err != nil {
			return err
		}
		machine[text] = true
	}
	for _, i := range d.initial {
		module[d.states[i]] = true
	}
	if maps.Equal(machine, module) {
		return nil
	}
	return fmt.Errorf("the machine begins in\n%s\nthe module in\n%s",
		strings.Join(sortedNames(machine), "\n"), strings.Join(sortedNames(module), "\n"))
}

func difference(from, to string) string {
	changes, err := changed(from, to)
	if err != nil {
		return err.Error()
	}
	return strings.Join(changes, ", ")
}
