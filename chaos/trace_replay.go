package chaos

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/tandem-ipc/tandem/model"
)

// A replayer has the machines of the specification follow traces. What was recorded
// twice in the same words has the same verdict, and is followed once: of two deaths
// in one operation, most of the run is the same.
type replayer struct {
	mu    sync.Mutex
	known map[string]followed
}

// A followed is what came of a trace: the first event that cannot be, or what the
// machine did.
type followed struct {
	err  error
	took map[string]int // by the names of a report's counts
}

const (
	eventsLeft      = "events that the machines have no room for"
	undecidedTraces = "directions and life cycles that were given up, because too much happened at once"
)

// mostUndecided is for how many that are decided one may be given up: more would be a
// net with a hole.
const mostUndecided = 50

// checkDecided fails a report in which too much was given up.
func (r *Report) checkDecided() {
	given, decided := r.counted(undecidedTraces), r.counted("directions replayed")+r.counted("life cycles replayed")
	switch {
	case given > 1+decided/mostUndecided:
		r.Fail("harness", "", "%d directions and life cycles were given up, and %d followed", given, decided)
	case given > 0:
		r.Note("%d of %d directions and life cycles were given up, because too much happened at once", given, given+decided)
	}
}

// maxKnown is how many verdicts a replayer remembers.
const maxKnown = 1 << 14

func newReplayer() *replayer { return &replayer{known: map[string]followed{}} }

// replay follows a trace: each direction of each generation, and the life cycle.
// It counts in the report what was done, and returns what cannot be.
func (p *replayer) replay(t *trace, r *Report) (rejected []Failure) {
	if t.Lost > 0 {
		rejected = append(rejected, Failure{"harness", fmt.Sprintf("%d events found no room in the recorder", t.Lost), ""})
	}
	r.Count("events recorded", len(t.Events))
	enter := func(contract, what, text string, events []model.Event, f followed) {
		var undecided *model.UndecidedError
		if errors.As(f.err, &undecided) {
			r.Count(undecidedTraces, 1)
			return
		}
		r.Count(what+" replayed", 1)
		for name, n := range f.took {
			r.Count(name, n)
		}
		if f.err != nil {
			rejected = append(rejected, Failure{contract, fmt.Sprintf("%s: %v%s", text, f.err, recordBefore(f.err, events)), ""})
		}
	}
	for _, d := range t.ringTraces() {
		if t.LifeOnly {
			break
		}
		r.Count("events replayed", len(d.Events))
		r.Count(eventsLeft, d.Left)
		enter("Ring", "directions", d.String(), d.Events, p.follow(d.config(), d.Events, func() followed {
			way, err := model.ReplayWay(d.machine())
			return followed{err, tookRing(way)}
		}))
	}
	l := t.lifeTrace()
	r.Count("events replayed", len(l.Events))
	r.Count(eventsLeft, l.Left)
	enter("Lifecycle", "life cycles", l.String(), l.Events, p.follow(l.config(), l.Events, func() followed {
		way, err := model.ReplayWay(l.machine())
		return followed{err, tookLife(way)}
	}))
	return rejected
}

// recordBefore is what was recorded up to where a machine could not follow, and a
// little further.
func recordBefore(err error, events []model.Event) string {
	var parted *model.ReplayError
	if !errors.As(err, &parted) {
		return ""
	}
	const before, behind = 60, 5
	var text strings.Builder
	text.WriteString("\nThe record there:")
	for i := max(0, parted.Index-before); i < min(len(events), parted.Index+behind); i++ {
		fmt.Fprintf(&text, "\n%4d %v", i, events[i])
	}
	return text.String()
}

// follow is what came, or comes, of events within the bounds of a machine.
func (p *replayer) follow(config any, events []model.Event, do func() followed) followed {
	var text strings.Builder
	fmt.Fprintf(&text, "%+v", config)
	for _, e := range events {
		fmt.Fprintf(&text, "\n%s/%d %s %t", e.Who, e.Life, e.Name, e.Early)
	}
	p.mu.Lock()
	f, known := p.known[text.String()]
	p.mu.Unlock()
	if known {
		return f
	}
	f = do()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) < maxKnown {
		p.known[text.String()] = f
	}
	return f
}
