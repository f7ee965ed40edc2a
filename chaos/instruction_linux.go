//go:build amd64 || arm64

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
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
	if o.Budget > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, report.Started.Add(o.Budget))
		defer cancel()
	}
	todo := make(chan *crossing, len(crossings))
	for _, c := range inOrder(crossings, o) {
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
					rest := o.Budget*4/5 - time.Since(report.Started) // what cannot be left out takes longer here and there
					c.deadline = time.Now().Add(rest * workers / time.Duration(len(todo)+workers))
				}
				c.run(ctx)
			}
		})
	}
	group.Wait()
	summarize(report, crossings, o)
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
	only     place // the one to crash at, or zero
	report   *Report
	random   *rand.Rand
	deadline time.Time // zero: none

	stepOf  map[image]string // images at the steps, with the first step that has each
	found   map[image]bool   // images between instructions
	length  int              // instructions
	changes []int            // those that changed the memory
	ours    []int            // those of package ipc
	calls   []int            // its system calls
	places  []place          // behind each, and before the first
	wanted  int              // instructions to be killed behind
	crashed int              // and those it was killed behind
}

func (c *crossing) String() string { return c.role.String() + " " + c.o.name }

// coordinate is the line that crashes there again.
func (c *crossing) coordinate(at place) string {
	return playAgain(instructionLayer, fmt.Sprintf("%v/%s/%v", c.role, c.o.name, at))
}

// run crosses the operation, as far as the context lets it.
func (c *crossing) run(ctx context.Context) {
	for _, prepare := range []func(context.Context) error{c.observe, c.walk} {
		err := c.again(ctx, prepare)
		if ctx.Err() != nil {
			c.report.Note("%v: left out, the time is over", c)
			return
		}
		if err != nil {
			c.report.Fail("harness", c.coordinate(place{}), "%v: %s", c, stable(err.Error()))
			return
		}
	}
	c.compare()
	points := c.points()
	c.wanted = len(points)
	for i, at := range points {
		if i >= c.atLeast() && !c.deadline.IsZero() && time.Now().After(c.deadline) {
			break
		}
		err := c.again(ctx, func(ctx context.Context) error { return c.crash(ctx, at) })
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			c.report.Fail("harness", c.coordinate(at), "%v, killed behind instruction %v: %s", c, at, stable(err.Error()))
			break
		}
		c.crashed++
	}
	c.report.Count(c.String()+": instructions", c.length)
	c.report.Count(c.String()+": of package ipc", len(c.ours))
	c.report.Count(c.String()+": crashed at", c.crashed)
	c.report.Count(c.String()+": images", len(c.found))
	c.report.Count(c.String()+": images at steps", len(c.stepOf))
}

// again repeats what came to a stand: a victim of which one thread is stepped and
// the others stand still cannot go on if its scheduler, just before, has decided
// that another thread is to. The guard of the tracee ends that.
func (c *crossing) again(ctx context.Context, try func(context.Context) error) (err error) {
	for range 3 {
		if err = try(ctx); !errors.Is(err, errEnded) || ctx.Err() != nil {
			return err
		}
		c.report.Count("stalled and repeated", 1)
	}
	return err
}

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
	c.changes, c.ours, c.calls, c.places = nil, nil, nil, []place{{}}
	err = d.advance(place{calls: longest}, func(now image, r *registers) {
		c.length++
		if d.at.calls > c.places[c.length-1].calls {
			c.calls = append(c.calls, c.length)
		}
		c.places = append(c.places, d.at)
		if strings.HasPrefix(d.functionAt(r.pc()), module+"ipc.") {
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
	_, err = d.judge(c.report, c.coordinate(c.places[c.length]))
	return err
}

// compare holds the images between instructions against those at the steps.
func (c *crossing) compare() {
	for at := range c.found {
		if _, known := c.stepOf[at]; !known {
			c.report.Fail("steps", c.coordinate(place{}), "%v: an instruction leaves an image that no step has: %s", c, at.describe())
		}
	}
	for at, name := range c.stepOf {
		if !c.found[at] {
			c.report.Fail("steps", c.coordinate(place{}), "%v: no instruction leaves the image of step %s: %s", c, name, at.describe())
		}
	}
}

// crash kills the victim at a place, and judges what is left.
func (c *crossing) crash(ctx context.Context, at place) error {
	d, err := newDuel(ctx, c.o, c.role, false)
	defer d.close()
	if err != nil {
		return err
	}
	released := d.memory.released()
	if c.o.name == reattach {
		// It is long: run to the last system call before, and step from there.
		if err := d.passCalls(at.calls); err != nil {
			return err
		}
	}
	if err := d.advance(at, nil); err != nil {
		return err
	}
	name, known := c.stepOf[d.image(released)]
	if !known {
		c.report.Fail("steps", c.coordinate(at), "%v: instruction %v leaves an image that no step has: %s", c, at, d.memory.take().describe())
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
