//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// What a caller does that is not quite right, or that should not matter.

func TestM4ACopyInAReusedSliceReleasesNobodysView(t *testing.T) {
	server, client := pair(t, nil, nil)
	sendAll(t, client, 1)
	messages := make([]Message, 4)
	if n, err := server.ReceiveBatch(testContext(t), messages); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	view := messages[0] // somebody works with it
	sendAll(t, client, 2)
	if n, err := server.ReceiveBatchInto(testContext(t), make([]byte, 1000), messages); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if err := messages[0].Release(); !errors.Is(err, ErrReleased) {
		t.Errorf("Release of a copy: %v, want %v", err, ErrReleased)
	}
	if err := ReleaseBatch(messages[:1]); !errors.Is(err, ErrReleased) {
		t.Errorf("ReleaseBatch of a copy: %v, want %v", err, ErrReleased)
	}
	if left := unreleased(t, client); left != "1d 2d" {
		t.Errorf("unreleased: %s, want both, which the view holds up", left)
	}
	if err := view.Release(); err != nil {
		t.Errorf("its own release: %v", err)
	}
	if left := unreleased(t, client); left != "" {
		t.Errorf("unreleased: %s, want none", left)
	}
}

// A buffer that is too small costs nothing: the error has the size, each time, and a
// buffer of that size takes the message.
func TestM4AMessageThatDoesNotFitStaysAndItsSizeIsTold(t *testing.T) {
	server, client := pair(t, nil, nil)
	ctx := testContext(t)
	one := make([]Message, 2)
	for name, into := range map[string]func([]byte) error{
		"ReceiveInto":         func(b []byte) error { _, err := server.ReceiveInto(ctx, b); return err },
		"TryReceiveInto":      func(b []byte) error { _, err := server.TryReceiveInto(b); return err },
		"ReceiveBatchInto":    func(b []byte) error { _, err := server.ReceiveBatchInto(ctx, b, one); return err },
		"TryReceiveBatchInto": func(b []byte) error { _, err := server.TryReceiveBatchInto(b, one); return err },
	} {
		for _, size := range []int{1, 8, 100, client.out.ring.maxPayload()} {
			if err := client.Send(ctx, 1, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			for _, buffer := range []int{0, size / 2, size - 1} {
				var short *ShortBufferError
				err := into(make([]byte, buffer))
				if !errors.Is(err, ErrShortBuffer) || !errors.As(err, &short) || short.Size != size {
					t.Errorf("%s of %d bytes into %d: %v, want a *ShortBufferError of %d", name, size, buffer, err, size)
				}
			}
			if err := into(make([]byte, size)); err != nil {
				t.Errorf("%s of %d bytes: %v", name, size, err)
			}
		}
	}
}

func TestM4CommitTakesOnlyWhatWasReserved(t *testing.T) {
	const size = 16
	server, client := pair(t, hostileOptions(), nil)
	next := func(want uint32, data string) {
		t.Helper()
		m, err := server.ReceiveInto(testContext(t), make([]byte, 100))
		if err != nil || m.Kind != want || string(m.Data) != data {
			t.Fatalf("received %d %q, %v; want %d %q", m.Kind, m.Data, err, want, data)
		}
	}
	for name, c := range map[string]struct {
		data func(reserved []byte) []byte
		size int
	}{
		"appended to":              {func(b []byte) []byte { return append(b, "more"...) }, size + 4},
		"appended to, a part":      {func(b []byte) []byte { return append(b, "more"...) }, size},
		"appended to, a page":      {func(b []byte) []byte { return append(b, make([]byte, 1<<13)...) }, 1 << 13},
		"another slice":            {func(b []byte) []byte { return make([]byte, size) }, size},
		"without its front":        {func(b []byte) []byte { return b[8:] }, size - 8},
		"one byte more":            {func(b []byte) []byte { return b }, size + 1},
		"one byte more than Data":  {func(b []byte) []byte { return b[:8] }, 9},
		"fewer than none":          {func(b []byte) []byte { return b }, -1},
		"none, where one is asked": {func(b []byte) []byte { return nil }, 1},
	} {
		for _, commit := range []bool{true, false} {
			reserved, err := client.Reserve(testContext(t), size)
			if err != nil {
				t.Fatal(err)
			}
			wrong := reserved
			wrong.Data = c.data(reserved.Data)
			if err := wrong.Commit(1, c.size); !errors.Is(err, ErrNotReserved) {
				t.Fatalf("%s: Commit gave %v, want %v", name, err, ErrNotReserved)
			}
			if _, err := server.TryReceive(); !errors.Is(err, ErrEmpty) {
				t.Fatalf("%s: the server receives, %v", name, err)
			}
			if commit {
				err = reserved.Commit(2, copy(reserved.Data, "fits"))
				next(2, "fits")
			} else {
				err = wrong.Abort()
			}
			if err != nil {
				t.Fatalf("%s: the reservation did not stay open: %v", name, err)
			}
			if err := client.Send(testContext(t), 3, []byte("after it")); err != nil {
				t.Fatal(err)
			}
			next(3, "after it")
		}
	}
	// What lies in the space that was reserved may be committed, however it came there.
	for name, c := range map[string]struct {
		reserve int
		data    func(reserved []byte) []byte
		want    string
	}{
		"appended to its front": {size, func(b []byte) []byte { return append(b[:0], "append"...) }, "append"},
		"nothing":               {size, func([]byte) []byte { return nil }, ""},
		"nothing of nothing":    {0, func(b []byte) []byte { return b }, ""},
	} {
		r, err := client.Reserve(testContext(t), c.reserve)
		if err != nil {
			t.Fatal(err)
		}
		r.Data = c.data(r.Data)
		if err := r.Commit(4, len(r.Data)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		next(4, c.want)
	}
}

// Stats looks through the gate of who sends and of who receives. That is nobody at
// work, for which the calls that do not wait would give up.
func TestStatsTakesTheGateFromNobody(t *testing.T) {
	server, client := pair(t, nil, nil)
	send := func() error { return client.TrySend(1, nil) }
	receive := func() error { _, err := server.TryReceiveInto(nil); return err }
	meet := func(g *gate, call func() error) error {
		result := make(chan error, 1)
		g.glance(func() { // longer than Stats does it
			go func() { result <- call() }()
			eventually(t, "the call meets the glance", func() bool {
				return len(result) > 0 || strings.Contains(stacks(), ".(*gate).tryEnter(")
			})
		})
		return <-result
	}
	if err := meet(&client.out.gate, send); err != nil {
		t.Fatalf("TrySend into an empty ring: %v", err)
	}
	if err := meet(&server.in.gate, receive); err != nil {
		t.Fatalf("TryReceiveInto where a message waits: %v", err)
	}
	var workers sync.WaitGroup
	stop := make(chan struct{})
	for _, e := range []*Endpoint{server, client, server, client} {
		spawn(&workers, func() {
			for {
				select {
				case <-stop:
					return
				default:
					e.Stats()
				}
			}
		})
	}
	defer workers.Wait()
	defer close(stop)
	for i := range 20000 {
		if err := send(); err != nil {
			t.Fatalf("message %d into an empty ring: %v", i, err)
		}
		if err := receive(); err != nil {
			t.Fatalf("message %d where it waits: %v", i, err)
		}
	}
}

// With nothing to release, nobody has a say in where readPos stands but who
// receives. It takes the race detector to see it.
func TestReleaseBatchTwiceBesideAReceiver(t *testing.T) {
	const rounds = 1000
	server, client := pair(t, nil, nil)
	ctx := testContext(t)
	sendAll(t, client, 0)
	m, err := server.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	released := []Message{m}
	if err := ReleaseBatch(released); err != nil {
		t.Fatal(err)
	}
	var workers sync.WaitGroup
	spawn(&workers, func() {
		for range rounds {
			if err := client.Send(ctx, 1, nil); err != nil {
				t.Error(err)
			}
		}
	})
	spawn(&workers, func() {
		for range rounds {
			if err := ReleaseBatch(released); !errors.Is(err, ErrReleased) {
				t.Errorf("a second release: %v", err)
			}
		}
	})
	for range rounds {
		if _, err := server.ReceiveInto(ctx, nil); err != nil {
			t.Error(err)
		}
	}
	workers.Wait()
}

type closeArgument struct{ Path, Role, Call string }

var _ = part("close beside a waiter", func(p *player) {
	var a closeArgument
	p.arg(&a)
	options := longHeartbeat()
	options.CloseTimeout = time.Millisecond // the client of a server that closes stays
	server, err := Listen(p.ctx, a.Path, options)
	if err != nil {
		p.fail("listen: %v", err)
	}
	client, err := Dial(p.ctx, a.Path, options)
	if err != nil {
		p.fail("dial: %v", err)
	}
	e := map[string]*Endpoint{"server": server, "client": client}[a.Role]
	ended := make(chan error)
	go func() {
		var err error
		for err == nil && a.Call == "send" { // until the ring is full, and there
			err = e.Send(p.ctx, 1, make([]byte, 1<<12))
		}
		if a.Call == "receive" {
			_, err = e.Receive(p.ctx)
		}
		ended <- err
	}()
	for e.Stats().Sleeps == 0 {
		runtime.Gosched()
	}
	_ = e.Close()
	if err := <-ended; !errors.Is(err, ErrClosed) {
		p.fail("%s gave %v, want %v", a.Call, err, ErrClosed)
	}
	p.say("closed")
})

// A waiter that Close has woken needs a processor to leave, and Close waits for
// it. Where there is one processor, and nothing takes it from a goroutine that
// keeps it, Close must give it up.
func TestCloseLetsAWaiterGoThatNeedsItsProcessor(t *testing.T) {
	t.Setenv("GOMAXPROCS", "1")
	t.Setenv("GODEBUG", "asyncpreemptoff=1")
	for _, role := range []string{"server", "client"} {
		for _, call := range []string{"send", "receive"} {
			t.Run(role+", "+call, func(t *testing.T) {
				for range 10 { // a waiter sometimes gets the processor while Close wakes it
					start(t, "close beside a waiter", closeArgument{testPath(t), role, call}).expect("closed")
				}
			})
		}
	}
}

// A silentContext has ended and does not say why.
type silentContext struct {
	context.Context
	done chan struct{}
}

func (c silentContext) Done() <-chan struct{} { return c.done }
func (c silentContext) Err() error            { return nil }

// Who waits in a gate with such a context must not take its end for the gate: two would
// write at one place.
func TestT4AContextThatEndsWithoutAnErrorIsGivenNoGate(t *testing.T) {
	server, client := pair(t, nil, nil)
	silent := silentContext{context.Background(), make(chan struct{})}
	close(silent.done)
	r, err := client.Reserve(testContext(t), 100)
	if err != nil {
		t.Fatal(err)
	}
	for name, send := range map[string]func() error{
		"Send":      func() error { return client.Send(silent, 1, []byte("mine")) },
		"SendBatch": func() error { _, err := client.SendBatch(silent, []Message{{Data: []byte("mine")}}); return err },
		"Reserve":   func() error { _, err := client.Reserve(silent, 4); return err },
	} {
		if err := send(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s beside a reservation: %v", name, err)
		}
	}
	copy(r.Data, "what was reserved")
	if err := r.Commit(2, 17); err != nil {
		t.Fatal(err)
	}
	if m, err := server.Receive(testContext(t)); err != nil || m.Kind != 2 || string(m.Data) != "what was reserved" || m.Release() != nil {
		t.Errorf("received %d %q, %v", m.Kind, m.Data, err)
	}
	if !server.in.gate.tryLock() { // as a goroutine that receives
		t.Fatal("somebody receives")
	}
	if _, err := server.Receive(silent); !errors.Is(err, context.Canceled) {
		t.Errorf("Receive beside another: %v", err)
	}
	server.in.gate.unlock()
	waiting := quickOptions()
	waiting.Wait = true
	if e, err := Listen(silent, server.Path(), waiting); !errors.Is(err, context.Canceled) {
		t.Errorf("Listen beside a server: %v, %v", e, err)
	}
	checkUsable(t, client, server)
}
