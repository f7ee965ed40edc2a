package main

import (
	"bufio"
	"bytes"
	"fmt"
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

// outputs are what the programs of each role have printed.
type outputs [roles][]byte

// orders are all orders of the roles: none is always the one that runs first.
var orders = [][roles]role{
	{parent, change, again}, {again, parent, change}, {change, again, parent},
	{again, change, parent}, {change, parent, again}, {parent, again, change},
}

// measure runs the programs in rounds: in each, one program of each role. A machine
// that changes while it is measured changes for all of them.
func (w *work) measure(programs []program, r run) (out outputs, err error) {
	begun, done := time.Now(), 0
	for ; done < r.rounds && time.Since(begun) < r.limit; done++ {
		layout := programs[done*int(roles)%len(programs):][:roles]
		for _, role := range orders[done%len(orders)] {
			cmd := w.command(layout[role].path, "-test.run", "^$", "-test.bench", r.rows, "-test.benchtime", "6x")
			text, err := output(cmd)
			if err != nil && role != change && w.ctx.Err() == nil {
				return out, voidError{"the parent's benchmark fails", err}
			} else if err != nil {
				return out, fmt.Errorf("the benchmark fails: %w\n%s", err, text)
			}
			out[role] = append(out[role], text...)
		}
	}
	logf("%d rounds in %d s", done, int(time.Since(begun).Seconds()))
	return out, nil
}

// benchstat compares again and change with the parent, prints a table for people, and
// returns one for judge.
func (w *work) benchstat(version string, out outputs) (csv string, err error) {
	var columns []string
	for r := range roles {
		file := filepath.Join(w.directory, r.String()+".txt")
		if err := os.WriteFile(file, out[r], 0o600); err != nil {
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

// floorSpreads is, for each benchmark, by what factor its floor has moved between the
// runs of programs. One in ten at either end does not count.
func floorSpreads(out outputs) map[string]float64 {
	floors := map[string][]float64{}
	for _, text := range out {
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) < 2 || !strings.HasPrefix(fields[0], "Benchmark") {
				continue
			}
			for i := 3; i < len(fields); i += 2 {
				if floor, err := strconv.ParseFloat(fields[i-1], 64); err == nil && fields[i] == "floor-ns" {
					name := strings.TrimPrefix(fields[0], "Benchmark")
					floors[name] = append(floors[name], floor)
				}
			}
		}
	}
	spreads := map[string]float64{}
	for name, all := range floors {
		slices.Sort(all)
		cut := len(all) / 10
		spreads[name] = all[len(all)-1-cut] / all[cut]
	}
	return spreads
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
