//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// A rogue is a worker that speaks to the channel itself, and not as Serve does.
type rogue struct {
	endpoint *ipc.Endpoint
	start    uint64
}

func (r *rogue) send(kind uint32, h header, payload []byte) {
	h.start = r.start
	frame := make([]byte, headerSize, headerSize+len(payload))
	h.put(frame)
	r.raw(kind, append(frame, payload...))
}

func (r *rogue) raw(kind uint32, frame []byte) {
	if r.endpoint.Send(context.Background(), kind, frame) != nil {
		os.Exit(1)
	}
}

func (r *rogue) hello() { r.send(kindHello, header{id: wireVersion}, nil) }

// request waits for a call, and returns its id.
func (r *rogue) request() uint64 {
	for m, err := range r.endpoint.Messages(context.Background()) {
		if err != nil {
			os.Exit(1)
		}
		h, err := parseHeader(m.Kind, m.Data)
		_ = m.Release()
		if err == nil && (m.Kind == kindRequest || m.Kind == kindOpen) && h.start == r.start {
			return h.id
		}
	}
	return 0
}

func roguePart(name string, play func(*rogue)) bool {
	return part(name, func() {
		t, err := readTask()
		leave(err)
		endpoint, err := ipc.Dial(context.Background(), t.path, &ipc.Options{Wait: true})
		leave(err)
		play(&rogue{endpoint, t.start})
		<-time.After(10 * watchdog)
	})
}

// Each does its worst after it has a call; what it has broken is in the error.
var broken = map[string]func(*rogue, uint64){
	"unknown kind":      func(r *rogue, id uint64) { r.send(99, header{id: id}, nil) },
	"kind zero":         func(r *rogue, id uint64) { r.send(0, header{id: id}, nil) },
	"a service's kind":  func(r *rogue, id uint64) { r.send(kindStop, header{id: id}, nil) },
	"empty":             func(r *rogue, _ uint64) { r.raw(kindAnswer, nil) },
	"short":             func(r *rogue, _ uint64) { r.raw(kindAnswer, make([]byte, headerSize-1)) },
	"another start":     func(r *rogue, id uint64) { r.start++; r.send(kindAnswer, header{id: id}, nil) },
	"a second hello":    func(r *rogue, _ uint64) { r.hello() },
	"unknown status":    func(r *rogue, id uint64) { r.send(kindAnswer, header{id: id, number: statusCount}, nil) },
	"a method":          func(r *rogue, id uint64) { r.send(kindAnswer, header{id: id, methodSize: 1}, []byte("x")) },
	"a deadline":        func(r *rogue, id uint64) { r.send(kindAnswer, header{id: id, remaining: 1}, nil) },
	"started with data": func(r *rogue, id uint64) { r.send(kindStarted, header{id: id}, []byte("x")) },
	"a part of a call":  func(r *rogue, id uint64) { r.send(kindPart, header{id: id}, []byte("x")) },
	"too large":         func(r *rogue, id uint64) { r.send(kindAnswer, header{id: id}, make([]byte, 1001)) },
}

func init() {
	for name, worst := range broken {
		roguePart("broken: "+name, func(r *rogue) {
			r.hello()
			id := r.request()
			r.send(kindStarted, header{id: id}, nil)
			worst(r, id)
		})
	}
}

func TestAWorkerThatBreaksTheRulesFailsOnlyItsOwnCalls(t *testing.T) {
	for name := range broken {
		t.Run(name, func(t *testing.T) {
			p, j := startPool(t, quick(Config{Command: command(t, "broken: "+name), MaxMessage: 1000}))
			_, err := p.Call(testContext(t), "echo", nil, MaxAttempts(2))
			wantErrors(t, err, []error{ErrPoison}, ErrNotSent)
			var malformed *malformedError
			for _, death := range j.deaths() {
				if death.Reason != ReasonBroken || !errors.As(death.Err, &malformed) {
					t.Errorf("death %v", death)
				}
			}
		})
	}
}

// again leaves the channel and comes back, as nobody does who keeps the rules.
func (r *rogue) again() {
	path := r.endpoint.Path()
	leave(r.endpoint.Close())
	endpoint, err := ipc.Dial(context.Background(), path, &ipc.Options{Wait: true})
	leave(err)
	r.endpoint = endpoint
}

