package plant

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const soil = `package main

import "fmt"

const limit = 3

type counter struct{ n int }

func (c *counter) add(by int, _ string, more ...int) (sum int) {
	c.n += by
	for _, m := range more {
		c.n += m
	}
	return c.n
}

func (counter) kind() string { return "counter" }

func unnamed(int, string) string { return "unnamed" }

func say(text string) {
	fmt.Println(text)
}

func guarded() (text string) {
	defer func() {
		if recover() != nil {
			text = "recovered"
		}
	}()
	panic("as it is")
}

func first[T any](all ...T) T { return all[0] }

func main() {
	c := &counter{}
	say(fmt.Sprintln(c.add(1, "", 2, 3), c.kind(), unnamed(1, ""), guarded(), limit, first(1, 2)))
}
`

var bugs = []Bug{
	{"a method that counts twice", []Edit{{"main.go", "c.n += by", "c.n += 2 * by"}}},
	{"arguments left out", []Edit{{"main.go", "c.n += m", "c.n += m - m"}}},
	{"another constant", []Edit{{"main.go", "limit = 3", "limit = 4"}}},
	{"another kind", []Edit{{"main.go", `return "counter"`, `return "kind"`}}},
	{"unnamed has a name", []Edit{{"main.go", `return "unnamed"`, `return "named"`}}},
	{"it shouts, and counts twice", []Edit{
		{"main.go", "fmt.Println(text)", "fmt.Println(strings.ToUpper(text))"},
		{"main.go", `import "fmt"`, "import \"fmt\"\nimport \"strings\""},
		{"main.go", "c.n += by", "c.n += by + by"},
	}},
	{"another recovery", []Edit{{"main.go", `"recovered"`, `"recovered again"`}}},
	{"the last", []Edit{{"main.go", "return all[0]", "return all[len(all)-1]"}}},
	{"another parameter", []Edit{{"main.go", "add(by int", "add(by int64"}, {"main.go", "c.n += by", "c.n += int(by)"}}},
}

// A bug does the same among others as it does alone. Has says which bugs cannot be among
// others.
func TestABugDoesTheSameAloneAndAmongOthers(t *testing.T) {
	directory := t.TempDir()
	for name, text := range map[string]string{"main.go": soil, "go.mod": "module soil\n\ngo 1.24\n"} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := func(name string, files map[string]string) (program string) {
		t.Helper()
		overlay, err := WriteOverlay(t.TempDir(), files)
		if err != nil {
			t.Fatal(err)
		}
		program = filepath.Join(t.TempDir(), "program")
		build := exec.Command("go", "build", "-o", program, "-overlay="+overlay, ".")
		build.Dir = directory
		build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return program
	}
	run := func(program string, environment ...string) string {
		t.Helper()
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), environment...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	shared, err := Together(directory, bugs)
	if err != nil {
		t.Fatal(err)
	}
	together := build("together", shared.Files)
	asItIs := run(build("as it is", nil))
	if got := run(together); got != asItIs || asItIs != "6 counter unnamed recovered 3 1" {
		t.Errorf("as it is: %q; with all bugs asleep: %q", asItIs, got)
	}
	apart := []string{"another constant", "another recovery", "the last", "another parameter"}
	seen := map[string]bool{asItIs: true}
	for _, b := range bugs {
		if shared.Has(b.Name) == slices.Contains(apart, b.Name) {
			t.Errorf("%s: together %v", b.Name, shared.Has(b.Name))
		}
		files, err := b.Alone(directory)
		if err != nil {
			t.Fatal(err)
		}
		alone := run(build(b.Name, files))
		if got := run(together, shared.Awaken(b.Name)); shared.Has(b.Name) && got != alone {
			t.Errorf("%s: alone %q, among others %q", b.Name, alone, got)
		}
		if shared.Has(b.Name) && seen[alone] && b.Name != "it shouts, and counts twice" {
			t.Errorf("%s: %q was seen before", b.Name, alone)
		}
		seen[alone] = true
	}
}

// A binary that could not be started has found nothing.
func TestOnlyATestThatFailsHasFoundSomething(t *testing.T) {
	sh := func(script string) (output string, err error) {
		out, err := exec.Command("sh", "-c", script).CombinedOutput()
		return string(out), err
	}
	for script, want := range map[string]bool{
		"echo '--- PASS: TestIt (0.00s)'":                  false,
		"echo '    --- FAIL: TestIt/part (0.00s)'; exit 1": true,
		"echo 'panic: test timed out'; exit 2":             true,
		"echo '=== RUN   TestIt'; kill -9 $$":              true,
		"kill -9 $$":                                       false,
		"echo 'flag provided but not defined'; exit 2":     false,
	} {
		if got := Found(sh(script)); got != want {
			t.Errorf("%s: found %v", script, got)
		}
	}
	if _, err := exec.Command("/no/such/program").CombinedOutput(); Found("", err) {
		t.Error("a program that is not there has found something")
	}
}
