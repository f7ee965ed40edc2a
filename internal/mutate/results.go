//go:build linux

package main

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
)

// A result is what became of a mutant. It is a line of the file of results.
type result struct {
	Key      string  `json:"key"`
	File     string  `json:"file"`
	Line     int     `json:"line"`
	Function string  `json:"function"`
	Mutation string  `json:"mutation"`
	Outcome  string  `json:"outcome"` // "not compiled", "same code", "twice", "found", "survived", "unclear"
	By       string  `json:"by,omitempty"`
	Seconds  float64 `json:"seconds,omitempty"`
	Sources  string  `json:"sources"` // the fingerprint of package and tests
}

// results are known, and written as they come. What was found stays found as long as the
// function is the same; what survived, only as long as the tests are.
type results struct {
	mu    sync.Mutex
	file  *os.File
	known map[string]result
}

func openResults(name, fingerprint string) (*results, error) {
	r := &results{known: map[string]result{}}
	text, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		var one result
		if json.Unmarshal([]byte(line), &one) != nil {
			continue // a run that was killed has written half of it
		}
		delete(r.known, one.Key)
		if one.Outcome != "survived" && one.Outcome != "unclear" || one.Sources == fingerprint {
			r.known[one.Key] = one
		}
	}
	r.file, err = os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil && len(text) > 0 && !strings.HasSuffix(string(text), "\n") {
		_, err = r.file.WriteString("\n")
	}
	return r, err
}

func (r *results) add(one result) error {
	text, err := json.Marshal(one)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[one.Key] = one
	_, err = r.file.Write(append(text, '\n'))
	return err
}

// get returns what is known of a mutant.
func (r *results) get(m *mutant) (one result, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	one, known = r.known[m.key()]
	return one, known
}

//go:embed equivalents.txt
var equivalentsText string

// equivalents are mutants that do what the code does, as people have judged: the reason,
// by the file, the function and the mutation. A reason is the indented line behind.
func equivalents(text string) (reasons map[string]string, err error) {
	reasons = map[string]string{}
	name := ""
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		switch {
		case line == "" || line[0] == '#':
		case line[0] != '\t' && name == "":
			name = line
		case line[0] == '\t' && name != "" && len(strings.Fields(line)) > 2:
			reasons[name], name = strings.TrimSpace(line), ""
		default:
			return nil, fmt.Errorf("a mutant and its reason take turns, but there is %q", line)
		}
	}
	if name != "" {
		return nil, fmt.Errorf("%s has no reason", name)
	}
	return reasons, nil
}

// fullName is the name of a mutant in the list of equivalents.
func (m *mutant) fullName() string { return m.of.file.name + " " + m.of.key + ": " + m.name() }

// report tells what became of mutants, and returns how many no test has found that are not
// known to be equivalent.
func (t *target) report(out io.Writer, mutants []*mutant, known *results, equivalent map[string]string, seconds float64) (survivors int) {
	counts := map[string]int{}
	work := 0.0
	for _, m := range mutants {
		one, ok := known.get(m)
		if !ok {
			one.Outcome = "not run"
		}
		work += one.Seconds
		if why := equivalent[m.fullName()]; one.Outcome == "survived" && why != "" {
			one.Outcome = "equivalent"
		}
		counts[one.Outcome]++
		if one.Outcome == "survived" || one.Outcome == "unclear" {
			survivors++
			fmt.Fprintf(out, "%s: %s:%d: %s: %s %s\n%s", one.Outcome, m.of.file.name, t.line(m.of.file, m.edits[0].from), m.of.key, m.name(), one.By, m.diff(t))
		}
	}
	fmt.Fprintf(out, "%d mutants:", len(mutants))
	for _, outcome := range []string{"not compiled", "same code", "twice", "equivalent", "found", "survived", "unclear", "not run"} {
		if counts[outcome] > 0 {
			fmt.Fprintf(out, " %d %s,", counts[outcome], outcome)
		}
	}
	if judged := counts["found"] + counts["survived"]; judged > 0 {
		fmt.Fprintf(out, " %.1f %% found,", 100*float64(counts["found"])/float64(judged))
	}
	fmt.Fprintf(out, " %.0f s of tests, %.0f s in all\n", work, seconds)
	return survivors
}

// strangers are entries of the list that are no mutant any more.
func strangers(equivalent map[string]string, mutants []*mutant) (names []string) {
	for _, m := range mutants {
		delete(equivalent, m.fullName())
	}
	for name := range equivalent {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
