//go:build linux && (amd64 || arm64)

package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A board keeps what notifications have brought.
type board struct {
	mu    sync.Mutex
	lines []string
}

func (b *board) add(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
}

func (b *board) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lines)
}

func (b *board) handlers(gate string) Handlers {
	return Handlers{
		"note": func(_ context.Context, r *Request) ([]byte, error) { b.add(string(r.Data)); return nil, nil },
		"goexit": func(context.Context, *Request) ([]byte, error) {
			b.add("goexit")
			runtime.Goexit()
			return nil, nil
		},
		"stuck": func(context.Context, *Request) ([]byte, error) { return nil, untilFile(context.Background(), gate) },
	}
}

// notes is what a worker was notified of.
var notes board

func init() {
	testHandlers["note"] = func(_ context.Context, r *Request) ([]byte, error) { notes.add(string(r.Data)); return nil, nil }
	testHandlers["notes"] = func(context.Context, *Request) ([]byte, error) {
		return []byte(strconv.Itoa(os.Getpid()) + " " + strings.Join(notes.all(), " ")), nil
	}
	tell := func(ctx context.Context, n int) error {
		for i := range n {
			if err := Tell(ctx, "note", []byte(strconv.Itoa(i))); err != nil {
				return err
			}
		}
		return nil
	}
	testHandlers["tell"] = func(ctx context.Context, r *Request) ([]byte, error) {
		n, _ := strconv.Atoi(string(r.Data))
		return nil, tell(ctx, n)
	}
	testHandlers["tell and exit"] = func(ctx context.Context, r *Request) ([]byte, error) {
		n, _ := strconv.Atoi(string(r.Data))
		leave(tell(ctx, n))
		os.Exit(7)
		return nil, nil
	}
	testHandlers["tell of"] = func(ctx context.Context, r *Request) ([]byte, error) {
		method, data, _ := strings.Cut(string(r.Data), "\n")
		return nil, Tell(ctx, method, []byte(data))
	}
	// tell once told so waits for a file first.
	testHandlers["tell once told so"] = func(ctx context.Context, r *Request) ([]byte, error) {
		leave(untilFile(ctx, string(r.Data)))
		leave(tell(ctx, 2000))
		os.Exit(7)
		return nil, nil
	}
	// tell without end counts what it could send before its time was over.
	testHandlers["tell without end"] = func(ctx context.Context, r *Request) ([]byte, error) {
		for n := 0; ; n++ {
			if err := Tell(ctx, string(r.Data), nil); err != nil {
				sent.Store(int64(n))
				return nil, err
			}
		}
	}
}

func TestEachWorkerGetsEachNotificationInOrder(t *testing.T) {
	const size, each = 3, 500
	p, _ := startPool(t, Config{Size: size, MaxMessage: 2000, Concurrency: 1})
	eventually(t, "all serve", func() bool { told, err := p.Notify(testContext(t), "nothing", nil); return told == size && err == nil })
	var want bytes.Buffer
	for i := range each {
		fmt.Fprintf(&want, " %d", i)
		if told, err := p.Notify(testContext(t), "note", []byte(strconv.Itoa(i))); told != size || err != nil {
			t.Fatalf("told %d, %v", told, err)
		}
	}
	seen := map[string]bool{}
	eventually(t, "all have all", func() bool {
		answers := make(chan string)
		for range 2 * size { // so that they go to different workers
			go func() {
				answer, _ := p.Call(testContext(t), "notes", nil)
				answers <- string(answer)
			}()
		}
		for range 2 * size {
			pid, got, _ := strings.Cut(<-answers, " ")
			if len(got)+1 >= want.Len() {
				if " "+got != want.String() {
					t.Errorf("%s has %q", pid, got)
				}
				seen[pid] = true
			}
		}
		return len(seen) == size || t.Failed()
	})
}

func TestTheServiceGetsWhatAWorkerTellsInOrder(t *testing.T) {
	b := &board{}
	p, _ := startPool(t, Config{Handlers: b.handlers(""), MaxMessage: 2000})
	mustCall(t, p, "tell", "1000")
	eventually(t, "all have come", func() bool { return len(b.all()) == 1000 })
	wantCount(t, b.all(), 1000)
	mustCall(t, p, "tell of", "no such method\n")
	eventually(t, "it is counted", func() bool { return p.Stats().Dropped == 1 })
	mustCall(t, p, "tell of", "goexit\n")
	mustCall(t, p, "tell of", "note\nafter it")
	eventually(t, "the next is handled", func() bool { lines := b.all(); return lines[len(lines)-1] == "after it" })
	if stats := p.Stats(); stats.Told != 1002 || stats.Deaths+stats.Unasked != 0 {
		t.Errorf("counts %+v", stats)
	}
}

