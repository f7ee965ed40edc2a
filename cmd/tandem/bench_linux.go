package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/chart"
	"github.com/tandem-ipc/tandem/internal/measure"
)

// driverPart is the command line of one side of what is measured.
const driverPart = "bench-driver"

const benchHelp = `usage: tandem bench [-rounds N] [-time DURATION] [-json] [-plot DIR]

Measures on this machine, in less than a minute, what a message costs between two
processes: through tandem, a Unix socket, TCP on the loopback, and a pipe. Each is two
processes, each bound to a processor of its own if there are two. In each round all are
measured, one after the other, and between any two of them the floor: a cache line that
goes to the other process and back. Every message is numbered, and its number is looked
at; one that is lost, repeated or spoiled is shown instead of a figure.

The table has medians over the rounds, the least and the most in brackets, and how many
times the floor that is. A difference that is smaller than the brackets is none. Other
work on the machine is in the figures, so look at how far the floor spreads.

The progress is shown on the standard error, the table on the standard output. The exit
status is 0 if everything was measured and every message was right, 1 if not, and 2 for
wrong usage. The evaluation of the repository, go run ./bench, has more contenders.

`

// A benchOptions is the command line of the evaluation.
type benchOptions struct {
	rounds int
	time   time.Duration
	json   bool
	plot   string
}

func parseBench(args []string, stdout, stderr io.Writer) (o benchOptions, status int, done bool) {
	flags := flag.NewFlagSet("tandem bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 5, "measure everything in `N` rounds")
	flags.DurationVar(&o.time, "time", 60*time.Millisecond, "measure each figure for this `duration` in each round")
	flags.BoolVar(&o.json, "json", false, "print the result as one JSON object")
	flags.StringVar(&o.plot, "plot", "", "draw round trip and throughput against size, as SVG and PNG, into `DIR`")
	if status, done := parseFlags(flags, args, benchHelp, stdout, stderr); done {
		return o, status, true
	}
	var err error
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("there is no argument %q", flags.Arg(0))
	case o.rounds < 1 || o.rounds > 1000:
		err = fmt.Errorf("-rounds is %d: want 1 to 1000", o.rounds)
	case o.time < time.Millisecond || o.time > time.Minute:
		err = fmt.Errorf("-time is %v: want 1ms to 1m", o.time)
	}
	if err != nil {
		return o, misused(flags.Name(), err, flags.Name()+" -help", stderr), true
	}
	return o, exitOK, false
}

// bench is the command.
func bench(args []string, stdout, stderr io.Writer) int {
	o, status, done := parseBench(args, stdout, stderr)
	if done {
		return status
	}
	ctx, stop := interruptible()
	defer stop()
	var f *measure.File
	err := preparePlot(o.plot)
	if err == nil {
		f, err = evaluate(ctx, o, stderr)
	}
	if err == nil {
		err = showBench(f, o, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "tandem bench: %v\n", err)
		return endedWith(ctx, exitFailed)
	}
	return exitOK
}

// playDriver is one side of what is measured.
func playDriver(args []string, _, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintln(stderr, "tandem "+driverPart+": this is a part of tandem bench, and started by it")
		return exitUsage
	}
	return measure.Drive(args, measure.Transports())
}

// benchSizes are what is measured of both works.
var benchSizes = []int{64, 4 << 10, 64 << 10, 1 << 20}

// benchCells are what is measured, and by which line and column of the table.
func benchCells(place string) (cells []measure.Cell) {
	for _, work := range []string{measure.RoundTrip, measure.OneWay} {
		for _, size := range benchSizes {
			for _, c := range []struct{ contender, form string }{
				{"tandem", measure.Copy}, {"tandem", measure.View}, {"tandem", measure.Batch}, {"unix", measure.Copy}, {"tcp", measure.Copy}, {"pipe", measure.Copy},
			} {
				if c.form == measure.Batch && work == measure.RoundTrip {
					continue // it is one message at a time
				}
				cells = append(cells, measure.Cell{Contender: c.contender, Form: c.form, Work: work, Size: size, Wait: measure.Default, Place: place, InFlight: 1})
			}
		}
	}
	return cells
}

