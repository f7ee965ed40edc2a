//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// faulting is memory whose second page faults: a file that was truncated under its
// mapping.
func faulting(t testing.TB) []byte {
	t.Helper()
	page := os.Getpagesize()
	file, err := unix.MemfdCreate("truncated", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(file)
	if err := unix.Ftruncate(file, int64(page)); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(file, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(mem) })
	return mem[page-64:]
}

// panics calls f, whose user memory faults or whose user code panics, and returns
// what passed through.
func panics(f func()) (caught any) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { caught = recover() }()
	f()
	return nil
}

// checkUsable checks that a panic has left nothing behind: both directions work, with
// every form, from other goroutines too, and no message was lost or came again.
func checkUsable(t *testing.T, a, b *Endpoint) {
	t.Helper()
	for range 2 {
		for _, d := range [][2]*Endpoint{{a, b}, {b, a}} {
			ctx := testContext(t)
			done := make(chan error)
			go func() { done <- d[0].Send(ctx, 77, pattern(77)) }()
			if err := <-done; err != nil {
				t.Fatalf("send behind the panic: %v", err)
			}
			m, err := d[1].Receive(ctx)
			if err != nil || m.Kind != 77 || m.Redelivered || checkPattern(m) != nil || m.Release() != nil {
				t.Fatalf("receive behind the panic: %+v, %v", m, err)
			}
			if r, err := d[0].TryReserve(10); err != nil || r.Abort() != nil {
				t.Fatalf("reserve behind the panic: %v", err)
			}
			if left, err := d[0].Unreleased(); err != nil || len(left) != 0 {
				t.Fatalf("%d unreleased, %v", len(left), err)
			}
		}
	}
	if s := a.Stats(); s.HeldViews != 0 {
		t.Fatalf("%d views held", s.HeldViews)
	}
}

func TestT4AFaultWhileSendingCommitsNothing(t *testing.T) {
	bad, good := faulting(t), []byte("good")
	many := []Message{{Kind: 1, Data: good}, {Kind: 2, Data: make([]byte, 100)}, {Kind: 3, Data: bad}, {Kind: 4, Data: good}}
	for name, send := range map[string]func(*Endpoint){
		"Send":         func(e *Endpoint) { _ = e.Send(context.Background(), 1, bad) },
		"TrySend":      func(e *Endpoint) { _ = e.TrySend(1, bad) },
		"SendBatch":    func(e *Endpoint) { _, _ = e.SendBatch(context.Background(), many) },
		"TrySendBatch": func(e *Endpoint) { _, _ = e.TrySendBatch(many) },
		"a reservation": func(e *Endpoint) {
			r, err := e.Reserve(context.Background(), 1000)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Abort() }()
			copy(r.Data, bad)
		},
	} {
		server, client := pair(t, nil, nil)
		for range 3 {
			sent := client.Stats().SentBytes
			if panics(func() { send(client) }) == nil {
				t.Fatalf("%s of memory that faults returns", name)
			}
			if s := client.Stats(); s.SentBytes != sent {
				t.Errorf("%s of memory that faults has committed %d bytes", name, s.SentBytes-sent)
			}
			checkUsable(t, client, server)
		}
	}
}

