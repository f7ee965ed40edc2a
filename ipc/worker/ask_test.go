//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The workers' handlers that ask: what to ask for is the first line of their request.
func init() {
	testHandlers["ask"] = func(ctx context.Context, r *Request) ([]byte, error) {
		method, request, _ := strings.Cut(string(r.Data), "\n")
		return Ask(ctx, method, []byte(request))
	}
	// ask briefly gives up before its call does.
	testHandlers["ask briefly"] = func(ctx context.Context, r *Request) ([]byte, error) {
		brief, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		_, err := Ask(brief, string(r.Data), nil)
		return nil, err
	}
	testHandlers["ask many"] = func(ctx context.Context, r *Request) ([]byte, error) {
		n, _ := strconv.Atoi(string(r.Data))
		errs := make([]error, n)
		var asking sync.WaitGroup
		for i := range n {
			asking.Add(1)
			go func() {
				defer asking.Done()
				want := strconv.Itoa(i)
				answer, err := Ask(ctx, "counted", []byte(want))
				if err == nil && string(answer) != want {
					err = fmt.Errorf("answer %q to %q", answer, want)
				}
				errs[i] = err
			}()
		}
		asking.Wait()
		return nil, errors.Join(errs...)
	}
	// ask on waits for a file, and asks for long.
	testHandlers["ask on"] = func(ctx context.Context, r *Request) ([]byte, error) {
		err := untilFile(ctx, string(r.Data))
		for range 1000 {
			if err == nil {
				_, err = Ask(ctx, "nothing", nil)
			}
		}
		return nil, err
	}
	testHandlers[squares.Name+" asked"] = func(ctx context.Context, _ *Request) ([]byte, error) {
		n, err := double.Ask(ctx, 21)
		return []byte(strconv.Itoa(n)), err
	}
}

var double = Method[int, int]{Name: "double"}

// A desk is the service's handlers, and what has become of them.
type desk struct {
	running, most, begun, ended atomic.Int64
	gate                        string
}

func (d *desk) enter() (leave func()) {
	d.begun.Add(1)
	now := d.running.Add(1)
	for most := d.most.Load(); now > most && !d.most.CompareAndSwap(most, now); most = d.most.Load() {
	}
	return func() { d.running.Add(-1); d.ended.Add(1) }
}

