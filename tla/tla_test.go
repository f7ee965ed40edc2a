package tla

import (
	"flag"
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

var (
	long      = flag.Bool("long", false, "run the larger configurations too")
	only      = flag.String("only", "", "run the configurations whose name matches this expression")
	update    = flag.Bool("update", false, "pin what the checker finds, where it ends as it should")
	atOnce    = flag.Int("tlcs", runtime.NumCPU(), "checkers that run at once")
	javaFlags = flag.String("java", "-XX:+UseSerialGC -Xmx1g -Xss16m", "flags for java")

	underRace bool
)

// quickStart is for runs that are over before an optimising compiler pays.
const quickStart = "-XX:TieredStopAtLevel=1"

// TestCheckerFindsWhatIsThere shows that the checker at hand finds a violation of
// each kind, and accepts what is sound.
func TestCheckerFindsWhatIsThere(t *testing.T) {
	needTLC(t)
	for _, self := range []struct {
		module string
		exit   int
	}{
		{"Sound", exitHolds},
		{"WrongAssumption", exitAssumption},
		{"Deadlock", exitDeadlock},
		{"WrongInvariant", exitInvariant},
		{"WrongStep", exitTemporal},
		{"WrongLiveness", exitTemporal},
	} {
		o := runTLC(t, "selftest", self.module, self.module+".cfg", 1, quickStart)
		if o.exit != self.exit {
			t.Errorf("%s: exit %d, want %d\n%s", self.module, o.exit, self.exit, o.text)
		}
	}
}

// A verdict is one row of the table.
type verdict struct {
	configuration
	outcome
	differences []string
}

// With -short it runs one that holds, and of each module the smallest that must fail.
func TestEveryConfiguration(t *testing.T) {
	needTLC(t)
	manifests := readManifests(t)
	few := smallestToFail(manifests)
	var mu sync.Mutex
	verdicts := map[string]verdict{}
	slots := make(chan struct{}, *atOnce)
	t.Run("configurations", func(t *testing.T) {
		for _, m := range manifests {
			for _, c := range m.Configurations {
				if !selected(t, c) || testing.Short() && c.Name != "channel_client_consumes" && few[c.Module].Name != c.Name {
					continue
				}
				t.Run(c.Name, func(t *testing.T) {
					t.Parallel()
					slots <- struct{}{}
					defer func() { <-slots }()
					v := run(t, c)
					mu.Lock()
					defer mu.Unlock()
					verdicts[c.Name] = v
					if *update { // what a run that is interrupted has found is kept
						pin(t, manifests, verdicts)
					}
				})
			}
		}
	})
	t.Log("\n" + table(manifests, verdicts))
	t.Log("\n" + killMatrix(manifests, verdicts))
}

// smallestToFail returns the configuration of each module with the fewest states of those
// that must fail.
func smallestToFail(manifests []manifest) map[string]configuration {
	few := map[string]configuration{}
	for _, m := range manifests {
		for _, c := range m.Configurations {
			if least, found := few[c.Module]; c.Tier == kindCI && c.Kind != kindHolds && (!found || c.Generated < least.Generated) {
				few[c.Module] = c
			}
		}
	}
	return few
}

// selected reports whether the flags ask for the configuration.
func selected(t *testing.T, c configuration) bool {
	t.Helper()
	match, err := regexp.MatchString(*only, c.Name)
	if err != nil {
		t.Fatal(err)
	}
	return match && (c.Tier == kindCI || *long)
}

func run(t *testing.T, c configuration) verdict {
	var flags []string
	if c.Kind != kindHolds {
		flags = append(flags, quickStart)
	}
	o := runTLC(t, ".", c.Module, filepath.Join("cfg", c.Name+".cfg"), c.Workers, flags...)
	v := verdict{c, o, o.differences(c)}
	t.Logf("%d distinct states, %d generated, depth %d, %.1fs, %.1fs of a processor",
		o.distinct, o.generated, o.depth, o.took.Seconds(), o.cpu.Seconds())
	if *update && o.exit == c.Exit && (c.Exit != exitInvariant || o.property == c.Property) {
		return v
	}
	if v.differences != nil {
		t.Errorf("%s\n%s\nagain: go test ./tla -run TestEveryConfiguration -only '^%s$' -long",
			strings.Join(v.differences, "\n"), o.text, c.Name)
	}
	return v
}

func table(manifests []manifest, verdicts map[string]verdict) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "configuration\tkind\tfails with\tdistinct\tgenerated\tdepth\ttime\tprocessor\tverdict")
	distinct, generated := 0, 0
	var cpu time.Duration
	for _, m := range manifests {
		for _, c := range m.Configurations {
			v, ran := verdicts[c.Name]
			if !ran {
				continue
			}
			said := "as pinned"
			if v.differences != nil {
				said = "DIFFERS"
			}
			distinct, generated, cpu = distinct+v.distinct, generated+v.generated, cpu+v.cpu
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%.1fs\t%.1fs\t%s\n",
				c.Name, c.Kind, c.Property, v.distinct, v.generated, v.depth, v.took.Seconds(), v.cpu.Seconds(), said)
		}
	}
	fmt.Fprintf(w, "%d configurations\t\t\t%d\t%d\t\t\t%.1fs\n", len(verdicts), distinct, generated, cpu.Seconds())
	_ = w.Flush()
	return text.String()
}

// pin writes down what was found.
func pin(t *testing.T, manifests []manifest, verdicts map[string]verdict) {
	t.Helper()
	for _, m := range manifests {
		pinned := false
		for i := range m.Configurations {
			c := &m.Configurations[i]
			v, ran := verdicts[c.Name]
			if !ran || v.exit != c.Exit {
				continue
			}
			pinned = true
			c.Distinct, c.Generated, c.Depth = v.distinct, v.generated, v.depth
			if c.Kind == kindHolds {
				c.Actions, c.Checks = v.actions, readSetting(t, c.Name).checked()
			}
		}
		if !pinned {
			continue
		}
		if err := m.write(); err != nil {
			t.Fatal(err)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