// A batch that was undone leaves no mark of where its records began: what a peer
// releases later is judged by the records that were committed (T1).
func TestT4AnUndoneBatchLeavesNoMarks(t *testing.T) {
	options := hostileOptions()
	server, client := pair(t, options, options)
	bad := faulting(t)[:200]
	for round := range 300 {
		size := 8 * (round % 90)
		batch := []Message{{Data: make([]byte, size)}, {Data: make([]byte, 1000)}, {Data: make([]byte, 72)}, {Data: bad}}
		if panics(func() { _, _ = server.SendBatch(context.Background(), batch) }) == nil {
			t.Fatal("the batch returns")
		}
		for range 3 {
			if err := server.Send(testContext(t), 5, make([]byte, 600)); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		for range 3 {
			if m, err := client.Receive(testContext(t)); err != nil || len(m.Data) != 600 || m.Release() != nil {
				t.Fatalf("round %d: %+v, %v", round, m, err)
			}
			if _, err := server.Unreleased(); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
	}
}

func TestT4AFaultWhileReceivingTakesNothing(t *testing.T) {
	for name, receive := range map[string]func(*Endpoint, []byte){
		"ReceiveInto":      func(e *Endpoint, b []byte) { _, _ = e.ReceiveInto(context.Background(), b) },
		"TryReceiveInto":   func(e *Endpoint, b []byte) { _, _ = e.TryReceiveInto(b) },
		"ReceiveBatchInto": func(e *Endpoint, b []byte) { _, _ = e.ReceiveBatchInto(context.Background(), b, make([]Message, 3)) },
		"TryReceiveBatchInto": func(e *Endpoint, b []byte) {
			_, _ = e.TryReceiveBatchInto(b, make([]Message, 3))
		},
	} {
		server, client := pair(t, nil, nil)
		for _, d := range [][2]*Endpoint{{server, client}, {client, server}} {
			for _, held := range []bool{false, true} {
				if held {
					sendAll(t, d[0], 20)
				}
				var view Message
				if held {
					var err error
					if view, err = d[1].Receive(testContext(t)); err != nil {
						t.Fatal(err)
					}
				}
				sendAll(t, d[0], 5, 6) // 186 and 223 bytes
				before := d[1].Stats()
				if panics(func() { receive(d[1], faulting(t)) }) == nil {
					t.Fatalf("%s into memory that faults returns", name)
				}
				if s := d[1].Stats(); s.Received != before.Received || s.ReceivedBytes != before.ReceivedBytes || s.HeldViews != before.HeldViews {
					t.Errorf("%s into memory that faults has taken something: %+v, before %+v", name, s, before)
				}
				buf := make([]byte, 1000)
				for _, kind := range []uint32{5, 6} {
					m, err := d[1].ReceiveInto(testContext(t), buf)
					if err != nil || m.Kind != kind || checkPattern(m) != nil || m.Redelivered {
						t.Fatalf("%s, again: message %d %+v, %v; want %d, not marked", name, m.Kind, m, err, kind)
					}
				}
				if held && view.Release() != nil {
					t.Fatal("release")
				}
				checkUsable(t, d[1], d[0])
			}
		}
	}
}

// operations are what a program does with a pair, each with the steps of the calling
// goroutine.
var operations = map[string]func(ctx context.Context, e, peer *Endpoint){
	"Send":    func(ctx context.Context, e, _ *Endpoint) { _ = e.Send(ctx, 1, pattern(1)) },
	"TrySend": func(_ context.Context, e, _ *Endpoint) { _ = e.TrySend(1, pattern(1)) },
	"SendBatch": func(ctx context.Context, e, _ *Endpoint) {
		_, _ = e.SendBatch(ctx, []Message{{Kind: 1, Data: pattern(1)}, {Kind: 2, Data: pattern(2)}})
	},
	"TrySendBatch": func(_ context.Context, e, _ *Endpoint) {
		_, _ = e.TrySendBatch([]Message{{Kind: 1, Data: pattern(1)}, {Kind: 2, Data: pattern(2)}})
	},
	"Commit": func(ctx context.Context, e, _ *Endpoint) {
		if r, err := e.Reserve(ctx, 100); err == nil {
			_ = r.Commit(1, copy(r.Data, pattern(1)))
		}
	},
	"Abort": func(_ context.Context, e, _ *Endpoint) {
		if r, err := e.TryReserve(100); err == nil {
			_ = r.Abort()
		}
	},
	"Receive": func(ctx context.Context, e, _ *Endpoint) {
		if m, err := e.Receive(ctx); err == nil {
			_ = m.Release()
		}
	},
	"TryReceive": func(_ context.Context, e, _ *Endpoint) {
		if m, err := e.TryReceive(); err == nil {
			_ = m.Release()
		}
	},
	"ReceiveInto": func(ctx context.Context, e, _ *Endpoint) { _, _ = e.ReceiveInto(ctx, make([]byte, 1000)) },
	"ReceiveBatch": func(ctx context.Context, e, _ *Endpoint) {
		into := make([]Message, 5)
		n, _ := e.ReceiveBatch(ctx, into)
		_ = ReleaseBatch(into[:n])
	},
	"ReceiveBatchInto": func(ctx context.Context, e, _ *Endpoint) {
		_, _ = e.ReceiveBatchInto(ctx, make([]byte, 1000), make([]Message, 5))
	},
	"a copy beside a view": func(ctx context.Context, e, _ *Endpoint) {
		if m, err := e.Receive(ctx); err == nil {
			defer func() { _ = m.Release() }()
			_, _ = e.ReceiveInto(ctx, make([]byte, 1000))
		}
	},
	"an empty Receive": func(ctx context.Context, e, _ *Endpoint) {
		for {
			short, cancel := context.WithTimeout(ctx, time.Millisecond)
			m, err := e.Receive(short)
			cancel()
			if err != nil {
				return
			}
			_ = m.Release()
		}
	},
}

// stepsOfWorkers are those that goroutines of the endpoint's own come to: there a panic
// ends the process, as in every goroutine.
var stepsOfWorkers = map[step.ID]bool{
	step.Beaten: true, step.ConnectionAccepted: true, step.HelloReceived: true, step.TokenTaken: true, step.ClientRecorded: true,
	step.GrantSent: true, step.TokenHandedOver: true, step.ReadyReceived: true, step.EndSeen: true, step.EndProven: true, step.AccountTaken: true,
}

// A hook that panics, or ends its goroutine, at any step of any operation leaves no
// lock taken and nothing half done.
func TestT4AHookThatPanicsLeavesNothingHalfDone(t *testing.T) {
	inEachWay(t, func(t *testing.T, w way) {
		if w.name != "a panic" { // the others are harder: recover sees neither
			leavesNothingHalfDone(t, w)
		}
	})
}

func leavesNothingHalfDone(t *testing.T, w way) {
	for name, operation := range operations {
		for _, role := range []Role{RoleServer, RoleClient} {
			for at := step.ID(1); at < step.Count; at++ {
				if stepsOfWorkers[at] {
					continue
				}
				armed := false
				hook := func(reached step.ID, _ uint64) {
					if reached == at && armed {
						armed = false
						w.go_()
					}
				}
				options := [3]*Options{RoleServer: hostileOptions(), RoleClient: hostileOptions()}
				options[role].hook, options[role].HeartbeatInterval = hook, time.Minute
				options[role].HangTimeout = 10 * time.Minute
				server, client := pair(t, options[RoleServer], options[RoleClient])
				e, peer := server, client
				if role == RoleClient {
					e, peer = client, server
				}
				sendAll(t, peer, 3, 4)
				armed = true
				end := endingOf(func() { operation(testContext(t), e, peer) })
				if !armed {
					w.check(t, fmt.Sprintf("%s at %v", name, at), end)
				} else if end != nil {
					t.Fatalf("%s at %v: %+v", name, at, *end)
				}
				armed = false
				// Views that nobody has any more are a leak of the caller; let them go.
				e.in.views.mu.Lock()
				var left []Message
				for seq := e.in.views.first; seq != e.in.views.next; seq++ {
					left = append(left, Message{from: &e.in, seq: seq})
				}
				e.in.views.mu.Unlock()
				_ = ReleaseBatch(left)
				drainNow(t, e)
				drainNow(t, peer)
				checkUsable(t, e, peer)
				for _, e := range []*Endpoint{client, server} {
					if err := e.Close(); err != nil {
						t.Fatalf("%s at %v: close of the %v: %v", name, at, e.Role(), err)
					}
				}
			}
		}
	}
}

// drainNow receives what is there.
func drainNow(t *testing.T, e *Endpoint) {
	for {
		m, err := e.TryReceive()
		if err != nil {
			return
		}
		_ = m.Release()
	}
}

// A hook that panics, or ends its goroutine, in Close does so when all is closed: the
// path is free then.
func TestT4AHookThatPanicsInCloseComesBehindIt(t *testing.T) {
	inEachWay(t, func(t *testing.T, w way) {
		for _, role := range []Role{RoleServer, RoleClient} {
			for _, at := range []step.ID{step.CloseBegun, step.PathUnlinked, step.ListenerClosed, step.GoodbyeSaid, step.SegmentUnmapped,
				step.TokenClosed, step.ConnectionClosed, step.TokenAwaited, step.ServerUnlocked} {
				reached := false
				options := [3]*Options{RoleServer: hostileOptions(), RoleClient: hostileOptions()}
				options[role].hook = w.at(at, &reached)
				path := testPath(t)
				server, err := Listen(testContext(t), path, options[RoleServer])
				if err != nil {
					t.Fatal(err)
				}
				client, err := Dial(testContext(t), path, options[RoleClient])
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range []*Endpoint{client, server} {
					end := endingOf(func() { _ = e.Close() })
					if e.role == role && reached {
						w.check(t, "Close", end)
					} else if end != nil {
						t.Errorf("%v: Close of the %v ended: %+v", at, e.role, *end)
					}
					if err := e.Close(); err != nil {
						t.Errorf("%v: Close, again: %v", at, err)
					}
					if err := e.Err(); err == nil {
						t.Errorf("%v: the endpoint is not closed", at)
					}
				}
				next := listenHere(t, path, hostileOptions())
				checkUsable(t, next, dialHere(t, path, hostileOptions()))
			}
		}
	})
}

// A hook that panics, or ends its goroutine, in Listen or Dial leaves no lock, no
// descriptor and no memory.
func TestT4AHookThatPanicsInListenOrDialLeavesNothing(t *testing.T) {
	needsRealKernel(t, cutOffLeaks+": one of them keeps the token")
	inEachWay(t, func(t *testing.T, w way) {
		count := 0
		for at := step.ID(1); at < step.Count; at++ {
			if stepsOfWorkers[at] {
				continue
			}
			reached := false
			options := hostileOptions()
			options.hook = w.at(at, &reached)
			path := testPath(t)
			files := openFiles(t)
			begin := func(name string, start func(context.Context, string, *Options) (*Endpoint, error)) {
				t.Helper()
				reached = false
				var e *Endpoint
				var err error
				if end := endingOf(func() { e, err = start(testContext(t), path, options) }); reached {
					count++
					if end == nil || end.exited != w.exited && name == "Dial" { // a panic with nil of Listen comes back as a Goexit
						t.Errorf("%v in %s: user code ended by %s, the call by %+v", at, name, w.name, end)
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				if e != nil {
					_ = endingOf(func() { _ = e.Close() })
				}
			}
			begin("Listen", Listen)
			eventually(t, fmt.Sprintf("%v in Listen: no file stays open", at), func() bool { return openFiles(t) <= files })
			server := listenHere(t, path, hostileOptions())
			files = openFiles(t)
			begin("Dial", Dial)
			waiting := hostileOptions()
			waiting.Wait = true // what the first one has had of the token is closed aside
			next := dialHere(t, path, waiting)
			drainNow(t, server)
			for len(server.Events()) > 0 {
				<-server.Events()
			}
			for range 3 {
				_, _ = server.TryReceive()
			}
			checkUsable(t, server, next)
			_ = next.Close()
			eventually(t, fmt.Sprintf("%v in Dial: no file stays open", at), func() bool { return openFiles(t) <= files })
			if err := server.Close(); err != nil {
				t.Errorf("%v in Dial: Close of the server: %v", at, err)
			}
		}
		if count < 15 {
			t.Errorf("only %d steps of Listen and Dial were reached", count)
		}
	})
}

func openFiles(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// A panickingContext panics where a context is asked.
type panickingContext struct {
	context.Context
	inDone, inErr bool
}

func (c panickingContext) Done() <-chan struct{} {
	if c.inDone {
		panic("Done")
	}
	return c.Context.Done()
}

func (c panickingContext) Err() error {
	if c.inErr {
		panic("Err")
	}
	return c.Context.Err()
}

func TestT4AContextThatPanicsLeavesNothingHalfDone(t *testing.T) {
	server, client := pair(t, hostileOptions(), hostileOptions())
	for _, ctx := range []context.Context{panickingContext{testContext(t), true, false}, panickingContext{testContext(t), false, true}} {
		for name, wait := range map[string]func(){
			"Receive":          func() { _, _ = server.Receive(ctx) },
			"ReceiveInto":      func() { _, _ = server.ReceiveInto(ctx, make([]byte, 100)) },
			"ReceiveBatch":     func() { _, _ = server.ReceiveBatch(ctx, make([]Message, 2)) },
			"ReceiveBatchInto": func() { _, _ = server.ReceiveBatchInto(ctx, make([]byte, 100), make([]Message, 2)) },
			"Messages": func() {
				for range server.Messages(ctx) {
				}
			},
			"Send": func() {
				for {
					_ = server.Send(ctx, 5, make([]byte, 1000))
				}
			},
			"SendBatch": func() {
				for {
					_, _ = server.SendBatch(ctx, []Message{{Data: make([]byte, 1000)}, {Data: make([]byte, 1000)}})
				}
			},
			"Reserve": func() {
				for {
					if r, err := server.Reserve(ctx, 1000); err == nil {
						_ = r.Commit(1, 1000)
					}
				}
			},
		} {
			if panics(wait) == nil {
				t.Errorf("%s with a context that panics returns", name)
			}
			drainNow(t, client)
			checkUsable(t, server, client)
		}
		// While another holds the gate.
		r, err := server.Reserve(testContext(t), 8)
		if err != nil {
			t.Fatal(err)
		}
		if c := ctx.(panickingContext); c.inDone && panics(func() { _ = server.Send(ctx, 1, nil) }) == nil {
			t.Error("Send that queues, with a context that panics, returns")
		}
		_ = r.Abort()
		checkUsable(t, server, client)
	}
}

// A client that releases up to where an undone record began, inside of one that was
// committed there later, is refused.
func TestT4NoMarkOfAnUndoneBatchIsBelieved(t *testing.T) {
	server := listenHere(t, testPath(t), hostileOptions())
	batch := []Message{{Data: make([]byte, 64)}, {Data: make([]byte, 64)}, {Data: make([]byte, 64)}, {Data: faulting(t)[:200]}}
	if panics(func() { _, _ = server.SendBatch(context.Background(), batch) }) == nil {
		t.Fatal("the batch returns")
	}
	if err := server.Send(testContext(t), 1, make([]byte, 2000)); err != nil {
		t.Fatal(err)
	}
	client := rawAttach(t, server.Path())
	client.own.control.deliveredPos.Store(recordSize(2000))
	client.own.control.readPos.Store(2 * recordSize(64))
	var corrupt *CorruptError
	if list, err := server.Unreleased(); !errors.As(err, &corrupt) || corrupt.Invariant != "I1" {
		t.Errorf("Unreleased gave %d messages, %v; want I1", len(list), err)
	}
}
