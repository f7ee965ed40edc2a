package tla

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What a configuration is there for.
const (
	kindHolds  = "holds"  // everything that it lists is true
	kindReach  = "reach"  // must fail: the state that it denies is reachable
	kindMutant = "mutant" // must fail: a rule is left out
	kindLong   = "long"
	kindCI     = "ci"
)

// Exit codes of the checker.
const (
	exitHolds      = 0
	exitAssumption = 10
	exitDeadlock   = 11
	exitInvariant  = 12
	exitTemporal   = 13
)

// A configuration is one run of the checker and what must come out of it. Its
// constants and properties stand in cfg/<name>.cfg.
type configuration struct {
	Name      string   `json:"name"`
	Module    string   `json:"module"`
	Kind      string   `json:"kind"`             // holds, reach, mutant
	Mutant    string   `json:"mutant,omitempty"` // the rule that is left out
	Tier      string   `json:"tier"`             // ci, long
	Workers   int      `json:"workers"`
	Exit      int      `json:"exit"`
	Property  string   `json:"property,omitempty"` // the one that must fail
	Distinct  int      `json:"distinct"`
	Generated int      `json:"generated"`
	Depth     int      `json:"depth"`             // of the graph; of the counter-example if there is one
	Checks    []string `json:"checks,omitempty"`  // what must hold
	Actions   []string `json:"actions,omitempty"` // those that must happen
}

// A manifest is one file of manifest/.
type manifest struct {
	Path          string   `json:"-"`
	OnlyInMutants []string `json:"onlyInMutants"` // actions that no sound configuration takes
	// Elsewhere are actions of a composed module that only the configurations of
	// its parts take.
	Elsewhere      []string        `json:"elsewhere,omitempty"`
	Configurations []configuration `json:"configurations"`
}

func readManifests(t *testing.T) []manifest {
	t.Helper()
	paths, err := filepath.Glob("manifest/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	var all []manifest
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m := manifest{Path: path}
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, m)
	}
	return all
}

func (m manifest) write() error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(m.Path, append(text, '\n'), 0o644)
}

// A setting is what a cfg file says.
type setting struct {
	text     string
	sections map[string][]string // INVARIANT, PROPERTY, ... in the singular, to names
}

var sectionNames = map[string]string{
	"INVARIANT": "INVARIANT", "INVARIANTS": "INVARIANT", "PROPERTY": "PROPERTY", "PROPERTIES": "PROPERTY",
	"CONSTRAINT": "CONSTRAINT", "CONSTRAINTS": "CONSTRAINT", "ACTION_CONSTRAINT": "CONSTRAINT", "ACTION_CONSTRAINTS": "CONSTRAINT",
	"SYMMETRY": "SYMMETRY", "VIEW": "VIEW", "SPECIFICATION": "SPECIFICATION", "INIT": "INIT", "NEXT": "NEXT",
	"CONSTANT": "CONSTANT", "CONSTANTS": "CONSTANT", "CHECK_DEADLOCK": "CHECK_DEADLOCK",
}

func parseSetting(text string) setting {
	s := setting{text: text, sections: map[string][]string{}}
	section := ""
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, `\*`)
		for _, word := range strings.Fields(line) {
			if name, ok := sectionNames[word]; ok {
				section = name
				s.sections[name] = append(s.sections[name], []string{}...)
				continue
			}
			s.sections[section] = append(s.sections[section], word)
		}
	}
	return s
}

// checked is everything that the configuration asks the checker for.
func (s setting) checked() []string {
	return slices.Concat(s.sections["INVARIANT"], s.sections["PROPERTY"])
}