func TestWhatADeadWorkerHadToldIsHandled(t *testing.T) {
	b := &board{}
	p, _ := startPool(t, Config{Handlers: b.handlers("")})
	_, err := p.Call(testContext(t), "tell and exit", []byte("500"), AtMostOnce())
	wantErrors(t, err, []error{ErrOutcomeUnknown})
	eventually(t, "all have come", func() bool { return len(b.all()) == 500 })
	wantCount(t, b.all(), 500)
	_, _ = p.Call(testContext(t), "tell and exit", []byte("100"), AtMostOnce())
	if err := p.Close(); err != nil || len(b.all()) != 600 {
		t.Errorf("after Close there are %d, %v", len(b.all()), err)
	}
}

// What a worker has told is received after its end, if nobody could receive it before.
func TestWhatADeadWorkerHadToldIsReceivedAfterItsEnd(t *testing.T) {
	b := &board{}
	p, _ := startPool(t, Config{Handlers: b.handlers("")})
	gate, ended := filepath.Join(t.TempDir(), "gate"), make(chan error)
	go func() {
		_, err := p.Call(testContext(t), "tell once told so", []byte(gate), AtMostOnce())
		ended <- err
	}()
	eventually(t, "the handler has started", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		y := p.slots[0].current
		return y != nil && len(y.flights) == 1 && y.flightsInOrder()[0].started
	})
	p.mu.Lock() // so that nothing is received
	process := p.slots[0].current.process
	err := os.WriteFile(gate, nil, 0o600)
	<-process.ended
	p.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	wantErrors(t, <-ended, []error{ErrOutcomeUnknown})
	eventually(t, "all have come", func() bool { return len(b.all()) == 2000 })
	wantCount(t, b.all(), 2000)
}

func TestANotificationThatKillsIsNamedAndNoCallIsBlamed(t *testing.T) {
	p, j := startPool(t, Config{MaxAttempts: 1})
	gate := filepath.Join(t.TempDir(), "gate")
	ended := make(chan error)
	go func() {
		_, err := p.Call(testContext(t), "open", []byte(gate))
		ended <- err
	}()
	for n := range 3 { // beside the call, each time
		eventually(t, "the call has started", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			y := p.slots[0].current
			if y == nil || y.start != uint64(n+1) {
				return false
			}
			for _, f := range y.flights {
				return f.started
			}
			return false
		})
		if told, err := p.Notify(testContext(t), "exit", nil); told != 1 || err != nil {
			t.Fatalf("told %d, %v", told, err)
		}
		death := j.await(t, "a death", func(e Event) bool { return e.Kind == EventEnded && e.Start == uint64(n+1) }).Death
		if len(death.Suspects) != 2 || death.Suspects[0].Blamed || death.Suspects[1].Blamed {
			t.Errorf("suspects %+v", death.Suspects)
		}
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the call: %v", err)
	}
	if _, err := p.Notify(testContext(t), "panic", []byte("now")); err != nil {
		t.Error(err)
	}
	death := j.await(t, "a death", func(e Event) bool { return e.Kind == EventEnded && e.Start == 4 }).Death
	if len(death.Suspects) != 1 || death.Suspects[0] != (Suspect{"panic", 1, true}) {
		t.Errorf("suspects %+v", death.Suspects)
	}
}

func TestWhoNotifiesAWorkerThatIsBehindWaits(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	p, _ := startPool(t, Config{MaxMessage: 1000})
	mustCall(t, p, "echo", "")
	n := 0
	for ; ; n++ {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		_, err := p.Notify(ctx, "open", []byte(gate))
		cancel()
		if err != nil {
			wantErrors(t, err, []error{context.DeadlineExceeded})
			break
		}
	}
	if most := 1000/(len(gate)+messageCost) + 1; n > most || n == 0 {
		t.Errorf("%d notifications, of at most %d", n, most)
	}
	mustCall(t, p, "echo", "calls go on")
	waiting := make(chan error, n+1)
	go func() {
		_, err := p.Notify(testContext(t), "note", []byte("x"))
		waiting <- err
	}()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	eventually(t, "it is handled", func() bool { return strings.HasSuffix(mustCall(t, p, "notes", ""), " x") })

	// A death ends the waiting, too.
	for range n + 1 {
		go func() {
			_, err := p.Notify(testContext(t), "hang", []byte(gate))
			waiting <- err
		}()
	}
	eventually(t, "it is behind", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		y := p.slots[0].current
		_, err := y.allowance.tryTake(0)
		return err != nil
	})
	_, err := p.Call(testContext(t), "exit", nil, AtMostOnce())
	wantErrors(t, err, []error{ErrOutcomeUnknown})
	for range n + 1 {
		if err := <-waiting; err != nil {
			t.Error(err)
		}
	}
}

