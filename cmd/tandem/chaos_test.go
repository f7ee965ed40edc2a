package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/chaos"
	"github.com/tandem-ipc/tandem/internal/step"
)

// chaosResult parses what -json printed.
func (r *tandemRun) chaosResult() *chaosRun {
	r.t.Helper()
	result := &chaosRun{}
	decoder := json.NewDecoder(bytes.NewReader(r.stdout.Bytes()))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(result); err != nil || decoder.More() {
		r.t.Fatalf("the output is not one JSON object: %v", err)
	}
	return result
}

func TestTheChaosCommandLineIsExplained(t *testing.T) {
	empty := t.TempDir()
	full := t.TempDir()
	write(t, filepath.Join(full, "notes"), "")
	foreign := t.TempDir()
	write(t, filepath.Join(foreign, savedReport), `{"layer":"campaign","verdict":"pass"}`)
	for _, c := range []usageCase{
		{[]string{"-help"}, exitOK, "enumerator", ""},
		{[]string{"-bogus"}, exitUsage, "", "-bogus"},
		{[]string{"dir"}, exitUsage, "", `"dir"`},
		{[]string{"-time", "0"}, exitUsage, "", "-time is 0s"},
		{[]string{"-kills", "-1"}, exitUsage, "", "-kills is -1"},
		{[]string{"-kills", "5", "-layers", "enumerator,forked"}, exitUsage, "", "-kills is for the layer campaign, which -layers leaves out"},
		{[]string{"-kills", "5", "-layers", "campain"}, exitUsage, "", `no layer "campain"`},
		{[]string{"-layers", ","}, exitUsage, "", `no layer ""; there are: enumerator`},
		{[]string{"-layers", ""}, exitUsage, "", `no layer ""`},
		{[]string{"-layers", "campaign, ,forked"}, exitUsage, "", `no layer ""`},
		{[]string{"-layers", "campain"}, exitUsage, "", `no layer "campain"; there are: enumerator`},
		{[]string{"-out", full}, exitFailed, "", "is not empty: there is notes"},
		{[]string{"judge"}, exitUsage, "", "want one directory, have 0"},
		{[]string{"judge", "a", "b"}, exitUsage, "", "have 2"},
		{[]string{"judge", "-help"}, exitOK, "changes nothing", ""},
		{[]string{"judge", filepath.Join(empty, "missing")}, exitFailed, "", "no such file"},
		{[]string{"judge", empty}, exitFailed, "", "is no saved run: it has no report.json"},
		{[]string{"judge", foreign}, exitFailed, "", "is not of the format"},
		{[]string{"-time", "soon"}, exitUsage, "", "soon"},
		{[]string{"-seed", "x"}, exitUsage, "", "-seed"},
		{[]string{"judge", "-bogus"}, exitUsage, "", "-bogus"},
		{[]string{"-out", "/dev/null/run"}, exitFailed, "", "/dev/null"},
		{[]string{"-out", filepath.Join(full, "notes")}, exitFailed, "", "not a directory"},
	} {
		c.args = append([]string{"chaos"}, c.args...)
		c.check(t)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestChaosIsSavedAndJudgedAgain runs real layers, in a small share of the time.
func TestChaosIsSavedAndJudgedAgain(t *testing.T) {
	saved := filepath.Join(t.TempDir(), "run")
	r := newTandem(t, "chaos", "-out", saved, "-time", "3s", "-kills", "20", "-layers", "campaign,enumerator", "-seed", "7", "-json")
	if status := r.run(); status != exitOK {
		t.Fatalf("exit status %d", status)
	}
	r.expectNothingLeft()
	have := r.chaosResult()
	if have.Verdict != chaos.Pass || have.Seed != 7 || have.Again != "tandem chaos -seed 7 -time 3s -layers enumerator,campaign -kills 20" ||
		len(have.Layers) != 2 || have.Layers[0].Name != "enumerator" || have.Layers[1].Report.Kills < 20 {
		t.Errorf("have %+v", have)
	}
	text, err := os.ReadFile(filepath.Join(saved, savedPage))
	if err != nil {
		t.Fatal(err)
	}
	checkPage(t, string(text))
	if !strings.Contains(string(text), "<svg") || !strings.Contains(string(text), "Valid LP") {
		t.Error("the page has no timeline, or nothing of porcupine's")
	}

	judged := newTandem(t, "chaos", "judge", "-json", saved)
	if status := judged.run(); status != exitOK {
		t.Errorf("judged again: exit status %d", status)
	}
	if again := judged.chaosResult(); again.Verdict != chaos.Pass || len(again.Layers) != 2 {
		t.Errorf("judged again: %+v", again)
	}
	tapes, err := filepath.Glob(filepath.Join(saved, chaos.CampaignName, "*", "tape-*"))
	if err != nil || len(tapes) == 0 {
		t.Fatalf("there are no histories: %v", err)
	}
	// What was received then came from nowhere.
	for _, tape := range tapes[:len(tapes)/2] {
		if err := os.Remove(tape); err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	if status := tandem([]string{"chaos", "judge", saved}, &stdout, &stderr); status != exitFailed {
		t.Errorf("without half of its histories: exit status %d\n%s%s", status, &stdout, &stderr)
	}
}

// sample is a run as one would be, without any process.
func sample(reports ...*chaos.Report) *chaosRun {
	r := &chaosRun{Format: chaosFormat, Seed: 7, Again: "tandem chaos -seed 7", Machine: thisMachine(), Started: time.Unix(1e9, 0).UTC(), Elapsed: time.Minute}
	for _, report := range reports {
		r.Layers = append(r.Layers, layerRun{report.Layer, "what it does", report.Skipped(), report})
	}
	r.Verdict = r.verdict()
	return r
}

func passing(name string) *chaos.Report {
	r := chaos.NewReport(name, 7)
	r.Case(3)
	for _, id := range step.All() {
		if id != step.ClientKilled {
			r.Covered(id.String(), "client died")
		}
	}
	r.Covered("openat, before", "sound")
	r.Count("ring actions"+takenEnd, 40)
	r.Count("ring actions"+allEnd, 44)
	r.Count("server: killed at", 70_000)
	r.Count("server: boundaries", 80_000)
	return r.Finish(1)
}

func TestTheVerdictOfARunIsTheWorstOfItsLayers(t *testing.T) {
	failed := chaos.NewReport("failed", 7)
	failed.Fail("M1 NoLoss", "go test ./chaos -run Again", "message 3 is lost")
	failed.Finish(1)
	void := chaos.NewReport("void", 7).Finish(1)
	forbidden := chaos.NewReport("forbidden", 7)
	forbidden.Note("skipped: ptrace is not permitted")
	forbidden.Finish(1)
	for _, test := range []struct {
		run     *chaosRun
		verdict chaos.Verdict
		says    []string
	}{
		{sample(passing("some")), chaos.Pass, []string{"layer  verdict  cases  kills  steps  time\nsome   pass     1      3      57     ", "again: tandem chaos -seed 7"}},
		{sample(passing("some"), forbidden), chaos.Pass, []string{"forbidden: SKIPPED, this machine does not permit it: ptrace"}},
		{sample(forbidden), chaos.Void, []string{"VOID"}},
		{sample(passing("some"), void), chaos.Void, []string{"void: VOID, too little happened"}},
		{sample(passing("some"), void, failed), chaos.Fail, []string{"failed: M1 NoLoss: message 3 is lost\n\tgo test ./chaos -run Again\n", "FAIL: 3 kills"}},
		{sample(), chaos.Void, nil},
	} {
		var stdout, stderr bytes.Buffer
		status := test.run.tell(false, &stdout, &stderr)
		if test.run.Verdict != test.verdict || (status == exitOK) != (test.verdict == chaos.Pass) {
			t.Errorf("%v, exit status %d, want %v", test.run.Verdict, status, test.verdict)
		}
		for _, want := range test.says {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("it does not say %q:\n%s", want, &stdout)
			}
		}
	}
}

func TestASavedRunThatWasChangedIsFound(t *testing.T) {
	failed := chaos.NewReport("second", 7)
	failed.Case(1)
	failed.Fail("M2 FIFO", "", "out of order")
	failed.Finish(1)
	for _, test := range []struct {
		name           string
		second         *chaos.Report
		file, old, new string // in which file what was changed
	}{
		{"nothing", passing("second"), "", "", ""},
		{"a failure made a pass", failed, "*.json", `"fail"`, `"pass"`},
		{"a layer apart from the report", passing("second"), "second.json", `"cases": 1`, `"cases": 2`},
		{"a layer's name", passing("second"), savedReport, `"name": "second"`, `"name": "third"`},
		{"no layer's file", passing("second"), "second.json", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := sample(passing("first"), test.second).save(dir); err != nil {
				t.Fatal(err)
			}
			paths, _ := filepath.Glob(filepath.Join(dir, test.file))
			for _, path := range paths {
				if path == dir {
					continue
				}
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				write(t, path, strings.ReplaceAll(string(text), test.old, test.new))
				if test.old == "" {
					_ = os.Remove(path)
				}
			}
			var stdout, stderr bytes.Buffer
			status := tandem([]string{"chaos", "judge", dir}, &stdout, &stderr)
			if (status == exitOK) != (test.file == "") {
				t.Errorf("exit status %d\n%s%s", status, &stdout, &stderr)
			}
		})
	}
}

func TestAnInterruptedRunIsSavedAndDoesNotPass(t *testing.T) {
	saved := filepath.Join(t.TempDir(), "run")
	r := newTandem(t, "chaos", "-out", saved, "-time", "1h", "-layers", "enumerator,campaign", "-json")
	r.cmd.Stderr = nil
	said, err := r.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.start()
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if strings.Contains(lines.Text(), "enumerator: ") {
			break
		}
	}
	r.signal(syscall.SIGINT)
	_, _ = io.Copy(io.Discard, said)
	if status := r.wait(); status != 128+int(syscall.SIGINT) {
		t.Errorf("exit status %d", status)
	}
	if have := r.chaosResult(); !have.Interrupted || have.Verdict == chaos.Pass || len(have.Layers) != 1 {
		t.Errorf("have %+v", have)
	}
	r.expectNothingLeft()
	if _, err := os.Stat(filepath.Join(saved, savedPage)); err != nil {
		t.Errorf("there is no page: %v", err)
	}
}

