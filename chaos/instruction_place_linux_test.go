//go:build amd64 || arm64

package chaos

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/tandem-ipc/tandem/ipc"
)

func TestInstructionPlacesAreReadAsTheyAreWritten(t *testing.T) {
	for text, p := range map[string]place{
		"7": {own: 7}, "7+3": {own: 7, others: 3}, "2.7": {2, 7, 0}, "2.7+3": {2, 7, 3}, "2.0": {calls: 2}, "0+3": {others: 3},
	} {
		if got, err := parsePlace(text); err != nil || got != p || p.String() != text {
			t.Errorf("%q is read as %+v (%v), and %+v is written %q", text, got, err, p, p)
		}
	}
	for _, text := range []string{"", "x", "7+", "7+x", ".7", "x.7", "2.", "+3", "2.-7", "7 + 3"} {
		if got, err := parsePlace(text); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

// stepping brings a client to the beginning of an operation, and lets f step it.
func stepping(t *testing.T, operation string, f func(*duel) error) {
	t.Helper()
	onlyShipped(t)
	needTrace(t)
	c := &crossing{o: operations[operation], role: ipc.RoleClient, report: NewReport(instructionLayer, 1)}
	onThread(func() {
		err := c.again(t.Context(), func(ctx context.Context) error {
			d, err := newDuel(ctx, c.o, c.role, false)
			defer d.close()
			if err != nil {
				return err
			}
			return f(d)
		})
		if err != nil {
			t.Fatalf("%s: %v", operation, err)
		}
	})
}

// A line names the same instruction in every process: what a victim has executed at
// a place, it has executed there in another one.
func TestInstructionPlacesAreTheSameInEveryRun(t *testing.T) {
	type visit struct {
		place
		pc uint64
	}
	for _, name := range []string{"send", "send batch", "release to a sleeper", "send after a sleep", "planted: publish before fill"} {
		var first []visit
		for range 3 {
			var visits []visit
			stepping(t, name, func(d *duel) error {
				visits = nil
				return d.advance(place{calls: longest}, func(_ image, r *registers) {
					if d.at.others == 0 {
						visits = append(visits, visit{d.at, r.pc() + d.shift})
					}
				})
			})
			if first == nil {
				first = visits
			}
			if len(first) == 0 || !slices.Equal(first, visits) {
				t.Errorf("%s: %d instructions of its own, and then %d, or others", name, len(first), len(visits))
			}
		}
	}
}

// Where the runtime does less than when the place was named, the victim dies before
// it does anything else.
func TestInstructionPlacesThatTheRuntimeDoesNotReachAreLeftBeforeTheNext(t *testing.T) {
	stepping(t, "send", func(d *duel) error {
		for own := range 100 {
			if err := d.advance(place{own: own, others: 1 << 20}, nil); err != nil {
				return err
			}
			if d.at.own != own || !d.partly {
				t.Errorf("sent to %d, it stands at %v", own, d.at)
			}
		}
		return nil
	})
}

// A victim that was let run to a waypoint is where one that was stepped is. Here and
// there the runtime does not come by it, and then the layer steps all the way.
func TestWaypointsLeadToTheInstructionThatAWalkHasFound(t *testing.T) {
	onlyShipped(t)
	needTrace(t)
	if testing.Short() {
		t.Skip("takes 20 s if a victim has to be stepped all the way")
	}
	c := &crossing{o: operations[reattach], role: ipc.RoleClient, report: NewReport(instructionLayer, 1)}
	onThread(func() {
		if err := c.again(t.Context(), c.walk); err != nil {
			t.Fatal(err)
		}
	})
	tried, several, passed := 0, 0, 0
	for i := 0; i < len(c.ways); i += len(c.ways)/20 + 1 {
		for i < len(c.ways)-1 && (c.places[i].others > 0 || c.places[i].own == 0) {
			i++
		}
		at := c.places[i]
		if at.others > 0 {
			break
		}
		w, found := c.wayTo(at)
		if !found || w.at.calls != at.calls || w.at.compare(at) > 0 {
			t.Fatalf("to %v: %+v, %t", at, w, found)
		}
		var stands uint64
		stepping(t, reattach, func(d *duel) error {
			if err := d.passCalls(at.calls); err != nil {
				return err
			}
			before := d.steps
			switch err := d.runTo(w); {
			case errors.Is(err, errPassed):
				stands = 0
				return nil
			case err != nil:
				return err
			}
			if err := d.advance(at, nil); err != nil {
				return err
			}
			if d.at != at {
				t.Errorf("sent to %v by %+v, it stands at %v", at, w, d.at)
			}
			if d.steps-before > 1000 {
				t.Errorf("%d steps to %v by %+v", d.steps-before, at, w)
			}
			r, err := readRegisters(d.thread.id)
			stands = r.pc() + d.shift
			return err
		})
		tried++
		if stands == 0 {
			passed++
			continue
		}
		if stands != c.ways[i].address {
			t.Errorf("to %v by %+v: it stands at %#x, in the walk it stood at %#x", at, w, stands, c.ways[i].address)
		}
		if w.hits > 1 {
			several++
		}
	}
	t.Logf("%d waypoints, %d of them not the first time they were come by, %d not reached", tried, several, passed)
	if passed > tried/2 {
		t.Errorf("%d of %d waypoints were not reached", passed, tried)
	}
}