func (d *desk) handlers() Handlers {
	return Handlers{
		"echo": func(_ context.Context, r *Request) ([]byte, error) { return r.Data, nil },
		"fail": func(_ context.Context, r *Request) ([]byte, error) { return nil, errors.New(string(r.Data)) },
		"send": func(_ context.Context, r *Request) ([]byte, error) { return nil, r.Send(nil) },
		"large": func(_ context.Context, r *Request) ([]byte, error) {
			n, err := strconv.Atoi(string(r.Data))
			return make([]byte, n), err
		},
		"goexit":  func(context.Context, *Request) ([]byte, error) { runtime.Goexit(); return nil, nil },
		"allowed": func(ctx context.Context, _ *Request) ([]byte, error) { return remaining(ctx), nil },
		"wait": func(ctx context.Context, _ *Request) ([]byte, error) {
			defer d.enter()()
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"counted": func(_ context.Context, r *Request) ([]byte, error) {
			defer d.enter()()
			runtime.Gosched()
			return r.Data, nil
		},
		// stuck does not look at its context.
		"stuck": func(context.Context, *Request) ([]byte, error) {
			defer d.enter()()
			return nil, untilFile(context.Background(), d.gate)
		},
		double.Name: double.Handler(func(_ context.Context, n int) (int, error) { return 2 * n, nil }),
	}
}

func TestAHandlerAsksTheService(t *testing.T) {
	d := &desk{}
	p, _ := startPool(t, Config{Handlers: d.handlers(), MaxMessage: 1 << 16})
	if got := mustCall(t, p, "ask", "echo\nquestion"); got != "question" {
		t.Errorf("answer %q", got)
	}
	if got := mustCall(t, p, "squares asked", ""); got != "42" {
		t.Errorf("with types: %q", got)
	}
	for request, want := range map[string]string{
		"fail\nno such key":      "fail: no such key",
		"send":                   "send: " + ErrNoStream.Error(),
		"goexit":                 "goexit: " + errGoexit.Error(),
		"nothing":                ErrUnknownMethod.Error() + ": nothing",
		"large\n65537":           ErrTooLarge.Error() + ": the answer of large",
		strings.Repeat("x", 256): ErrNotSent.Error() + ": " + ErrUnknownMethod.Error(),
	} {
		_, err := p.Call(testContext(t), "ask", []byte(request))
		var remote *RemoteError
		if !errors.As(err, &remote) || !strings.HasPrefix(remote.Message, want) {
			t.Errorf("%q: %v", request, err)
		}
	}
	if _, err := Ask(context.Background(), "echo", nil); !errors.Is(err, ErrNotSent) {
		t.Errorf("outside of a worker: %v", err)
	}
	if stats := p.Stats(); stats.Deaths+stats.Unasked != 0 {
		t.Errorf("counts %+v", stats)
	}
	p, _ = startPool(t, Config{})
	_, err := p.Call(testContext(t), "ask", []byte("echo"))
	if err == nil || !strings.Contains(err.Error(), ErrUnknownMethod.Error()) {
		t.Errorf("a service without handlers: %v", err)
	}
}

func TestDeadlineAndCancellationReachWhatWasAsked(t *testing.T) {
	d := &desk{}
	p, _ := startPool(t, Config{Handlers: d.handlers()})
	if got := mustCall(t, p, "ask", "allowed"); got == "" {
		t.Error("no deadline")
	}
	if got, err := p.Call(context.Background(), "ask", []byte("allowed")); err != nil || len(got) != 0 {
		t.Errorf("a deadline where none was set: %q, %v", got, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		_, err := p.Call(ctx, "ask", []byte("wait"))
		ended <- err
	}()
	eventually(t, "it was asked", func() bool { return d.running.Load() == 1 })
	cancel()
	wantErrors(t, <-ended, []error{context.Canceled})
	eventually(t, "what was asked has ended", func() bool { return d.running.Load() == 0 })

	_, err := p.Call(testContext(t), "ask briefly", []byte("wait"))
	if err == nil || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
		t.Errorf("error %v", err)
	}
	eventually(t, "what was asked has ended", func() bool { return d.running.Load() == 0 })
	if deaths := p.Stats().Deaths; deaths != 0 {
		t.Errorf("%d deaths", deaths)
	}
}

func TestWhatWasAskedEndsWithTheWorker(t *testing.T) {
	d := &desk{}
	p, _ := startPool(t, Config{Handlers: d.handlers()})
	ended := make(chan error)
	go func() {
		_, err := p.Call(context.Background(), "ask", []byte("wait"), AtMostOnce()) // no deadline ends it
		ended <- err
	}()
	eventually(t, "it was asked", func() bool { return d.running.Load() == 1 })
	_, err := p.Call(testContext(t), "exit", nil, AtMostOnce())
	wantErrors(t, err, []error{ErrOutcomeUnknown})
	wantErrors(t, <-ended, []error{ErrOutcomeUnknown})
	eventually(t, "what was asked has ended", func() bool { return d.running.Load() == 0 })
	if got := mustCall(t, p, "ask", "echo\nagain"); got != "again" {
		t.Errorf("the next worker: %q", got)
	}
}

func TestNoMoreThanMaxAsksAreServedAtATime(t *testing.T) {
	d := &desk{}
	p, _ := startPool(t, Config{Handlers: d.handlers(), MaxAsks: 3})
	for range 20 {
		mustCall(t, p, "ask many", "50")
	}
	if d.begun.Load() != 1000 || d.most.Load() > 3 || d.most.Load() < 2 {
		t.Errorf("%d asks, up to %d at a time", d.begun.Load(), d.most.Load())
	}
	if deaths := p.Stats().Deaths; deaths != 0 {
		t.Errorf("%d deaths", deaths)
	}
}

func TestWhatIsAskedMayCallAWorker(t *testing.T) {
	var p *Pool
	made := make(chan struct{})
	p, _ = startPool(t, Config{Handlers: Handlers{"again": func(ctx context.Context, r *Request) ([]byte, error) {
		<-made
		return p.Call(ctx, "echo", r.Data)
	}}})
	close(made)
	if got := mustCall(t, p, "ask", "again\nround trip"); got != "round trip" {
		t.Errorf("answer %q", got)
	}
}

func TestCloseWaitsForTheServicesHandlers(t *testing.T) {
	d := &desk{gate: filepath.Join(t.TempDir(), "gate")}
	p, _ := startPool(t, Config{Handlers: d.handlers(), StopTimeout: 10 * time.Millisecond})
	ended, closed := make(chan error), make(chan error)
	go func() {
		_, err := p.Call(testContext(t), "ask", []byte("stuck"))
		ended <- err
	}()
	eventually(t, "it was asked", func() bool { return d.running.Load() == 1 })
	go func() { closed <- p.Close() }()
	wantErrors(t, <-ended, []error{ErrOutcomeUnknown, ErrClosed})
	if err := os.WriteFile(d.gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-closed; err != nil || d.running.Load() != 0 {
		t.Errorf("%v, and %d run", err, d.running.Load())
	}
}

// It asks for what never ends, as often as it may, and lives.
var _ = roguePart("asks and lives", func(r *rogue) {
	r.hello()
	for id := range uint64(2) {
		r.send(kindRequest, header{id: id, number: 1, methodSize: 5}, []byte("stuck"))
	}
})

func TestThePlacesOutlastTheWorkerThatHasTakenThem(t *testing.T) {
	d := &desk{gate: filepath.Join(t.TempDir(), "gate")}
	p, j := startPool(t, quick(Config{Command: command(t, "asks and lives"), Handlers: d.handlers(), MaxAsks: 2, StopTimeout: 20 * time.Millisecond}))
	goroutines := 0
	for n := range uint64(4) {
		var now *stay
		eventually(t, "it has asked", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			now = p.slots[0].current
			return now != nil && now.start == n+1 && len(now.asks) == 2
		})
		eventually(t, "the places are taken", func() bool { return d.begun.Load() == 2 })
		p.mu.Lock()
		if waiting := len(p.slots[0].asks); waiting > 2 {
			t.Errorf("%d asks wait", waiting)
		}
		p.mu.Unlock()
		if n == 0 {
			goroutines = runtime.NumGoroutine()
		}
		now.kill(ReasonBroken, nil)
		j.await(t, "a death", func(e Event) bool { return e.Kind == EventEnded && e.Start == n+1 })
	}
	if most := d.most.Load(); most != 2 {
		t.Errorf("%d run at a time", most)
	}
	eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines })
	if err := os.WriteFile(d.gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "those of the living are served", func() bool { return d.ended.Load() >= 4 })
}

