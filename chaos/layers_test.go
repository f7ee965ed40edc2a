package chaos

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestEachLayerHasItsOwnRow(t *testing.T) {
	names := map[string]bool{}
	for _, l := range Layers() {
		if l.Name == "" || l.What == "" || l.Parts < 1 || l.Run == nil || names[l.Name] {
			t.Errorf("the row of %q is not whole, or not the only one", l.Name)
		}
		names[l.Name] = true
	}
}

func TestALayerThatBreaksOffDoesNotPass(t *testing.T) {
	o := LayerOptions{Seed: 7}
	if r := o.settled(t.Context(), "some", nil, errors.New("no room")); r.Verdict != Fail || r.Failures[0].Reproduce != "tandem chaos -layers some -seed 7" {
		t.Errorf("with an error: %v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := NewReport("some", 7)
	r.Case(1)
	r.Fail("harness", "", "the pair did not come about")
	r = o.settled(ctx, "some", r, ctx.Err())
	if r.Verdict != Void || len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], "interrupted: ") || r.Skipped() != "" {
		t.Errorf("interrupted: %v, %v", r, r.Notes)
	}
	r.Fail("M1 NoLoss", "", "message 3 is lost")
	if r = o.settled(ctx, "some", r, nil); r.Verdict != Fail || r.Failed != 1 {
		t.Errorf("interrupted, with a broken promise: %v", r)
	}
}

func TestOnlyAVoidReportIsSkipped(t *testing.T) {
	r := NewReport("some", 1)
	r.Note("skipped: not here")
	if r.Finish(1).Skipped() != "not here" {
		t.Errorf("skipped: %q", r.Skipped())
	}
	r.Case(1)
	if r.Finish(1).Skipped() != "" {
		t.Error("it has passed, and is skipped")
	}
}

func TestAReportThatCannotBeSoIsFound(t *testing.T) {
	sound := func() *Report {
		r := NewReport("some", 1)
		r.Case(1)
		return r.Finish(1)
	}
	if err := sound().Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Report){
		"no layer":                 func(r *Report) { r.Layer = "" },
		"a pass of nothing":        func(r *Report) { r.Cases = 0 },
		"a negative count":         func(r *Report) { r.Kills = -1 },
		"a pass with a failure":    func(r *Report) { r.Failed, r.Failures = 1, []Failure{{"M1", "lost", ""}} },
		"a failure of none":        func(r *Report) { r.Verdict = Fail },
		"a failure is missing":     func(r *Report) { r.Verdict, r.Failed = Fail, 1 },
		"a failure is not counted": func(r *Report) { r.Verdict, r.Failed, r.Failures = Fail, 1, make([]Failure, 2) },
	} {
		r := sound()
		change(r)
		if r.Check() == nil {
			t.Errorf("%s: not found", name)
		}
	}
}