var (
	_ = roguePart("comes back", func(r *rogue) {
		r.hello()
		id := r.request()
		r.again()
		r.hello()
		r.send(kindAnswer, header{id: id}, nil)
		r.again()
		r.hello()
	})
	_ = roguePart("comes back as another version", func(r *rogue) {
		r.send(kindHello, header{id: wireVersion + 1}, nil)
		r.again()
		r.hello()
	})
)

// A stay has one beginning and one end, whatever its process does in between.
func TestAWorkerThatComesBackIsNotHeardAgain(t *testing.T) {
	for name, want := range map[string]Reason{"comes back": ReasonLeft, "comes back as another version": ReasonBroken} {
		t.Run(name, func(t *testing.T) {
			p, j := startPool(t, quick(Config{Command: command(t, name), StopTimeout: time.Millisecond}))
			_, err := p.Call(testContext(t), "echo", nil, MaxAttempts(1))
			if err == nil {
				t.Error("who had left has answered")
			}
			death := j.await(t, "its end", func(e Event) bool { return e.Kind == EventEnded }).Death
			if death.Reason != want {
				t.Errorf("death %v, want the reason %v", death, want)
			}
		})
	}
}

var (
	_ = roguePart("old version", func(r *rogue) { r.send(kindHello, header{id: wireVersion + 1}, nil) })
	_ = roguePart("no hello", func(r *rogue) { r.send(kindAnswer, header{id: 1}, nil); r.raw(77, nil) })
	_ = roguePart("answers what nobody asked, and twice", func(r *rogue) {
		r.hello()
		id := r.request()
		for guess := range id {
			r.send(kindStarted, header{id: guess}, nil)
			r.send(kindAnswer, header{id: guess}, []byte("guess"))
		}
		r.send(kindAnswer, header{id: id}, []byte("first"))
		r.send(kindAnswer, header{id: id}, []byte("second"))
	})
	_ = roguePart("flood", func(r *rogue) {
		r.hello()
		for {
			r.send(kindAnswer, header{id: 1 << 40}, make([]byte, 500))
		}
	})
	_ = roguePart("closes its channel", func(r *rogue) {
		r.hello()
		id := r.request()
		r.send(kindStarted, header{id: id}, nil)
		leave(r.endpoint.Close())
	})
	// scribble sends frames made by chance. Most have the favourite kind of the process, and the form
	// of that kind: what is wrong at first sight hides what is wrong at the second.
	_ = roguePart("scribble", func(r *rogue) {
		seed, err := strconv.ParseUint(os.Getenv("TANDEM_TEST_SEED"), 10, 64)
		leave(err)
		rng := rand.New(rand.NewPCG(seed, r.start))
		if rng.IntN(8) > 0 {
			r.hello()
		}
		id, favourite := r.request(), kindHello+uint32(rng.IntN(int(kindCount-kindHello)))
		if rng.IntN(2) == 0 {
			r.send(kindStarted, header{id: id}, nil)
		}
		for i := range rng.IntN(60) {
			kind, h := favourite, header{id: id + uint64(rng.IntN(3)) - 1, number: uint32(rng.IntN(8))}
			payload := make([]byte, rng.IntN(2)*rng.IntN(1100))
			switch {
			case rng.IntN(30) == 0:
				kind, h.methodSize = uint32(rng.IntN(int(kindCount)+2)), rng.IntN(2)*rng.IntN(40)
			case kind == kindRequest || kind == kindNotice: // of a handler that takes its time
				h.id, h.methodSize = uint64(i), len("c double")
				payload = append([]byte("c double"), payload...)
			case kind != kindAnswer && kind != kindPart:
				payload = nil
			}
			r.send(kind, h, payload)
		}
		if rng.IntN(2) == 0 {
			os.Exit(rng.IntN(3))
		}
	})
)

func TestAWorkerOfAnotherVersionIsNamed(t *testing.T) {
	p, j := startPool(t, quick(Config{Command: command(t, "old version"), MaxQuickDeaths: 2}))
	_, err := p.Call(testContext(t), "echo", nil)
	wantErrors(t, err, []error{ErrWorkerDown, ErrNotSent})
	if death := j.deaths()[0]; death.Reason != ReasonBroken || death.Err == nil {
		t.Errorf("death %v", death)
	}
}

