package chaos

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/model"
)

// scenes plays scenes until it is enough, and at most so many.
func scenes(t *testing.T, most int, enough func(trace) bool) {
	t.Helper()
	seed := seedOf(t)
	for i := range uint64(most) {
		played, err := playScene(watched(t), seed+i)
		if err != nil {
			t.Fatalf("seed %d: %v", seed+i, err)
		}
		if played.Lost > 0 {
			t.Fatalf("seed %d: %d events found no room", seed+i, played.Lost)
		}
		if enough(played) {
			return
		}
	}
}

func TestTraces(t *testing.T) {
	report, err := Traces(t.Context(), TraceOptions{Budget: budgetOf(2*time.Second, 6*time.Second), Seed: seedOf(t)})
	if err != nil {
		t.Fatal(err)
	}
	show(t, report)
}

func TestTraceCorruptionsAreRejected(t *testing.T) {
	const most = 60 // some scenes end before much has happened
	kinds := 35
	if testing.Short() {
		kinds = 10
	}
	rejected := map[string]int{}
	judge := func(all []model.Event, corruptions []corruption, replay func([]model.Event) (int, error)) {
		for _, c := range corruptions {
			if rejected[c.what] >= 3 {
				continue
			}
			bad, ok := c.spoil(all)
			if !ok {
				continue
			}
			var parted *model.ReplayError
			if n, err := replay(bad); !errors.As(err, &parted) {
				t.Errorf("%s: %d of %d events, %v: a trace that cannot be is accepted", c.what, n, len(bad), err)
				for i, e := range bad {
					t.Log(i, e)
				}
			}
			rejected[c.what]++
		}
	}
	scenes(t, most, func(played trace) bool {
		for _, r := range played.ringTraces() {
			judge(r.Events, ringCorruptions, func(bad []model.Event) (int, error) {
				spoilt := *r
				spoilt.Events = bad
				return spoilt.replay()
			})
		}
		l := played.lifeTrace()
		judge(l.Events, lifeCorruptions, func(bad []model.Event) (int, error) {
			spoilt := *l
			spoilt.Events = bad
			return spoilt.replay()
		})
		return len(rejected) >= kinds
	})
	t.Logf("%d kinds of corruption: %v", len(rejected), rejected)
	if len(rejected) < 10 {
		t.Errorf("only %d kinds of corruption were tried", len(rejected))
	}
}

// generations is a record of two generations of a server, with a first client in
// each, which dies. The server closes before it has proven the end of the one, and
// proves that of the other: of which two records are made, one where it is dead by
// then, and one where it has not yet mapped the memory.
func generations() (real, tooSoon *lifeTrace) {
	const server, first, second = 1, 2, 3
	var events []recorded
	did := func(process int, steps ...step.ID) {
		for _, at := range steps {
			events = append(events, recorded{Process: process, At: at, Value: 1})
		}
	}
	listens := func(generation uint64) {
		did(server, listenAndClose[:slices.Index(listenAndClose, step.PathUnlinked)]...)
		for i := len(events) - 1; events[i].At != step.LockFileOpened; i-- {
			events[i].Value = generation
		}
	}
	admits := func(client int) {
		did(client, step.Connected)
		did(server, step.ConnectionAccepted)
		did(client, step.HelloSent)
		did(server, step.HelloReceived, step.TokenTaken, step.ClientRecorded, step.GrantSent, step.TokenHandedOver)
		did(client, step.GrantReceived)
	}
	attachesAndDies := func(client int) {
		did(client, step.SegmentsMapped, step.AttachmentStored, step.ReadySent)
		did(server, step.ReadyReceived)
		events = append(events, recorded{At: recordKilled, Value: uint64(client)})
		did(server, step.EndSeen)
	}

	listens(1)
	admits(first)
	attachesAndDies(first)
	did(server, step.CloseBegun, step.PathUnlinked, step.ListenerClosed, step.GoodbyeSaid, step.ConnectionClosed,
		step.TokenAwaited, step.SegmentUnmapped, step.ServerUnlocked)
	listens(2)
	admits(second)
	granted := len(events)
	attachesAndDies(second)
	did(server, step.EndProven)

	record := func(events []recorded) *lifeTrace {
		t := trace{Roles: map[int]tracedRole{server: {Server: true}, first: {}, second: {}}, Events: events}
		return t.lifeTrace()
	}
	proof := len(events) - 1
	return record(events), record(slices.Insert(slices.Clone(events[:proof]), granted, events[proof]))
}

// What was not recorded of a client in one generation is not what is recorded of
// a client in another.
func TestTraceTellsTheGenerationsApart(t *testing.T) {
	real, tooSoon := generations()
	if n, err := real.replay(); err != nil {
		t.Fatalf("%d of %d events: %v", n, len(real.Events), err)
	}
	var parted *model.ReplayError
	if n, err := tooSoon.replay(); !errors.As(err, &parted) {
		t.Fatalf("%d of %d events, %v: the end of a client is proven before it has mapped the memory", n, len(tooSoon.Events), err)
	}
}