func TestAWorkerWhoseServiceIsBehindWaits(t *testing.T) {
	b, gate := &board{}, filepath.Join(t.TempDir(), "gate")
	p, _ := startPool(t, Config{Handlers: b.handlers(gate), MaxMessage: 1000})
	_, err := p.Call(testContext(t), "tell without end", []byte("stuck"), Timeout(20*time.Millisecond))
	wantErrors(t, err, []error{context.DeadlineExceeded})
	eventually(t, "the handler has ended", func() bool { return p.Stats().Running == 0 })
	if n := mustCall(t, p, "sent", ""); n != "16" { // of 64 bytes each
		t.Errorf("%s notifications were sent", n)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustCall(t, p, "tell", "100")
	eventually(t, "those that follow have come", func() bool { return len(b.all()) == 100 })
}

func TestNotificationsThatCannotBeSentAreErrors(t *testing.T) {
	p, _ := startPool(t, Config{MaxMessage: 1000, Handlers: Handlers{}})
	mustCall(t, p, "echo", "")
	_, err := p.Notify(testContext(t), "note", make([]byte, 1001))
	wantErrors(t, err, []error{ErrTooLarge})
	_, err = p.Notify(testContext(t), string(make([]byte, 256)), nil)
	wantErrors(t, err, []error{ErrUnknownMethod})
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = p.Notify(ended, "note", nil)
	wantErrors(t, err, []error{context.Canceled})
	_, err = p.Call(testContext(t), "tell of", []byte(strings.Repeat("x", 256)))
	if err == nil || !strings.Contains(err.Error(), ErrUnknownMethod.Error()) {
		t.Errorf("error %v", err)
	}
	if err := Tell(testContext(t), "note", nil); err == nil {
		t.Error("Tell outside of a worker is no error")
	}
	_ = p.Close()
	_, err = p.Notify(testContext(t), "note", nil)
	wantErrors(t, err, []error{ErrClosed})
}

func TestNotificationsOfTheDeadAreBounded(t *testing.T) {
	b, gate := &board{}, filepath.Join(t.TempDir(), "gate")
	p, _ := startPool(t, quick(Config{Handlers: b.handlers(gate), MaxMessage: 1000}))
	mustCall(t, p, "tell of", "stuck\n")
	for range 6 {
		_, err := p.Call(testContext(t), "tell and exit", []byte("14"), AtMostOnce())
		wantErrors(t, err, []error{ErrOutcomeUnknown})
		p.mu.Lock()
		backlog := p.slots[0].backlog
		p.mu.Unlock()
		if backlog > 4*1000 {
			t.Fatalf("%d bytes wait", backlog)
		}
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "each is handled or counted", func() bool {
		stats := p.Stats()
		return stats.Told+stats.Dropped == 6*14+1
	})
	if dropped := p.Stats().Dropped; dropped == 0 {
		t.Error("none was dropped: nothing was shown")
	}
}

// Who is about to handle the oldest notification can find that it was dropped meanwhile,
// with the others of processes that had ended: it is nobody's fault, and the next is handled.
func TestANotificationIsDroppedBeforeItsHandlerBegins(t *testing.T) {
	b := &board{}
	p, _ := startPool(t, quick(Config{Handlers: b.handlers(filepath.Join(t.TempDir(), "gate")), MaxMessage: 1000}))
	mustCall(t, p, "echo", "")
	p.mu.Lock()
	s := p.slots[0]
	if s.noticing || len(s.notices) > 0 {
		t.Fatal("it handles what nobody sent")
	}
	for range 4 {
		s.notices, s.backlog = append(s.notices, notice{stay: s.current, request: &Request{}, cost: 1000}), s.backlog+1000
	}
	s.noticing = true
	p.serving.Add(1)
	go s.handleNext() // it waits for the lock
	s.limitBacklog()
	p.mu.Unlock()
	eventually(t, "it gives up", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return !s.noticing
	})
	if dropped := p.Stats().Dropped; dropped != 4 {
		t.Errorf("%d were dropped, want 4", dropped)
	}
	mustCall(t, p, "tell of", "note\nnext")
	eventually(t, "the next is handled", func() bool { return slices.Equal(b.all(), []string{"next"}) })
}

