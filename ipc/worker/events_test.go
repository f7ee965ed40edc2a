//go:build linux && (amd64 || arm64)

package worker

import (
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
)

// While OnEvent is called it is not called, and the events of each process are in order.
func TestEventsAreToldOneAfterTheOther(t *testing.T) {
	var inside, beside atomic.Int64
	j := newJournal()
	p, err := Start(testContext(t), patient(quick(Config{
		Size: 4, Command: command(t, "exits with status zero"), MaxQuickDeaths: 1 << 30, MinUptime: 1,
		OnEvent: func(event Event) {
			beside.Add(inside.Add(1) - 1)
			for range 100 {
				runtime.Gosched()
			}
			inside.Add(-1)
			j.add(event)
		},
	})))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		_, err := p.Call(testContext(t), "bye", nil, MaxAttempts(1))
		wantErrors(t, err, []error{ErrPoison})
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	j.nobodyIsLeft(t)
	last, kinds := Event{}, map[uint64]EventKind{}
	for i, event := range j.all() {
		if event.Time.Before(last.Time) || event.Kind <= kinds[event.Start] || event.Missed > 0 {
			t.Errorf("event %d: %+v, after %v of its process, and %+v of any", i, event, kinds[event.Start], last)
		}
		last, kinds[event.Start] = event, event.Kind
	}
	if n := beside.Load(); n > 0 || len(kinds) < 20 {
		t.Errorf("%d events were told beside others; %d processes", n, len(kinds))
	}
}

// A handler of events that does not return holds up nobody. What it misses is counted.
func TestAnEventHandlerThatIsStuckHoldsUpNobody(t *testing.T) {
	gate, told, seen := make(chan struct{}), 0, 0
	var holds atomic.Bool
	p, err := Start(testContext(t), patient(Config{Command: command(t, "serve"), OnEvent: func(event Event) {
		holds.Store(true)
		<-gate
		told += 1 + event.Missed
		seen++
	}}))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the handler has the first event", holds.Load)
	for start := uint64(1); start <= 4; start++ {
		eventually(t, "it serves, and that is told", func() bool {
			p.events.mu.Lock()
			defer p.events.mu.Unlock()
			return slices.ContainsFunc(p.events.waiting, func(e Event) bool { return e.Kind == EventReady && e.Start == start })
		})
		mustCall(t, p, "echo", "")
		if start < 4 {
			p.killed(t)
		}
	}
	for range maxEvents {
		p.slots[0].tell(Event{})
	}
	closed := make(chan error)
	go func() { closed <- p.Close() }()
	eventually(t, "the processes end", func() bool { return p.Stats().Deaths == 4 })
	select {
	case <-closed:
		t.Error("Close does not wait for the handler")
	default:
	}
	close(gate)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	// Four starts, each with three events. The first was with the handler already.
	if want := maxEvents + 4*3; told != want || seen != maxEvents+1 {
		t.Errorf("%d events were told, %d with those that were missed, want %d and %d", seen, told, maxEvents+1, want)
	}
}

// A handler of events that ends its goroutine gets the next one.
func TestAnEventHandlerThatEndsItsGoroutineGetsTheNext(t *testing.T) {
	j := newJournal()
	p, err := Start(testContext(t), patient(Config{Command: command(t, "serve"), OnEvent: func(event Event) {
		j.add(event)
		runtime.Goexit()
	}}))
	if err != nil {
		t.Fatal(err)
	}
	j.await(t, "it serves", func(e Event) bool { return e.Kind == EventReady })
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if events := j.all(); len(events) != 3 || events[2].Kind != EventEnded {
		t.Errorf("events %v", events)
	}
}
