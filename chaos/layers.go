package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Layer is one way to break package ipc that runs alone.
type Layer struct {
	Name  string // one word
	What  string // one line
	Parts int    // of the time of a run of several layers, its share

	// Run runs it. It returns when the context ends, with what it has covered.
	Run func(ctx context.Context, o LayerOptions) *Report
}

// LayerOptions is what every layer is told.
type LayerOptions struct {
	Budget time.Duration // how long it may take, about
	Seed   uint64        // draws what is left out, or done
	Dir    string        // where a campaign is saved: missing or empty
	Kills  int           // if not 0, when a campaign ends, instead of the budget

	// Progress, if set, is called now and then with the cases and kills so far,
	// from any goroutine. Not every layer does.
	Progress func(cases, kills int)
}

// CampaignName is the name of the layer that saves what [JudgeDir] judges again.
const CampaignName = "campaign"

// Layers are those that run without a test binary around them, in the order in
// which one reads of them.
func Layers() []Layer {
	return []Layer{
		{"enumerator", "after every store of short operation sequences, and of their recovery", 4, runEnumerator},
		{"forked", "real processes killed, frozen and thawed at one step after the other", 4, runForked},
		{"instructions", "after every instruction of the shipped code, by ptrace", 6, runInstructions},
		{"syscalls", "at each system call of a life, from Listen or Dial to Close", 3, runSystemCalls},
		{"errnos", "each system call of a life made to fail, with each errno that it can give", 3, runErrnos},
		{CampaignName, "random faults against real pairs under load, judged by porcupine", 8, runCampaign},
		{"traces", "what real processes did until they died, replayed by the machines of the specification", 3, runTraces},
	}
}

func runEnumerator(ctx context.Context, o LayerOptions) *Report {
	report, err := Enumerate(ctx, EnumerateOptions{Budget: o.Budget, Seed: o.Seed, Progress: o.cases})
	return o.settled(ctx, "enumerator", report, err)
}

func runForked(ctx context.Context, o LayerOptions) *Report {
	report, err := Forked(ctx, ForkedOptions{Budget: o.Budget, Seed: o.Seed, Progress: o.cases})
	return o.settled(ctx, "forked", report, err)
}

func runInstructions(ctx context.Context, o LayerOptions) *Report {
	return o.settled(ctx, "instructions", Instructions(ctx, InstructionOptions{Budget: o.Budget, Seed: o.Seed}), nil)
}

func runSystemCalls(ctx context.Context, o LayerOptions) *Report {
	return o.settled(ctx, "syscalls", SystemCallKills(ctx, InstructionOptions{Budget: o.Budget, Seed: o.Seed}), nil)
}

func runErrnos(ctx context.Context, o LayerOptions) *Report {
	return o.settled(ctx, "errnos", FailedSystemCalls(ctx, ErrnoOptions{Budget: o.Budget, Seed: o.Seed}), nil)
}

func runCampaign(ctx context.Context, o LayerOptions) *Report {
	campaign := CampaignOptions{Seed: o.Seed, Duration: o.Budget, Dir: o.Dir}
	if o.Kills > 0 {
		campaign.Duration, campaign.Kills = 0, o.Kills
	}
	if o.Progress != nil {
		campaign.Progress = func(p CampaignProgress) { o.Progress(p.Episodes, p.Kills) }
	}
	report, err := Campaign(ctx, campaign)
	if report != nil && err != nil {
		finishCampaign(report)
	}
	return o.settled(ctx, CampaignName, report, err)
}

func runTraces(ctx context.Context, o LayerOptions) *Report {
	report, err := Traces(ctx, TraceOptions{Budget: o.Budget, Seed: o.Seed, Progress: o.cases})
	return o.settled(ctx, "traces", report, err)
}

func (o LayerOptions) cases(cases int) {
	if o.Progress != nil {
		o.Progress(cases, 0)
	}
}

// settled is the report of a layer that may have broken off: interrupted, or by
// an error of its own, which is a failure.
func (o LayerOptions) settled(ctx context.Context, name string, report *Report, err error) *Report {
	if report == nil {
		report = NewReport(name, o.Seed)
	}
	switch {
	case ctx.Err() != nil:
		report.interrupted()
		return report.Finish(report.Cases + 1)
	case err != nil:
		report.Fail("harness", fmt.Sprintf("tandem chaos -layers %s -seed %d", name, o.Seed), "%v", err)
		return report.Finish(1)
	}
	return report
}

// interrupted takes back what the harness says of cases that it could not bring
// to their end, because everything ended. What broke a promise stays.
func (r *Report) interrupted() {
	r.Note("interrupted: it has not covered what it was to cover")
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := len(r.Failures)
	r.Failures = slices.DeleteFunc(r.Failures, func(f Failure) bool { return f.Contract == "harness" })
	r.Failed -= kept - len(r.Failures)
}

// Skipped returns why the machine did not permit the layer, if that is so: it is
// Void, and has noted why it was skipped.
func (r *Report) Skipped() (why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, note := range r.Notes {
		if rest, found := strings.CutPrefix(note, "skipped: "); found && r.Verdict == Void {
			return rest
		}
	}
	return ""
}

// Check returns what a report says that cannot be so, as one that somebody has
// changed behind.
func (r *Report) Check() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := len(r.Failures)
	switch {
	case r.Layer == "":
		return errors.New("it names no layer")
	case r.Cases < 0 || r.Kills < 0 || r.Failed < 0:
		return errors.New("a count is negative")
	case kept != min(r.Failed, maxFailures):
		return fmt.Errorf("it counts %d failures and has %d", r.Failed, kept)
	case (r.Verdict == Fail) != (r.Failed > 0):
		return fmt.Errorf("it says %v of %d failures", r.Verdict, r.Failed)
	case r.Verdict == Pass && r.Cases == 0:
		return errors.New("it says pass of no case")
	}
	return nil
}
