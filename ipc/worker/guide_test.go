//go:build linux && (amd64 || arm64)

package worker

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The guide's program is run, and prints what the guide says.
func TestTheProgramOfTheGuidePrintsWhatItSays(t *testing.T) {
	if testing.Short() {
		t.Skip("it is built by the go command")
	}
	guide, err := os.ReadFile("../../docs/GUIDE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(guide), "```go\n")
	program, rest, _ := strings.Cut(rest, "```\n")
	_, rest, _ = strings.Cut(rest, "```\n")
	want, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatal("the guide has no program and what it prints")
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "run", file)
	var shown text
	cmd.Stderr = &shown
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, shown.String())
	}
	varies := regexp.MustCompile(`worker \d \(process \d+\)`)
	got := varies.ReplaceAllString(string(out), "worker N")
	if want = varies.ReplaceAllString(want, "worker N"); got != want {
		t.Errorf("it prints\n%s\nand the guide says\n%s", got, want)
	}
	if n := strings.Count(shown.String(), "]: that was too much\n"); n != 3 {
		t.Errorf("the workers' lines come %d times:\n%s", n, shown.String())
	}
}
