package chaos

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// Traces is layer 7: pairs of real processes that are killed, frozen and closed,
// with a flight recorder each; what was recorded is replayed by the machines of
// the specification, the two directions and the life cycle. The report says which
// of the specification's actions, and of the life cycle's edges, they took.
func Traces(ctx context.Context, o TraceOptions) (*Report, error) {
	if o.Budget <= 0 && o.Scenes <= 0 {
		return nil, errors.New("chaos: traces need a budget or a number of scenes")
	}
	report, replays := NewReport("traces", o.Seed), newReplayer()
	var mu sync.Mutex
	next := 0
	var trouble error
	more := func(failed error) (seed uint64, more bool) {
		mu.Lock()
		defer mu.Unlock()
		if trouble == nil {
			trouble = failed
		}
		over := o.Budget > 0 && time.Since(report.Started) >= o.Budget || o.Scenes > 0 && next >= o.Scenes
		if over || trouble != nil || ctx.Err() != nil {
			return 0, false
		}
		next++
		if o.Progress != nil {
			o.Progress(next)
		}
		return o.Seed + uint64(next-1), true
	}
	var players sync.WaitGroup
	for range runtime.NumCPU() {
		players.Add(1)
		go func() {
			defer players.Done()
			for seed, ok := more(nil); ok; {
				played, err := playBounded(ctx, seed)
				if err == nil {
					played.judge(report, replays)
				}
				seed, ok = more(err)
			}
		}()
	}
	players.Wait()
	report.coverage()
	return report.Finish(1), errors.Join(trouble, ctx.Err())
}

// judge replays the trace of a scene and enters what came of it.
func (t *trace) judge(r *Report, replays *replayer) {
	r.Case(t.Kills)
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
	for _, f := range replays.replay(t, r) {
		r.Fail(f.Contract, fmt.Sprintf("go test ./chaos -run '^TestTraces$' -chaos.seed %d", t.Seed), "%s", f.What)
	}
}

// playBounded plays a scene that does not hang.
func playBounded(ctx context.Context, seed uint64) (trace, error) {
	ctx, cancel := context.WithTimeout(ctx, watchdog)
	defer cancel()
	return playScene(ctx, seed)
}
