package tla

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// killMatrix is mutants x properties. A cell says that the mutant was run against
// that property alone and failed with it.
func killMatrix(manifests []manifest, verdicts map[string]verdict) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 1, ' ', 0)
	for _, m := range manifests {
		kills, killing := m.kills(verdicts)
		columns := sortedKeys(killing)
		fmt.Fprintf(w, "%s\t%s\n", filepath.Base(m.Path), strings.Join(columns, "\t"))
		for _, mutant := range sortedKeys(kills) {
			fmt.Fprint(w, mutant)
			for _, property := range columns {
				fmt.Fprint(w, "\t", kills[mutant][property])
			}
			fmt.Fprintln(w)
		}
	}
	_ = w.Flush()
	return text.String()
}

// kills are the cells of the matrix, by mutant and property, and the properties
// that kill.
func (m manifest) kills(verdicts map[string]verdict) (cells map[string]map[string]string, killing map[string]bool) {
	cells, killing = map[string]map[string]string{}, map[string]bool{}
	for _, c := range m.Configurations {
		if c.Kind != kindMutant {
			continue
		}
		killing[c.Property] = true
		if cells[c.Mutant] == nil {
			cells[c.Mutant] = map[string]string{}
		}
		switch v, ran := verdicts[c.Name]; {
		case !ran:
			cells[c.Mutant][c.Property] = "-"
		case v.exit == c.Exit && (c.Exit != exitInvariant || v.property == c.Property):
			cells[c.Mutant][c.Property] = "x"
		default:
			cells[c.Mutant][c.Property] = "SURVIVES"
		}
	}
	return cells, killing
}

// leastMutants is what the specification was asked to have.
const leastMutants = 30

var (
	promise = regexp.MustCompile(`(?m)^\| ([LM][1-8])\b`)
	rule    = regexp.MustCompile(`(?m)^\| ([CW]\d+) \| *(.*?) *\| *(.*?) *\|$`)
	aRule   = regexp.MustCompile(`(?m)^\| ([CW]\d+) \|`)
)

// matrixFaults are the holes of the matrix: a mutant in no row, a property or a
// promise that nothing fails, a rule that nothing leaves out. promises is where
// the contract's names stand in a table, rules where the rules do, and table the
// table of the rules' mutants.
func matrixFaults(manifests []manifest, checked func(name string) []string, promises, rules, table string) []string {
	var faults []string
	mutants, killing := map[string]bool{}, map[string]bool{}
	for _, m := range manifests {
		cells, kills := m.kills(nil)
		for mutant := range cells {
			mutants[mutant] = true
		}
		for _, c := range m.Configurations {
			killing[strings.SplitN(c.Property, "_", 2)[0]] = killing[strings.SplitN(c.Property, "_", 2)[0]] || c.Kind == kindMutant
			if c.Kind != kindHolds {
				continue
			}
			for _, property := range checked(c.Name) {
				if !kills[property] {
					faults = append(faults, fmt.Sprintf("%s: %s, which %s checks, kills no mutant", filepath.Base(m.Path), property, c.Name))
				}
			}
		}
	}
	if len(mutants) < leastMutants {
		faults = append(faults, fmt.Sprintf("%d mutants, of %d at least", len(mutants), leastMutants))
	}
	named := promise.FindAllStringSubmatch(promises, -1)
	if len(named) != 16 {
		faults = append(faults, fmt.Sprintf("found %d promises", len(named)))
	}
	for _, m := range named {
		if !killing[m[1]] {
			faults = append(faults, fmt.Sprintf("promise %s kills no mutant", m[1]))
		}
	}
	return append(faults, ruleFaults(mutants, rules, table)...)
}

// ruleFaults are the rules without a mutant and without a reason, and the mutants
// of the table that do not exist.
func ruleFaults(mutants map[string]bool, rules, table string) []string {
	var faults []string
	rows := map[string][]string{}
	for _, row := range rule.FindAllStringSubmatch(table, -1) {
		rows[row[1]] = row[2:]
	}
	known := map[string]bool{}
	for _, m := range aRule.FindAllStringSubmatch(rules, -1) {
		known[m[1]] = true
	}
	if len(known) != 19 {
		faults = append(faults, fmt.Sprintf("found %d rules", len(known)))
	}
	for _, name := range sortedKeys(known) {
		row, listed := rows[name]
		if !listed {
			faults = append(faults, fmt.Sprintf("rule %s is not in the table", name))
			continue
		}
		left := quoted.FindAllStringSubmatch(row[0], -1)
		if left == nil && row[1] == "" {
			faults = append(faults, fmt.Sprintf("rule %s has no mutant and no reason", name))
		}
		for _, m := range left {
			if !mutants[m[1]] {
				faults = append(faults, fmt.Sprintf("rule %s: no configuration leaves %s out", name, m[1]))
			}
		}
	}
	for _, name := range sortedKeys(rows) {
		if !known[name] {
			faults = append(faults, fmt.Sprintf("the table has %s, which is no rule", name))
		}
	}
	slices.Sort(faults)
	return faults
}

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestKillMatrixHasNoHole(t *testing.T) {
	checked := func(name string) []string { return readSetting(t, name).checked() }
	promises, rules, table := readText(t, "../README.md"), readText(t, "../docs/DESIGN.md"), readText(t, "README.md")
	for _, fault := range matrixFaults(readManifests(t), checked, promises, rules, table) {
		t.Error(fault)
	}
}

// Each hole is found where there is one.
func TestHoleInTheKillMatrixIsFound(t *testing.T) {
	checked := func(name string) []string { return readSetting(t, name).checked() }
	promises, rules, table := readText(t, "../README.md"), readText(t, "../docs/DESIGN.md"), readText(t, "README.md")
	without := func(drop func(configuration) bool) []manifest {
		all := readManifests(t)
		for i := range all {
			all[i].Configurations = slices.DeleteFunc(all[i].Configurations, drop)
		}
		return all
	}
	all := without(func(configuration) bool { return false })
	for name, planted := range map[string]struct {
		manifests       []manifest
		promises, table string
		want            string
	}{
		"too few mutants": {without(func(c configuration) bool { return c.Kind == kindMutant }), promises, table, "0 mutants"},
		"a promise that nothing breaks": {without(func(c configuration) bool { return strings.HasPrefix(c.Property, "M4") }),
			promises, table, "promise M4 kills no mutant"},
		"a property that nothing breaks": {without(func(c configuration) bool { return c.Property == "L8_CloseEnds" }),
			promises, table, "L8_CloseEnds, which"},
		"a rule without its only mutant": {without(func(c configuration) bool { return c.Mutant == "TokenByPath" }),
			promises, table, "rule C4: no configuration leaves TokenByPath out"},
		"a rule that is not listed": {all, promises, strings.Replace(table, "| W7 |", "| - |", 1), "rule W7 is not in the table"},
		"a rule with an empty row":  {all, promises, table + "\n| C10 |  |  |\n", "rule C10 has no mutant and no reason"},
		"a contract that is gone":   {all, "", table, "found 0 promises"},
	} {
		faults := matrixFaults(planted.manifests, checked, planted.promises, rules, planted.table)
		if !slices.ContainsFunc(faults, func(fault string) bool { return strings.Contains(fault, planted.want) }) {
			t.Errorf("%s: %q is not in %q", name, planted.want, faults)
		}
	}
}
