package ci

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Where the promises of a worker are defined, judged and broken, and the page that joins these.
const (
	workerPromises = "ipc/worker/doc.go"
	workerCampaign = "ipc/worker/campaign_test.go"
	workerBugs     = "ipc/worker/planted_test.go"
	promisesHead   = "| promise | its part | checked by | planted |"
	promiseTable   = "docs/TESTING.md"
)

var (
	promiseInComment = regexp.MustCompile(`(?m)^//   - (\w+): `)
	bugInTable       = regexp.MustCompile(`\*([^*]+)\*`)
)

// promisesOfWorkersAreTested holds that each promise of the package comment has a row in
// the table of docs/TESTING.md and a judge in the campaign; that each row names its tests and
// its planted bugs, and a test of the row is to find each of them; and that each planted bug has a row.
func promisesOfWorkersAreTested(files tree) (broken []string, looked int) {
	for _, path := range []string{workerPromises, workerCampaign, workerBugs, promiseTable} {
		if files[path] == nil {
			broken = append(broken, path+" is missing")
		}
	}
	if len(broken) > 0 {
		return broken, 0
	}
	say := func(what string, details ...any) { broken = append(broken, fmt.Sprintf(what, details...)) }
	defined := map[string]bool{}
	for _, match := range promiseInComment.FindAllStringSubmatch(string(files[workerPromises].Data), -1) {
		defined[match[1]] = true
	}
	judged := map[string]bool{}
	for _, row := range literalsOf(files, workerCampaign, "promises") {
		judged[row[0]] = true
	}
	bugs := map[string]string{} // the tests that find each
	for _, row := range literalsOf(files, workerBugs, "plantedBugs") {
		if len(row) < 2 {
			say("%s: a planted bug without a name or its tests", workerBugs)
			continue
		}
		bugs[row[0]] = row[1]
	}
	tests, _ := testNames(files)
	rows, placed := map[string]bool{}, map[string]bool{}
	for _, cells := range tableOf(string(files[promiseTable].Data), promisesHead) {
		looked++
		promise, part := cells[0], cells[1]
		rows[promise] = true
		var named, planted []string
		for _, name := range testInTable.FindAllStringSubmatch(cells[2], -1) {
			named = append(named, name[1])
			if !tests[name[1]] {
				say("%s: %s, %s: there is no %s", promiseTable, promise, part, name[1])
			}
		}
		for _, name := range bugInTable.FindAllStringSubmatch(cells[3], -1) {
			planted = append(planted, name[1])
		}
		if len(named) == 0 || len(planted) == 0 {
			say("%s: %s, %s: it has %d tests and %d planted bugs", promiseTable, promise, part, len(named), len(planted))
		}
		for _, bug := range planted {
			pattern, err := regexp.Compile(bugs[bug])
			switch {
			case bugs[bug] == "" || err != nil:
				say("%s: %s, %s: no bug is planted as %q", promiseTable, promise, part, bug)
			case placed[bug]:
				say("%s: %q has two rows", promiseTable, bug)
			case len(named) > 0 && !slices.ContainsFunc(named, pattern.MatchString):
				say("%s: %s, %s: no test of the row is to find %q", promiseTable, promise, part, bug)
			}
			placed[bug] = true
		}
	}
	for _, bug := range slices.Sorted(maps.Keys(bugs)) {
		if !placed[bug] {
			say("%s: %q breaks no promise of the table in %s", workerBugs, bug, promiseTable)
		}
	}
	compare := func(where string, names map[string]bool) {
		for _, name := range slices.Sorted(maps.Keys(defined)) {
			if !names[name] {
				say("%s does not have the promise %s", where, name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if !defined[name] {
				say("%s has %s, which %s does not promise", where, name, workerPromises)
			}
		}
	}
	compare("the table in "+promiseTable, rows)
	compare(workerCampaign, judged)
	return broken, looked
}

// tableOf are the rows of the table that begins with a head, without those of another width.
func tableOf(page, head string) (rows [][]string) {
	_, table, _ := strings.Cut(page, head+"\n")
	for line := range strings.Lines(table) {
		cells := cellsOf(line)
		if cells == nil {
			break
		}
		if len(cells) == len(cellsOf(head)) && !strings.HasPrefix(cells[0], "--") {
			rows = append(rows, cells)
		}
	}
	return rows
}

// literalsOf are the elements of a variable of a file that is a list of strings, or of lists of strings.
func literalsOf(files tree, path, name string) (rows [][]string) {
	parsed, _ := goFiles(files, func(file string) bool { return file == path })
	for _, file := range parsed {
		for _, declaration := range file.syntax.Decls {
			general, ok := declaration.(*ast.GenDecl)
			if !ok || general.Tok != token.VAR {
				continue
			}
			for _, spec := range general.Specs {
				value := spec.(*ast.ValueSpec)
				if value.Names[0].Name != name || len(value.Values) != 1 {
					continue
				}
				list, _ := value.Values[0].(*ast.CompositeLit)
				for _, element := range list.Elts {
					rows = append(rows, stringsIn(element))
				}
			}
		}
	}
	return rows
}

func stringsIn(node ast.Node) (texts []string) {
	ast.Inspect(node, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			text, _ := strconv.Unquote(literal.Value)
			texts = append(texts, text)
		}
		return true
	})
	return texts
}

func TestEachPromiseOfAWorkerHasAPlantedBug(t *testing.T) {
	const (
		head   = promisesHead + "\n|---|---|---|---|\n"
		answer = "| Answer | all | `TestLaw` | *lost* |\n"
		blame  = "| Blame | all | `TestLaw` | *blamed* |\n"
	)
	bugs := string(sound()[workerBugs].Data)
	enforce(t, promisesOfWorkersAreTested,
		plant{"a promise that no row has", promiseTable, head + "| Answer | all | `TestLaw` | *lost*, *blamed* |\n", "does not have the promise Blame"},
		plant{"a promise that nobody judges", workerCampaign, "package worker\n\nvar promises = []string{\"Answer\"}\n", "does not have the promise Blame"},
		plant{"a judge of what is not promised", workerCampaign, "package worker\n\nvar promises = []string{\"Answer\", \"Blame\", \"Speed\"}\n", "has Speed"},
		plant{"a bug that no row has", workerBugs, strings.Replace(bugs, "{\n", "{\n\t{\"late\", \"Law\"},\n", 1), `"late" breaks no promise`},
		plant{"a bug that nobody planted", promiseTable, head + answer + blame + "| Blame | more | `TestLaw` | *gone* |\n", `no bug is planted as "gone"`},
		plant{"a bug in two rows", promiseTable, head + answer + blame + "| Blame | more | `TestLaw` | *lost* |\n", "two rows"},
		plant{"a bug that another test is to find", promiseTable, head + answer + "| Blame | all | `TestL3L1BothHold` | *blamed* |\n", `is to find "blamed"`},
		plant{"a row without tests", promiseTable, head + answer + "| Blame | all | by reading | *blamed* |\n", "0 tests and 1 planted"},
		plant{"a row without bugs", promiseTable, head + answer + blame + "| Blame | more | `TestLaw` | |\n", "1 tests and 0 planted"},
		plant{"a test that is not there", promiseTable, head + answer + "| Blame | all | `TestLaw`, `TestGone` | *blamed* |\n", "no TestGone"},
		plant{"no document", promiseTable, "", "missing"},
	)
}