// Each breaks a rule of asks.
var brokenAsks = map[string]func(*rogue){
	"more than allowed": func(r *rogue) {
		for id := range uint64(4) {
			r.send(kindRequest, header{id: id, methodSize: 4}, []byte("wait"))
		}
	},
	"a flood": func(r *rogue) {
		for id := uint64(0); ; id++ {
			r.send(kindRequest, header{id: id, methodSize: 4}, []byte("wait"))
		}
	},
	"twice": func(r *rogue) {
		r.send(kindRequest, header{id: 1, methodSize: 4}, []byte("wait"))
		r.send(kindRequest, header{id: 1, methodSize: 4}, []byte("wait"))
	},
	"too large": func(r *rogue) {
		r.send(kindRequest, header{id: 1, methodSize: 4}, append([]byte("wait"), make([]byte, 1001)...))
	},
	"a stream":       func(r *rogue) { r.send(kindOpen, header{id: 1, methodSize: 4}, []byte("wait")) },
	"no such method": func(r *rogue) { r.send(kindRequest, header{id: 1, methodSize: 4}, []byte("w")) },
}

func init() {
	for name, worst := range brokenAsks {
		roguePart("asks: "+name, func(r *rogue) { r.hello(); worst(r) })
	}
}

func TestAWorkerThatBreaksTheRulesOfAsksIsKilled(t *testing.T) {
	for name := range brokenAsks {
		t.Run(name, func(t *testing.T) {
			d := &desk{}
			p, j := startPool(t, Config{Command: command(t, "asks: "+name), Handlers: d.handlers(), MaxAsks: 3, MaxMessage: 1000, MinPause: watchdog})
			death := j.await(t, "a death", func(e Event) bool { return e.Kind == EventEnded }).Death
			var malformed *malformedError
			if death.Reason != ReasonBroken || !errors.As(death.Err, &malformed) {
				t.Errorf("death %v", death)
			}
			if most := d.most.Load(); most > 3 {
				t.Errorf("%d run at a time", most)
			}
			eventually(t, "what was asked has ended", func() bool { return d.running.Load() == 0 })
			_ = p.Close()
		})
	}
}

