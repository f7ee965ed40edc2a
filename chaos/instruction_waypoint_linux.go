//go:build amd64 || arm64

package chaos

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// A waypoint is an instruction that a victim is let run to before it is stepped: the
// one at an address of this binary, when it comes for the hits-th time behind the
// last system call.
type waypoint struct {
	address uint64
	hits    int
	at      place // before it
}

// errPassed says that the victim has not come to its waypoint: the runtime did
// something else this time.
var errPassed = errors.New("the waypoint was not reached")

// stopCost is what a stop at a breakpoint costs, in steps: it is taken out, stepped
// over, and put back.
const stopCost = 4

// waypoints makes a waypoint of each instruction that a walk has found. The address
// of one that is not in this binary, as the kernel's clock, is 0.
func (c *crossing) waypoints(addresses []uint64) {
	c.ways = make([]waypoint, len(addresses))
	seen, calls := map[uint64]int{}, 0
	for i, address := range addresses {
		if at := c.places[i]; at.calls > calls {
			calls = at.calls
			clear(seen)
		}
		seen[address]++
		c.ways[i] = waypoint{address, seen[address], c.places[i]}
	}
}

// wayTo is the waypoint from which a place is reached with the fewest stops.
func (c *crossing) wayTo(at place) (best waypoint, found bool) {
	i, _ := slices.BinarySearchFunc(c.places, at, place.compare)
	i = min(i, len(c.ways)-1)
	least := longest
	for steps := 0; i-steps >= 0 && steps < least; steps++ {
		w := c.ways[i-steps]
		if w.at.calls != at.calls {
			break
		}
		if cost := w.hits*stopCost + steps; w.address != 0 && cost < least {
			best, least, found = w, cost, true
		}
	}
	return best, found
}

// runTo lets the victim run to a waypoint behind the system call that it has just
// come from.
func (d *duel) runTo(w waypoint) error {
	d.t.guard.Reset(traceeLimit)
	address := uintptr(w.address - d.shift)
	code := make([]byte, len(breakpoint))
	if _, err := unix.PtracePeekText(d.thread.id, address, code); err != nil {
		return fmt.Errorf("%w: its code: %w", errEnded, err)
	}
	for hits := 0; ; {
		if _, err := unix.PtracePokeText(d.thread.id, address, breakpoint); err != nil {
			return fmt.Errorf("%w: a breakpoint: %w", errEnded, err)
		}
		if err := d.awaitBreakpoint(address); err != nil {
			return err
		}
		if _, err := unix.PtracePokeText(d.thread.id, address, code); err != nil {
			return fmt.Errorf("%w: its code: %w", errEnded, err)
		}
		if hits++; hits == w.hits {
			d.at = w.at
			return nil
		}
		if err := d.t.step(d.thread); err != nil {
			return err
		}
	}
}

// awaitBreakpoint lets the victim run to the one that was put at an address, and
// leaves it there as if there were none.
func (d *duel) awaitBreakpoint(address uintptr) error {
	for {
		why, r, err := d.runToStop()
		switch {
		case err != nil:
			return err
		case why == stopStep:
			return r.leaveBreakpoint(d.thread.id, address)
		case (why == stopEntry || why == stopExit) && makesCalls(d.functionAt(r.pc())):
			return errPassed
		}
	}
}
