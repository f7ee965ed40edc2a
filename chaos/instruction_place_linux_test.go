//go:build amd64 || arm64

package chaos

import (
	"context"
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
	if err := mayTrace(); err != nil {
		t.Skipf("NOT TESTED on this machine: %v", err)
	}
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
