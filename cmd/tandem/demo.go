package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const demoHelp = `usage: tandem demo [-dir DIR] [-kills N] [-seed N] [-json]

A server process sends every regular file under DIR through shared memory to a
client process, which answers with its SHA-256. Meanwhile the client is killed
with SIGKILL, N times, and after that the server, once; both are restarted, and
the work goes on. At the end every answer is held against the digest that this
command computes from the file itself, and the answers are counted: none may be
lost, come twice without a mark, or come out of order.

The deaths are at random places in the work, each so many microseconds after
the answer to some message; -seed repeats the choice. So that there is work for
each of them, the files are sent in several rounds if they are fewer than
%d for each death. A file that cannot be read, or changes while the demo runs, is
skipped, named and counted. A file that is too large for a message is an error.

The progress is shown on the standard error, the result on the standard output.
The exit status is 0 only if every digest agrees, nothing was lost, duplicated
or out of order, and all deaths have taken place; 1 if not; 2 for wrong usage;
130 after ^C.

`

// maxKills keeps the numbers of the messages within their kind.
const maxKills = 100_000

// A demoOptions is the command line of the demo.
type demoOptions struct {
	dir   string
	kills int
	seed  uint64
	json  bool
}

// parseDemo reads the command line. If that is all there is to do, done is true.
func parseDemo(args []string, stdout, stderr io.Writer) (o demoOptions, status int, done bool) {
	flags := flag.NewFlagSet("tandem demo", flag.ContinueOnError)
	flags.StringVar(&o.dir, "dir", "", "send the files under `DIR` (default: the source of the standard library in GOROOT, else the current directory)")
	flags.IntVar(&o.kills, "kills", 5, "kill the client `N` times")
	flags.Uint64Var(&o.seed, "seed", 0, "choose the places of the deaths by this `number` (default: a random one, which is printed)")
	flags.BoolVar(&o.json, "json", false, "print the result as one JSON object")
	if status, done := parseFlags(flags, args, fmt.Sprintf(demoHelp, messagesPerKill), stdout, stderr); done {
		return o, status, true
	}
	seeded := false
	flags.Visit(func(f *flag.Flag) { seeded = seeded || f.Name == "seed" })
	if !seeded {
		o.seed = uint64(rand.Uint32()) // short, to be typed again
	}
	var err error
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("there is no argument %q", flags.Arg(0))
	case o.kills < 0 || o.kills > maxKills:
		err = fmt.Errorf("-kills is %d: want 0 to %d", o.kills, maxKills)
	}
	if err != nil {
		return o, misused(flags.Name(), err, flags.Name()+" -help", stderr), true
	}
	return o, exitOK, false
}

// demo is the command: the orchestrating process.
func demo(args []string, stdout, stderr io.Writer) int {
	o, status, done := parseDemo(args, stdout, stderr)
	if done {
		return status
	}
	// Whoever reads the output may leave early. Then it is lost, but nothing
	// else is: the processes and the files are still cleaned up.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := interruptible()
	defer stop()

	begun := time.Now()
	r, err := o.run(ctx, stderr)
	r.Duration = milliseconds(time.Since(begun))
	if err != nil {
		r.Error = err.Error()
		fmt.Fprintln(stderr, "tandem demo:", err)
	}
	r.OK = len(r.problems()) == 0
	write := r.table
	if o.json {
		write = r.json
	}
	if err := write(stdout); err != nil {
		fmt.Fprintln(stderr, "tandem demo:", err)
		return exitFailed
	}
	if !r.OK {
		return endedWith(ctx, exitFailed)
	}
	return exitOK
}

// run runs the demo. The report says what is known, whatever the error.
func (o demoOptions) run(ctx context.Context, stderr io.Writer) (*report, error) {
	out := &report{Seed: o.seed, Dir: o.dir, wantKills: o.kills}
	if o.dir == "" {
		out.Dir = defaultDir()
	}
	dir, err := filepath.Abs(resolved(out.Dir))
	if err != nil {
		return out, err
	}
	out.Dir = dir
	files, unread, err := findInput(dir)
	if err != nil {
		return out, err
	}
	ring, err := ringSizeFor(files)
	if err != nil {
		return out, err
	}
	total := messageCount(len(files), o.kills)
	if total >= math.MaxInt32 {
		return out, fmt.Errorf("%d files are too many", len(files))
	}
	s := setup{ToClientSize: ring, Files: files, Total: total, Points: choosePoints(o.seed, o.kills, total)}
	for m := range total {
		s.Messages = append(s.Messages, uint32(m))
	}
	fmt.Fprintf(stderr, "tandem demo: %s under %s; the client will be killed %s, the server once; -seed %d repeats it\n",
		count(len(files), "file"), dir, count(o.kills, "time"), o.seed)
	r := &run{setup: s, judge: newJudge(len(files), total), progress: newProgress(stderr, total, o.kills)}
	err = r.work(ctx)
	r.progress.end()
	out.fill(r)
	if err == nil {
		digests, errs := digestsOf(ctx, files)
		if err = context.Cause(ctx); err == nil {
			err = out.compare(r, digests, errs, unread, stderr)
		}
	}
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("interrupted: %w", err)
	}
	return out, err
}
