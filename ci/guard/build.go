package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
)

// benchmarkFiles are the files of ipc's tests that BenchmarkGuard needs, and no others:
// the fewer they are, the more often they build with another commit's code.
var benchmarkFiles = []string{
	"bench_guard_test.go", "bench_stage_test.go", "bench_floor_test.go", "bench_apart_test.go",
	"process_test.go", "emulated_test.go",
}

// A source is code to measure.
type source struct {
	tree    string
	planted map[string]string // files that stand for others, as go build -overlay has them
}

// A role is why a program is measured. Its value is its column.
type role int

const (
	parent role = iota
	again       // the parent once more: what differs is noise
	change
	roles
)

func (r role) String() string { return [...]string{"parent", "again", "change"}[r] }

// A program is a benchmark with the code of one commit, in one layout.
type program struct {
	role role
	path string
}

// layouts is in how many orders of its functions each role is linked.
const layouts = 3

// buildAll builds both commits with the same benchmark: ours if that is possible, else
// the parent's. Programs of one layout follow each other in the order of their roles.
func (w *work) buildAll(before, after source) ([]program, error) {
	ours, err := w.buildWith(after.tree, before, after)
	if err == nil || w.ctx.Err() != nil {
		return ours, err
	}
	if _, alone := w.build(after.tree, after, 0, "alone"); alone != nil {
		return nil, fmt.Errorf("the benchmark does not build with its own code: %w", alone)
	}
	logf("our benchmark does not build with the parent's code; the parent's benchmark is taken\n%v", err)
	theirs, err := w.buildWith(before.tree, before, after)
	if err != nil && w.ctx.Err() == nil {
		return nil, voidError{"neither commit's benchmark builds with the code of both", err}
	}
	return theirs, err
}

func (w *work) buildWith(benchmark string, before, after source) (programs []program, err error) {
	for layout := range layouts {
		for r := parent; r < roles; r++ {
			from := before
			if r == change {
				from = after
			}
			// Each copy has layouts of its own, so that noise is also what they make.
			path, err := w.build(benchmark, from, 1+layout*int(roles)+int(r), fmt.Sprintf("%s%d", r, layout))
			if err != nil {
				return nil, err
			}
			programs = append(programs, program{r, path})
		}
	}
	return programs, nil
}

// build builds the benchmark of one tree with the code of another.
func (w *work) build(benchmark string, code source, layout int, name string) (string, error) {
	replace := maps.Clone(code.planted)
	if replace == nil {
		replace = map[string]string{}
	}
	own, err := filepath.Glob(filepath.Join(code.tree, "ipc", "*_test.go"))
	if err != nil {
		return "", err
	}
	for _, file := range own {
		replace[file] = "" // as if it were not there
	}
	for _, file := range benchmarkFiles {
		replace[filepath.Join(code.tree, "ipc", file)] = filepath.Join(benchmark, "ipc", file)
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(w.directory, name)
	if err := os.WriteFile(path+".json", text, 0o600); err != nil {
		return "", err
	}
	cmd := w.command("go", "test", "-c", "-vet=off", "-trimpath", "-overlay", path+".json",
		fmt.Sprintf("-ldflags=-randlayout=%d", layout), "-o", path, "./ipc")
	cmd.Dir = code.tree
	_, err = output(cmd)
	return path, err
}
