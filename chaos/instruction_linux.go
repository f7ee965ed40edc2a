//go:build amd64 || arm64

package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
	"github.com/tandem-ipc/tandem/ipc/step"
)

// Instructions steps the shipped code, which runs without a hook, through the
// operations of both sides, one instruction at a time, and kills it there. It
// shows that the named steps miss nothing: the memory images between any two
// instructions are those at the steps, as a second run with a hook sees them. And
// survivor and successor are judged behind each death as in every layer.
//
// A machine that does not permit ptrace gets a Void report that says so.
func Instructions(ctx context.Context, o InstructionOptions) *Report {
	report := NewReport(instructionLayer, o.Seed)
	if err := mayTrace(); err != nil {
		report.Note("skipped: %v", err)
		return report.Finish(1)
	}
	crossings, err := crossingsOf(o.Only)
	if err != nil {
		report.Fail("harness", o.Only, "%v", err)
		return report.Finish(1)
	}
	draw := rand.New(rand.NewPCG(o.Seed, 0)) // which are left out when the budget is too small
	draw.Shuffle(len(crossings), func(i, j int) { crossings[i], crossings[j] = crossings[j], crossings[i] })
	todo := make(chan *crossing, len(crossings))
	for _, c := range crossings {
		c.report, c.random = report, rand.New(rand.NewPCG(o.Seed, uint64(len(todo)+1)))
		todo <- c
	}
	close(todo)
	const workers = 2
	var group sync.WaitGroup
	for range workers {
		group.Add(1)
		go onThread(func() {
			defer group.Done()
			for c := range todo {
				if o.Budget > 0 {
					rest := o.Budget - time.Since(report.Started)
					c.deadline = time.Now().Add(rest * workers / time.Duration(len(todo)+workers))
				}
				if o.Budget > 0 && time.Now().After(c.deadline) {
					report.Note("%v: left out, the budget is spent", c)
					continue
				}
				c.run(ctx)
			}
		})
	}
	group.Wait()
	return report.Finish(1)
}

// mayTrace returns why this machine does not permit ptrace, or nil.
func mayTrace() (why error) {
	onThread(func() {
		t, err := startTraced("instruction", instructionArgument{})
		if err == nil {
			t.kill()
		}
		if errors.Is(err, errNoTrace) { // what else is wrong is found out when it is used
			why = err
		}
	})
	return why
}

// A crossing is one operation of one victim, crossed instruction by instruction.
type crossing struct {
	o        *operation
	role     ipc.Role
	only     int // the one instruction to crash at, or 0
	report   *Report
	random   *rand.Rand
	deadline time.Time // zero: none

	stepOf  map[image]string // images at the steps, with the first step that has each
	found   map[image]bool   // images between instructions
	length  int              // instructions
	changes []int            // those that changed the memory
	ours    []int            // those of package ipc
	calls   []int            // system calls
}

// crossingsOf lists them, or the one that a coordinate names.
func crossingsOf(only string) (list []*crossing, err error) {
	if only != "" {
		victim, rest, _ := strings.Cut(only, "/")
		name, index, _ := strings.Cut(rest, "/")
		at, err := strconv.Atoi(index)
		o := operations[name]
		if o == nil || err != nil {
			return nil, fmt.Errorf("%q is not victim/operation/instruction", only)
		}
		for _, role := range o.victims {
			if role.String() == victim {
				return []*crossing{{o: o, role: role, only: at}}, nil
			}
		}
		return nil, fmt.Errorf("%q: no such victim", only)
	}
	for _, name := range slices.Sorted(maps.Keys(operations)) {
		if operations[name].planted {
			continue
		}
		for _, role := range operations[name].victims {
			list = append(list, &crossing{o: operations[name], role: role})
		}
	}
	return list, nil
}

func (c *crossing) String() string { return c.role.String() + " " + c.o.name }

// coordinate is the line that crashes there again.
func (c *crossing) coordinate(at int) string {
	return fmt.Sprintf("TANDEM_CHAOS_ONLY='%v/%s/%d' go test ./chaos -count=1 -v -run TestInstruction", c.role, c.o.name, at)
}

// run crosses the operation.
func (c *crossing) run(ctx context.Context) {
	crashed := 0
	err := c.again(func() error { return c.observe(ctx) })
	if err != nil {
		c.report.Fail("harness", c.coordinate(0), "%v with a hook: %s", c, stable(err.Error()))
		return
	}
	if err := c.again(func() error { return c.walk(ctx) }); err != nil {
		c.report.Fail("harness", c.coordinate(0), "%v: %s", c, stable(err.Error()))
		return
	}
	c.compare()
	for i, at := range c.points() {
		if ctx.Err() != nil || i >= c.atLeast() && !c.deadline.IsZero() && time.Now().After(c.deadline) {
			break
		}
		if err := c.again(func() error { return c.crash(ctx, at) }); err != nil {
			c.report.Fail("harness", c.coordinate(at), "%v, killed behind instruction %d: %s", c, at, stable(err.Error()))
			return
		}
		crashed++
	}
	c.report.Count(c.String()+": instructions", c.length)
	c.report.Count(c.String()+": of package ipc", len(c.ours))
	c.report.Count(c.String()+": crashed at", crashed)
	c.report.Count(c.String()+": images", len(c.found))
	c.report.Count(c.String()+": images at steps", len(c.stepOf))
}

// again repeats what came to a stand: a victim of which one thread is stepped and
// the others stand still cannot go on if its scheduler, just before, has decided
// that another thread is to. The guard of the tracee ends that.
func (c *crossing) again(try func() error) (err error) {
	for range 3 {
		if err = try(); !errors.Is(err, errEnded) {
			return err
		}
		c.report.Count("stalled and repeated", 1)
	}
	return err
}

