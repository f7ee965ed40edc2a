package main

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A run says what is measured, and for how long at most.
type run struct {
	rounds int
	limit  time.Duration
	rows   string // a pattern, as go test -bench has it
}

const everyRow = "^BenchmarkGuard$"

// A round is what the program of each role has printed: a line for each benchmark.
type round [roles]map[string]string

// orders are all orders of the roles: none is always the one that runs first.
var orders = [][roles]role{
	{parent, change, again}, {again, parent, change}, {change, again, parent},
	{again, change, parent}, {change, parent, again}, {parent, again, change},
}

// measure runs the programs in rounds: in each, one program of each role. A machine
// that changes while it is measured changes for all of them.
func (w *work) measure(programs []program, r run) (rounds []round, err error) {
	begun := time.Now()
	for len(rounds) < r.rounds && time.Since(begun) < r.limit {
		var now round
		layout := programs[len(rounds)*int(roles)%len(programs):][:roles]
		for _, role := range orders[len(rounds)%len(orders)] {
			cmd := w.command(layout[role].path, "-test.run", "^$", "-test.bench", r.rows, "-test.benchtime", "5x")
			text, err := output(cmd)
			if err != nil && role != change && w.ctx.Err() == nil {
				return nil, voidError{"the parent's benchmark fails", err}
			} else if err != nil {
				return nil, fmt.Errorf("the benchmark fails: %w\n%s", err, text)
			}
			now[role] = map[string]string{}
			for line := range strings.Lines(text) {
				if name, _, found := strings.Cut(line, " "); found && strings.HasPrefix(name, "Benchmark") {
					now[role][strings.TrimSpace(strings.TrimPrefix(name, "Benchmark"))] = line
				}
			}
		}
		rounds = append(rounds, now)
	}
	logf("%d rounds in %d s", len(rounds), int(time.Since(begun).Seconds()))
	return rounds, nil
}

// alike is how much the cost of a cache line may differ in one state of the machine, as
// a factor.
const alike = 1.5

// steady keeps, for each benchmark, the rounds in which the machine was in one state: the
// one that it was in most often. The processors of a virtual machine move, and what was
// measured before and after cannot be compared. It also returns how many rounds there were.
func steady(rounds []round) (kept [roles]string, total map[string]int) {
	states := map[string][][]float64{} // of each round that has the benchmark
	lines := map[string][][roles]string{}
	for _, r := range rounds {
		names := map[string]bool{}
		for _, printed := range r {
			for name := range printed {
				names[name] = true
			}
		}
		for name := range names {
			var all []float64
			var texts [roles]string
			for role, printed := range r {
				if text, found := printed[name]; found {
					texts[role] = text
					all = append(all, figure(text, "line-ns"))
				}
			}
			states[name] = append(states[name], all)
			lines[name] = append(lines[name], texts)
		}
	}
	total = map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(states)) {
		total[name] = len(states[name])
		for _, i := range mostAlike(states[name]) {
			for role, text := range lines[name][i] {
				kept[role] += text
			}
		}
	}
	return kept, total
}

// mostAlike returns as many as possible whose figures are all alike.
func mostAlike(states [][]float64) (most []int) {
	for _, low := range slices.Concat(states...) {
		var these []int
		for i, s := range states {
			if slices.Min(s) >= low && slices.Max(s) <= low*alike {
				these = append(these, i)
			}
		}
		if len(these) > len(most) {
			most = these
		}
	}
	return most
}

// figure is what a line of a benchmark says in a unit.
func figure(line, unit string) float64 {
	fields := strings.Fields(line)
	if i := slices.Index(fields, unit); i > 0 {
		if n, err := strconv.ParseFloat(fields[i-1], 64); err == nil {
			return n
		}
	}
	return math.NaN()
}

// benchstat compares again and change with the parent, prints a table for people, and
// returns one for judge.
func (w *work) benchstat(version string, printed [roles]string) (csv string, err error) {
	var columns []string
	for r := range roles {
		file := filepath.Join(w.directory, r.String()+".txt")
		if err := os.WriteFile(file, []byte(printed[r]), 0o600); err != nil {
			return "", err
		}
		columns = append(columns, r.String()+"="+file)
	}
	compare := func(format string) (string, error) {
		// It may want a newer Go than the module does.
		cmd := w.command("go", append([]string{"run", version, "-filter", ".unit:x-floor", "-format", format}, columns...)...)
		cmd.Env = append(cmd.Env, "GOTOOLCHAIN=auto")
		cmd.Dir = w.directory
		return output(cmd)
	}
	people, err := compare("text")
	if err != nil {
		return "", err
	}
	logf("%s", people)
	return compare("csv")
}

var processors = regexp.MustCompile(`-\d+$`)

// pattern chooses rows by their names, as go test -bench does.
func pattern(names []string) string {
	var patterns []string
	for _, name := range names {
		var levels []string
		for level := range strings.SplitSeq("Benchmark"+processors.ReplaceAllString(name, ""), "/") {
			levels = append(levels, "^"+regexp.QuoteMeta(level)+"$")
		}
		patterns = append(patterns, strings.Join(levels, "/"))
	}
	return strings.Join(patterns, "|")
}
