package chaos

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tandem-ipc/tandem/ipc/step"
	"github.com/tandem-ipc/tandem/model"
)

// TraceOptions says how much of layer 7 is done.
type TraceOptions struct {
	Budget time.Duration // ends the layer
	Seed   uint64        // of the first scene; each further one has the next
	Scenes int           // how many at most; 0 is no bound

	// Progress, if set, is called with the number of scenes so far.
	Progress func(scenes int)
}

// A coverage is what of the specification real processes did: the ways by which
// the machines could follow them, whose hidden actions are one explanation of what
// was recorded, and may not be the only one.
type coverage struct {
	mu                sync.Mutex
	ring, life, edges map[string]int
}

func newCoverage() *coverage {
	return &coverage{ring: map[string]int{}, life: map[string]int{}, edges: map[string]int{}}
}

// ring enters the way of a direction.
func (c *coverage) enterRing(way []model.Passage[model.RingState]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range way {
		c.ring[p.Action.Name]++
	}
}

// enterLife enters the way of a life cycle.
func (c *coverage) enterLife(way []model.Passage[model.LifecycleRun]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range way {
		c.life[p.Action.Name]++
		for _, edge := range model.LifecycleEdges(p.From.LifecycleState, p.Action, p.To.LifecycleState) {
			c.edges[edge]++
		}
	}
}

// tell writes the coverage into the report: how many of the specification's, and
// which never.
func (c *coverage) tell(r *Report) error {
	edges, err := model.LifecycleGraph()
	if err != nil {
		return err
	}
	for _, part := range []struct {
		what string
		all  []string
		had  map[string]int
	}{
		{"ring action", model.RingActions(), c.ring},
		{"life cycle action", model.LifecycleActions(), c.life},
		{"life cycle edge", edges, c.edges},
	} {
		taken := 0
		var never []string
		for _, name := range part.all {
			if part.had[name] > 0 {
				taken++
				r.Count(part.what+": "+name, part.had[name])
			} else {
				never = append(never, name)
			}
		}
		r.Count(part.what+"s of the specification", len(part.all))
		r.Count(part.what+"s taken by real processes", taken)
		r.Note("%d of %d %ss were taken by real processes; never: %s", taken, len(part.all), part.what, strings.Join(never, ", "))
	}
	return nil
}

// judge replays the traces of a scene and enters what came of it.
func (t *trace) judge(r *Report, c *coverage) {
	r.Case(t.Kills)
	again := fmt.Sprintf("go test ./chaos -run '^TestTraces$' -chaos.seed %d", t.Seed)
	if t.Lost > 0 {
		r.Fail("harness", again, "%d events found no room in the recorder", t.Lost)
	}
	last := map[int]recorded{}
	for _, e := range t.Events {
		if e.At == recordKilled {
			if at := last[int(e.Value)].At; at != 0 && at != step.ID(recordKilled) {
				r.Covered(at.String(), "killed")
			}
			continue
		}
		last[e.Process] = e
	}
	r.Count("events recorded", len(t.Events))
	for _, d := range t.ringTraces() {
		m, sees, events := d.machine()
		way, err := model.ReplayWay(m, sees, events)
		r.Count("directions replayed", 1)
		r.Count("events replayed", len(events))
		if err != nil {
			r.Fail("Ring", again, "%v: %v", d, err)
		}
		c.enterRing(way)
	}
	l := t.lifeTrace()
	m, sees, events := l.machine()
	way, err := model.ReplayWay(m, sees, events)
	r.Count("life cycles replayed", 1)
	r.Count("events replayed", len(events))
	if err != nil {
		r.Fail("Lifecycle", again, "%v: %v", l, err)
	}
	c.enterLife(way)
}
