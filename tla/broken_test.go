package tla

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A breakage is a change that somebody could make to the specification without
// noticing, and what the comparison must then say.
type breakage struct {
	name          string
	configuration string
	file          string // of the copy: a module, or the cfg
	old, new      string
	want          []string // parts of what is said, each
}

var breakages = []breakage{
	{"an invariant is checked no more", "channel_client_consumes", "cfg", "  M5\n", "",
		[]string{"it checks [TypeOK M1 M2 M3 M4 M6 M8 L4], pinned [TypeOK M1 M2 M3 M4 M5 M6 M8 L4]"}},
	{"no property is left", "gate_mut_NoGate_M7", "cfg", "  M7\n", "",
		[]string{"it must fail with \"M7\"", "nothing is checked"}},
	{"another property is checked", "gate_mut_NoGate_M7", "cfg", "  M7\n", "  OneWaits\n",
		[]string{"checks [OneWaits]", "property is OneWaits, pinned M7"}},
	{"a constant is smaller", "channel_client_consumes", "cfg", "MaxGen = 2", "MaxGen = 1",
		[]string{"distinct is", "generated is", "action NewGeneration never happened"}},
	{"a guard is weaker, and a property fails", "channel_client_consumes", "Channel.tla",
		"  /\\ Len(kept) + k <= Bound /\\ Len(log) + k <= MaxMsg\n", "  /\\ Len(log) + k <= MaxMsg\n",
		[]string{"exit is 12, pinned 0", "property is M8, pinned none"}},
	{"a guard is weaker, and nothing fails", "channel_client_consumes", "Channel.tla",
		" /\\ alive[\"P\"] /\\ acct # <<>>\n", " /\\ alive[\"P\"]\n",
		[]string{"generated is"}},
	{"an action is gone", "channel_client_produces", "Channel.tla", "  \\/ EndsMerged\n", "",
		[]string{"distinct is", "action EndsMerged never happened"}},
	{"a fairness is gone", "ring_live_held", "Ring.tla", "                     /\\ WF_vars(TimedOut(r))\n", "",
		[]string{"exit is 13, pinned 0"}},
	{"an action has another's name", "ring_live_held", "Ring.tla",
		`SpaceArmed == pc["P"] = "arm" /\ ArmedAt("P", Target("P"))`, "SpaceArming == pc[\"P\"] = \"arm\" /\\ ArmedAt(\"P\", Target(\"P\"))\nSpaceArmed == SpaceArming",
		[]string{"action SpaceArmed never happened", "action SpaceArming happened, and is not pinned"}},
	{"a mutant is none any more", "ring_mut_ReleaseAll_M1", "Ring.tla", "IF Out(\"ReleaseAll\") THEN WritePos ELSE to", "to",
		[]string{"exit is 0, pinned 12", "property is none, pinned M1"}},
}

// configurationNamed is the entry of the manifests.
func configurationNamed(t *testing.T, name string) configuration {
	t.Helper()
	for _, m := range readManifests(t) {
		for _, c := range m.Configurations {
			if c.Name == name {
				return c
			}
		}
	}
	t.Fatalf("no configuration %s", name)
	return configuration{}
}

// copySpec copies what a configuration needs, and returns the directory and the
// cfg within it.
func copySpec(t *testing.T, c configuration) (dir, cfg string) {
	t.Helper()
	dir, cfg = t.TempDir(), c.Name+".cfg"
	files := map[string]string{cfg: readSetting(t, c.Name).text}
	for name, text := range readModules(t) {
		files[name+".tla"] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, cfg
}

// said is everything that the comparison finds: that of the real run, over the copy.
func said(t *testing.T, c configuration, dir, cfg string) []string {
	t.Helper()
	s := parseSetting(readText(t, filepath.Join(dir, cfg)))
	return slices.Concat(c.faults(s), runTLC(t, dir, c.Module, cfg, c.Workers, quickStart).differences(c))
}

// TestSpecBrokenOnPurposeIsNoticed breaks a copy of the specification and shows
// that the comparison with the manifest says so, and for the right reason.
func TestSpecBrokenOnPurposeIsNoticed(t *testing.T) {
	needTLC(t)
	if testing.Short() {
		t.Skip("it runs the checker once for each fault")
	}
	whole := configurationNamed(t, "channel_client_consumes")
	dir, cfg := copySpec(t, whole)
	if all := said(t, whole, dir, cfg); all != nil {
		t.Fatalf("a copy differs as it is: %q", all)
	}
	for _, b := range breakages {
		t.Run(b.name, func(t *testing.T) {
			c := configurationNamed(t, b.configuration)
			dir, cfg := copySpec(t, c)
			path := filepath.Join(dir, cfg)
			if b.file != "cfg" {
				path = filepath.Join(dir, b.file)
			}
			text := readText(t, path)
			if strings.Count(text, b.old) != 1 {
				t.Fatalf("%s: %q stands there %d times: plant the fault anew", b.file, b.old, strings.Count(text, b.old))
			}
			if err := os.WriteFile(path, []byte(strings.Replace(text, b.old, b.new, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
			all := said(t, c, dir, cfg)
			for _, want := range b.want {
				if !slices.ContainsFunc(all, func(one string) bool { return strings.Contains(one, want) }) {
					t.Errorf("%q is not in %q", want, all)
				}
			}
		})
	}
}

var (
	pairStep = regexp.MustCompile(`(?m)^(\w+)(?:\(\w\))? ==((?:.*\n)(?:  .*\n)*)`)
	pairUse  = regexp.MustCompile(`(\w+)(?:\(\w\))?(?: |\n|$)`)
	lifeStep = regexp.MustCompile(`L![A-Z]\w+\(\w\)`)
)

// pairFaults are the actions of Pair that are not one of Lifecycle's with something
// added, and do not leave the outside alone either.
func pairFaults(module string) (faults []string, looked int) {
	_, next, _ := strings.Cut(module, "\nPairNext ==\n")
	next, _, _ = strings.Cut(next, "\n\n")
	body := map[string]string{}
	for _, m := range pairStep.FindAllStringSubmatch(module, -1) {
		body[m[1]] = m[2]
	}
	for _, m := range pairUse.FindAllStringSubmatch(next, -1) {
		text, defined := body[m[1]]
		if !defined {
			continue
		}
		looked++
		if strings.Contains(text, "/\\ Outside") == lifeStep.MatchString(text) {
			faults = append(faults, m[1])
		}
	}
	return faults, looked
}

// In Pair the processes do what Lifecycle lets them, or nothing.
func TestPairAddsNothingToTheLifeCycle(t *testing.T) {
	module := readModules(t)["Pair"]
	faults, looked := pairFaults(module)
	if faults != nil || looked < 60 {
		t.Errorf("of %d actions these are neither Lifecycle's nor the ring's alone: %v", looked, faults)
	}
	for old, planted := range map[string]string{
		"L!HelloSent(c) /\\ Still":                 "Still",
		"Runs(\"P\") /\\ Produces /\\ Outside":     "Runs(\"P\") /\\ Produces",
		"L!GrantSent(k)\n  /\\ \\E b \\in (IF cli": "TRUE\n  /\\ \\E b \\in (IF cli",
	} {
		if strings.Count(module, old) != 1 {
			t.Errorf("%q stands there %d times: plant the fault anew", old, strings.Count(module, old))
		}
		if faults, _ := pairFaults(strings.Replace(module, old, planted, 1)); len(faults) != 1 {
			t.Errorf("%q for %q is not noticed: %v", planted, old, faults)
		}
	}
}