// evaluate measures.
func evaluate(ctx context.Context, o benchOptions, stderr io.Writer) (f *measure.File, err error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	processors, err := measure.Processors()
	if err != nil {
		return nil, err
	}
	place := measure.Apart
	if len(processors) < 2 {
		place = measure.Together
	}
	own := measure.Driver{Command: []string{executable, driverPart}, Env: []string{"GOMAXPROCS=2"}}
	s := &measure.Session{Rounds: o.rounds, Warm: o.time / 4, Time: o.time, Log: stderr, Own: own, Driver: func(string) measure.Driver { return own }}
	began := time.Now()
	f = &measure.File{
		Date: began.UTC().Format(time.RFC3339), Machine: measure.ThisMachine(), Quick: true, Rounds: o.rounds,
		WarmMillis: s.Warm.Milliseconds(), TimeMillis: s.Time.Milliseconds(), LoadBefore: measure.Load(),
	}
	if err := s.Open(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if f.Rows, err = s.Measure(ctx, benchCells(place)); err != nil {
		return nil, err
	}
	f.Floors, f.LoadAfter, f.Seconds = s.Floors(), measure.Load(), time.Since(began).Round(time.Second).Seconds()
	return f, nil
}

// showBench prints and draws. What was not measured is an error, after the table.
func showBench(f *measure.File, o benchOptions, stdout io.Writer) (err error) {
	if o.json {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(f)
	} else {
		err = printBench(f, stdout)
	}
	if o.plot != "" && err == nil {
		err = drawBench(f, o.plot)
	}
	for _, r := range f.Rows {
		if !r.Measured() {
			err = errors.Join(err, fmt.Errorf("%s: %s", r.Name, r.Why()))
		}
	}
	return err
}

func printBench(f *measure.File, stdout io.Writer) error {
	fmt.Fprintf(stdout, "%s, %d processors, %s, %s\nfloor %.0f ns [%.0f-%.0f], load %s before, %s after\n", f.Machine.CPU, f.Machine.Processors,
		f.Machine.Kernel, f.Machine.Go, measure.Median(f.Floors), slices.Min(f.Floors), slices.Max(f.Floors), f.LoadBefore, f.LoadAfter)
	table := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	for _, work := range []string{measure.RoundTrip, measure.OneWay} {
		head := map[string]string{measure.RoundTrip: "there and back, us", measure.OneWay: "one way, millions a second"}[work]
		fmt.Fprintf(table, "\n%s\t", head)
		for _, size := range benchSizes {
			fmt.Fprintf(table, "%s\tx floor\t", measure.SizeText(size))
		}
		fmt.Fprintln(table)
		for _, line := range linesOfBench(f, work) {
			fmt.Fprintf(table, "%s, %s\t", line[0].Contender, line[0].Form)
			for _, r := range line {
				fmt.Fprintf(table, "%s\t", benchFigure(r))
			}
			fmt.Fprintln(table)
		}
	}
	return table.Flush()
}

// linesOfBench are the rows of a work, those of a contender and form together.
func linesOfBench(f *measure.File, work string) (lines [][]*measure.Row) {
	at := map[string]int{}
	for _, r := range f.Rows {
		if r.Work != work {
			continue
		}
		key := r.Contender + r.Form
		if _, known := at[key]; !known {
			at[key] = len(lines)
			lines = append(lines, nil)
		}
		lines[at[key]] = append(lines[at[key]], r)
	}
	return lines
}

// benchFigure is two cells of the table.
func benchFigure(r *measure.Row) string {
	if !r.Measured() {
		return "-\t-"
	}
	value := func(ns float64) float64 {
		if r.Work == measure.OneWay {
			return 1e3 / ns
		}
		return ns / 1e3
	}
	low, high := value(slices.Min(r.Nanos)), value(slices.Max(r.Nanos))
	return fmt.Sprintf("%.3g [%.3g-%.3g]\t%.3g", value(measure.Median(r.Nanos)), min(low, high), max(low, high), measure.Median(r.Ratios()))
}

// preparePlot makes the directory of the pictures, if there are to be any, and sees that
// they can be written there: it would be late to find out when everything is measured.
func preparePlot(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("no picture can be made in %s: %w", dir, err)
	}
	for _, work := range []string{measure.RoundTrip, measure.OneWay} {
		for _, form := range []string{".svg", ".png"} {
			// Those of an earlier run stay as they are until there are new ones.
			file, err := os.OpenFile(filepath.Join(dir, work+form), os.O_WRONLY|unix.O_NONBLOCK, 0)
			if err == nil {
				err = file.Close()
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// drawBench draws two pictures into a directory that preparePlot has seen.
func drawBench(f *measure.File, dir string) error {
	charts := map[string]chart.Chart{
		measure.RoundTrip: {Title: "Round trip against size", Y: "time there and back, us"},
		measure.OneWay:    {Title: "One way against size", Y: "GB/s"},
	}
	for work, c := range charts {
		c.X, c.LogX, c.LogY = "size of a message", true, true
		for _, size := range benchSizes {
			c.Ticks = append(c.Ticks, chart.Tick{At: float64(size), Label: measure.SizeText(size)})
		}
		for _, rows := range linesOfBench(f, work) {
			line := chart.Line{Name: rows[0].Contender + ", " + rows[0].Form, Bold: rows[0].Contender == "tandem"}
			for _, r := range rows {
				if !r.Measured() {
					continue
				}
				value := func(ns float64) float64 {
					if work == measure.OneWay {
						return float64(r.Size) / ns
					}
					return ns / 1e3
				}
				low, high := value(slices.Min(r.Nanos)), value(slices.Max(r.Nanos))
				line.X, line.Y = append(line.X, float64(r.Size)), append(line.Y, value(measure.Median(r.Nanos)))
				line.Low, line.High = append(line.Low, min(low, high)), append(line.High, max(low, high))
			}
			c.Lines = append(c.Lines, line)
		}
		if err := c.Write(dir, work); err != nil {
			return err
		}
	}
	return nil
}
