package chaos

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAReportIsVoidUntilEnoughWasJudged(t *testing.T) {
	r := NewReport("layer", 7)
	if r.Finish(1).Verdict != Void {
		t.Errorf("of nothing: %v", r.Verdict)
	}
	r.Case(2)
	if r.Finish(2).Verdict != Void {
		t.Errorf("of too little: %v", r.Verdict)
	}
	r.Case(1)
	r.Covered("Published", "drained")
	if r.Finish(2).Verdict != Pass || r.Cases != 2 || r.Kills != 3 || r.Steps["Published"]["drained"] != 1 {
		t.Errorf("of enough: %v", r)
	}
	r.Fail("M1 NoLoss", "tandem chaos -replay x", "message %d is lost", 3)
	if r.Finish(100).Verdict != Fail {
		t.Errorf("with a failure: %v", r.Verdict)
	}
	if text := r.String(); !strings.Contains(text, "M1 NoLoss: message 3 is lost\n\ttandem chaos -replay x") {
		t.Errorf("text: %s", text)
	}
	for range 2 * maxFailures {
		r.Fail("M2 FIFO", "", "again")
	}
	if r.Failed != 2*maxFailures+1 || len(r.Failures) != maxFailures {
		t.Errorf("%d failures counted, %d kept", r.Failed, len(r.Failures))
	}
	encoded, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal(encoded, &again); err != nil || again.Verdict != Fail || again.Layer != "layer" || !strings.Contains(string(encoded), `"verdict":"fail"`) {
		t.Errorf("through JSON: %v, %.200s", err, encoded)
	}
}

func TestNamesGoThroughText(t *testing.T) {
	for _, want := range []Fault{Kill, Freeze, Thaw, Corrupt} {
		text, _ := want.MarshalText()
		var got Fault
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	var v Verdict
	if err := v.UnmarshalText([]byte("perhaps")); err == nil {
		t.Error("a verdict that there is not")
	}
}

func TestAPayloadShowsWhatHappenedToIt(t *testing.T) {
	id := ID{Generation: 3, Lane: 2, Number: 1000}
	for _, size := range []int{0, idSize, idSize + 1, 100, 4000} {
		data := payload(id, size)
		if got, damage := identify(data); got != id || damage != "" {
			t.Fatalf("%d bytes: %v, %s", size, got, damage)
		}
		for i := range data { // every byte counts: it changes the ID, or is damage
			data[i] ^= 0x40
			if got, damage := identify(data); got == id && damage == "" {
				t.Fatalf("%d bytes: byte %d was changed, and nobody saw it", size, i)
			}
			data[i] ^= 0x40
		}
		if _, damage := identify(data[:len(data)-1]); damage == "" {
			t.Errorf("%d bytes: one was cut off, and nobody saw it", size)
		}
	}
}