// faults are the reasons for which this entry must not be run: this checker is
// known to miss violations (see README.md), so what it is asked stays within what
// it does right; and an entry must say what it is there for.
func (c configuration) faults(s setting) []string {
	var faults []string
	refuse := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	temporal := len(s.sections["PROPERTY"]) > 0
	checked := s.checked()
	refuse(temporal && c.Workers != 1, "a temporal property with %d workers: this checker then misses violations", c.Workers)
	refuse(temporal && len(s.sections["SYMMETRY"])+len(s.sections["VIEW"]) > 0, "a temporal property with SYMMETRY or VIEW")
	refuse(temporal && len(s.sections["CONSTRAINT"]) > 0, "a temporal property with a constraint: bound by guards")
	refuse(c.Workers < 1, "no workers")
	refuse(c.Tier != kindCI && c.Tier != kindLong, "tier %q", c.Tier)
	refuse(len(checked) == 0 && c.Exit != exitDeadlock && c.Exit != exitAssumption, "nothing is checked")
	switch c.Kind {
	case kindHolds:
		refuse(c.Exit != exitHolds || c.Property != "", "it holds, with exit %d and property %q", c.Exit, c.Property)
		refuse(len(c.Actions) == 0, "no action must happen")
		refuse(!slices.Equal(checked, c.Checks), "it checks %v, pinned %v", checked, c.Checks)
	case kindReach, kindMutant:
		refuse(!slices.Contains([]int{exitAssumption, exitDeadlock, exitInvariant, exitTemporal}, c.Exit), "it must fail, with exit %d", c.Exit)
		refuse(len(checked) != 1 || checked[0] != c.Property, "it must fail with %q, and checks %v: one would mask the other", c.Property, checked)
		refuse(c.Exit == exitInvariant && temporal, "an invariant's exit code for a temporal property")
		refuse(c.Exit == exitTemporal && !temporal, "a temporal exit code for an invariant")
		refuse(c.Kind == kindReach && !strings.HasPrefix(c.Property, "Reach_"), "%s does not say what is reached", c.Property)
		refuse(c.Kind == kindMutant && !strings.Contains(s.text, `"`+c.Mutant+`"`), "the mutant %q is not in its cfg", c.Mutant)
	default:
		refuse(true, "kind %q", c.Kind)
	}
	return faults
}

var (
	functionSet = regexp.MustCompile(`(?s)\\in\s*\[[^\[\]]*->[^\[\]]*\]\s*\|->|\[\s*\[[^\[\]]*->[^\[\]]*\]\s*->`)
	instance    = regexp.MustCompile(`(?:(\w+)\s*==\s*)?INSTANCE\s+(\w+)`)
	fairness    = regexp.MustCompile(`\b(WF_|SF_|ENABLED\b)`)
	definition  = regexp.MustCompile(`(?m)^(\w+)(?:\([^)\n]*\))? ==`)
	imports     = regexp.MustCompile(`(?m)^EXTENDS (.*)$`)
)

// fairDefinitions are the definitions of a module, and of those that it extends,
// that say what must happen, by themselves or through another.
func fairDefinitions(modules map[string]string, name string) map[string]bool {
	text := modules[name]
	fair := map[string]bool{}
	if m := imports.FindStringSubmatch(text); m != nil {
		for _, other := range word.FindAllString(m[1], -1) {
			maps.Copy(fair, fairDefinitions(modules, other))
		}
	}
	starts := definition.FindAllStringSubmatchIndex(text, -1)
	for i, start := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		body := comment.ReplaceAllString(text[start[1]:end], "")
		says := fairness.MatchString(body)
		for _, used := range word.FindAllString(body, -1) {
			says = says || fair[used]
		}
		if says {
			fair[text[start[2]:start[3]]] = true
		}
	}
	return fair
}

// moduleFaults are the constructs in modules, by name to text, that this checker
// gets wrong.
func moduleFaults(modules map[string]string) []string {
	var faults []string
	for name, text := range modules {
		if found := functionSet.FindString(text); found != "" {
			faults = append(faults, fmt.Sprintf("%s: a function over a set of functions: %s", name, found))
		}
		for _, m := range instance.FindAllStringSubmatch(text, -1) {
			fair := fairDefinitions(modules, m[2])
			if m[1] == "" && len(fair) > 0 {
				faults = append(faults, fmt.Sprintf("%s instantiates %s without a name, and that has fairness", name, m[2]))
			}
			for _, used := range regexp.MustCompile(`\b`+m[1]+`!(\w+)`).FindAllStringSubmatch(text, -1) {
				if fair[used[1]] {
					faults = append(faults, fmt.Sprintf("%s asks for %s of %s, which has fairness, through an instance", name, used[1], m[2]))
				}
			}
		}
	}
	return faults
}

func readModules(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("*.tla")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no modules: %v", err)
	}
	modules := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		modules[strings.TrimSuffix(path, ".tla")] = string(text)
	}
	return modules
}

func readSetting(t *testing.T, name string) setting {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("cfg", name+".cfg"))
	if err != nil {
		t.Fatal(err)
	}
	return parseSetting(string(text))
}

func TestManifestAsksOnlyWhatTheCheckerDoesRight(t *testing.T) {
	listed := map[string]bool{}
	for _, m := range readManifests(t) {
		for _, c := range m.Configurations {
			if listed[c.Name] {
				t.Errorf("%s: %s is listed twice", m.Path, c.Name)
			}
			listed[c.Name] = true
			for _, fault := range c.faults(readSetting(t, c.Name)) {
				t.Errorf("%s: %s: %s", m.Path, c.Name, fault)
			}
		}
	}
	paths, err := filepath.Glob("cfg/*.cfg")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if !listed[strings.TrimSuffix(filepath.Base(path), ".cfg")] {
			t.Errorf("%s is in no manifest", path)
		}
	}
	for _, fault := range moduleFaults(readModules(t)) {
		t.Error(fault)
	}
}

