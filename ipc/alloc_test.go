//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"iter"
	"testing"
)

// TestNoAllocations holds each form of sending and receiving to 0 allocations a
// message, with another process at the other end. What the player does by one
// form comes back, so that every form waits, too: the counts include the waits,
// spinning and asleep.
func TestNoAllocations(t *testing.T) {
	for _, spin := range []struct {
		name    string
		options *Options
	}{{"default", nil}, {"asleep", &Options{Spin: NoSpin}}} {
		t.Run(spin.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			path := testPath(t)
			server, err := Listen(ctx, path, spin.options)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			echo := start(t, "echo", path)
			echo.expect("attached")
			go func() { <-echo.done; cancel() }()
			for _, send := range sendForms(ctx, server) {
				for _, receive := range receiveForms(ctx, server) {
					var failed error
					allocated := testing.AllocsPerRun(200, func() {
						if failed == nil {
							failed = errors.Join(send.do(), receive.do())
						}
					})
					if failed != nil {
						t.Fatalf("%s, %s: %v", send.name, receive.name, failed)
					}
					if allocated != 0 {
						t.Errorf("%s, %s: %v allocations a message, want 0", send.name, receive.name, allocated)
					}
				}
			}
			for _, loop := range loopForms(ctx, server) {
				if allocated := testing.AllocsPerRun(5, func() { loop.run(t) }); allocated > loopAllocations {
					t.Errorf("%s: %v allocations for %d messages, want at most %d for the loop", loop.name, allocated, loopMessages, loopAllocations)
				}
			}
		})
	}
}

// A form is one way to send or to receive one message.
type form struct {
	name string
	do   func() error
}

func sendForms(ctx context.Context, e *Endpoint) []form {
	data := make([]byte, 64)
	batch := []Message{{Data: data, Kind: 1}}
	fill := func(r Reservation, err error) error {
		if err != nil {
			return err
		}
		return r.Commit(1, copy(r.Data, data))
	}
	return []form{
		{"Send", func() error { return e.Send(ctx, 1, data) }},
		{"TrySend", func() error { return e.TrySend(1, data) }},
		{"SendBatch", func() error { _, err := e.SendBatch(ctx, batch); return err }},
		{"TrySendBatch", func() error { _, err := e.TrySendBatch(batch); return err }},
		{"Reserve", func() error { return fill(e.Reserve(ctx, len(data))) }},
		{"TryReserve", func() error { return fill(e.TryReserve(len(data))) }},
		{"Abort", func() error {
			r, err := e.Reserve(ctx, len(data))
			return errors.Join(err, r.Abort(), e.Send(ctx, 1, data))
		}},
	}
}

func receiveForms(ctx context.Context, e *Endpoint) []form {
	buffer := make([]byte, 256)
	into := make([]Message, 4)
	release := func(m Message, err error) error {
		if err != nil {
			return err
		}
		return m.Release()
	}
	return []form{
		{"Receive", func() error { return release(e.Receive(ctx)) }},
		{"TryReceive", func() error { return untilThere(func() error { return release(e.TryReceive()) }) }},
		{"ReceiveInto", func() error { _, err := e.ReceiveInto(ctx, buffer); return err }},
		{"TryReceiveInto", func() error {
			return untilThere(func() error { _, err := e.TryReceiveInto(buffer); return err })
		}},
		{"ReceiveBatch", func() error {
			n, err := e.ReceiveBatch(ctx, into)
			return errors.Join(err, ReleaseBatch(into[:n]))
		}},
		{"TryReceiveBatch", func() error {
			return untilThere(func() error {
				n, err := e.TryReceiveBatch(into)
				if err != nil {
					return err
				}
				return ReleaseBatch(into[:n])
			})
		}},
		{"ReceiveBatchInto", func() error { _, err := e.ReceiveBatchInto(ctx, buffer, into); return err }},
		{"TryReceiveBatchInto", func() error {
			return untilThere(func() error { _, err := e.TryReceiveBatchInto(buffer, into); return err })
		}},
	}
}

// An iterator may allocate when its loop begins, but not for each message.
const loopMessages, loopAllocations = 200, 10

// run receives what it sends, loopMessages times.
func (f loopForm) run(t *testing.T) {
	t.Helper()
	if err := f.send(); err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, err := range f.messages() {
		if count++; err == nil && count < loopMessages {
			err = f.send()
		}
		if err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		if count == loopMessages {
			return
		}
	}
	t.Fatalf("%s ends", f.name)
}

type loopForm struct {
	name     string
	send     func() error
	messages func() iter.Seq2[Message, error]
}

func loopForms(ctx context.Context, e *Endpoint) []loopForm {
	data, buffer := make([]byte, 64), make([]byte, 64)
	send := func() error { return e.Send(ctx, 1, data) }
	return []loopForm{
		{"Messages", send, func() iter.Seq2[Message, error] {
			return func(yield func(Message, error) bool) {
				for m, err := range e.Messages(ctx) {
					if err == nil {
						err = m.Release()
					}
					if !yield(m, err) {
						return
					}
				}
			}
		}},
		{"MessagesInto", send, func() iter.Seq2[Message, error] { return e.MessagesInto(ctx, buffer) }},
	}
}

// untilThere repeats a call that does not wait until there is something.
func untilThere(try func() error) error {
	for {
		if err := try(); !errors.Is(err, ErrEmpty) {
			return err
		}
		yieldProcessor()
	}
}
