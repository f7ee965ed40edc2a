package tla

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	quoted    = regexp.MustCompile("`([^`]+)`")
	method    = regexp.MustCompile(`func \(\w+ \*?(\w+)\) (\w+)\(`)
	function  = regexp.MustCompile(`(?m)^func (\w+)\(`)
	variables = regexp.MustCompile(`(?s)\nVARIABLES\n(.*?)\n\n`)
	comment   = regexp.MustCompile(`\\\*.*`)
	word      = regexp.MustCompile(`\w+`)
)

// goNames are the functions and files of ipc: f, T.f, f.go.
func goNames(t *testing.T) map[string]bool {
	t.Helper()
	paths, err := filepath.Glob("../ipc/*.go")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no ipc: %v", err)
	}
	names := map[string]bool{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		names[filepath.Base(path)] = true
		for _, m := range method.FindAllStringSubmatch(string(text), -1) {
			names[m[1]+"."+m[2]] = true
		}
		for _, m := range function.FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
	}
	return names
}

func TestReadmeMapsEveryActionToCodeThatExists(t *testing.T) {
	modules := readModules(t)
	mapsActions(t, "Ring", modules["Ring"], actionsOf(t, modules, "Ring"))
}

func TestReadmeMapsTheLifeCycleToCodeThatExists(t *testing.T) {
	modules := readModules(t)
	mapsActions(t, "Life cycle", modules["Lifecycle"], actionsOf(t, modules, "Lifecycle"))
}

// readSection is the text under a heading of README.md, up to the next one.
func readSection(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n## "+heading)
	if !found {
		t.Fatalf("README.md has no section %s", heading)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	return rest
}

// mapsActions checks the two sections about a module: each of its actions stands
// in the first beside functions that exist, and each of its variables in the second.
func mapsActions(t *testing.T, heading, module string, actions []string) {
	t.Helper()
	rows := readSection(t, heading+": actions and functions")
	for _, action := range actions {
		if !strings.Contains(rows, "`"+action+"`") {
			t.Errorf("README.md does not name action %s", action)
		}
	}
	code := goNames(t)
	for row := range strings.Lines(rows) {
		cells := strings.Split(row, "|")
		if len(cells) != 5 {
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(cells[1], -1) {
			if !strings.Contains(module, "\n"+m[1]) {
				t.Errorf("README.md: the module has no action %s", m[1])
			}
		}
		for _, m := range quoted.FindAllStringSubmatch(cells[2], -1) {
			if !code[m[1]] {
				t.Errorf("README.md: ipc has no %s", m[1])
			}
		}
	}
	declared := variables.FindStringSubmatch(module)
	if declared == nil {
		t.Fatalf("the module of %s has no variables", heading)
	}
	rows = readSection(t, heading+": variables")
	for _, name := range word.FindAllString(comment.ReplaceAllString(declared[1], ""), -1) {
		if !strings.Contains(rows, "`"+name+"`") && !strings.Contains(rows, "`"+name+"[") {
			t.Errorf("README.md does not name variable %s", name)
		}
	}
}

// A step is a name: those of the ring and of the doorbell are actions of Ring.
func TestStepsOfTheRingAreActions(t *testing.T) {
	text, err := os.ReadFile("../internal/step/step.go")
	if err != nil {
		t.Fatal(err)
	}
	_, steps, found := strings.Cut(string(text), "// The ring, producer's side.")
	steps, _, ended := strings.Cut(steps, "// The heartbeat.")
	if !found || !ended {
		t.Fatal("the steps of the ring were not found")
	}
	actions := map[string]bool{}
	for _, action := range actionsOf(t, readModules(t), "Ring") {
		actions[action] = true
	}
	looked := 0
	for line := range strings.Lines(steps) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "//") {
			continue
		}
		looked++
		if !actions[fields[0]] {
			t.Errorf("Ring has no action for step %s", fields[0])
		}
	}
	if looked < 10 {
		t.Errorf("looked at %d steps", looked)
	}
}
