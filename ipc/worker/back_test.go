//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tandem-ipc/tandem/ipc"
)

// What a service says to another one that comes back is not taken: it would serve with the
// other's start, and what waits in the channel for that one.
func TestAWorkerThatComesBackTakesOnlyItsOwnAnswer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w0")
	service, err := ipc.Listen(testContext(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	for _, c := range []struct {
		kind  uint32
		start uint64
		err   error
	}{{kindAdopted, 5, nil}, {kindStop, 0, errTurnedAway}} {
		endpoint, err := ipc.Dial(testContext(t), path, &ipc.Options{Wait: true})
		if err != nil {
			t.Fatal(err)
		}
		number := comingBack | endpoint.Attachment()
		for _, h := range []struct {
			kind uint32
			header
		}{{kindAdopted, header{start: number + 1, id: 4}}, {kindStop, header{}}, {kindStop, header{start: endpoint.Attachment()}}, {c.kind, header{start: number, id: 5}}} {
			if err := transmit(testContext(t), service, h.kind, h.header, "", nil); err != nil {
				t.Fatal(err)
			}
		}
		start, err := (&task{terms: "terms"}).askToServe(testContext(t), endpoint)
		if start != c.start || !errors.Is(err, c.err) {
			t.Errorf("start %d, %v; want %d, %v", start, err, c.start, c.err)
		}
		m, err := service.Receive(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		h, err := parseHeader(m.Kind, m.Data)
		if err != nil || m.Kind != kindReturn || h.start != comingBack|m.Attachment || string(m.Data[headerSize:]) != "terms" {
			t.Errorf("it says %+v, kind %d, %v", h, m.Kind, err)
		}
		_ = m.Release()
		if err := endpoint.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := service.Receive(testContext(t)); !errors.Is(err, ipc.ErrPeerClosed) {
			t.Fatal(err)
		}
	}
}

// Rogues that say that they come back are told to leave, once at a time; what they say in
// another's name is counted. A process that serves is killed for it.
var _ = roguePart("returns without a cause", func(r *rogue) {
	r.returns(7)
	for range 1000 {
		r.returns(0)
	}
	number := comingBack | r.endpoint.Attachment()
	for m, err := range r.endpoint.Messages(context.Background()) {
		leave(err)
		if h, err := parseHeader(m.Kind, m.Data); err == nil && m.Kind == kindStop && h.start == number {
			r.hello()
			_ = r.request()
			r.returns(0)
			break
		}
	}
})

// returns says that the process comes back, with a number that is so much too high.
func (r *rogue) returns(wrong uint64) {
	start := r.start
	r.start = comingBack | r.endpoint.Attachment() + wrong
	r.send(kindReturn, header{id: wireVersion}, []byte("terms"))
	r.start = start
}

func TestAProcessThatOnlySaysThatItComesBackIsNotAdopted(t *testing.T) {
	p, j := startPool(t, patient(quick(Config{Command: command(t, "returns without a cause"), MaxQuickDeaths: 2})))
	_, err := p.Call(testContext(t), "echo", nil)
	death := j.await(t, "its end", func(e Event) bool { return e.Kind == EventEnded }).Death
	var malformed *malformedError
	if death.Reason != ReasonBroken || !errors.As(death.Err, &malformed) || err == nil {
		t.Errorf("death %+v, and the call gives %v", death, err)
	}
	if stats := p.Stats(); stats.Stale == 0 {
		t.Errorf("counts %+v: it has spoken for another", stats)
	}
	if adopted := j.pids(EventAdopted); len(adopted) > 0 {
		t.Errorf("adopted %v", adopted)
	}
}

// A worker that waits in a service's own process, or that the kernel does not prove to be who
// attached, is not adopted: the pool could not end it.
func TestWhoCannotBeHeldIsNotAdopted(t *testing.T) {
	dir := t.TempDir()
	config := patient(Config{Command: command(t, "serve"), Dir: dir, Outlive: true, Adopt: watchdog})
	p, j := startPool(t, config)
	own := task{path: filepath.Join(dir, "w0")}
	effective, err := config.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	own.terms = effective.terms(config.Command())
	if _, _, err := own.comeTo(testContext(t), own.path); !errors.Is(err, errTurnedAway) {
		t.Errorf("%v, want %v", err, errTurnedAway)
	}
	mustCall(t, p, "echo", "")
	if adopted := j.pids(EventAdopted); len(adopted) > 0 {
		t.Errorf("adopted %v", adopted)
	}
}

func TestTermsAreWhatBothMustHaveSaid(t *testing.T) {
	base := Config{MaxMessage: 1, MaxAsks: 2}
	seen := map[string]string{}
	for name, c := range map[string]struct {
		config Config
		cmd    *exec.Cmd
	}{
		"as it was":       {base, exec.Command("a", "b")},
		"another path":    {base, exec.Command("b", "b")},
		"more arguments":  {base, exec.Command("a", "b", "")},
		"joined":          {base, exec.Command("ab")},
		"another message": {Config{MaxMessage: 2, MaxAsks: 2}, exec.Command("a", "b")},
		"other asks":      {Config{MaxMessage: 1, MaxAsks: 3}, exec.Command("a", "b")},
	} {
		terms := c.config.terms(c.cmd)
		if other, found := seen[terms]; found {
			t.Errorf("%s is as %s: %s", name, other, terms)
		}
		seen[terms] = name
	}
}

// A process that has not served yet when its service dies leaves: it neither waits for ever,
// nor serves the next pool with a start that is another's there.
func TestAProcessWhoseServiceDiedBeforeItServedLeaves(t *testing.T) {
	for name, anotherIsThere := range map[string]bool{"nobody is there": false, "another one is there": true} {
		t.Run(name, func(t *testing.T) {
			path, want := filepath.Join(t.TempDir(), "w0"), ipc.ErrNoServer
			if anotherIsThere {
				service, err := ipc.Listen(testContext(t), path, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer service.Close()
				want = ipc.ErrPeerDied
			}
			t.Setenv(variable, "1:1000:"+path)
			t.Setenv(termsVariable, "99:terms")
			wantErrors(t, Serve(testContext(t), nil, Await(watchdog)), []error{want}, context.DeadlineExceeded)
		})
	}
}
