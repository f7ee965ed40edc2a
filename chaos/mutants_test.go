package chaos

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/tandem-ipc/tandem/internal/plant"
)

var (
	mutantsFlag    = flag.Bool("mutants", false, "plant the bugs of mutants_list_test.go, one after the other, and see who finds them")
	everyLayerFlag = flag.Bool("everyLayer", false, "with -mutants: show each bug to every layer, not only until one finds it")
	matrixFlag     = flag.String("matrix", "", "with -mutants: the file to write the matrix to, as JSON")
	onlyFlag       = flag.String("only", "", "with -mutants: only those whose name contains this")
	hunterFlag     = flag.String("hunter", "", "with -mutants: the only one that hunts")
)

// A hunter is what may find a planted bug: a layer in its short form, or the
// tests of package ipc that a mutant names.
type hunter struct{ name, run string }

// hunters are all of them, roughly by the time that they take.
var hunters = []hunter{
	{"contract", ""}, // of ipc; the pattern is the mutant's
	{"enumerator", "^TestEnumerator$"},
	{"properties", "^TestRapidPairIsWhatTheModelSays$"},
	{"hostile clients", "^TestEnumeratorHostile$"},
	{"hostile properties", "^TestRapidHostile$"},
	{"hostile servers", "^TestCampaignHostileServers$"},
	{"syscalls", "^TestSystemCallBoundariesAreSafeToDieAt$"},
	{"instructions", "^TestInstructionsLeaveNoImageWithoutItsStep$"},
	{"errnos", "^TestFailedSystemCalls(EndInACleanErrorOrInSuccess|ThatReadTheLockFile)$"},
	{"forked", "^TestForked$"},
	{"campaign", "^TestCampaign$"},
	{"traces", "^TestTraces$"},
}

// A catch is one field of the matrix: what a hunter made of a mutant.
type catch struct {
	Outcome string  `json:"outcome"` // "killed", "survived"
	Seconds float64 `json:"seconds"`
}

// A row of the matrix is one mutant.
type row struct {
	Name     string           `json:"name"`
	Files    []string         `json:"files"`
	KilledBy string           `json:"killed_by"` // the cheapest of those that were asked
	Seconds  float64          `json:"seconds"`
	Layers   map[string]catch `json:"layers"`
}

