package chaos

import (
	"strings"
	"sync"

	"github.com/tandem-ipc/tandem/model"
)

// What of the specification real processes did is counted in a report, by these
// names: the ways by which the machines could follow them, whose hidden actions
// are one explanation of what was recorded, and may not be the only one.
const (
	ringAction = "ring action"
	lifeAction = "life cycle action"
	lifeEdge   = "life cycle edge"
)

// tookRing counts the way of a direction.
func tookRing(way []model.Passage[guarded[model.RingState]]) map[string]int {
	took := map[string]int{}
	for _, p := range way {
		took[ringAction+": "+p.Action.Name]++
	}
	return took
}

// tookLife counts the way of a life cycle.
func tookLife(way []model.Passage[guarded[model.LifecycleRun]]) map[string]int {
	took := map[string]int{}
	for _, p := range way {
		took[lifeAction+": "+p.Action.Name]++
		for _, edge := range model.LifecycleEdges(p.From.State.LifecycleState, p.Action, p.To.State.LifecycleState) {
			took[lifeEdge+": "+edge]++
		}
	}
	return took
}

var lifecycleGraph = sync.OnceValues(model.LifecycleGraph)

// coverage sums up how many of the specification's actions and edges were taken,
// and which never.
func (r *Report) coverage() {
	r.checkDecided()
	edges, err := lifecycleGraph()
	if err != nil {
		r.Fail("harness", "go test ./model", "the edges of the life cycle: %v", err)
	}
	for _, part := range []struct {
		what string
		all  []string
	}{{ringAction, model.RingActions()}, {lifeAction, model.LifecycleActions()}, {lifeEdge, edges}} {
		var never []string
		for _, name := range part.all {
			if r.counted(part.what+": "+name) == 0 {
				never = append(never, name)
			}
		}
		taken := len(part.all) - len(never)
		r.Count(part.what+"s of the specification", len(part.all))
		r.Count(part.what+"s taken by real processes", taken)
		r.Note("%d of %d %ss were taken by real processes; never: %s", taken, len(part.all), part.what, strings.Join(never, ", "))
	}
}

// counted is a figure of the layer's own.
func (r *Report) counted(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Counts[name]
}
