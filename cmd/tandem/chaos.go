package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/tandem-ipc/tandem/chaos"
)

const chaosHelp = `usage: tandem chaos [-out DIR] [-seed N] [-time D] [-layers LIST] [-kills N] [-json]
       tandem chaos judge [-json] DIR

Breaks the message channel of package ipc in every way that is known, in layers,
and judges what is left of it. A layer that was interrupted, or in which too
little happened to say anything, has not passed. The layers are:

%s
The time is shared among them; each covers what it can in its share, by a choice
that -seed repeats. -kills lets the campaign go on until it has killed so many
processes, however long that takes.

With -out the run is saved: DIR/report.html is one page for a reader, without
anything that it would have to fetch; DIR/report.json and DIR/LAYER.json are the
same as data; DIR/campaign holds the histories. DIR must be empty, but for a
matrix.json of planted bugs, which then is on the page too. "tandem chaos judge"
judges a saved run again and changes nothing.

The progress is shown on the standard error, the result on the standard output:
for each layer its verdict, the runs that it judged, the deaths in them, and at how
many different steps of the protocol, or system calls, somebody died or stopped.
The exit status is 0 only if every layer has passed, but for those that this
machine does not permit, which are named; 1 if not; 2 for wrong usage; 130 after ^C.

`

// A chaosOptions is the command line of a run.
type chaosOptions struct {
	out    string
	seed   uint64
	time   time.Duration
	layers []chaos.Layer
	kills  int
	json   bool
}

// parseChaos reads the command line. If that is all there is to do, done is true.
func parseChaos(args []string, stdout, stderr io.Writer) (o chaosOptions, status int, done bool) {
	flags := flag.NewFlagSet("tandem chaos", flag.ContinueOnError)
	var names string
	flags.StringVar(&o.out, "out", "", "save the run in `DIR`")
	flags.Uint64Var(&o.seed, "seed", 0, "draw by this `number` (default: a random one, which is printed)")
	flags.DurationVar(&o.time, "time", 2*time.Minute, "how long all layers together may take, about")
	flags.StringVar(&names, "layers", "", "run only the layers in this `LIST`, A,B,… (default: all)")
	flags.IntVar(&o.kills, "kills", 0, "let the campaign go on until it has made `N` kills")
	flags.BoolVar(&o.json, "json", false, "print the result as one JSON object")
	if status, done := parseFlags(flags, args, fmt.Sprintf(chaosHelp, layerTable()), stdout, stderr); done {
		return o, status, true
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if !given["seed"] {
		o.seed = uint64(rand.Uint32()) // short, to be typed again
	}
	var err error
	o.layers = chaos.Layers()
	if given["layers"] {
		o.layers, err = layersNamed(names)
	}
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("there is no argument %q", flags.Arg(0))
	case o.time <= 0:
		err = fmt.Errorf("-time is %v: want more than nothing", o.time)
	case o.kills < 0:
		err = fmt.Errorf("-kills is %d: want 0 or more", o.kills)
	case err == nil && o.kills > 0 && !slices.ContainsFunc(o.layers, func(l chaos.Layer) bool { return l.Name == chaos.CampaignName }):
		err = fmt.Errorf("-kills is for the layer %s, which -layers leaves out", chaos.CampaignName)
	}
	if err != nil {
		return o, misused(flags.Name(), err, flags.Name()+" -help", stderr), true
	}
	return o, exitOK, false
}

func layerTable() string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	for _, l := range chaos.Layers() {
		fmt.Fprintf(table, "  %s\t%s\n", l.Name, l.What)
	}
	_ = table.Flush()
	return text.String()
}

// layersNamed are the layers of a list, in their usual order.
func layersNamed(list string) (chosen []chaos.Layer, err error) {
	names := strings.Split(list, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	var known []string
	for _, l := range chaos.Layers() {
		known = append(known, l.Name)
		if slices.Contains(names, l.Name) {
			chosen = append(chosen, l)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("there is no layer %q; there are: %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

// again is the command line that repeats the run.
func (o chaosOptions) again() string {
	names := make([]string, len(o.layers))
	for i, l := range o.layers {
		names[i] = l.Name
	}
	text := fmt.Sprintf("tandem chaos -seed %d -time %v", o.seed, o.time)
	if len(names) < len(chaos.Layers()) {
		text += " -layers " + strings.Join(names, ",")
	}
	if o.kills > 0 {
		text += fmt.Sprintf(" -kills %d", o.kills)
	}
	return text
}

// breakAndJudge is the command.
func breakAndJudge(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "judge" {
		return judgeAgain(args[1:], stdout, stderr)
	}
	o, status, done := parseChaos(args, stdout, stderr)
	if done {
		return status
	}
	signal.Ignore(syscall.SIGPIPE) // as in the demo
	ctx, stop := interruptible()
	defer stop()
	context.AfterFunc(ctx, stop) // the second ^C is final

	r, err := o.run(ctx, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "tandem chaos:", err)
		if r == nil {
			return exitFailed
		}
	}
	status = r.tell(o.json, stdout, stderr)
	if err != nil {
		status = max(status, exitFailed)
	}
	return endedWith(ctx, status)
}
