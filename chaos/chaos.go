package chaos

import (
	"encoding"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A Fault is one way to break a process or its memory.
type Fault uint8

const (
	Kill    Fault = iota + 1 // SIGKILL: the process ends without another instruction
	Freeze                   // SIGSTOP: it lives and does nothing
	Thaw                     // SIGCONT: it goes on as if nothing had been
	Corrupt                  // it stores what it must not
)

var faultNames = []string{"", "kill", "freeze", "thaw", "corrupt"}

// A Verdict is what a judge says of a run. The zero value is Void: nothing has
// happened yet.
type Verdict uint8

const (
	Void Verdict = iota // too little happened to say anything; never counts as Pass
	Pass
	Fail
)

var verdictNames = []string{"void", "pass", "fail"}

func nameOf(names []string, n uint8) string {
	if int(n) < len(names) {
		return names[n]
	}
	return fmt.Sprintf("unknown %d", n)
}

func numberOf(names []string, text []byte) (uint8, error) {
	if n := slices.Index(names, string(text)); n >= 0 {
		return uint8(n), nil
	}
	return 0, fmt.Errorf("chaos: %q is none of %q", text, names)
}

func (f Fault) String() string               { return nameOf(faultNames, uint8(f)) }
func (f Fault) MarshalText() ([]byte, error) { return []byte(f.String()), nil }
func (f *Fault) UnmarshalText(text []byte) error {
	n, err := numberOf(faultNames, text)
	*f = Fault(n)
	return err
}

func (v Verdict) String() string               { return nameOf(verdictNames, uint8(v)) }
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }
func (v *Verdict) UnmarshalText(text []byte) error {
	n, err := numberOf(verdictNames, text)
	*v = Verdict(n)
	return err
}

var (
	_ encoding.TextUnmarshaler = (*Fault)(nil)
	_ encoding.TextUnmarshaler = (*Verdict)(nil)
)

// A Failure is one broken promise.
type Failure struct {
	Contract  string `json:"contract"`  // the contract's name, as "M1 NoLoss"; "harness" if the run itself broke
	What      string `json:"what"`      // stable text: no times, no process numbers
	Reproduce string `json:"reproduce"` // the one line that shows it again
}

func (f Failure) String() string { return f.Contract + ": " + f.What + "\n\t" + f.Reproduce }

// maxFailures is how many failures a report keeps; it counts all of them.
const maxFailures = 100

// A Report is what one layer covered and found. It goes to JSON as it is. Its
// methods may be called from any goroutine; its fields are read when the layer
// has returned it.
type Report struct {
	Layer    string                    `json:"layer"`
	Verdict  Verdict                   `json:"verdict"`
	Seed     uint64                    `json:"seed,omitempty"`
	Cases    int                       `json:"cases"`           // runs judged
	Kills    int                       `json:"kills"`           // deaths of processes, or of what stands for one
	Steps    map[string]map[string]int `json:"steps,omitempty"` // step -> outcome -> how often
	Counts   map[string]int            `json:"counts,omitempty"`
	Failed   int                       `json:"failed"`
	Failures []Failure                 `json:"failures,omitempty"`
	Notes    []string                  `json:"notes,omitempty"` // what was left out, and why
	Started  time.Time                 `json:"started"`
	Elapsed  time.Duration             `json:"elapsed"` // nanoseconds

	mu sync.Mutex
}

// NewReport begins the report of a layer.
func NewReport(layer string, seed uint64) *Report {
	return &Report{
		Layer: layer, Seed: seed, Started: time.Now(),
		Steps: map[string]map[string]int{}, Counts: map[string]int{},
	}
}

// Case counts one judged run in which so many processes died.
func (r *Report) Case(kills int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Cases++
	r.Kills += kills
}

// Covered counts that a process died, or stopped, at a step, with an outcome.
func (r *Report) Covered(step, outcome string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Steps[step] == nil {
		r.Steps[step] = map[string]int{}
	}
	r.Steps[step][outcome]++
}

// Count adds to a figure of the layer's own.
func (r *Report) Count(name string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Counts[name] += n
}

// Fail records a broken promise.
func (r *Report) Fail(contract, reproduce, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Failed++
	if len(r.Failures) < maxFailures {
		r.Failures = append(r.Failures, Failure{contract, fmt.Sprintf(format, args...), reproduce})
	}
}

// Note records something that a reader of the figures must know.
func (r *Report) Note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Finish settles the verdict: Fail if anything failed, else Pass, or Void if
// fewer than atLeast runs were judged.
func (r *Report) Finish(atLeast int) *Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Elapsed = time.Since(r.Started)
	switch {
	case r.Failed > 0:
		r.Verdict = Fail
	case r.Cases < max(atLeast, 1):
		r.Verdict = Void
	default:
		r.Verdict = Pass
	}
	return r
}

// String is the report in one line, and one more for each failure.
func (r *Report) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := fmt.Sprintf("%s: %v; seed %d, %d cases, %d kills, %d steps, %d failed, %v",
		r.Layer, r.Verdict, r.Seed, r.Cases, r.Kills, len(r.Steps), r.Failed, r.Elapsed.Round(time.Millisecond))
	for _, f := range r.Failures {
		text += "\n" + f.String()
	}
	return text
}

// watchdog bounds each wait of a layer. It is a bound, not a claim about time.
const watchdog = 60 * time.Second
