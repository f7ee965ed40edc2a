package tla

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// An outcome is what the checker said.
type outcome struct {
	exit      int
	property  string // that failed; empty for a temporal one, which it does not name
	distinct  int
	generated int
	depth     int
	actions   []string // that happened
	took      time.Duration
	cpu       time.Duration // of the processors: what tells on a machine that others use too
	text      string
}

var (
	violated  = regexp.MustCompile(`Invariant (\S+) is violated`)
	states    = regexp.MustCompile(`(?m)^(\d+) states generated, (\d+) distinct states found`)
	depth     = regexp.MustCompile(`depth of the complete state graph search is (\d+)`)
	traceStep = regexp.MustCompile(`(?m)^State (\d+): `)
	covered   = regexp.MustCompile(`(?m)^<(\w+) line \d+, col \d+ to line \d+, col \d+ of module \w+[^>]*>: (\d+):(\d+)`)
)

// runTLC runs the checker over a module of dir with the cfg at the path. A run
// that does not say what it found is a failure of the test.
func runTLC(t *testing.T, dir, module, cfg string, workers int, flags ...string) outcome {
	t.Helper()
	key := fmt.Sprint(dir, module, cfg, workers, flags)
	if known, ok := verdicts.Load(key); ok {
		return known.(outcome)
	}
	script, err := filepath.Abs("../ci/tlc.sh")
	if err != nil {
		t.Fatal(err)
	}
	// The checker's files go where the test's do, its unpacked standard modules
	// too: another run at the same time would delete them. -lncheck final with one
	// worker is the only way in which it finds liveness violations surely.
	scratch := t.TempDir()
	flags = append(flags, "-Djava.io.tmpdir="+scratch, *javaFlags)
	cmd := exec.CommandContext(t.Context(), script, "-workers", strconv.Itoa(workers), "-lncheck", "final",
		"-checkpoint", "0", "-fp", "1", "-coverage", "60", "-metadir", scratch, "-config", cfg, module)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "JAVA_FLAGS="+strings.Join(flags, " "))
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	start := time.Now()
	err = cmd.Run()
	o := outcome{took: time.Since(start), text: text.String()}
	if state := cmd.ProcessState; state != nil {
		o.cpu = state.UserTime() + state.SystemTime()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		o.exit = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	o.parse()
	verdicts.Store(key, o)
	return o
}

// verdicts keeps what the checker said in this process: it says the same each
// time, and -count asks for the same again.
var verdicts sync.Map

func (o *outcome) parse() {
	if m := violated.FindStringSubmatch(o.text); m != nil {
		o.property = m[1]
	}
	if all := states.FindAllStringSubmatch(o.text, -1); all != nil {
		o.generated, _ = strconv.Atoi(all[len(all)-1][1])
		o.distinct, _ = strconv.Atoi(all[len(all)-1][2])
	}
	if m := depth.FindStringSubmatch(o.text); m != nil {
		o.depth, _ = strconv.Atoi(m[1])
	} else if all := traceStep.FindAllStringSubmatch(o.text, -1); all != nil {
		o.depth, _ = strconv.Atoi(all[len(all)-1][1])
	}
	for _, m := range covered.FindAllStringSubmatch(o.text, -1) {
		if m[3] != "0" {
			o.actions = append(o.actions, m[1])
		}
	}
	slices.Sort(o.actions)
	o.actions = slices.Compact(o.actions)
}

// differences are how the outcome is not what was pinned.
func (o outcome) differences(c configuration) []string {
	var all []string
	differ := func(what string, got, want any) {
		if got != want {
			all = append(all, fmt.Sprintf("%s is %v, pinned %v", what, got, want))
		}
	}
	differ("exit", o.exit, c.Exit)
	if c.Exit == exitInvariant || o.property != "" {
		differ("property", cmp.Or(o.property, "none"), cmp.Or(c.Property, "none"))
	}
	differ("distinct", o.distinct, c.Distinct)
	differ("generated", o.generated, c.Generated)
	if c.Exit != exitTemporal { // which of the loops it shows is chance
		differ("depth", o.depth, c.Depth)
	}
	for _, action := range c.Actions {
		if !slices.Contains(o.actions, action) {
			all = append(all, "action "+action+" never happened")
		}
	}
	for _, action := range o.actions {
		if c.Kind == kindHolds && !slices.Contains(c.Actions, action) {
			all = append(all, "action "+action+" happened, and is not pinned")
		}
	}
	return all
}

// needTLC skips the test where there is no checker, but never where everything
// must be checked.
func needTLC(t *testing.T) {
	t.Helper()
	if underRace {
		t.Skip("the checker is another process: nothing here is for the race detector")
	}
	var why string
	if runtime.GOOS == "windows" {
		why = "ci/tlc.sh needs a shell"
	}
	cmd := exec.Command("../ci/tlc.sh", "-h")
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && (exit.ExitCode() == 77 || exit.ExitCode() == 78):
		why = strings.TrimSpace(string(text))
	case err != nil && !errors.As(err, &exit):
		why = err.Error()
	}
	if why == "" {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}