// TestEachPlantedBugIsFound builds each mutant and lets the layers, or the tests
// of ipc that it names, find it; on the code as it is all of them must pass.
func TestEachPlantedBugIsFound(t *testing.T) {
	if !*mutantsFlag {
		t.Skip("takes minutes: run it with -mutants")
	}
	sound := &soundness{builds: newBuilds(t), known: map[string]bool{}}
	var shown []mutant
	for _, m := range mutants {
		if strings.Contains(m.name, *onlyFlag) {
			shown = append(shown, m)
		}
	}
	rows := make([]row, len(shown))
	t.Run("bugs", func(t *testing.T) { // it ends when all of them have
		for i, m := range shown {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel() // most wait for a watchdog
				rows[i] = huntAll(t, m, sound)
			})
		}
	})
	t.Log("\n" + table(rows))
	if *matrixFlag != "" {
		text, err := json.MarshalIndent(map[string]any{"mutants": rows}, "", "  ")
		if err == nil {
			err = os.WriteFile(*matrixFlag, append(text, '\n'), 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// A soundness is who passes on the code as it is.
type soundness struct {
	*builds
	mu    sync.Mutex
	known map[string]bool
}

// passes reports whether a hunter does. The tests of ipc must with every bug asleep.
func (s *soundness) passes(t *testing.T, h hunter, m mutant) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := h.name + h.pattern(m)
	if _, known := s.known[key]; !known {
		var output string
		asItIs := s.asItIs
		if h.run == "" {
			asItIs = s.all
		}
		for patience := 1.0; patience < 100 && !s.known[key]; patience *= 5 { // a machine can stand still
			var failed bool
			output, failed, _ = asItIs.hunt(t, h, m, false, patience*plant.Pace())
			s.known[key] = !failed && strings.Contains(output, "--- PASS")
		}
		if !s.known[key] {
			t.Errorf("%s (-run %s) does not pass on the code as it is:\n%s", h.name, h.pattern(m), output)
		}
	}
	return s.known[key]
}

// huntAll shows a bug to the hunters.
func huntAll(t *testing.T, m mutant, sound *soundness) row {
	r := row{Name: m.name, Files: m.files(), Layers: map[string]catch{}}
	mutated := buildAlone(t, m)
	for _, h := range hunters {
		if !h.asked(m, r.KilledBy != "") || !sound.passes(t, h, m) {
			continue
		}
		hunted, environment := mutated, []string(nil)
		if h.run == "" && sound.shared.Has(m.name) {
			hunted, environment = sound.all, []string{sound.shared.Awaken(m.name)}
		}
		_, failed, seconds := hunted.hunt(t, h, m, mustFind[h.name] == m.name, plant.Pace(), environment...)
		r.Layers[h.name] = catch{map[bool]string{true: "killed", false: "survived"}[failed], seconds}
		if failed && (r.KilledBy == "" || seconds < r.Seconds) {
			r.KilledBy, r.Seconds = h.name, seconds
		}
	}
	if r.KilledBy == "" {
		t.Errorf("%s: nobody finds it", m.name)
	}
	for layer, bug := range mustFind {
		if c, asked := r.Layers[layer]; bug == m.name && asked && c.Outcome != "killed" {
			t.Errorf("%s: %s does not find it by itself", m.name, layer)
		}
	}
	t.Logf("%s: killed by %s in %.1f s; of those asked: %v", m.name, r.KilledBy, r.Seconds, r.Layers)
	return r
}

// asked reports whether a hunter is shown a bug, which another may have found before.
func (h hunter) asked(m mutant, found bool) bool {
	switch {
	case h.pattern(m) == "", *hunterFlag != "" && *hunterFlag != h.name:
		return false
	case mustFind[h.name] == m.name:
		return true
	}
	return !found || *everyLayerFlag
}

func TestEachPlantedBugHasItsPlace(t *testing.T) {
	if !*mutantsFlag {
		t.Skip("ci/check.sh laws asks it, with -mutants")
	}
	var bugs []plant.Bug
	for _, m := range mutants {
		bugs = append(bugs, m.bug())
	}
	if err := plant.Places("../ipc", bugs); err != nil {
		t.Error(err)
	}
}

// TestEachMutantIsOne holds that no two mutants have a name, that the tests meant to find
// them exist, and that each rule of the design is left out by one.
func TestEachMutantIsOne(t *testing.T) {
	names := map[string]bool{}
	for _, m := range mutants {
		if names[m.name] {
			t.Errorf("two mutants are called %s", m.name)
		}
		names[m.name] = true
		for pattern := range strings.SplitSeq(m.tests, "|") {
			if !hasTest(t, filepath.Join("..", "ipc"), pattern) {
				t.Errorf("%s: no test of ipc matches %s", m.name, pattern)
			}
		}
	}
	for _, h := range hunters {
		if h.run == "" {
			continue
		}
		if !hasTest(t, ".", h.run) {
			t.Errorf("%s: no test matches %s", h.name, h.run)
		}
		if !names[mustFind[h.name]] {
			t.Errorf("%s finds no bug by itself", h.name)
		}
	}
	for _, rule := range rules {
		if !slices.ContainsFunc(mutants, func(m mutant) bool { return m.name == rule || strings.HasPrefix(m.name, rule+" ") }) {
			t.Errorf("no mutant leaves %s out", rule)
		}
	}
	if len(mutants) < 25 {
		t.Errorf("%d mutants, want at least 25", len(mutants))
	}
}

// TestTheRecordNamesPlantedBugs holds that the bugs which the record of what was found
// says are planted again are.
func TestTheRecordNamesPlantedBugs(t *testing.T) {
	text, err := os.ReadFile("../docs/RECORD.md")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, " | ")
		if len(cells) < 4 {
			continue
		}
		for _, m := range plantedName.FindAllStringSubmatch(cells[2], -1) {
			named++
			if !slices.ContainsFunc(mutants, func(planted mutant) bool { return planted.name == m[1] }) && !strings.HasSuffix(m[1], " (tla)") {
				t.Errorf("the record says that %q is planted, and it is not", m[1])
			}
		}
	}
	if named < 20 {
		t.Errorf("the record names %d planted bugs", named)
	}
}

var plantedName = regexp.MustCompile(`\*([^*]+)\*`)

