//go:build linux

// Command mutate measures the tests of a package: it plants every small fault that it can
// think of, one at a time, and says which of them no test finds.
//
//	go run ./internal/mutate -files ring.go,gate.go
//
// Faults share a build, asleep, as planted bugs do (see internal/plant). A fault whose
// function is compiled to the same code is dropped. Each is shown to the tests that reach
// its statement, the cheapest first, until one fails. Results are kept: a run that is broken
// off goes on where it was, and what was found is not asked again as long as its function
// stays the same.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tandem-ipc/tandem/internal/plant"
)

// layers are the layers of chaos that can be asked, the cheapest first.
var layers = []layer{
	{"enumerator", "^TestEnumerator$"},
	{"properties", "^TestRapidPairIsWhatTheModelSays$"},
	{"hostile", "^(TestEnumeratorHostile|TestRapidHostile)$"},
	{"forked", "^TestForked$"},
	{"traces", "^TestTraces$"},
	{"campaign", "^TestCampaign$"},
}

// options are what a run is asked for.
type options struct {
	directory, files, only, state, layers string
	equivalents                           string
	sample                                int
	seed                                  uint64
	parallel, share                       int
	list                                  bool
	limits                                limits
	time                                  time.Duration
}

func main() {
	o := options{equivalents: equivalentsText}
	cache, _ := os.UserCacheDir()
	flag.StringVar(&o.directory, "package", "ipc", "the directory of the package")
	flag.StringVar(&o.files, "files", "", "only mutants of these files, with commas between")
	flag.StringVar(&o.only, "only", "", "only mutants whose file, function and mutation contain this")
	flag.StringVar(&o.state, "state", filepath.Join(cache, "tandem-mutate"), "the directory of results and measurements")
	flag.StringVar(&o.layers, "layers", "", "layers of chaos that are shown what survives, with commas between, or all")
	flag.IntVar(&o.sample, "sample", 0, "draw so many mutants; 0 takes all")
	flag.Uint64Var(&o.seed, "seed", 0, "of the draw; 0 takes another one each time")
	flag.DurationVar(&o.time, "time", 0, "begin with no more mutants after so long; 0 is no limit")
	flag.IntVar(&o.parallel, "parallel", 2, "how many mutants are hunted at once")
	flag.IntVar(&o.share, "share", 600, "how many mutants share a build")
	flag.BoolVar(&o.list, "list", false, "only say which mutants there are")
	flag.DurationVar(&o.limits.all, "limit", 8*time.Second, "how long a run of tests may take on a quiet machine, besides five times what it took")
	flag.DurationVar(&o.limits.watchdog, "watchdog", 5*time.Second, "how long a test may wait, on a quiet machine")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	survivors, err := o.run(ctx, os.Stdout)
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	case survivors > 0:
		os.Exit(1)
	}
}

// mutants are those of the functions that can have a copy. It says what is left out.
func (t *target) mutants(out io.Writer) (all []*mutant) {
	without, functions := 0, []string{}
	for _, f := range t.functions {
		of := t.mutantsOf(f)
		if why := whyNoCopy(f.decl); why != "" {
			without += len(of)
			functions = append(functions, f.key+" ("+why+")")
			continue
		}
		all = append(all, of...)
	}
	if without > 0 {
		fmt.Fprintf(out, "%d more mutants are left out, of functions that cannot have a copy: %s\n", without, strings.Join(functions, ", "))
	}
	return all
}

// chosen are the mutants that a run is asked for.
func (o *options) chosen(mutants []*mutant, out io.Writer) []*mutant {
	mutants = slices.DeleteFunc(mutants, func(m *mutant) bool {
		return o.files != "" && !slices.Contains(strings.Split(o.files, ","), m.of.file.name) || !strings.Contains(m.fullName(), o.only)
	})
	if o.sample > 0 && o.sample < len(mutants) {
		if o.seed == 0 {
			o.seed = rand.Uint64()
		}
		fmt.Fprintf(out, "%d of %d mutants are drawn: -sample %d -seed %d\n", o.sample, len(mutants), o.sample, o.seed)
		rand.New(rand.NewPCG(o.seed, 0)).Shuffle(len(mutants), func(i, j int) { mutants[i], mutants[j] = mutants[j], mutants[i] })
		mutants = mutants[:o.sample]
		slices.SortFunc(mutants, func(a, b *mutant) int { return strings.Compare(a.fullName(), b.fullName()) })
	}
	return mutants
}

func (o *options) run(ctx context.Context, out io.Writer) (survivors int, err error) {
	begun := time.Now()
	t, err := load(o.directory)
	if err != nil {
		return 0, err
	}
	mutants := o.chosen(t.mutants(out), out)
	if o.list {
		for _, m := range mutants {
			fmt.Fprintf(out, "%s\n%s", m.fullName(), m.diff(t))
		}
		return 0, nil
	}
	h := &hunt{target: t, out: out, state: o.state, parallel: o.parallel, share: o.share, limits: o.limits, time: o.time, shuffled: o.sample > 0}
	for _, l := range layers {
		if o.layers == "all" || slices.Contains(strings.Split(o.layers, ","), l.name) {
			h.layers = append(h.layers, l)
		}
	}
	equivalent, err := equivalents(o.equivalents)
	if err != nil {
		return 0, err
	}
	if h.fingerprint, err = t.fingerprint(); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(o.state, 0o700); err != nil {
		return 0, err
	}
	known, err := openResults(filepath.Join(o.state, "results.jsonl"), h.fingerprint)
	if err != nil {
		return 0, err
	}
	defer known.file.Close()
	if err := h.all(ctx, mutants, known); err != nil && ctx.Err() == nil {
		return 0, err
	}
	return t.report(out, mutants, known, equivalent, time.Since(begun).Seconds()), ctx.Err()
}

// all hunts the mutants that nothing is known of.
func (h *hunt) all(ctx context.Context, mutants []*mutant, known *results) (err error) {
	var left []*mutant
	for _, m := range mutants {
		if _, ok := known.get(m); !ok {
			left = append(left, m)
		}
	}
	h.say("%d mutants, %d of them are known", len(mutants), len(mutants)-len(left))
	if len(left) == 0 {
		return nil
	}
	tell := func(m *mutant, r result) {
		r.Key, r.File, r.Function, r.Mutation, r.Sources = m.key(), m.of.file.name, m.of.key, m.name(), h.fingerprint
		r.Line = h.line(m.of.file, m.edits[0].from)
		if e := known.add(r); e != nil {
			h.say("%v", e)
		}
		if r.Outcome == "survived" || r.Outcome == "unclear" {
			h.say("%s: %s %s", r.Outcome, m.fullName(), r.By)
		}
	}
	if h.temporary, err = openDirectory(inMemory(), "mutate"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(h.temporary) }()
	if err := plant.AdoptOrphans(); err != nil {
		return err
	}
	compiled, err := h.compiles(left)
	if err != nil {
		return err
	}
	for _, m := range left {
		if !slices.Contains(compiled, m) {
			tell(m, result{Outcome: "not compiled"})
		}
	}
	if err := h.reach(ctx); err != nil {
		return err
	}
	for len(compiled) > 0 && ctx.Err() == nil {
		n := min(h.share, len(compiled))
		for n < len(compiled) && compiled[n].of == compiled[n-1].of {
			n++ // mutants of one function share a build: two of them may be the same
		}
		if err := h.hunt(ctx, compiled[:n], tell); err != nil {
			return err
		}
		compiled = compiled[n:]
		h.say("%d mutants are left", len(compiled))
	}
	return ctx.Err()
}

func inMemory() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return os.TempDir()
}
