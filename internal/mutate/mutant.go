//go:build linux

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// A mutant is a function with something wrong in it.
type mutant struct {
	of     *function
	edits  []edit
	what   string // is wrong; with nth, unique in the function
	nth    int
	place  int // the number of the statement
	number int // in its build, from 1
}

// name is how the list of equivalents calls it, after its file and function.
func (m *mutant) name() string {
	if m.nth == 0 {
		return m.what
	}
	return fmt.Sprintf("%s #%d", m.what, m.nth+1)
}

// key is the same as long as the function is.
func (m *mutant) key() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{m.of.file.name, m.of.key, m.of.text, m.name()}, "\x00")))
	return hex.EncodeToString(sum[:12])
}

// body is the text of the function behind its name.
func (m *mutant) body(t *target) string {
	from, to := t.offset(m.of.decl.Name.End()), t.offset(m.of.decl.End())
	return apply(m.of.file.text, from, to, m.edits)
}

// apply returns a part of a text with edits in it.
func apply(text string, from, to int, edits []edit) string {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b edit) int { return a.from - b.from })
	var out strings.Builder
	for _, e := range edits {
		out.WriteString(text[from:e.from])
		out.WriteString(e.text)
		from = e.to
	}
	out.WriteString(text[from:to])
	return out.String()
}

// diff is what the mutant changes, line by line.
func (m *mutant) diff(t *target) string {
	before := strings.Split(m.of.text[strings.Index(m.of.text, m.of.decl.Name.Name)+len(m.of.decl.Name.Name):], "\n")
	after := strings.Split(m.body(t), "\n")
	for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && before[len(before)-1] == after[len(after)-1] {
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	var out strings.Builder
	for _, line := range before {
		fmt.Fprintf(&out, "    -%s\n", line)
	}
	for _, line := range after {
		fmt.Fprintf(&out, "    +%s\n", line)
	}
	return out.String()
}
