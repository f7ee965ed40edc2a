package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Enumerate is layer 1. It plays the cases in processes of its own, each with
// both sides in it, so that a case that panics or hangs is one failure and the
// others go on.
func Enumerate(ctx context.Context, o EnumerateOptions) (*Report, error) {
	if o.Budget > 0 {
		var cancel context.CancelFunc
		// Those who play stop by themselves; this ends those who do not.
		ctx, cancel = context.WithTimeout(ctx, o.Budget+2*watchdog)
		defer cancel()
	}
	e := &enumeration{options: o, report: NewReport("enumerator", o.Seed), pairs: map[string]bool{}, tasks: make(chan task)}
	if o.Budget > 0 {
		e.until = time.Now().Add(o.Budget)
	}
	var players sync.WaitGroup
	broken := make(chan error, runtime.NumCPU()+1)
	players.Add(1)
	go func() {
		defer players.Done()
		if err := e.hostileCases(ctx, e.hostileUntil()); err != nil {
			broken <- err
		}
	}()
	for range runtime.NumCPU() {
		players.Add(1)
		go func() {
			defer players.Done()
			if err := e.serve(ctx); err != nil {
				broken <- err
			}
		}()
	}
	go e.assign(ctx)
	players.Wait()
	select {
	case err := <-broken:
		return e.report, err
	default:
	}
	if ctx.Err() == nil && (!o.Full || !e.over(ctx)) {
		e.report.cover(enumerated())
	}
	if missed := e.report.counted(pointsMissed); missed > 20+e.report.Kills/10 {
		e.report.Fail("harness", "go test ./chaos -run 'TestEnumerator$' -v", "%d points were not reached, beside %d that were", missed, e.report.Kills)
	}
	e.report.Count("pairs of step and operation", len(e.pairs))
	e.report.Count("images per second", int(float64(e.report.Kills)/max(time.Since(e.report.Started).Seconds(), 1e-3)))
	return e.report.Finish(1), ctx.Err()
}

// An enumeration is one run of layer 1.
type enumeration struct {
	options EnumerateOptions
	report  *Report
	until   time.Time
	tasks   chan task

	mu    sync.Mutex
	pairs map[string]bool // step and operation
	cases int
}

// over reports whether the budget is spent.
func (e *enumeration) over(ctx context.Context) bool {
	return ctx.Err() != nil || !e.until.IsZero() && time.Now().After(e.until)
}

// recordedOf is of how many drawn sequences one is recorded: the machines take more
// time than the cases do.
const recordedOf = 4

// assign hands out the tasks: single operations first and whole, whatever the
// budget, so that every run has all of them; then everything, or samples until
// the budget is spent. The machines of the specification follow some of it.
func (e *enumeration) assign(ctx context.Context) {
	defer close(e.tasks)
	depth := cmp.Or(e.options.Depth, 2)
	draw := rand.New(rand.NewPCG(e.options.Seed, 1))
	give := func(recorded bool, operations []string, firsts, seconds int, until time.Time) bool {
		if depth < 2 {
			seconds = 0
		}
		for _, role := range roles {
			select {
			case e.tasks <- task{recorded, role.String(), operations, firsts, seconds, draw.Uint64(), until}:
			case <-ctx.Done():
				return false
			}
		}
		return true
	}
	single := append(beginnings, sequences(1)...)
	all := append(beginnings, sequences(cmp.Or(e.options.Longest, 3))...)
	if e.options.Full {
		for i := 0; i < len(all) && !e.over(ctx) && give(true, all[i], -1, 0, e.until) && give(false, all[i], -1, -1, e.until); i++ {
		}
		return
	}
	for _, operations := range single {
		if !give(false, operations, -1, 0, time.Time{}) {
			return
		}
	}
	for i := 0; i < len(single) && !e.over(ctx) && give(true, single[i], 3, 0, e.until); i++ {
	}
	for n := 0; e.options.Budget > 0 && !e.over(ctx); n++ {
		if !give(n%recordedOf == 0, all[draw.IntN(len(all))], 3, 3, e.until) {
			return
		}
	}
}

