package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"text/tabwriter"
	"time"

	"github.com/tandem-ipc/tandem/chaos"
)

// The files of a saved run.
const (
	savedReport = "report.json"
	savedPage   = "report.html"
	savedMatrix = "matrix.json"
)

// chaosFormat marks the report of a run.
const chaosFormat = "tandem chaos 1"

// A chaosRun is what a run says at the end, by the names that -json uses.
type chaosRun struct {
	Format      string        `json:"format"`
	Verdict     chaos.Verdict `json:"verdict"`
	Seed        uint64        `json:"seed"`
	Again       string        `json:"again"` // the command line that repeats it
	Interrupted bool          `json:"interrupted,omitempty"`
	Machine     machine       `json:"machine"`
	Started     time.Time     `json:"started"`
	Elapsed     time.Duration `json:"elapsed"` // nanoseconds
	Layers      []layerRun    `json:"layers"`
}

// A layerRun is one layer of it.
type layerRun struct {
	Name    string        `json:"name"`
	What    string        `json:"what"`
	Skipped string        `json:"skipped,omitempty"` // why the machine does not permit it
	Report  *chaos.Report `json:"report"`
}

type machine struct {
	Kernel       string `json:"kernel"`
	Processors   int    `json:"processors"`
	Processor    string `json:"processor,omitempty"`
	Architecture string `json:"architecture"`
	Go           string `json:"go"`
	Version      string `json:"version,omitempty"` // of this command
}

func thisMachine() machine {
	m := machine{Kernel: kernel(), Processors: runtime.NumCPU(), Processor: processor(), Architecture: runtime.GOARCH, Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		m.Version = info.Main.Version
	}
	return m
}

// run runs the layers, one after the other, and saves the run if it is to.
func (o chaosOptions) run(ctx context.Context, stderr io.Writer) (*chaosRun, error) {
	dir := o.out
	if dir == "" {
		temporary, err := os.MkdirTemp("", "tandem-chaos-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(temporary)
		dir = temporary
	} else if err := prepareOut(dir); err != nil {
		return nil, err
	}
	dir = resolved(dir)
	fmt.Fprintf(stderr, "tandem chaos: %s, about %v; -seed %d repeats what is drawn\n", count(len(o.layers), "layer"), o.time, o.seed)
	r := &chaosRun{Format: chaosFormat, Seed: o.seed, Again: o.again(), Machine: thisMachine(), Started: time.Now()}
	p := newChaosProgress(stderr, o)
	parts := 0
	for _, l := range o.layers {
		parts += l.Parts
	}
	for _, l := range o.layers {
		if ctx.Err() != nil {
			break
		}
		rest := max(o.time-time.Since(r.Started), time.Second)
		options := chaos.LayerOptions{Budget: rest * time.Duration(l.Parts) / time.Duration(parts), Seed: o.seed, Dir: filepath.Join(dir, l.Name), Kills: o.kills}
		parts -= l.Parts
		done := p.begin(l, &options)
		report := l.Run(ctx, options)
		done()
		r.Layers = append(r.Layers, layerRun{l.Name, l.What, report.Skipped(), report})
	}
	p.end()
	r.Interrupted = ctx.Err() != nil
	r.Elapsed = time.Since(r.Started)
	r.Verdict = r.verdict()
	if o.out == "" {
		return r, nil
	}
	return r, r.save(dir)
}

// resolved is a directory by a name without links, so that to join or to clean it
// names no other: behind a link, ".." is the parent of where the link leads.
func resolved(dir string) string {
	if name, err := filepath.EvalSymlinks(dir); err == nil {
		return name
	}
	return dir // whatever opens it says why
}

// prepareOut makes the directory of a run, or sees that there is nothing of
// another in it.
func prepareOut(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.Name() != savedMatrix {
			return fmt.Errorf("%s is not empty: there is %s", dir, entry.Name())
		}
	}
	return err
}

// verdict is the worst of the layers'. One that the machine does not permit says
// nothing, but one at least must have passed.
func (r *chaosRun) verdict() chaos.Verdict {
	passed, void := 0, 0
	for _, l := range r.Layers {
		switch {
		case l.Report.Verdict == chaos.Fail:
			return chaos.Fail
		case l.Report.Verdict == chaos.Pass:
			passed++
		case l.Skipped == "":
			void++
		}
	}
	if void > 0 || passed == 0 || r.Interrupted {
		return chaos.Void
	}
	return chaos.Pass
}

// save writes everything but the histories, which are there already. The report
// comes last: with it, a run is whole.
func (r *chaosRun) save(dir string) error {
	for _, l := range r.Layers {
		if err := writeJSON(filepath.Join(dir, l.Name+".json"), l.Report); err != nil {
			return err
		}
	}
	return errors.Join(r.writePage(dir), writeJSON(filepath.Join(dir, savedReport), r))
}

func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}

// tell prints the run, and returns the exit status that it deserves.
func (r *chaosRun) tell(asJSON bool, stdout, stderr io.Writer) int {
	var err error
	if asJSON {
		err = json.NewEncoder(stdout).Encode(r)
	} else {
		err = r.table(stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "tandem chaos:", err)
		return exitFailed
	}
	if r.Verdict != chaos.Pass {
		return exitFailed
	}
	return exitOK
}

// word is the verdict of a layer for a reader.
func (l layerRun) word() string {
	switch {
	case l.Skipped != "":
		return "SKIPPED"
	case l.Report.Verdict == chaos.Pass:
		return "pass"
	case l.Report.Verdict == chaos.Fail:
		return "FAIL"
	}
	return "VOID"
}

// failuresShown is how many failures of a layer the table names. The report has
// more.
const failuresShown = 10

func (r *chaosRun) table(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "layer\tverdict\tcases\tkills\tsteps\ttime")
	kills := 0
	for _, l := range r.Layers {
		kills += l.Report.Kills
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%.1f s\n", l.Name, l.word(), l.Report.Cases, l.Report.Kills, len(l.Report.Steps), l.Report.Elapsed.Seconds())
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, l := range r.Layers {
		shown := l.Report.Failures[:min(len(l.Report.Failures), failuresShown)]
		for _, f := range shown {
			fmt.Fprintf(out, "\n%s: %v\n", l.Name, f)
		}
		if more := l.Report.Failed - len(shown); more > 0 {
			fmt.Fprintf(out, "\n%s: and %d more\n", l.Name, more)
		}
		switch l.word() {
		case "SKIPPED":
			fmt.Fprintf(out, "\n%s: SKIPPED, this machine does not permit it: %s\n", l.Name, l.Skipped)
		case "VOID":
			fmt.Fprintf(out, "\n%s: VOID, too little happened to say anything; that is no pass\n", l.Name)
		}
	}
	if r.Interrupted {
		fmt.Fprintln(out, "\ninterrupted: what is missing was not shown")
	}
	_, err := fmt.Fprintf(out, "\n%s: %s in %.1f s; again: %s\n", map[chaos.Verdict]string{chaos.Pass: "pass", chaos.Fail: "FAIL", chaos.Void: "VOID"}[r.Verdict],
		count(kills, "kill"), r.Elapsed.Seconds(), r.Again)
	return err
}
