//go:build linux

// Bench is the evaluation: tandem beside what else there is for two processes on one
// machine, and beside what needs no second process. It measures, and writes the page.
//
//	go run ./bench -quick                  all of it, in less than half an hour, into bench/results
//	go run ./bench                         the same with longer rounds
//	go run ./bench -scale                  many pairs, and rings of other sizes, into the last result file
//	go run ./bench -report                 the page, its pictures and the README's numbers, from the last result file
//	go run ./bench -compare FILE           the rows that differ from those of another result file
//	go run ./bench -plots FILE -out DIR    pictures of what tandem bench -json has measured
//
// bench/run.sh first builds the contenders in other languages, and then runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/tandem-ipc/tandem/bench/internal/page"
	"github.com/tandem-ipc/tandem/bench/internal/peers"
	"github.com/tandem-ipc/tandem/internal/measure"
)

// driverWord makes this program a driver.
const driverWord = "driver"

func main() {
	if len(os.Args) > 1 && os.Args[1] == driverWord {
		os.Exit(measure.Drive(os.Args[2:], peers.Transports()))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := bench(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// An order is the command line.
type order struct {
	quick, scale, report bool
	plots, out, file     string
	compare              string
	rounds               int
	only                 string
	root                 string
}

func bench(ctx context.Context) error {
	o := order{}
	flag.BoolVar(&o.quick, "quick", false, "shorter times in each round; the rounds are as many")
	flag.BoolVar(&o.scale, "scale", false, "measure many pairs and rings of other sizes, and put them into the result file")
	flag.BoolVar(&o.report, "report", false, "measure nothing: write the page from the result file")
	flag.StringVar(&o.compare, "compare", "", "measure nothing: name the rows of the result file whose spread lies apart from that of this `file`")
	flag.StringVar(&o.plots, "plots", "", "measure nothing: draw the result `file`")
	flag.StringVar(&o.out, "out", "", "draw into this `directory`, for -plots")
	flag.StringVar(&o.file, "file", "", "the result `file` (default: the last one in bench/results, or a new one)")
	flag.IntVar(&o.rounds, "rounds", 10, "measure each cell in `N` rounds")
	flag.StringVar(&o.only, "only", "", "measure only cells whose name matches this regular `expression`, and nothing else")
	flag.Parse()
	if flag.NArg() == 1 && o.report {
		o.file = flag.Arg(0)
	} else if flag.NArg() > 0 {
		return fmt.Errorf("there is no argument %q; see -help", flag.Arg(0))
	}
	if o.rounds < 1 {
		return fmt.Errorf("-rounds is %d: want at least 1", o.rounds)
	}
	var err error
	if o.root, err = findRoot(); err != nil && o.plots == "" {
		return err
	}
	switch {
	case o.plots != "":
		return drawFile(o)
	case o.compare != "":
		return compareFiles(o)
	case o.report:
		path, err := o.existing()
		if err != nil {
			return err
		}
		return page.Write(o.root, path)
	}
	return run(ctx, o)
}

func compareFiles(o order) error {
	path, err := o.existing()
	if err != nil {
		return err
	}
	now, err := measure.ReadFile(path)
	if err != nil {
		return err
	}
	then, err := measure.ReadFile(o.compare)
	if err != nil {
		return err
	}
	compare(now, then, os.Stdout)
	return nil
}

func drawFile(o order) error {
	if o.out == "" {
		return errors.New("-plots wants -out")
	}
	f, err := measure.ReadFile(o.plots)
	if err != nil {
		return err
	}
	return page.Draw(f, o.out)
}

// findRoot is the directory of the repository: where it was started, or above.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "bench", "DRIVERS.md")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("start it in the repository: bench/DRIVERS.md is not here and not above")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// existing is the result file that was named, or the last one.
func (o order) existing() (string, error) {
	if o.file != "" {
		return o.file, nil
	}
	return page.LastResult(o.root)
}

// drivers are who plays each contender, and who is absent.
func (o order) drivers() (own measure.Driver, driver func(string) measure.Driver, absent []measure.Absent, err error) {
	executable, err := os.Executable()
	if err != nil {
		return own, nil, nil, err
	}
	// Two processors for each: what is bound to one is still a program that could have more.
	own = measure.Driver{Command: []string{executable, driverWord}, Env: []string{"GOMAXPROCS=2"}}
	bin := filepath.Join(o.root, "bench", "peers", "bin")
	for _, name := range slices.Sorted(maps.Keys(foreign)) {
		if _, err := os.Stat(filepath.Join(bin, foreign[name])); err != nil {
			absent = append(absent, measure.Absent{Contender: name, Why: "it was not built: bench/peers/build.sh says what it needs"})
		}
	}
	return own, func(name string) measure.Driver {
		if file, is := foreign[name]; is {
			return measure.Driver{Command: []string{filepath.Join(bin, file)}}
		}
		return own
	}, append(absent, never...), nil
}