// serve has one process at a time play tasks, and replaces it when it is lost.
func (e *enumeration) serve(ctx context.Context) error {
	var p *process
	directory, err := newDirectory()
	defer func() {
		if p != nil {
			p.kill()
		}
		_ = os.RemoveAll(directory) // one that is killed leaves its path
	}()
	for t := range e.tasks {
		if p == nil {
			if err == nil {
				p, err = start("enumerator", directory)
			}
			if err != nil {
				for range e.tasks { // so that assign ends
				}
				return err
			}
		}
		encoded, _ := json.Marshal(t)
		p.tell("%s", encoded)
		if at, err := e.hear(ctx, p); err != nil {
			if ctx.Err() == nil {
				e.report.Case(0)
				e.report.Fail("harness", playAgain("enumerator", at), "the case did not come to its end: %v", err)
			}
			p.kill()
			p = nil
		}
	}
	return nil
}

// hear enters what a process has played, until it has finished a task. With an
// error it says which case was under way.
func (e *enumeration) hear(ctx context.Context, p *process) (at string, err error) {
	for {
		silence, cancel := context.WithTimeout(ctx, watchdog)
		line, err := p.hear(silence)
		cancel()
		if err != nil {
			return at, err
		}
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "end":
			return "", nil
		case "play":
			at = rest
		case "case":
			var got played
			if err := json.Unmarshal([]byte(rest), &got); err != nil {
				return at, err
			}
			e.enter(got)
		default:
			return at, fmt.Errorf("it said %q", line)
		}
	}
}

// pointsMissed counts the deaths that did not come, because the clocks of a case are
// not quite those of another.
const pointsMissed = "points not reached"

// enter enters one case into the report.
func (e *enumeration) enter(p played) {
	e.mu.Lock()
	e.cases++
	cases := e.cases
	for _, d := range p.Deaths {
		e.pairs[d.Step+" in "+d.During] = true
	}
	e.mu.Unlock()
	p.enter(e.report, "enumerator")
	for name, n := range p.Followed {
		e.report.Count(name, n)
	}
	p.count(e.report)
	if missed := strings.Count(p.Coordinate, "/") - len(p.Deaths); missed > 0 {
		e.report.Count(pointsMissed, missed)
	}
	if e.options.Progress != nil {
		e.options.Progress(cases)
	}
}

// count counts the case by its deaths, and the deaths that it shows to be there.
func (p *played) count(report *Report) {
	c, err := parseCoordinate(p.Coordinate)
	if err != nil {
		return
	}
	switch len(c.Deaths) {
	case 0:
		report.Count("sequences", 1)
		report.Count("first deaths there are", len(points(*p, c.Operations)))
	case 1:
		report.Count("first deaths", 1)
		report.Count("second deaths there are", len(again(p.Recovery)))
	case 2:
		report.Count("second deaths", 1)
	}
}

// enter enters the case into a report.
func (p *played) enter(report *Report, layer string) {
	report.Case(len(p.Deaths))
	for i, d := range p.Deaths {
		outcome := d.Outcome
		if i > 0 {
			outcome += " again"
		}
		if len(p.Failures) > 0 {
			outcome = "failed"
		}
		report.Covered(d.Step, outcome)
	}
	for _, d := range p.Thaws {
		report.Covered(d.Step, d.Outcome)
		report.Count("thawed", 1)
	}
	for _, f := range p.Failures {
		report.Fail(f.Contract, playAgain(layer, f.Reproduce), "%s", f.What)
	}
}

