//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tandem-ipc/tandem/internal/plant"
)

// A program is a test binary of a package.
type program struct {
	path, directory string
	temporary       string // where each run has a directory of its own
	flags           []string
}

// openDirectory makes a directory that other users can use: some tests start processes of
// theirs.
func openDirectory(in, prefix string) (string, error) {
	name, err := os.MkdirTemp(in, prefix)
	if err != nil {
		return "", err
	}
	return name, os.Chmod(name, 0o755)
}

// build builds the tests of a package with some files replaced. says gets what the
// compiler says.
func build(ctx context.Context, directory, temporary, name string, files map[string]string, says func(*bytes.Buffer) error, flags ...string) (*program, error) {
	own, err := openDirectory(temporary, "b")
	if err != nil {
		return nil, err
	}
	overlay, err := plant.WriteOverlay(own, files)
	if err != nil {
		return nil, err
	}
	p := &program{path: filepath.Join(own, name+".test"), directory: directory, temporary: temporary}
	arguments := append([]string{"test", "-c", "-vet=off", "-ldflags=-s -w", "-o", p.path, "-overlay=" + overlay}, flags...)
	command := exec.CommandContext(ctx, "go", append(arguments, ".")...)
	command.Dir = directory
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		text := output.String()
		return nil, fmt.Errorf("%s does not build: %w\n%s", name, err, text[:min(len(text), 4000)])
	}
	tests, _ := filepath.Glob(filepath.Join(directory, "*_test.go"))
	for _, name := range tests {
		if text, _ := os.ReadFile(name); bytes.Contains(text, []byte(`"pgregory.net/rapid"`)) {
			p.flags = []string{"-rapid.nofailfile"} // what it finds is not of the code as it is
		}
	}
	return p, says(&output)
}

// remove removes the binary.
func (p *program) remove() { _ = os.RemoveAll(filepath.Dir(p.path)) }

func silent(*bytes.Buffer) error { return nil }

// A run is how a program ended.
type run struct {
	err     error
	output  string
	seconds float64
}

// limits are how long tests may take.
type limits struct{ all, watchdog time.Duration }

// stretched are limits on a machine as busy as this one now is.
func (l limits) stretched(by float64) limits {
	by *= pace()
	return limits{time.Duration(float64(l.all) * by), time.Duration(float64(l.watchdog) * by)}
}

var pace = func() func() float64 {
	var mu sync.Mutex
	var measured time.Time
	var is float64
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(measured) > 15*time.Second {
			is, measured = plant.Pace(), time.Now()
		}
		return is
	}
}()

// run runs tests. Who is left of their processes is ended.
func (p *program) run(ctx context.Context, tests string, l limits, environment []string, flags ...string) run {
	temporary, err := openDirectory(p.temporary, "r")
	if err != nil {
		return run{err: err}
	}
	defer func() { _ = os.RemoveAll(temporary) }()
	ctx, cancel := context.WithTimeout(ctx, l.all+l.all/4+5*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, p.path, append([]string{"-test.v", "-test.failfast", "-test.run=" + tests, "-test.timeout=" + l.all.String()}, slices.Concat(p.flags, flags)...)...)
	command.Dir = p.directory
	command.Env = append(os.Environ(), "TMPDIR="+temporary, "TANDEM_TEST_WATCHDOG="+l.watchdog.String())
	command.Env = append(command.Env, environment...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	group := func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.Cancel, command.WaitDelay = group, 2*time.Second
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	begun := time.Now()
	if err = command.Run(); command.Process != nil {
		_ = group()
	}
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		err = nil // somebody has kept our pipe, which is no failure of a test
	}
	return run{err, output.String(), time.Since(begun).Seconds()}
}

// list are the names of its tests.
func (p *program) list(ctx context.Context) (tests []string, err error) {
	command := exec.CommandContext(ctx, p.path, "-test.list=^(Test|Example|Fuzz)")
	command.Dir = p.directory
	listed, err := command.Output()
	for line := range strings.Lines(string(listed)) {
		tests = append(tests, strings.TrimSpace(line))
	}
	return tests, err
}

var (
	failedTest = regexp.MustCompile(`(?m)^ *--- FAIL: ([^/\s]+)\S* \(([0-9.]+)s\)`)
	begunTest  = regexp.MustCompile(`(?m)^=== RUN   ([^/\s]+)`)
)

// failure is the test that has failed, and whether that may be because it had too little
// time. The name is empty if it is not known that a test has.
func (r run) failure(l limits) (test string, slow bool) {
	if r.err == nil || !plant.Found(r.output, r.err) {
		return "", false
	}
	for _, failed := range failedTest.FindAllStringSubmatch(r.output, -1) { // parts of tests too
		seconds, _ := strconv.ParseFloat(failed[2], 64)
		test, slow = failed[1], slow || seconds > 0.8*l.watchdog.Seconds()
	}
	if test != "" {
		return test, slow
	}
	begun := begunTest.FindAllStringSubmatch(r.output, -1)
	if len(begun) == 0 {
		return "", false
	}
	killed := !strings.Contains(r.output, "\npanic: ") && !strings.Contains(r.output, "\nfatal error: ")
	return begun[len(begun)-1][1], killed || strings.Contains(r.output, "panic: test timed out")
}

// exactly is the pattern for tests of these names.
func exactly(tests []string) string { return "^(" + strings.Join(tests, "|") + ")$" }
