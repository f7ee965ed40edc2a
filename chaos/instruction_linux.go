//go:build amd64 || arm64

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
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
	// With a budget the operations share the workers, without one the crash points
	// of each do: most are those of one operation.
	const workers = 2
	atOnce, each := workers, 1
	if o.Budget == 0 {
		atOnce, each = each, atOnce
	}
	onThreads(atOnce, func() {
		for c := range todo {
			if o.Budget > 0 {
				rest := o.Budget*4/5 - time.Since(report.Started) // what cannot be left out takes longer here and there
				c.deadline = time.Now().Add(rest * workers / time.Duration(len(todo)+workers))
			}
			c.workers = each
			c.run(ctx)
		}
	})
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
	workers  int       // that crash at once

	stepOf  map[image]string // images at the steps, with the first step that has each
	found   map[image]bool   // images between instructions
	length  int              // instructions
	changes []int            // those that changed the memory
	ours    []int            // those of package ipc
	places  []place          // behind each, and before the first
	ways    []waypoint       // to each
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
	c.crashAll(ctx)
	c.report.Count(c.String()+": instructions", c.length)
	c.report.Count(c.String()+": of package ipc", len(c.ours))
	c.report.Count(c.String()+": crashed at", c.crashed)
	c.report.Count(c.String()+": images", len(c.found))
	c.report.Count(c.String()+": images at steps", len(c.stepOf))
}

// crashAll crashes at one point after the other, until the time is over or one
// cannot be reached.
func (c *crossing) crashAll(ctx context.Context) {
	points := c.points()
	c.wanted = len(points)
	var taken, crashed atomic.Int64
	var failed atomic.Bool
	onThreads(max(c.workers, 1), func() {
		for !failed.Load() {
			i := int(taken.Add(1)) - 1
			if i >= len(points) || i >= c.atLeast() && !c.deadline.IsZero() && time.Now().After(c.deadline) {
				return
			}
			at := points[i]
			err := c.again(ctx, func(ctx context.Context) error { return c.crash(ctx, at, true) })
			if errors.Is(err, errPassed) {
				c.report.Count("stepped to, because the runtime passed the waypoint", 1)
				err = c.again(ctx, func(ctx context.Context) error { return c.crash(ctx, at, false) })
			}
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				c.report.Fail("harness", c.coordinate(at), "%v, killed behind instruction %v: %s", c, at, stable(err.Error()))
				failed.Store(true)
				return
			}
			crashed.Add(1)
		}
	})
	c.crashed = int(crashed.Load())
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
	c.changes, c.ours, c.places = nil, nil, []place{{}}
	var addresses []uint64
	err = d.advance(place{calls: longest}, func(now image, r *registers) {
		c.length++
		c.places = append(c.places, d.at)
		name := d.functionAt(r.pc())
		if name == "" {
			addresses = append(addresses, 0)
		} else {
			addresses = append(addresses, r.pc()+d.shift)
		}
		if strings.HasPrefix(name, module+"ipc.") {
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
	c.waypoints(addresses)
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

// crash kills the victim at a place, and judges what is left. With jump it lets it
// run to a waypoint before it.
func (c *crossing) crash(ctx context.Context, at place, jump bool) error {
	d, err := newDuel(ctx, c.o, c.role, false)
	defer d.close()
	if err != nil {
		return err
	}
	released := d.memory.released()
	if c.o.name == reattach {
		// It is long: run to the last system call before, and go from there.
		if err := d.passCalls(at.calls); err != nil {
			return err
		}
		if w, found := c.wayTo(at); found && jump {
			if err := d.runTo(w); err != nil {
				return err
			}
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