// The process that plays tasks.
var _ = register("enumerator", func(p *player) {
	var directory string
	p.arg(&directory)
	if err := os.Setenv("TMPDIR", directory); err != nil {
		p.fail("%v", err)
	}
	held, replays := 0, newReplayer()
	for {
		var t task
		if err := json.Unmarshal([]byte(p.next()), &t); err != nil {
			p.fail("task: %v", err)
		}
		t.play(func(c coordinate) played {
			p.say("play %v", c)
			got := playCells(context.Background(), c, replays)
			sweepGraves()
			// The first case has opened what the process keeps.
			if now := len(descriptors()); held != 0 && now > held {
				got.Failures = append(got.Failures, Failure{"L8 NoLeak", fmt.Sprintf("%d descriptors are left", now-held), c.String()})
				held = now
			} else if held == 0 {
				held = now
			}
			encoded, _ := json.Marshal(got)
			p.say("case %s", encoded)
			for _, f := range got.Failures {
				if f.Contract == "M7 NoStuckWaiter" {
					os.Exit(exitMistake) // somebody still waits in here
				}
			}
			return got
		})
		p.say("end")
	}
})

// playCells plays a case in this process, with the machines of the specification
// behind it if it is to be recorded.
func playCells(ctx context.Context, c coordinate, replays *replayer) played {
	if !c.Recorded {
		return play(ctx, c, newCell)
	}
	counts := NewReport("enumerator", 0)
	p := follower{replays, counts, nil}.play(ctx, c, worldOptions(c.Operations), recordedCells, func(p *played, w *world) { p.play(w, c) })
	p.Followed = counts.Counts
	maps.DeleteFunc(p.Followed, func(name string, _ int) bool { return !strings.HasSuffix(name, "replayed") })
	return p
}

// play plays the cases of a task.
func (t task) play(play func(coordinate) played) {
	actor, err := parseRole(t.Actor)
	if err != nil {
		return
	}
	over := func() bool { return !t.Until.IsZero() && time.Now().After(t.Until) }
	draw := rand.New(rand.NewPCG(t.Seed, 2))
	c := coordinate{Recorded: t.Recorded, Actor: actor, Operations: t.Operations}
	whole := play(c)
	for _, first := range sample(draw, points(whole, t.Operations), t.Firsts) {
		if over() {
			return
		}
		c.Deaths = []point{first}
		once := play(c)
		for _, second := range sample(draw, again(once.Recovery), t.Seconds) {
			if over() {
				return
			}
			c.Deaths = []point{first, second}
			play(c)
		}
	}
}

// sample draws so many points, in their order; all if the number is negative.
func sample(draw *rand.Rand, all []point, count int) []point {
	if count < 0 || count >= len(all) {
		return all
	}
	chosen := draw.Perm(len(all))[:count]
	slices.Sort(chosen)
	some := make([]point, count)
	for i, at := range chosen {
		some[i] = all[at]
	}
	return some
}

// PlayAgain plays one case of a layer that goes through them one by one again, as
// a failure has printed it: LAYER=COORDINATE.
func PlayAgain(ctx context.Context, at string) (*Report, error) {
	layer, text, _ := strings.Cut(at, "=")
	switch layer {
	case instructionLayer:
		return Instructions(ctx, InstructionOptions{Only: text}), nil
	case boundaryLayer:
		return SystemCallKills(ctx, InstructionOptions{Only: text}), nil
	case errnoLayer:
		return FailedSystemCalls(ctx, ErrnoOptions{Only: text}), nil
	}
	if rest, found := strings.CutPrefix(text, "hostile:"); found {
		return playHostileAgain(ctx, rest)
	}
	b := strokes[0]
	for _, other := range strokes {
		if rest, found := strings.CutPrefix(text, strings.ReplaceAll(other.name, " ", "-")+","); found {
			b, text = other, rest
		}
	}
	c, err := parseCoordinate(text)
	if err != nil {
		return nil, err
	}
	report := NewReport(layer, 0)
	switch layer {
	case "enumerator":
		got := playCells(ctx, c, newReplayer())
		got.enter(report, layer)
	case "forked":
		got := playForked(ctx, c, b)
		got.enter(report, layer)
	default:
		return nil, fmt.Errorf("chaos: %q is no layer and its coordinate, as a failure prints them", at)
	}
	return report.Finish(1), nil
}
