package worker

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// An Event is something that happened to a worker. The events of a pool are one stream,
// in the order in which they happened. Where one process replaces another, those of two processes of
// one place mix.
type Event struct {
	Kind   EventKind
	Time   time.Time
	Worker int    // its place in the pool, from 0
	Start  uint64 // the number of this start, counted over the whole pool from 1
	PID    int    // 0 if no process was started

	// Death is set with EventEnded and EventDown.
	Death *Death

	// Pause is how long the pool waits before it starts the next process, with
	// EventEnded.
	Pause time.Duration

	// Missed is how many events before this one were dropped, because OnEvent was behind.
	Missed int
}

// An EventKind says what happened to a worker.
type EventKind uint8

const (
	EventStarted EventKind = iota + 1 // a process was started
	EventReady                        // it serves
	EventEnded                        // it has ended; Death says why
	EventDown                         // it ends as soon as it starts: without another worker, calls fail with ErrWorkerDown
	EventAdopted                      // in place of EventStarted: a worker of a former pool was taken over, see Config.Adopt
)

func (k EventKind) String() string {
	return nameOf(int(k), "started", "ready", "ended", "down", "adopted")
}

// A Reason says why a worker ended.
type Reason uint8

const (
	ReasonExited     Reason = iota + 1 // by itself, or by a signal from elsewhere
	ReasonNotStarted                   // the command could not be started
	ReasonNotReady                     // it did not serve within StartTimeout
	ReasonStuck                        // killed: a handler went on after its call's end for longer than Grace
	ReasonHung                         // killed: the process showed no life, or took nothing, for HangTimeout
	ReasonBroken                       // killed: it sent what no worker sends
	ReasonLeft                         // killed: it gave up its channel and went on
	ReasonRetired                      // it had its number of calls, or too much memory, and was sent away
	ReasonMemory                       // killed: it used more than MaxMemory
	ReasonStopped                      // the pool was closed
	ReasonReplaced                     // Replace has put another in its place
)

func (r Reason) String() string {
	return nameOf(int(r), "exited", "not started", "not ready", "stuck", "hung", "broken", "left", "retired", "memory", "stopped", "replaced")
}

func nameOf(i int, names ...string) string {
	if i < 1 || i > len(names) {
		return fmt.Sprintf("%d", i)
	}
	return names[i-1]
}

// A Death is the end of one worker's process.
type Death struct {
	Reason   Reason
	Worker   int
	Start    uint64
	PID      int
	Uptime   time.Duration
	ExitCode int            // -1 if a signal ended it, if it never ran, or if it was adopted: then nobody here knows
	Signal   syscall.Signal // 0 if none ended it
	Err      error          // what the system or the channel said, if it says more
	Answered uint64         // calls that this process has answered
	Stderr   []string       // the last lines of its standard error, and the first in which the Go runtime said why it ends
	Suspects []Suspect      // calls that were started and not answered, and the notification
}

// String is one line: what ended, how, and its last line of standard error. If a Go program
// has panicked, it is the line that says why.
func (d Death) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "worker %d (process %d) %v", d.Worker, d.PID, d.Reason)
	switch {
	case d.Signal != 0:
		fmt.Fprintf(&b, ", %v", d.Signal)
	case d.ExitCode >= 0:
		fmt.Fprintf(&b, ", exit status %d", d.ExitCode)
	}
	if d.Err != nil {
		fmt.Fprintf(&b, ": %v", d.Err)
	}
	if line := d.lastWord(); line != "" {
		fmt.Fprintf(&b, ": %q", line)
	}
	return b.String()
}

// panicStatus is the exit status of a Go program that has panicked.
const panicStatus = 2

func (d Death) lastWord() string {
	if d.ExitCode == panicStatus || d.Signal == syscall.SIGABRT { // GOTRACEBACK=crash
		for _, line := range slices.Backward(d.Stderr) {
			if saysWhy(line) {
				return line
			}
		}
	}
	if n := len(d.Stderr); n > 0 {
		return d.Stderr[n-1]
	}
	return ""
}

// A Suspect is a call that was started in a worker and not answered when the
// worker ended, or the notification that it was just handling.
type Suspect struct {
	Method  string
	Attempt int
	Blamed  bool // the death is its deed; with a call it counts
}

// Stats counts what a pool has seen.
type Stats struct {
	Starts   uint64 // processes started or adopted
	Deaths   uint64 // processes ended, those included that were sent away
	Answered uint64 // calls answered, also with an error of the handler
	Late     uint64 // answers to calls whose caller had gone
	Unasked  uint64 // answers and starts of calls that nobody made, or that were answered before
	Stale    uint64 // messages of processes that had ended
	Told     uint64 // notifications of workers that were handled
	Dropped  uint64 // notifications of workers without a handler, or that waited when too many did, or came after Close
	Waiting  int    // calls that wait for a worker now
	Running  int    // calls that are with a worker now
}