// atLeast is how many crash points are never left out: around each store.
func (c *crossing) atLeast() int { return 2 * len(c.changes) }

// observe runs the operation with a hook, and takes the image at each step.
func (c *crossing) observe(ctx context.Context) error {
	d, err := newDuel(ctx, c.o, c.role, true)
	defer d.close()
	if err != nil {
		return err
	}
	released := d.memory.released()
	c.stepOf = map[image]string{d.image(released): "before"}
	if err := d.t.run(d.thread); err != nil {
		return err
	}
	for {
		thread, m, err := d.t.nextMark(d.t.run, nil)
		if err != nil {
			return err
		}
		if m.kind == markEnd {
			break
		}
		at := step.ID(m.value)
		now := d.image(released)
		if before, known := c.stepOf[now]; !known || before == "before" {
			c.stepOf[now] = at.String()
		}
		if at == step.Sleeping && d.o.answer != nil {
			d.answered = make(chan error, 1)
			go d.answerSleep()
		}
		if err := d.t.run(thread); err != nil {
			return err
		}
	}
	if d.answered != nil {
		return <-d.answered
	}
	return nil
}

// image is the memory as images are compared: to the byte if every message is one
// word, else as far as it may be looked at.
func (d *duel) image(released uint64) image {
	if slices.Contains(d.o.sends, largeMessage) {
		return d.memory.take().visible(released)
	}
	return d.memory.take()
}

// longest is more instructions than any operation has. On an arm64 without the
// atomic instructions of ARMv8.1 no operation ends: a load and store pair that is
// stepped never succeeds.
const longest = 1 << 21

// walk steps through the whole operation and looks at the memory behind each
// instruction.
func (c *crossing) walk(ctx context.Context) error {
	d, err := newDuel(ctx, c.o, c.role, false)
	defer d.close()
	if err != nil {
		return err
	}
	released := d.memory.released()
	raw, last := d.memory.take(), d.image(released)
	c.found, c.length = map[image]bool{last: true}, 0
	c.changes, c.ours, c.calls = nil, nil, nil
	isCall := map[uint64]bool{} // by address
	err = d.advance(longest, func(now image, r *registers) {
		c.length++
		call, seen := isCall[r.pc()]
		if !seen {
			call = callsAt(d.thread, r.pc())
			isCall[r.pc()] = call
		}
		if call {
			c.calls = append(c.calls, c.length)
		}
		if strings.HasPrefix(functionAt(r.pc()), "github.com/tandem-ipc/tandem/ipc.") {
			c.ours = append(c.ours, c.length)
		}
		if now == raw {
			return
		}
		raw = now
		c.changes = append(c.changes, c.length)
		c.found[d.image(released)] = true
	})
	if err != nil {
		return err
	}
	if d.partly {
		return fmt.Errorf("no end behind %d instructions", longest)
	}
	_, err = d.judge(c.report, c.coordinate(c.length))
	return err
}

// functionAt names the function of an address. The victim is this binary, so it
// lies where it lies here.
func functionAt(pc uint64) string {
	if f := runtime.FuncForPC(uintptr(pc)); f != nil {
		return f.Name()
	}
	return ""
}

// compare holds the images between instructions against those at the steps.
func (c *crossing) compare() {
	for at := range c.found {
		if _, known := c.stepOf[at]; !known {
			c.report.Fail("steps", c.coordinate(0), "%v: an instruction leaves an image that no step has: %s", c, at.describe())
		}
	}
	for at, name := range c.stepOf {
		if !c.found[at] {
			c.report.Fail("steps", c.coordinate(0), "%v: no instruction leaves the image of step %s: %s", c, name, at.describe())
		}
	}
}

// points lists the instructions to crash behind: first those around each store,
// then the others in the order of a draw.
func (c *crossing) points() (list []int) {
	if c.only > 0 {
		return []int{c.only}
	}
	for _, at := range c.changes {
		list = append(list, at-1, at)
	}
	rest := slices.Clone(c.ours)
	if c.o.hot {
		rest = rest[:0]
		for at := range c.length {
			rest = append(rest, at+1)
		}
	}
	c.random.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	taken := map[int]bool{}
	for _, at := range append(list, rest...) {
		taken[at] = true
	}
	list = slices.DeleteFunc(append(list, rest...), func(at int) bool {
		first := taken[at]
		delete(taken, at)
		return !first
	})
	return list
}

// crash kills the victim behind its at-th instruction, and judges what is left.
func (c *crossing) crash(ctx context.Context, at int) error {
	d, err := newDuel(ctx, c.o, c.role, false)
	defer d.close()
	if err != nil {
		return err
	}
	released := d.memory.released()
	if c.o.name == reattach {
		// It is long: run to the last system call before, and step from there.
		before, _ := slices.BinarySearch(c.calls, at+1)
		if err := d.passCalls(before); err != nil {
			return err
		}
		if before > 0 {
			d.steps = c.calls[before-1]
		}
	}
	if err := d.advance(at, nil); err != nil {
		return err
	}
	name, known := c.stepOf[d.image(released)]
	if !known {
		c.report.Fail("steps", c.coordinate(at), "%v: instruction %d leaves an image that no step has: %s", c, at, d.memory.take().describe())
	}
	sound, err := d.judge(c.report, c.coordinate(at))
	if err != nil {
		return err
	}
	outcome := "sound"
	if !sound {
		outcome = "broken"
	}
	c.report.Covered(name, outcome)
	return nil
}
