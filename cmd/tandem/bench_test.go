//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tandem-ipc/tandem/internal/measure"
)

// raced is whether this is built with the race detector.
var raced bool

// notRaced skips what starts some hundred processes, which takes minutes with the race
// detector. The tests of internal/measure run with it.
func notRaced(t *testing.T) {
	t.Helper()
	if raced {
		t.Skip("the drivers are raced in internal/measure")
	}
}

func TestBenchMeasuresAndDraws(t *testing.T) {
	notRaced(t)
	pictures := t.TempDir()
	r := newTandem(t, "bench", "-rounds", "1", "-time", "5ms", "-plot", filepath.Join(pictures, "new"))
	if status := r.run(); status != exitOK {
		t.Errorf("exit status %d", status)
	}
	for _, want := range []string{"floor ", "there and back", "one way", "tandem, copy", "tandem, batch", "unix, copy", "tcp, copy", "pipe, copy", "1 MiB"} {
		if !strings.Contains(r.stdout.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, &r.stdout)
		}
	}
	for _, name := range []string{"roundtrip.svg", "roundtrip.png", "oneway.svg", "oneway.png"} {
		if info, err := os.Stat(filepath.Join(pictures, "new", name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.expectNothingLeft()
}

// The command says that it cannot write its pictures before it measures, and not after that.
func TestBenchMeasuresNothingThatItCannotDraw(t *testing.T) {
	base := t.TempDir()
	write(t, filepath.Join(base, "file"), "")
	for _, picture := range []string{"svg/roundtrip.svg", "png/oneway.png"} {
		if err := os.MkdirAll(filepath.Join(base, picture), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]string{
		"file": "not a directory", "file/new": "not a directory", "svg": "svg/roundtrip.svg: is a directory", "png": "png/oneway.png: is a directory",
	} {
		r := newTandem(t, "bench", "-rounds", "1", "-time", "2ms", "-plot", filepath.Join(base, dir))
		if status := r.run(); status != exitFailed || r.stdout.Len() > 0 {
			t.Errorf("%s: exit status %d, want %d; it has measured: %q", dir, status, exitFailed, &r.stdout)
		}
		if text := r.stderr.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, want) {
			t.Errorf("%s: %q, want one line that says %q", dir, text, want)
		}
		r.expectNothingLeft()
	}
}

// The pictures of an earlier run are still there when a later one is interrupted.
func TestBenchKeepsOlderPicturesUntilItDraws(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "roundtrip.svg"), "older")
	if err := preparePlot(dir); err != nil {
		t.Fatal(err)
	}
	if have, err := os.ReadFile(filepath.Join(dir, "roundtrip.svg")); err != nil || string(have) != "older" {
		t.Errorf("have %q, %v", have, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("have %v, %v", entries, err)
	}
}

func TestBenchPrintsJSON(t *testing.T) {
	notRaced(t)
	r := newTandem(t, "bench", "-rounds", "1", "-time", "2ms", "-json")
	if status := r.run(); status != exitOK {
		t.Errorf("exit status %d", status)
	}
	f := &measure.File{}
	if err := json.Unmarshal(r.stdout.Bytes(), f); err != nil {
		t.Fatalf("%v: %s", err, &r.stdout)
	}
	if len(f.Rows) != len(benchCells(measure.Apart)) || len(f.Floors) == 0 || f.Machine.Processors == 0 {
		t.Errorf("%d rows, %d floors, %+v", len(f.Rows), len(f.Floors), f.Machine)
	}
	for _, row := range f.Rows {
		if !row.Measured() || row.Checked == 0 {
			t.Errorf("%s: %s, checked %d", row.Name, row.Why(), row.Checked)
		}
	}
}

// An interrupted evaluation ends its processes and removes its directory, which the
// command lines of its processes name.
func TestAnInterruptedBenchLeavesNothing(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		r := newTandem(t, "bench", "-rounds", "1000")
		r.start()
		var dir string
		until(t, "the evaluation has a process", func() bool {
			dir = directoryOfChild(r.cmd.Process.Pid)
			return dir != ""
		})
		r.signal(s)
		if status := r.wait(); status != 128+int(s) || r.stderr.Len() == 0 {
			t.Errorf("%v: exit status %d, stderr %q", s, status, &r.stderr)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%v: %s is left: %v", s, dir, err)
		}
		until(t, "its processes have ended", func() bool { return len(processesNaming(dir)) == 0 })
	}
}

// directoryOfChild is where a process that another one has started works, "" if there is none.
func directoryOfChild(parent int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, task := range tasks {
		more, _ := os.ReadFile(task)
		text = append(append(text, ' '), more...)
	}
	if err != nil {
		return ""
	}
	for _, child := range strings.Fields(string(text)) {
		line, _ := os.ReadFile("/proc/" + child + "/cmdline")
		args := strings.Split(string(line), "\x00")
		if i := slices.Index(args, "-dir"); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// processesNaming are the processes with a directory in their command line.
func processesNaming(dir string) (pids []string) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), dir) {
			pids = append(pids, path)
		}
	}
	return pids
}

func TestTheCommandLineOfBenchIsExplained(t *testing.T) {
	for _, c := range []usageCase{
		{[]string{"help", "bench"}, exitOK, "-plot", ""},
		{[]string{"bench", "x"}, exitUsage, "", `no argument "x"`},
		{[]string{"bench", "-rounds", "0"}, exitUsage, "", "-rounds is 0"},
		{[]string{"bench", "-time", "0s"}, exitUsage, "", "-time is 0s"},
		{[]string{"bench", "-bogus"}, exitUsage, "", "-bogus"},
	} {
		c.check(t)
	}
}