// An interruption comes in the middle of a case. What was begun is brought to its end, and
// is no failure; nothing is left behind.
func TestAnInterruptionBreaksNoPromiseInAnyLayer(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs every layer")
	}
	for _, l := range chaos.Layers() {
		t.Run(l.Name, func(t *testing.T) {
			r := newTandem(t, "chaos", "-time", "1h", "-layers", l.Name, "-json")
			r.start()
			until(t, "some cases have begun", func() bool { return r.ticks() > 20 })
			r.signal(syscall.SIGINT)
			if status := r.wait(); status != 128+int(syscall.SIGINT) {
				t.Errorf("exit status %d", status)
			}
			have := r.chaosResult()
			switch {
			case len(have.Layers) != 1 || !have.Interrupted:
				t.Errorf("have %+v", have)
			case have.Layers[0].Skipped != "":
				t.Skip(have.Layers[0].Skipped)
			case have.Verdict != chaos.Void || len(have.Layers[0].Report.Failures) > 0:
				t.Errorf("%v: %+v", have.Verdict, have.Layers[0].Report.Failures)
			}
			r.expectNothingLeft()
		})
	}
}

// ticks is how much processor time the process has had, with its children that have
// ended, in hundredths of a second.
func (r *tandemRun) ticks() (sum int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	_, fields, _ := strings.Cut(string(text), ") ")
	for _, field := range strings.Fields(fields)[11:15] {
		ticks, _ := strconv.Atoi(field)
		sum += ticks
	}
	return sum
}

// Behind a link, ".." is the parent of where the link leads, and to join names would
// lose that.
func TestADirectoryBehindALinkIsTheOneThatTheKernelGoesTo(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"here", "there/inside", "there/run"} {
		if err := os.MkdirAll(filepath.Join(top, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(top, "there/inside"), filepath.Join(top, "here/link")); err != nil {
		t.Fatal(err)
	}
	if got, want := resolved(top+"/here/link/../run"), filepath.Join(top, "there/run"); got != want {
		t.Errorf("it is %s, want %s", got, want)
	}
	if got, want := resolved(top+"/missing/../run"), top+"/missing/../run"; got != want {
		t.Errorf("one that is not there is %s, want %s, for its error", got, want)
	}
}
