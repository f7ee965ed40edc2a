package chaos

import (
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
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

// Messages of traced runs are all of one size, of which a ring takes traceSlots,
// as that of the specification does. There is a rest, so that records come to lie
// across the ring's end.
const (
	traceSlots   = 4
	recordHeader = 8
)

var (
	traceRingSize = pageSize
	traceSlotSize = traceRingSize/traceSlots - recordHeader
	tracePayload  = traceSlotSize - recordHeader
)

// A trace is what all processes of one run on one path have recorded.
type trace struct {
	Seed   uint64
	Kills  int
	Lost   int                // events for which there was no room
	Roles  map[int]tracedRole // of the processes
	Events []recorded

	Before   uint64 // the generation that the path was in before
	LifeOnly bool   // what was sent and received is not recorded
}

// since says that the path was used before, by nobody who is left.
func (t *trace) since() {
	for _, e := range t.Events {
		if e.At == step.GenerationRecorded {
			t.Before = e.Value - 1
			return
		}
	}
}

// A script is the events of a machine, as many as it has room for.
type script struct {
	Events []model.Event
	Left   int // events that came behind those

	threads map[string]bool
}

// maxThreads is how many threads of control a script has: fewer than model.Replay
// allows.
const maxThreads = 60

// enter adds an event, unless there was one before that had no room.
func (s *script) enter(e model.Event) {
	if s.threads == nil {
		s.threads = map[string]bool{}
	}
	thread := placeName(e.Who, uint64(e.Life))
	if s.Left > 0 || !s.threads[thread] && len(s.threads) == maxThreads {
		s.Left++
		return
	}
	s.threads[thread] = true
	s.Events = append(s.Events, e)
}

// settled forgets, at the end, the deaths of those who had closed: that is the
// harness's own way to be rid of them.
func (t trace) settled() trace {
	closed := map[int]bool{}
	for _, e := range t.Events {
		if e.At != recordKilled {
			closed[e.Process] = e.At == step.ConnectionClosed || e.At == step.ServerUnlocked
		}
	}
	for n := len(t.Events); n > 0 && t.Events[n-1].At == recordKilled && closed[int(t.Events[n-1].Value)]; n-- {
		t.Events = t.Events[:n-1]
	}
	return t
}