// What is shown in small is shown at its full size in the long tier.
func TestShortConfigurationHasItsTwin(t *testing.T) {
	found := 0
	for _, m := range readManifests(t) {
		all := map[string]configuration{}
		for _, c := range m.Configurations {
			all[c.Name] = c
		}
		for name, c := range all {
			twin, ok := all[name+"_short"]
			if !ok {
				continue
			}
			found++
			if c.Tier != kindLong || twin.Tier != kindCI || !slices.Equal(c.Checks, twin.Checks) || twin.Distinct >= c.Distinct {
				t.Errorf("%s: %s_short is not the same in small: tiers %s and %s, checks %v and %v, %d and %d states",
					m.Path, name, c.Tier, twin.Tier, c.Checks, twin.Checks, c.Distinct, twin.Distinct)
			}
		}
	}
	if found < 9 {
		t.Errorf("found %d twins", found)
	}
}

// Each of these is a way to be green and to have checked nothing.
func TestManifestThatCannotFailIsRefused(t *testing.T) {
	sound := configuration{Name: "x", Kind: kindHolds, Tier: kindCI, Workers: 1, Checks: []string{"M1"}, Actions: []string{"A"}}
	lives := sound
	lives.Checks = []string{"Live"}
	mutant := configuration{Name: "x", Kind: kindMutant, Mutant: "NoX", Tier: kindCI, Workers: 1, Exit: exitInvariant, Property: "M1"}
	with := func(c configuration, change func(*configuration)) configuration {
		change(&c)
		return c
	}
	const inv, temporal, left = "INVARIANT M1", "PROPERTY Live", "CONSTANT Left = {\"NoX\"}\n"
	if f := sound.faults(parseSetting(inv)); f != nil {
		t.Fatal(f)
	}
	if f := lives.faults(parseSetting(temporal)); f != nil {
		t.Fatal(f)
	}
	if f := mutant.faults(parseSetting(left + inv)); f != nil {
		t.Fatal(f)
	}
	for name, planted := range map[string]struct {
		c   configuration
		cfg string
	}{
		"liveness with two workers":    {with(lives, func(c *configuration) { c.Workers = 2 }), temporal},
		"liveness with symmetry":       {lives, temporal + "\nSYMMETRY S"},
		"liveness with a view":         {lives, temporal + "\nVIEW V"},
		"liveness with a constraint":   {lives, temporal + "\nCONSTRAINT K"},
		"the invariant's line is gone": {sound, "SPECIFICATION Spec"},
		"one of two lines is gone":     {with(sound, func(c *configuration) { c.Checks = []string{"M1", "M2"} }), inv},
		"no action need happen":        {with(sound, func(c *configuration) { c.Actions = nil }), inv},
		"a failure that holds":         {with(sound, func(c *configuration) { c.Exit = exitInvariant }), inv},
		"any failure will do":          {with(mutant, func(c *configuration) { c.Exit = 1 }), left + inv},
		"another property":             {with(mutant, func(c *configuration) { c.Property = "M2" }), left + inv},
		"two properties":               {mutant, left + inv + " M2"},
		"a mutant that is none":        {mutant, inv},
		"a temporal code":              {with(mutant, func(c *configuration) { c.Exit = exitTemporal }), left + inv},
		"a kind that nobody knows":     {with(sound, func(c *configuration) { c.Kind = "other" }), inv},
	} {
		if planted.c.faults(parseSetting(planted.cfg)) == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for name, modules := range map[string]map[string]string{
		"a function of functions":      {"A": `f == [g \in [S -> T] |-> 1]`},
		"a set of them":                {"A": `f \in [[S -> T] -> U]`},
		"fairness through an instance": {"A": "C == INSTANCE B\nP == C!Fair", "B": "Fair == WF_v(N)"},
		"what uses it":                 {"A": "C == INSTANCE B\nP == C!Spec", "B": "Fair ==\n  WF_v(N)\n\nSpec == I /\\ Fair"},
		"what extends it":              {"A": "C == INSTANCE D\nP == C!Fair", "D": "EXTENDS B", "B": "Fair == WF_v(N)"},
		"an instance without a name":   {"A": "INSTANCE B", "B": "Fair == WF_v(N)"},
	} {
		if moduleFaults(modules) == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	unused := map[string]string{"A": "C == INSTANCE B\nP == C!Spec", "B": "Spec == I\nFair == WF_v(N)"}
	if f := moduleFaults(unused); f != nil {
		t.Error(f)
	}
}
