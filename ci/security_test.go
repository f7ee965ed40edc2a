package ci

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// attacksHaveTests holds that each row of the table of attacks names a test, and
// that each test which it names is there.
func attacksHaveTests(files tree) (broken []string, looked int) {
	const document = "docs/SECURITY.md"
	security, found := files[document]
	if !found {
		return []string{document + " is missing: it says what an attack can cause, and which test shows it"}, 0
	}
	tests, broken := testNames(files)
	_, table, _ := strings.Cut(string(security.Data), "| attack | by |")
	table, _, _ = strings.Cut(table, "\n\n")
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) < 4 || strings.HasPrefix(line, "|--") || strings.Contains(line, "| outcome") {
			continue
		}
		attack, named := strings.TrimSpace(cells[0]), testInTable.FindAllStringSubmatch(cells[len(cells)-1], -1)
		looked++
		if len(named) == 0 {
			broken = append(broken, fmt.Sprintf("%s: %q names no test", document, attack))
		}
		for _, name := range named {
			if !tests[name[1]] {
				broken = append(broken, fmt.Sprintf("%s: %q: there is no %s", document, attack, name[1]))
			}
		}
	}
	return broken, looked
}

var testInTable = regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")

func TestEachAttackHasATest(t *testing.T) {
	const head = "| attack | by | outcome | test |\n|---|---|---|---|\n"
	enforce(t, attacksHaveTests,
		plant{"a row without a test", "docs/SECURITY.md", head + "| scribbles | client | dropped | by reading |\n", "names no test"},
		plant{"a test that is not there", "docs/SECURITY.md", head + "| scribbles | client | dropped | `TestScribble` |\n", "no TestScribble"},
		plant{"no document", "docs/SECURITY.md", "", "missing"},
	)
}
