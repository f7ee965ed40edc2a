package ci

import (
	"fmt"
	"go/ast"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const failures = "docs/FAILURES.md"

// failuresHaveTests holds that each row of the tables of failures names a test that
// is there.
func failuresHaveTests(files tree) (broken []string, looked int) {
	document, found := files[failures]
	if !found {
		return []string{failures + " is missing: it says what can go wrong, what one then sees, and which test shows it"}, 0
	}
	tests, broken := testNames(files)
	var head []string // of the table that a line belongs to
	for i, line := range linesOf(document.Data) {
		where := fmt.Sprintf("%s:%d", failures, i+1)
		cells := cellsOf(line)
		switch {
		case cells == nil:
			head = nil
			continue
		case head == nil:
			if head = cells; cells[len(cells)-1] != "test" {
				broken = append(broken, where+": the last column of each table is the test")
			}
			continue
		case strings.HasPrefix(cells[0], "--"):
			continue
		}
		looked++
		if len(cells) != len(head) {
			broken = append(broken, fmt.Sprintf("%s: %q has %d cells, its table %d", where, cells[0], len(cells), len(head)))
			continue
		}
		named := testInTable.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(named) == 0 {
			broken = append(broken, fmt.Sprintf("%s: %q names no test", where, cells[0]))
		}
		for _, name := range named {
			if !tests[name[1]] {
				broken = append(broken, fmt.Sprintf("%s: %q: there is no %s", where, cells[0], name[1]))
			}
		}
	}
	return broken, looked
}

// cellsOf divides a line of a table; nil for every other line.
func cellsOf(line string) []string {
	line = strings.TrimSpace(line)
	if len(line) < 2 || line[0] != '|' || line[len(line)-1] != '|' {
		return nil
	}
	cells := strings.Split(line[1:len(line)-1], "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

// testNames are the names of all tests and fuzz targets of a tree.
func testNames(files tree) (names map[string]bool, broken []string) {
	names = map[string]bool{}
	parsed, broken := goFiles(files, isTest)
	for _, file := range parsed {
		for _, declaration := range file.syntax.Decls {
			if function, ok := declaration.(*ast.FuncDecl); ok && function.Recv == nil {
				names[function.Name.Name] = true
			}
		}
	}
	return names, broken
}

// outcome matches the name of an error, of an event, or of the reason for
// a worker's end, with the package before it if it has one.
var outcome = regexp.MustCompile(`(?:\b(\w+)\.)?\b((?:Err|Event|Reason)[A-Z]\w*|[A-Z]\w*Error)\b`)

// outcomesAreInTheFailures holds that the tables of failures have each error, event
// and reason that the packages under ipc export, and no other.
func outcomesAreInTheFailures(files tree) (broken []string, looked int) {
	document, found := files[failures]
	if !found {
		return []string{failures + " is missing"}, 0
	}
	exported, broken := outcomesOf(files)
	named := map[string]bool{}
	for i, line := range linesOf(document.Data) {
		for _, match := range outcome.FindAllStringSubmatch(line, -1) {
			of, name := match[1], match[2]
			if strings.HasPrefix(name, "Test") || !slices.Contains([]string{"", "ipc", "worker", "conn"}, of) {
				continue
			}
			named[name] = true
			looked++
			if exported[name] == "" {
				broken = append(broken, fmt.Sprintf("%s:%d: nothing under ipc exports %s", failures, i+1, name))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(exported)) {
		if !named[name] {
			broken = append(broken, fmt.Sprintf("%s exports %s, and no row of %s says when it comes", exported[name], name, failures))
		}
	}
	return broken, looked
}

// outcomesOf are the exported errors, events and reasons under ipc, each with its file.
func outcomesOf(files tree) (exported map[string]string, broken []string) {
	exported = map[string]string{}
	parsed, broken := goFiles(files, inIPC)
	for _, file := range parsed {
		for _, name := range exportedErrors(file.syntax) {
			exported[name.Name] = file.path
		}
		for _, declaration := range file.syntax.Decls {
			general, ok := declaration.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				constants, ok := spec.(*ast.ValueSpec)
				if !ok {
					continue
				}
				for _, name := range constants.Names {
					if strings.HasPrefix(name.Name, "Event") || strings.HasPrefix(name.Name, "Reason") {
						exported[name.Name] = file.path
					}
				}
			}
		}
	}
	return exported, broken
}

func TestEachFailureHasATest(t *testing.T) {
	const head = "| what happens | you see | test |\n|---|---|---|\n"
	enforce(t, failuresHaveTests,
		plant{"a row without a test", failures, head + "| it dies | `ErrFull` | by reading |\n", "names no test"},
		plant{"a test that is not there", failures, head + "| it dies | `ErrFull` | `TestDeath` |\n", "no TestDeath"},
		plant{"a row of another form", failures, head + "| it dies | `TestLaw` |\n", "has 2 cells, its table 3"},
		plant{"a second table without tests", failures, head + "| it dies | `ErrFull` | `TestLaw` |\n\n| what | why |\n|---|---|\n", "the last column"},
		plant{"no document", failures, "", "missing"},
	)
}

func TestEachFailureIsNamedAsItIsExported(t *testing.T) {
	const row = "| it dies | `ErrFull`, `*CorruptError` | `TestLaw` |\n"
	enforce(t, outcomesAreInTheFailures,
		plant{"an error that no row has", "ipc/more.go", "package ipc\n\nvar ErrOther = errors.New(\"other\")\n", "exports ErrOther"},
		plant{"a reason that no row has", "ipc/sub/more.go", "package sub\n\nconst ReasonOther = 1\n", "exports ReasonOther"},
		plant{"an event that no row has", "ipc/more.go", "package ipc\n\nconst (\n\tEventOther = iota\n)\n", "exports EventOther"},
		plant{"an error that is gone", failures, row + "`ErrGone`\n", "nothing under ipc exports ErrGone"},
		plant{"an event that is gone", failures, row + "`ipc.EventGone`\n", "nothing under ipc exports EventGone"},
		plant{"no document", failures, "", "missing"},
	)
}
