package chaos

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var (
	promised = regexp.MustCompile(`(?m)^\| ([LMT][0-9]+)( \w+)? \|`)
	called   = regexp.MustCompile(`"([LMT][0-9]+)( [A-Z]\w*)?[":]`)
)

// TestFailuresAreCalledByTheContract holds that what this package says of a broken
// promise are names of the contract, as README.md has them, and that it can say
// each name that README.md has.
func TestFailuresAreCalledByTheContract(t *testing.T) {
	contract := map[string]bool{} // name -> said
	for _, name := range promised.FindAllStringSubmatch(read(t, filepath.Join("..", "README.md")), -1) {
		contract[name[1]+name[2]] = false
	}
	if len(contract) != 20 {
		t.Fatalf("README.md has %d promises, want L1-L8, M1-M8, T1-T4", len(contract))
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for _, name := range called.FindAllStringSubmatch(read(t, file), -1) {
			said := name[1] + name[2]
			if _, known := contract[said]; !known && name[2] != "" {
				t.Errorf("%s says %q, which the contract does not", file, said)
			}
			contract[said] = true
		}
	}
	for _, name := range []string{"T2", "T3", "T4"} { // other users, kills and panics are the tests of ipc
		delete(contract, name)
	}
	for name, said := range contract {
		if !said {
			t.Errorf("nothing can find %s broken", name)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
