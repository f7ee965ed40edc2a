//go:build amd64 || arm64

package chaos

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// crossingsOf lists them, or the one that a coordinate names.
func crossingsOf(only string) (list []*crossing, err error) {
	if only != "" {
		victim, rest, _ := strings.Cut(only, "/")
		name, where, one := strings.Cut(rest, "/")
		var at place // none: all of them
		if one {
			at, err = parsePlace(where)
		}
		o := operations[name]
		if o == nil || err != nil {
			return nil, fmt.Errorf("%q is not victim/operation/place, or victim/operation for all of them", only)
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

// longWalk is about what it takes to step through the longest operation, on a
// machine that others use too.
const longWalk = 5 * time.Second

// inOrder puts them in the order of a draw, which decides what a small budget
// leaves out: but the longest comes first if the budget has room for it, and last
// if it has not.
func inOrder(crossings []*crossing, o InstructionOptions) []*crossing {
	draw := rand.New(rand.NewPCG(o.Seed, 0))
	draw.Shuffle(len(crossings), func(i, j int) { crossings[i], crossings[j] = crossings[j], crossings[i] })
	slices.SortStableFunc(crossings, func(a, b *crossing) int {
		order := cmp.Compare(boolean(b.o.name == reattach), boolean(a.o.name == reattach))
		if o.Budget > 0 && o.Budget < longWalk {
			return -order
		}
		return order
	})
	return crossings
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// points lists the instructions to crash behind: first those around each store,
// then the others in the order of a draw.
func (c *crossing) points() (points []place) {
	if c.only != (place{}) {
		return []place{c.only}
	}
	var list []int
	for _, at := range c.changes {
		list = append(list, at-1, at)
	}
	rest := c.rest()
	c.random.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	taken := map[int]bool{}
	for _, at := range append(list, rest...) {
		taken[at] = true
	}
	for _, at := range append(list, rest...) {
		if taken[at] {
			points = append(points, c.places[at])
		}
		delete(taken, at)
	}
	return points
}

// rest lists what else there is to crash behind: everything, but of what sleeps
// only what package ipc itself does.
func (c *crossing) rest() (list []int) {
	if !c.o.whole {
		return slices.Clone(c.ours)
	}
	for at := range c.length {
		list = append(list, at+1)
	}
	return list
}

// atLeast is how many crash points it does not leave out to keep its share: those
// around each store.
func (c *crossing) atLeast() int { return 2 * len(c.changes) }

// storeSteps are the steps of these operations that are stores to shared memory.
var storeSteps = []step.ID{
	step.Filled, step.Sealed, step.Published, step.Delivered, step.Released, step.DataArmed, step.SpaceArmed,
	step.DataWaitCleared, step.SpaceWaitCleared, step.AttachmentStored,
}

// summarize counts what all crossings have covered together. Without a budget
// nothing may have been left out.
func summarize(report *Report, crossings []*crossing, o InstructionOptions) {
	images := map[image]bool{}
	instructions, wanted, crashed, stores := 0, 0, 0, 0
	for _, c := range crossings {
		instructions += c.length
		crashed += c.crashed
		wanted += c.wanted
		maps.Copy(images, c.found)
	}
	for _, s := range storeSteps {
		if report.Steps[s.String()] != nil {
			stores++
		}
	}
	report.Count("all: instructions", instructions)
	report.Count("all: crashed at", crashed)
	report.Count("all: distinct images", len(images))
	report.Count("all: stores of the step table", len(storeSteps))
	report.Count("all: stores crashed at", stores)
	if o.Budget > 0 || report.Failed > 0 {
		return
	}
	if crashed != wanted || o.Only == "" && stores != len(storeSteps) {
		report.Fail("harness", "", "crashed at %d instructions of %d, and at %d stores of %d", crashed, wanted, stores, len(storeSteps))
	}
}
