//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// plantToy writes the toy to a directory.
func plantToy(t *testing.T) (directory string) {
	t.Helper()
	t.Setenv("GOWORK", "off")
	t.Setenv("GOFLAGS", "-buildvcs=false")
	directory = t.TempDir()
	for name, text := range toy {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return directory
}

// editToy replaces a text of the toy.
func editToy(t *testing.T, directory, name, old, replacement string) {
	t.Helper()
	path := filepath.Join(directory, name)
	text, err := os.ReadFile(path)
	if err == nil && !bytes.Contains(text, []byte(old)) {
		t.Fatalf("%s has no %q", name, old)
	}
	if err == nil {
		err = os.WriteFile(path, bytes.ReplaceAll(text, []byte(old), []byte(replacement)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// outcomes are what the results say, and how many there are.
func outcomes(t *testing.T, state string) (all map[string]string, count int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(state, "results.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	all = map[string]string{}
	for line := range strings.Lines(string(text)) {
		var one result
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatal(err)
		}
		all[one.File+" "+one.Function+": "+one.Mutation] = one.Outcome
		if one.Outcome == "found" {
			all[one.File+" "+one.Function+": "+one.Mutation] += " by " + one.By
		}
		count++
	}
	return all, count
}

func TestMutantsOfAToyAreFoundOrSurvive(t *testing.T) {
	if testing.Short() {
		t.Skip("some mutants do not end, and are waited for")
	}
	directory, state := plantToy(t), t.TempDir()
	o := options{directory: directory, state: state, parallel: 2, share: 1000, limits: limits{time.Second, time.Second / 2},
		equivalents: "toy.go Larger: > -> >=: a > b\n\tThe larger of two equal ones is either.\n"}
	var said bytes.Buffer
	play := func() (survivors, count int) {
		t.Helper()
		said.Reset()
		survivors, err := o.run(t.Context(), &said)
		if err != nil {
			t.Fatalf("%v\n%s", err, said.String())
		}
		_, count = outcomes(t, state)
		return survivors, count
	}
	first, count := play()
	got, _ := outcomes(t, state)
	for name, want := range toyOutcomes {
		outcome, there := got[name]
		if there != (want != "") || outcome != want {
			t.Errorf("%s: %q, want %q", name, outcome, want)
		}
	}
	for _, want := range []string{"1 equivalent", "First (generic)", "TestThatFailsAnyway fails", "    -() int { return 3 }\n    +() int { return 4 }\n"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the report does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(said.String())
		for name, outcome := range got {
			t.Logf("%s: %s", name, outcome)
		}
	}

	if second, after := play(); second != first || after != count {
		t.Errorf("a second run judges %d mutants again, and %d survive, want %d", after-count, second, first)
	}
	editToy(t, directory, "toy.go", "return 3", "return 30")
	if _, after := play(); after <= count || after > count+20 {
		t.Errorf("after the change of a function %d mutants are judged", after-count)
	}
	editToy(t, directory, "toy_test.go", "t.Error(Unasked())", "if Unasked() != 30 { t.Error(3) }")
	before, _ := outcomes(t, state)
	if last, _ := play(); last >= first {
		t.Errorf("with one more test %d survive, of %d before", last, first)
	}
	after, _ := outcomes(t, state)
	name := "toy.go Unasked: 30 -> 31"
	if before[name] != "survived" || after[name] != "found by TestThatFailsAnyway" {
		t.Errorf("%s: %q, and with a test %q", name, before[name], after[name])
	}
}

// A draw is the same for the same seed.
func TestASampleIsDrawnAgainFromItsSeed(t *testing.T) {
	directory := plantToy(t)
	draw := func(seed uint64) (names []string) {
		var said bytes.Buffer
		o := options{directory: directory, list: true, sample: 5, seed: seed}
		if _, err := o.run(t.Context(), &said); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(said.String()) {
			if strings.HasPrefix(line, "toy.go ") {
				names = append(names, line)
			}
		}
		return names
	}
	one, again, other := draw(1), draw(1), draw(2)
	if len(one) != 5 || !slices.Equal(one, again) || slices.Equal(one, other) {
		t.Errorf("draws %q, %q and with another seed %q", one, again, other)
	}
}

// What the list of equivalents names is there, and has a reason.
func TestEachEquivalentIsAMutantOfIPC(t *testing.T) {
	listed, err := equivalents(equivalentsText)
	if err != nil {
		t.Fatal(err)
	}
	ipc, err := load("../../ipc")
	if err != nil {
		t.Fatal(err)
	}
	mutants := ipc.mutants(&bytes.Buffer{})
	if len(mutants) < 1000 {
		t.Errorf("ipc has only %d mutants", len(mutants))
	}
	names := map[string]bool{}
	for _, m := range mutants {
		if names[m.fullName()] {
			t.Errorf("two mutants are called %s", m.fullName())
		}
		names[m.fullName()] = true
	}
	for _, name := range strangers(listed, mutants) {
		t.Errorf("no mutant is called %s", name)
	}
	if got := strangers(map[string]string{"ring.go f: no mutant": "why"}, mutants); len(got) != 1 {
		t.Errorf("of one stranger %q is told", got)
	}
}

func TestAnEquivalentNeedsAReason(t *testing.T) {
	for _, text := range []string{"a.go f: x\n", "a.go f: x\n\tno reason\n", "\tonly a reason there\n", "a.go f: x\nb.go f: y\n\tone reason for two\n"} {
		if got, err := equivalents(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}