// It asks for nothing, cancels what it has not asked, and then is a good worker.
var _ = roguePart("asks for what is not there", func(r *rogue) {
	r.hello()
	r.send(kindCancel, header{id: 77}, nil)
	r.send(kindRequest, header{id: 1}, nil)
	answered, id := false, uint64(0)
	for m, err := range r.endpoint.Messages(context.Background()) {
		if err != nil {
			os.Exit(1)
		}
		h, err := parseHeader(m.Kind, m.Data)
		leave(err)
		switch m.Kind {
		case kindAnswer:
			answered = h.id == 1 && h.number == statusUnknownMethod
		case kindRequest:
			id = h.id
		}
		_ = m.Release()
		if answered && id != 0 {
			r.send(kindAnswer, header{id: id}, []byte("good"))
		}
	}
})

func TestAnAskForAnUnknownMethodFailsOnlyItself(t *testing.T) {
	p, _ := startPool(t, Config{Command: command(t, "asks for what is not there"), Handlers: (&desk{}).handlers(), StopTimeout: 20 * time.Millisecond})
	if got := mustCall(t, p, "echo", ""); got != "good" {
		t.Errorf("answer %q", got)
	}
}

// A handler that goes on while the pool is closed can ask as before.
func TestCloseLetsCallsEndThatAsk(t *testing.T) {
	nothing := func(context.Context, *Request) ([]byte, error) { return nil, nil }
	p, j := startPool(t, Config{Handlers: Handlers{"nothing": nothing}, StopTimeout: time.Minute, Concurrency: 1})
	gate := filepath.Join(t.TempDir(), "gate")
	running, waiting := make(chan error), make(chan error)
	call := func(method string, result chan error) {
		_, err := p.Call(testContext(t), method, []byte(gate))
		result <- err
	}
	go call("ask on", running)
	eventually(t, "a call runs", func() bool { return p.Stats().Running == 1 })
	go call("echo", waiting)
	eventually(t, "a call waits", func() bool { return p.Stats().Waiting == 1 })
	closed := make(chan error)
	go func() { closed <- p.Close() }()
	wantErrors(t, <-waiting, []error{ErrClosed, ErrNotSent}) // the pool closes
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-running; err != nil {
		t.Errorf("the call that asks: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if deaths := j.deaths(); len(deaths) != 1 || deaths[0].ExitCode != 0 {
		t.Errorf("deaths %v", deaths)
	}
}
