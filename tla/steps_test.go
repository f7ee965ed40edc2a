package tla

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// The steps of docs/PROTOCOL.md and the actions of the spec are one list: a step
// names actions that exist, and an action has a step, or a reason in README.md.

// tableRows are the rows of the table with this head, cells trimmed, from any text.
func tableRows(text, head string) (rows [][]string) {
	_, rest, _ := strings.Cut(text, "\n"+head)
	for i, line := range slices.Collect(strings.Lines(rest)) {
		if i < 2 { // the rest of the head, and the rule below it
			continue
		}
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

// names are what stands quoted in one column.
func names(rows [][]string, column int) (all []string) {
	for _, row := range rows {
		for _, m := range quoted.FindAllStringSubmatch(row[column], -1) {
			all = append(all, m[1])
		}
	}
	return all
}

// A stepList is what compareSteps compares.
type stepList struct {
	named            []string            // Module!Action, in the step table
	actions          map[string][]string // by module
	noStep, noAction []string            // the exceptions
}

// differences lists what does not fit, in both directions.
func (l stepList) differences() (all []string) {
	ofLifecycle := map[string]bool{}
	for _, name := range l.named {
		module, action, _ := strings.Cut(name, "!")
		switch {
		case slices.Contains(l.actions[module], action):
			if module == "Lifecycle" {
				ofLifecycle[action] = true
			}
		case !slices.Contains(l.noAction, action):
			all = append(all, fmt.Sprintf("PROTOCOL.md names %s, which is no action", name))
		}
	}
	for _, action := range l.actions["Lifecycle"] {
		switch excepted := slices.Contains(l.noStep, action); {
		case !ofLifecycle[action] && !excepted:
			all = append(all, fmt.Sprintf("Lifecycle!%s has no step, and README.md does not say why", action))
		case ofLifecycle[action] && excepted:
			all = append(all, fmt.Sprintf("README.md says why Lifecycle!%s has no step, and it has one", action))
		}
	}
	for _, action := range l.noStep {
		if !slices.Contains(l.actions["Lifecycle"], action) {
			all = append(all, fmt.Sprintf("README.md says why %s has no step, and there is no such action", action))
		}
	}
	for _, step := range l.noAction {
		if !slices.Contains(l.named, "Lifecycle!"+step) || slices.Contains(l.actions["Lifecycle"], step) {
			all = append(all, fmt.Sprintf("README.md says why %s is no action, and it is no step or an action", step))
		}
	}
	return all
}

func readSteps(t *testing.T) stepList {
	t.Helper()
	protocol, err := os.ReadFile("../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	modules := readModules(t)
	exceptions := readSection(t, "Life cycle: actions and functions")
	l := stepList{
		named: names(tableRows(string(protocol), "| step | who | store | TLA+ action |"), 3),
		actions: map[string][]string{
			"Ring":      actionsOf(t, modules, "Ring"),
			"Lifecycle": actionsOf(t, modules, "Lifecycle"),
		},
		noStep:   names(tableRows(exceptions, "| action without a step |"), 0),
		noAction: names(tableRows(exceptions, "| step without an action |"), 0),
	}
	if len(l.named) < 50 || len(l.noStep) == 0 || len(l.noAction) == 0 {
		t.Fatalf("the tables were not found: %d actions named, %d without a step, %d steps without an action", len(l.named), len(l.noStep), len(l.noAction))
	}
	return l
}

func TestStepsAreActionsAndActionsAreSteps(t *testing.T) {
	l := readSteps(t)
	for _, d := range l.differences() {
		t.Error(d)
	}
	t.Logf("%d actions named by steps; %d actions of the life cycle, of which %d are no step; %d steps are no action",
		len(l.named), len(l.actions["Lifecycle"]), len(l.noStep), len(l.noAction))
}

func TestStepComparisonIsNotBlind(t *testing.T) {
	for what, plant := range map[string]func(*stepList){
		"PROTOCOL.md names Lifecycle!Planted":                   func(l *stepList) { l.named = append(l.named, "Lifecycle!Planted") },
		"PROTOCOL.md names Ring!TokenTaken":                     func(l *stepList) { l.named = append(l.named, "Ring!TokenTaken") },
		"Lifecycle!TokenTaken has no step":                      func(l *stepList) { l.named = without(l.named, "Lifecycle!TokenTaken") },
		"Lifecycle!KillServer has no step":                      func(l *stepList) { l.noStep = without(l.noStep, "KillServer") },
		"why Lifecycle!TokenTaken has no step, and it has one":  func(l *stepList) { l.noStep = append(l.noStep, "TokenTaken") },
		"why Planted has no step, and there is no such action":  func(l *stepList) { l.noStep = append(l.noStep, "Planted") },
		"why TokenTaken is no action, and it is no step or an ": func(l *stepList) { l.noAction = append(l.noAction, "TokenTaken") },
	} {
		l := readSteps(t)
		plant(&l)
		if d := l.differences(); len(d) != 1 || !strings.Contains(d[0], what) {
			t.Errorf("found %q; want one with %q", d, what)
		}
	}
}

func without(all []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(other string) bool { return other == name })
}