// A process that the kernel does not end can send when the pool is closed: no handler runs then.
func TestANotificationAfterCloseIsDropped(t *testing.T) {
	b := &board{}
	p, _ := startPool(t, quick(Config{Handlers: b.handlers(filepath.Join(t.TempDir(), "gate"))}))
	mustCall(t, p, "echo", "")
	p.mu.Lock()
	s, y := p.slots[0], p.slots[0].current
	p.mu.Unlock()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	err := s.noticed(y, header{methodSize: len("note")}, []byte("notelate"))
	p.mu.Unlock()
	p.serving.Wait()
	if all, dropped := b.all(), p.Stats().Dropped; err != nil || len(all) > 0 || dropped != 1 {
		t.Errorf("%v, handled %q, dropped %d, want one that is dropped", err, all, dropped)
	}
}

func TestNotificationsWithTypes(t *testing.T) {
	var got board
	note := Method[int, struct{}]{Name: "typed note"}
	p, _ := startPool(t, Config{Handlers: Handlers{note.Name: note.Handler(func(_ context.Context, n int) (struct{}, error) {
		got.add(strconv.Itoa(n))
		return struct{}{}, nil
	})}})
	mustCall(t, p, "echo", "")
	if told, err := note.Notify(testContext(t), p, 7); told != 1 || err != nil {
		t.Errorf("told %d, %v", told, err)
	}
	eventually(t, "it comes back", func() bool { return slices.Equal(got.all(), []string{"8"}) })
}

func init() {
	note := Method[int, struct{}]{Name: "typed note"}
	testHandlers[note.Name] = note.Handler(func(ctx context.Context, n int) (struct{}, error) {
		return struct{}{}, note.Tell(ctx, n+1)
	})
}

// Each breaks a rule of notifications. It is notified once, if it waits for it.
var brokenNotices = map[string]func(*rogue){
	"a flood": func(r *rogue) {
		for {
			r.send(kindNotice, header{methodSize: 5}, []byte("stuck"))
		}
	},
	"too large":          func(r *rogue) { r.send(kindNotice, header{methodSize: 4}, make([]byte, 1005)) },
	"the end of nothing": func(r *rogue) { r.send(kindCredit, header{number: messageCost}, nil) },
	"an end without a start": func(r *rogue) {
		r.notice()
		r.send(kindCredit, header{number: messageCost}, nil)
	},
	"too large an end": func(r *rogue) {
		r.notice()
		r.send(kindStarted, header{}, nil)
		r.send(kindCredit, header{number: messageCost + 1}, nil)
	},
	"two ends": func(r *rogue) {
		r.notice()
		r.send(kindStarted, header{}, nil)
		r.send(kindCredit, header{number: messageCost}, nil)
		r.send(kindCredit, header{number: messageCost}, nil)
	},
	"a credit for a stream": func(r *rogue) { r.send(kindCredit, header{id: 1, number: 1}, nil) },
}

// notice waits for a notification.
func (r *rogue) notice() {
	for m, err := range r.endpoint.Messages(context.Background()) {
		if err != nil {
			os.Exit(1)
		}
		found := m.Kind == kindNotice
		_ = m.Release()
		if found {
			return
		}
	}
}

func init() {
	for name, worst := range brokenNotices {
		roguePart("notices: "+name, func(r *rogue) { r.hello(); worst(r) })
	}
}

func TestAWorkerThatBreaksTheRulesOfNotificationsIsKilled(t *testing.T) {
	for name := range brokenNotices {
		t.Run(name, func(t *testing.T) {
			b, gate := &board{}, filepath.Join(t.TempDir(), "gate")
			p, j := startPool(t, Config{Command: command(t, "notices: "+name), Handlers: b.handlers(gate), MaxMessage: 1000, MinPause: watchdog})
			j.await(t, "it serves", func(e Event) bool { return e.Kind == EventReady })
			if _, err := p.Notify(testContext(t), "note", nil); err != nil {
				t.Error(err)
			}
			death := j.await(t, "a death", func(e Event) bool { return e.Kind == EventEnded }).Death
			var malformed *malformedError
			if death.Reason != ReasonBroken || !errors.As(death.Err, &malformed) {
				t.Errorf("death %v", death)
			}
			if err := os.WriteFile(gate, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
}
