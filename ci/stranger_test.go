package ci

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A stranger is a module of somebody who uses this one, in a directory of its own.
type stranger struct {
	t   *testing.T
	dir string
}

// newStranger makes the directory. It is empty but for the sums of the modules: they are
// those of this checkout, so that no data base in the network is asked for them.
func newStranger(t *testing.T) stranger {
	t.Helper()
	if testing.Short() {
		t.Skip("it is built by the go command")
	}
	o := stranger{t, t.TempDir()}
	sums, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	o.write("go.sum", string(sums))
	return o
}

func (o stranger) write(name, text string) {
	o.t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

// run runs a line of the shell there, as a reader would, and returns what it prints.
func (o stranger) run(line string) (stdout, stderr string, err error) {
	o.t.Helper()
	cmd := exec.Command("sh", "-ec", line)
	cmd.Dir = o.dir
	// A workspace, and the flags of the one who runs the tests, are no part of it.
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	var out, errors strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errors
	if err := cmd.Run(); err != nil {
		return "", "", fmt.Errorf("%s: %w\n%s%s", line, err, &out, &errors)
	}
	return out.String(), errors.String(), nil
}

// mustRun is run for a line that has to succeed.
func (o stranger) mustRun(line string) string {
	o.t.Helper()
	stdout, _, err := o.run(line)
	if err != nil {
		o.t.Fatal(err)
	}
	return stdout
}

// replace makes this checkout the module that the other one asks for: what is tested is
// what is here, and not what was published.
func (o stranger) replace() {
	o.t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		o.t.Fatal(err)
	}
	o.mustRun("go mod edit -replace '" + modulePath + "=" + root + "'")
}
