//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A way is one in which user code does not return.
type way struct {
	name   string
	go_    func()
	exited bool // the goroutine ends, and nothing can be recovered
}

var ways = []way{
	{"a panic", func() { panic("user code") }, false},
	{"a panic with nil", func() { panic(any(nil)) }, false}, // which recover does not see
	{"Goexit", runtime.Goexit, true},                        // as t.FailNow does
}

// inEachWay runs a test for each way.
func inEachWay(t *testing.T, test func(*testing.T, way)) {
	t.Setenv("GODEBUG", "panicnil=1")
	for _, w := range ways {
		if !t.Run(w.name, func(t *testing.T) { test(t, w) }) {
			return // the others would wait as long for what never comes
		}
	}
}

// at is a hook that goes this way at a step, once.
func (w way) at(at step.ID, reached *bool) func(step.ID, uint64) {
	var once atomic.Bool
	return func(step step.ID, _ uint64) {
		if step == at && once.CompareAndSwap(false, true) {
			*reached = true
			w.go_()
		}
	}
}

// check checks that a call whose user code went this way has ended so too.
func (w way) check(t *testing.T, call string, end *ending) {
	t.Helper()
	if end == nil || end.exited != w.exited {
		t.Errorf("%s: user code ended by %s, the call by %+v", call, w.name, end)
	}
}

// A hook that ends its goroutine, whenever it is called at a step of the endpoint's own
// goroutines, disables nothing: whoever comes is admitted, the heartbeat goes on, ends
// are told, and Close returns.
func TestT4AHookThatEndsItsGoroutineStopsNoGoroutineOfTheEndpoint(t *testing.T) {
	for at := range stepsOfWorkers {
		t.Run(at.String(), func(t *testing.T) {
			var reached atomic.Bool
			path := testPath(t)
			options := func() *Options {
				o := hostileOptions()
				o.HeartbeatInterval, o.HangTimeout = time.Millisecond, time.Minute
				o.hook = func(step step.ID, _ uint64) {
					if step == at {
						reached.Store(true)
						runtime.Goexit()
					}
				}
				return o
			}
			server := listenHere(t, path, options())
			for range maxHandshakes + 2 { // more than there are slots to keep
				client := dialHere(t, path, options())
				if err := client.Close(); err != nil {
					t.Fatalf("Close of the client: %v", err)
				}
				if _, err := server.Receive(testContext(t)); !errors.Is(err, ErrPeerClosed) {
					t.Fatalf("Receive gave %v, want %v", err, ErrPeerClosed)
				}
			}
			client := dialHere(t, path, options())
			checkUsable(t, server, client)
			for _, e := range []*Endpoint{server, client} {
				beat := e.own.control.beat.Load()
				eventually(t, e.role.String()+" beats", func() bool { return e.own.control.beat.Load() > beat+2 })
			}
			closed := make(chan error)
			go func() { closed <- server.Close() }()
			if _, err := client.Receive(testContext(t)); !errors.Is(err, ErrPeerClosed) {
				t.Errorf("Receive after the server's Close gave %v, want %v", err, ErrPeerClosed)
			}
			if err := errors.Join(client.Close(), <-closed); err != nil {
				t.Errorf("Close: %v", err)
			}
			if !reached.Load() {
				t.Error("the hook was not called there")
			}
		})
	}
}

// A hook ends a Listen and a Dial in the way that it does not return itself, a panic with
// nil too, and nothing is left of them.
func TestT4AHookEndsListenAndDialInItsOwnWay(t *testing.T) {
	inEachWay(t, func(t *testing.T, w way) {
		path := testPath(t)
		var reached [2]bool
		w.check(t, "Listen", endingOf(func() {
			_, _ = Listen(testContext(t), path, &Options{hook: w.at(step.ServerLocked, &reached[0])})
		}))
		server := listenHere(t, path, nil)
		w.check(t, "Dial", endingOf(func() {
			_, _ = Dial(testContext(t), path, &Options{hook: w.at(step.GrantReceived, &reached[1])})
		}))
		checkUsable(t, server, dialHere(t, path, &Options{Wait: true}))
		if reached != [2]bool{true, true} {
			t.Errorf("the hooks were called: %v", reached)
		}
	})
}

// A deserter is a context that does not return from the n-th call of its methods.
type deserter struct {
	context.Context
	calls *atomic.Int64
	n     int64
	way   func()
}

func (d deserter) hit() {
	if d.calls.Add(1) == d.n {
		d.way()
	}
}

func (d deserter) Done() <-chan struct{} { d.hit(); return d.Context.Done() }
func (d deserter) Err() error            { d.hit(); return d.Context.Err() }
func (d deserter) Value(key any) any     { d.hit(); return d.Context.Value(key) }

// A context that does not return from a call in Dial leaves no client that nobody has.
func TestT4AContextThatPanicsInDialLeavesNoClient(t *testing.T) {
	inEachWay(t, func(t *testing.T, w way) {
		path := testPath(t)
		server := listenHere(t, path, hostileOptions())
		for n := int64(1); ; n++ {
			files := openFiles(t)
			ctx := deserter{testContext(t), new(atomic.Int64), n, w.go_}
			var client *Endpoint
			var err error
			end := endingOf(func() { client, err = Dial(ctx, path, hostileOptions()) })
			if ctx.calls.Load() < n { // no n-th call
				if err != nil || n < 4 {
					t.Fatalf("Dial: %v, behind %d calls", err, n-1)
				}
				_ = client.Close()
				break
			}
			w.check(t, "Dial", end)
			eventually(t, "no file stays open", func() bool { return openFiles(t) <= files })
			next := dialHere(t, path, hostileOptions())
			drainNow(t, server)
			for range 3 {
				_, _ = server.TryReceive()
			}
			checkUsable(t, server, next)
			_ = next.Close()
		}
		if err := server.Close(); err != nil {
			t.Errorf("Close of the server: %v", err)
		}
	})
}
