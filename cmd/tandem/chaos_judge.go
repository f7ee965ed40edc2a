package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"github.com/tandem-ipc/tandem/chaos"
)

const judgeHelp = `usage: tandem chaos judge [-json] DIR

Judges a run that tandem chaos -out DIR has saved: its reports, and the histories of
its campaign. It changes nothing. The exit status is that of tandem chaos.

`

// judgeAgain is the command "tandem chaos judge".
func judgeAgain(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("tandem chaos judge", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "print the result as one JSON object")
	if status, done := parseFlags(flags, args, judgeHelp, stdout, stderr); done {
		return status
	}
	if flags.NArg() != 1 {
		return misused(flags.Name(), fmt.Errorf("want one directory, have %d", flags.NArg()), flags.Name()+" -help", stderr)
	}
	dir := resolved(flags.Arg(0))
	r, err := readRun(dir)
	if err != nil {
		fmt.Fprintln(stderr, "tandem chaos judge:", err)
		return exitFailed
	}
	r.judge(dir)
	return r.tell(*asJSON, stdout, stderr)
}

// readRun reads the report of a saved run.
func readRun(dir string) (*chaosRun, error) {
	text, err := os.ReadFile(filepath.Join(dir, savedReport))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(dir); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s is no saved run: it has no %s", dir, savedReport)
	case err != nil:
		return nil, err
	}
	r := &chaosRun{}
	if err := json.Unmarshal(text, r); err != nil || r.Format != chaosFormat {
		return nil, fmt.Errorf("%s is no saved run: its %s is not of the format %q", dir, savedReport, chaosFormat)
	}
	for _, l := range r.Layers {
		if l.Report == nil || l.Name == "" || l.Name != filepath.Base(l.Name) {
			return nil, fmt.Errorf("%s is no saved run: a layer of its %s is not whole", dir, savedReport)
		}
	}
	return r, r.checkFiles(dir)
}

// checkFiles sees that no layer was taken out of the report.
func (r *chaosRun) checkFiles(dir string) error {
	known := map[string]bool{savedReport: true, savedMatrix: true}
	for _, l := range r.Layers {
		known[l.Name+".json"] = true
	}
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) == ".json" && !known[entry.Name()] {
			return fmt.Errorf("%s is no saved run: its %s does not speak of %s", dir, savedReport, entry.Name())
		}
	}
	return err
}

// judge judges every layer again. What does not fit together is a failure of the
// layer.
func (r *chaosRun) judge(dir string) {
	for i := range r.Layers {
		l := &r.Layers[i]
		if err := l.judge(dir); err != nil {
			l.Report.Fail("harness", "tandem chaos judge "+dir, "the saved run: %v", err)
			l.Report.Verdict = chaos.Fail
		}
		l.Skipped = l.Report.Skipped()
	}
	r.Verdict = r.verdict()
}

func (l *layerRun) judge(dir string) error {
	path := filepath.Join(dir, l.Name+".json")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	beside := &chaos.Report{}
	if err := json.Unmarshal(text, beside); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if !reflect.DeepEqual(beside, l.Report) {
		return fmt.Errorf("%s and %s differ", l.Name+".json", savedReport)
	}
	if err := l.Report.Check(); err != nil {
		return err
	}
	if l.Name != chaos.CampaignName || l.Report.Cases == 0 {
		return nil
	}
	return l.judgeCampaign(filepath.Join(dir, l.Name))
}

// judgeCampaign judges the histories that are there: all that failed, and of the
// others as many as were kept.
func (l *layerRun) judgeCampaign(dir string) error {
	again, err := chaos.JudgeDir(dir)
	if err != nil {
		return err
	}
	saved := l.Report
	switch {
	case saved.Verdict == chaos.Fail:
		return nil // whatever is left of it, it has not passed
	case again.Verdict != saved.Verdict:
		for _, f := range again.Failures {
			saved.Fail(f.Contract, f.Reproduce, "%s", f.What)
		}
		return fmt.Errorf("%v was saved; its histories say %v", saved.Verdict, again.Verdict)
	case again.Counts["episodes"] == saved.Counts["episodes"] && again.Kills != saved.Kills:
		return fmt.Errorf("%s saved; its histories have %d", count(saved.Kills, "kill"), again.Kills)
	}
	return nil
}
