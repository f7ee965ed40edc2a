package ci

import (
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// around is what a page leaves out around a piece of Go: a function in a file, with
// what the reader has.
const around = `package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"time"

	"` + modulePath + `/ipc"
	"` + modulePath + `/ipc/conn"
	"` + modulePath + `/ipc/worker"
)

func example(ctx context.Context, kind uint32, data []byte, answer func([]byte) []byte, pictures [][]byte, use func([]byte),
	thumbnail worker.Handler, pool *worker.Pool, length func(context.Context, string) (int, error), handler http.Handler) error {
%s
	return err
}
`

// checkExample reports what the compiler has against a piece of Go, but that something
// is not used: what follows it uses it.
func checkExample(packages types.Importer, code string) error {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "example.go", fmt.Sprintf(around, code), 0)
	if err != nil {
		return err
	}
	var wrong []error
	config := types.Config{Importer: packages, Error: func(err error) {
		if e := (types.Error{}); !errors.As(err, &e) || !e.Soft {
			wrong = append(wrong, err)
		}
	}}
	_, _ = config.Check("main", fset, []*ast.File{file}, nil)
	return errors.Join(wrong...)
}

// compiled imports packages as the go command has compiled them.
func compiled(t *testing.T) types.Importer {
	t.Helper()
	list := exec.Command("go", "list", "-deps", "-export", "-f", "{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}", "./ipc/...", "log", "net/http")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		files[name] = file
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(name string) (io.ReadCloser, error) { return os.Open(files[name]) })
}

// examplesOf are the pieces of Go of a page.
func examplesOf(page string) (examples []string) {
	for _, part := range strings.Split(page, "```go\n")[1:] {
		code, _, _ := strings.Cut(part, "```")
		examples = append(examples, code)
	}
	return examples
}

func TestTheExamplesOfThePagesCompile(t *testing.T) {
	repository := readRepository(t)
	packages := compiled(t)
	readme, guide := string(repository["README.md"].Data), string(repository["docs/GUIDE.md"].Data)
	_, typed, _ := strings.Cut(guide, "\n## Calls with types\n")
	typed, _, _ = strings.Cut(typed, "\n## ")
	for page, least := range map[string]int{readme: 3, typed: 1} {
		examples := examplesOf(page)
		if len(examples) < least {
			t.Errorf("%d pieces of Go, want %d: the check is blind", len(examples), least)
		}
		for _, code := range examples {
			if err := checkExample(packages, code); err != nil {
				t.Errorf("%s\n%v", code, err)
			}
		}
	}
	for name, edit := range map[string][2]string{
		"another call":           {"ipc.Dial(", "ipc.Connect("},
		"one argument less":      {"Send(ctx, kind, data)", "Send(kind, data)"},
		"a method that is gone":  {"m.Release()", "m.Free()"},
		"an error not looked at": {"server, err :=", "server :="},
		"an option that is gone": {"Size: 4", "Workers: 4"},
		"an error that is gone":  {"worker.ErrPoison", "worker.ErrToxic"},
		"another type":           {"DialContext: dialer.DialContext", "DialContext: dialer.Dial"},
	} {
		found := false
		for _, code := range examplesOf(strings.Replace(readme, edit[0], edit[1], 1)) {
			found = found || checkExample(packages, code) != nil
		}
		if !found {
			t.Errorf("%s: passes: the check is blind", name)
		}
	}
}

// The pages that define rules, and which: the promises, how they are kept, and what
// one side checks of the other. A row of a table does it, and only there.
var definitions = map[string]*regexp.Regexp{
	"README.md":        regexp.MustCompile(`^\| ([LMT]\d+)\b`),
	"docs/DESIGN.md":   regexp.MustCompile(`^\| ([CW]\d+)\b`),
	"docs/PROTOCOL.md": regexp.MustCompile(`^\| (I\d+)\b`),
}

// ruleName matches what looks like the name of a rule.
var ruleName = regexp.MustCompile(`\b[LMTCWID]\d{1,2}\b`)

// rulesHaveTests holds that each rule is defined once, that none is named which is not
// defined, and that go test -run NAME runs something for each.
func rulesHaveTests(files tree) (broken []string, looked int) {
	tests, broken := testNames(files)
	defined := map[string]bool{}
	for page, definition := range definitions {
		text, found := files[page]
		if !found {
			broken = append(broken, page+" is missing")
			continue
		}
		for _, line := range linesOf(text.Data) {
			row := definition.FindStringSubmatch(line)
			if row == nil {
				continue
			}
			looked++
			if defined[row[1]] {
				broken = append(broken, fmt.Sprintf("%s: %s is defined again", page, row[1]))
			}
			defined[row[1]] = true
			named := regexp.MustCompile(`^Test([A-Z]\d+)*` + row[1] + `(\D|$)`)
			shown := false
			for test := range tests {
				shown = shown || named.MatchString(test)
			}
			if !shown {
				broken = append(broken, fmt.Sprintf("%s: no test is named for %s", page, row[1]))
			}
		}
	}
	for name, file := range files {
		if strings.HasPrefix(name, "ci/") || !slices.Contains([]string{".go", ".md", ".tla"}, path.Ext(name)) {
			continue
		}
		for i, line := range linesOf(file.Data) {
			for _, used := range ruleName.FindAllString(line, -1) {
				if looked++; !defined[used] {
					broken = append(broken, fmt.Sprintf("%s:%d: no page defines %s", name, i+1, used))
				}
			}
		}
	}
	return broken, looked
}

func TestEachRuleIsDefinedOnceAndHasTestsOfItsName(t *testing.T) {
	readme := string(sound()["README.md"].Data)
	enforce(t, rulesHaveTests,
		plant{"a rule that nobody tests", "docs/DESIGN.md", "| C1 | leave | else |\n", "C1"},
		plant{"a rule defined twice", "README.md", readme + "| L1 Again | at most one |\n", "defined again"},
		plant{"a rule that is none", "ipc/errors.go", "package ipc\n\n// ErrFull keeps D9.\n", "no page defines D9"},
		plant{"a promise that nobody tests", "README.md", readme + "| L9 Other | it holds |\n", "L9"},
		plant{"its test has another name", "ipc/promise_test.go", "package ipc\n\nfunc TestL12(t *testing.T) {}\n", "L1"},
		plant{"no README", "README.md", "", "missing"},
	)
}
