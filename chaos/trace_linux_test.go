package chaos

import "testing"

func TestTraceScene(t *testing.T) {
	seed := seedOf(t)
	for i := range uint64(5) {
		tr, err := playScene(watched(t), seed+i)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range tr.ringTraces() {
			if n, err := r.replay(); err != nil {
				t.Errorf("seed %d: %v: %d: %v", seed+i, r, n, err)
			}
		}
		l := tr.lifeTrace()
		if n, err := l.replay(); err != nil {
			t.Errorf("seed %d: %v: %d: %v", seed+i, l, n, err)
		}
	}
}
