package chaos

import (
	"testing"
	"time"
)

func TestTraceScene(t *testing.T) {
	seed := seedOf(t)
	for i := range uint64(20) {
		tr, err := playScene(watched(t), seed+i)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range tr.ringTraces() {
			at := time.Now()
			n, err := r.replay()
			t.Log(r, r.config(), n, time.Since(at))
			if err != nil {
				t.Errorf("%d of %d: %v", n, len(r.Events), err)
				for i, e := range r.Events[max(0, n-40):min(len(r.Events), n+4)] {
					t.Log(max(0, n-40)+i, e, e.Early)
				}
			}
		}
	}
}