// hasTest reports whether a test in the directory has a name that the pattern matches.
func hasTest(t *testing.T, directory, pattern string) bool {
	t.Helper()
	name := regexp.MustCompile(pattern)
	files, err := filepath.Glob(filepath.Join(directory, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range testName.FindAllStringSubmatch(string(text), -1) {
			if name.MatchString(found[1]) {
				return true
			}
		}
	}
	return false
}

var testName = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

func (m mutant) files() (files []string) {
	for _, e := range m.edits {
		if file, _, _ := strings.Cut(e.file, ":"); !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	return files
}

// bug is the mutant as it is planted.
func (m mutant) bug() plant.Bug {
	b := plant.Bug{Name: m.name}
	for _, e := range m.edits {
		b.Edits = append(b.Edits, plant.Edit{File: e.file, Old: e.old, New: e.new})
	}
	return b
}

func (h hunter) pattern(m mutant) string {
	if h.run == "" {
		return m.tests
	}
	return h.run
}

// binaries are the tests of ipc and of chaos with some files replaced. Each is
// built when it is asked for: most bugs are found by the tests of ipc.
type binaries struct {
	directory, overlay string
	optimised          bool // the tests of ipc too
	mu                 sync.Mutex
}

// inOptimisedCode are bugs that a call which is not inlined hides.
var inOptimisedCode = []string{"a Close that keeps its processor"}

func prepare(t *testing.T, files map[string]string) *binaries {
	t.Helper()
	directory := t.TempDir()
	overlay, err := plant.WriteOverlay(directory, files)
	if err != nil {
		t.Fatal(err)
	}
	return &binaries{directory: directory, overlay: overlay}
}

// The builds are those of package ipc that hunts share.
type builds struct {
	asItIs *binaries
	shared *plant.Shared // what can be there together, for the tests of ipc
	all    *binaries     // with it
}

func newBuilds(t *testing.T) *builds {
	t.Helper()
	var bugs []plant.Bug
	for _, m := range mutants {
		if !slices.Contains(inOptimisedCode, m.name) {
			bugs = append(bugs, m.bug())
		}
	}
	shared, err := plant.Together("../ipc", bugs)
	if err != nil {
		t.Fatal(err)
	}
	return &builds{prepare(t, nil), shared, prepare(t, shared.Files)}
}

// buildAlone builds the mutant alone.
func buildAlone(t *testing.T, m mutant) *binaries {
	t.Helper()
	files, err := m.bug().Alone("../ipc")
	if err != nil {
		t.Fatal(err)
	}
	b := prepare(t, files)
	b.optimised = slices.Contains(inOptimisedCode, m.name)
	return b
}

// binary is the test of a package.
func (b *binaries) binary(t *testing.T, name string) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	path := filepath.Join(b.directory, name+".test")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	flags := ""
	if name == "ipc" && !b.optimised {
		flags = "-N -l" // most of the time goes to compilers; what chaos looks at is optimised code
	}
	command := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-gcflags="+flags,
		"-o", path, "-overlay="+b.overlay, "./"+name)
	command.Dir = ".."
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("the mutant does not build: %v\n%s", err, output)
	}
	return path
}

// hunt runs one hunter, in its short form and with short watchdogs: mutants hang.
// What must be found gets more time. What rapid finds leaves no file in the tree: it
// is not of the code as it is. The watchdogs and the budget stretch by the given factor.
func (b *binaries) hunt(t *testing.T, h hunter, m mutant, must bool, stretch float64, environment ...string) (output string, failed bool, seconds float64) {
	t.Helper()
	stretched := func(limit time.Duration) time.Duration { return time.Duration(float64(limit) * stretch) }
	name, form := "chaos", []string{"-test.short"}
	switch {
	case h.run == "":
		name, form = "ipc", nil
	case must:
		form = []string{"-chaos.budget=" + stretched(10*time.Second).String()} // so much work
	}
	binary := b.binary(t, name)
	temporary, err := newDirectory() // a mutant that dies leaves its files
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(temporary) }()
	ctx, cancel := context.WithTimeout(t.Context(), stretched(3*time.Minute))
	defer cancel()
	command := exec.CommandContext(ctx, binary, append(form, "-test.v", "-test.failfast",
		"-rapid.nofailfile", "-test.timeout="+stretched(45*time.Second).String(), "-test.run="+h.pattern(m))...)
	command.Dir = filepath.Join("..", name)
	command.Env = append(os.Environ(), "TANDEM_TEST_WATCHDOG="+stretched(10*time.Second).String(), "TMPDIR="+temporary)
	command.Env = append(command.Env, environment...)
	begun := time.Now()
	text, err := command.CombinedOutput()
	if output = string(text); err != nil && !plant.Found(output, err) {
		t.Errorf("%s: %s ended otherwise than by a test that failed: %v\n%s", m.name, h.name, err, output)
	}
	return output, err != nil, time.Since(begun).Seconds()
}

// table is the matrix for people.
func table(rows []row) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "planted bug")
	for _, h := range hunters {
		fmt.Fprint(w, "\t", h.name)
	}
	fmt.Fprintln(w, "\tcheapest")
	for _, r := range rows {
		fmt.Fprint(w, r.Name)
		for _, h := range hunters {
			c := r.Layers[h.name]
			mark := map[string]string{"killed": "x", "survived": "-"}[c.Outcome]
			fmt.Fprint(w, "\t", mark)
		}
		fmt.Fprintf(w, "\t%s, %.1f s\n", r.KilledBy, r.Seconds)
	}
	_ = w.Flush()
	return text.String()
}
