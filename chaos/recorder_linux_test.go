package chaos

import (
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/tandem-ipc/tandem/internal/step"
)

type recorderArgument struct {
	Path    string
	Process int
	Events  int
}

// The part records from two goroutines, and is killed in the middle of it.
var _ = register("records", func(p *player) {
	var argument recorderArgument
	p.arg(&argument)
	r, err := makeRecorder(argument.Path, argument.Process, 100*argument.Events)
	if err != nil {
		p.fail("%v", err)
	}
	go func() {
		for i := uint64(0); ; i++ {
			r.record(step.Released, i)
		}
	}()
	for i := range uint64(argument.Events) {
		r.record(step.Published, i)
	}
	signalSelf(syscall.SIGKILL)
})

func TestTraceRecorderSurvivesTheKill(t *testing.T) {
	const events = 2000
	dir := t.TempDir()
	ctx := watched(t)
	var both sync.WaitGroup
	var all [2][]recorded
	for n := range all {
		both.Add(1)
		go func() {
			defer both.Done()
			path := filepath.Join(dir, strconv.Itoa(n))
			p, err := start("records", recorderArgument{path, n + 1, events})
			if err != nil {
				t.Error(err)
				return
			}
			defer p.kill()
			if s, err := p.awaitEnd(ctx); err != nil || s != syscall.SIGKILL {
				t.Error(s, err)
			}
			if all[n], _, err = readRecording(path); err != nil {
				t.Error(err)
			}
		}()
	}
	both.Wait()
	next := map[recorded]uint64{}
	var last recorded
	for _, e := range merge(all[0], all[1]) {
		key := recorded{Process: e.Process, At: e.At}
		if e.Value != next[key] || e.Time < last.Time {
			t.Fatalf("%v at %v, after %v at %v; want value %d", e, e.Time, last, last.Time, next[key])
		}
		next[key]++
		last = e
	}
	for n := 1; n <= 2; n++ {
		if got := next[recorded{Process: n, At: step.Published}]; got != events {
			t.Errorf("process %d recorded %d of %d events before it was killed", n, got, events)
		}
	}
}

func TestTraceRecorderCountsWhatItCannotKeep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recording")
	r, err := makeRecorder(path, 7, 4)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		r.record(step.Claimed, uint64(i))
	}
	r.close()
	all, lost, err := readRecording(path)
	if err != nil || len(all) != 4 || lost != 3 || all[3].Value != 3 || all[3].Process != 7 || all[3].At != step.Claimed {
		t.Errorf("%v, %d lost, %v", all, lost, err)
	}
}

func BenchmarkTraceRecorder(b *testing.B) {
	r, err := makeRecorder(filepath.Join(b.TempDir(), "recording"), 1, b.N+1)
	if err != nil {
		b.Fatal(err)
	}
	defer r.close()
	for range b.N {
		r.record(step.Published, 1)
	}
}
