package worker

import (
	"sync"
	"time"
)

// maxEvents is how many events wait for Config.OnEvent, see there.
const maxEvents = 1024

// An eventStream hands the events of a pool to Config.OnEvent, one after the other. Who
// tells does not wait: the user's handler may be slow, or not return.
type eventStream struct {
	handle func(Event) // nil: there is no stream

	mu      sync.Mutex
	waiting []Event        // the oldest first
	running sync.WaitGroup // one, while any wait or one is handled
	busy    bool
}

// tell adds an event. Of more than maxEvents the oldest is dropped.
func (e *eventStream) tell(event Event) {
	if e.handle == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	event.Time = time.Now()
	e.waiting = append(e.waiting, event)
	if len(e.waiting) > maxEvents {
		e.waiting[1].Missed += 1 + e.waiting[0].Missed
		e.drop()
	}
	if !e.busy {
		e.busy = true
		e.running.Add(1)
		go e.handleNext()
	}
}

// drop takes the oldest event away.
//
// Preconditions: mu is held, and one waits.
func (e *eventStream) drop() {
	e.waiting[0] = Event{} // it may hold much
	e.waiting = e.waiting[1:]
}

// handleNext handles the oldest event, and starts itself for the next: the handler may end its
// goroutine.
func (e *eventStream) handleNext() {
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.busy = len(e.waiting) > 0; e.busy {
			go e.handleNext()
		} else {
			e.running.Done()
		}
	}()
	e.mu.Lock()
	event := e.waiting[0]
	e.drop()
	e.mu.Unlock()
	e.handle(event)
}

// wait returns when all events have been handled.
//
// Preconditions: nobody tells any more.
func (e *eventStream) wait() { e.running.Wait() }