func TestWhatAWorkerSaysBeforeItsHelloDoesNotCount(t *testing.T) {
	p, _ := startPool(t, quick(Config{Command: command(t, "no hello"), StartTimeout: 50 * time.Millisecond, MaxQuickDeaths: 2}))
	_, err := p.Call(testContext(t), "echo", nil)
	wantErrors(t, err, []error{ErrWorkerDown, ErrNotSent})
	if stats := p.Stats(); stats.Unasked != 0 {
		t.Errorf("counts %+v", stats)
	}
}

func TestAnswersThatNobodyAskedForAreCountedAndDropped(t *testing.T) {
	p, _ := startPool(t, Config{Command: command(t, "answers what nobody asked, and twice"), StopTimeout: 20 * time.Millisecond})
	if got := mustCall(t, p, "echo", ""); got != "first" {
		t.Errorf("answer %q", got)
	}
	eventually(t, "all are counted", func() bool { return p.Stats().Unasked == 3 })
	if stats := p.Stats(); stats.Answered != 1 || stats.Deaths != 0 {
		t.Errorf("counts %+v", stats)
	}
}

func TestALateAnswerIsCountedAndDropped(t *testing.T) {
	p, _ := startPool(t, Config{})
	mustCall(t, p, "echo", "")
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err := p.Call(ctx, "open", []byte("/nowhere/at/all"))
	wantErrors(t, err, []error{context.DeadlineExceeded})
	eventually(t, "the handler has answered", func() bool { return p.Stats().Running == 0 })
	if stats := p.Stats(); stats.Late+stats.Answered != 2 {
		t.Errorf("counts %+v", stats)
	}
}

func TestAWorkerThatFloodsTheServiceEnds(t *testing.T) {
	p, j := startPool(t, Config{Command: command(t, "flood"), Grace: time.Millisecond})
	j.await(t, "it serves", func(e Event) bool { return e.Kind == EventReady })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := p.Call(ctx, "echo", nil)
	wantErrors(t, err, []error{context.DeadlineExceeded})
	death := j.await(t, "its end", func(e Event) bool { return e.Kind == EventEnded }).Death
	if death.Reason != ReasonStuck {
		t.Errorf("death %v", death)
	}
}

func TestAWorkerThatClosesItsChannelAndLivesIsKilled(t *testing.T) {
	p, j := startPool(t, quick(Config{Command: command(t, "closes its channel"), StopTimeout: 20 * time.Millisecond}))
	_, err := p.Call(testContext(t), "echo", nil, MaxAttempts(1))
	wantErrors(t, err, []error{ErrPoison})
	if death := j.deaths()[0]; death.Reason != ReasonLeft {
		t.Errorf("death %v", death)
	}
}

func TestAWorkerThatScribblesFailsOnlyItsOwnCalls(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	scribbler, good := command(t, "scribble"), command(t, "serve")
	t.Setenv("TANDEM_TEST_SEED", strconv.FormatUint(seed, 10))
	bad, _ := startPool(t, quick(Config{Command: scribbler, MaxMessage: 1000, Grace: time.Millisecond, StopTimeout: 10 * time.Millisecond, StartTimeout: time.Second}))
	other, _ := startPool(t, Config{Command: good})
	for range 40 {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		if rng.IntN(2) == 0 {
			_, _ = bad.Call(ctx, "echo", []byte("innocent")) // any end will do, but an end
		} else {
			for range bad.Stream(ctx, "echo", []byte("innocent")) {
			}
		}
		cancel()
		mustCall(t, other, "echo", "")
	}
	if deaths := bad.Stats().Deaths; deaths == 0 {
		t.Error("no scribbler has died: nothing was shown")
	}
}

func FuzzParseHeader(f *testing.F) {
	frame := make([]byte, headerSize+8)
	header{start: 1, id: 2, remaining: 3, number: 4, methodSize: 5}.put(frame)
	for kind := uint32(0); kind <= kindCount; kind++ {
		f.Add(kind, frame)
		f.Add(kind, frame[:headerSize])
		f.Add(kind, frame[:headerSize-1])
	}
	f.Fuzz(func(t *testing.T, kind uint32, data []byte) {
		h, err := parseHeader(kind, data)
		if err != nil {
			return
		}
		if h.methodSize < 0 || headerSize+h.methodSize > len(data) || h.remaining < 0 {
			t.Fatalf("%d bytes, header %+v", len(data), h)
		}
		again := make([]byte, headerSize)
		h.put(again)
		if string(again) != string(data[:headerSize]) {
			t.Fatalf("% x is written as % x", data[:headerSize], again)
		}
	})
}
