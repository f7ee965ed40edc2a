//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"pgregory.net/rapid"
)

// TestM1M2M7WhatManyGoroutinesDoIsOneQueue has several goroutines send and several
// receive in one direction, each with calls of its own that wait, do not, or give up, and
// at last one that closes the sending side. What they were told must be what one queue
// would have told them in some order (porcupine), and none of them waits for what is
// there.
func TestM1M2M7WhatManyGoroutinesDoIsOneQueue(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		options := &Options{ToServerSize: os.Getpagesize(), ToClientSize: os.Getpagesize(), HeartbeatInterval: time.Millisecond,
			HangTimeout: watchdog, CloseTimeout: time.Millisecond, Spin: rapid.SampledFrom([]time.Duration{0, NoSpin}).Draw(rt, "spin")}
		c := &crowd{ctx: testContext(t), begin: time.Now()}
		path := testPath(t)
		server, err := Listen(c.ctx, path, options)
		if err != nil {
			rt.Fatal(err)
		}
		client, err := Dial(c.ctx, path, options)
		if err != nil {
			rt.Fatal(err)
		}
		c.from, c.to = client, server
		if rapid.Bool().Draw(rt, "to the client") {
			c.from, c.to = server, client
		}
		defer server.Close()
		defer client.Close()
		c.play(rt)
	})
}

// A crowd is the goroutines of one direction, and what they were told.
type crowd struct {
	from, to *Endpoint
	ctx      context.Context
	begin    time.Time

	mu      sync.Mutex
	history []porcupine.Operation
	wrong   []string
}

// A deed is one call of one goroutine.
type deed struct {
	form  string
	count int           // of a batch
	size  int           // of each message
	limit time.Duration // of its context; 0 for none
	keep  int           // how often others run before it releases what it received
}

// finis is the end of the sending side, as the last of its messages.
const finis = 'E'

// A queued is the input of an operation: what is sent, or that something is received.
type queued struct {
	sent string // runes, one for each message
}

// queueModel is a queue whose state is a string of its messages. Its operations return
// what they took out, or how many they put in. The end comes once, or for ever.
func queueModel(forEver bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return "" },
		Step: func(state, in, out any) (bool, any) {
			now := state.(string)
			if sent := in.(queued).sent; sent != "" {
				return true, now + string([]rune(sent)[:out.(int)])
			}
			got := out.(string)
			if !strings.HasPrefix(now, got) {
				return false, state
			}
			if forEver && got == string(finis) {
				return true, state
			}
			return true, now[len(got):]
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%q -> %q", in.(queued).sent, out) },
	}
}

func (c *crowd) play(t *rapid.T) {
	scripts := func(label string, forms ...string) [][]deed {
		all := make([][]deed, rapid.IntRange(1, 4).Draw(t, label))
		for i := range all {
			all[i] = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) deed {
				return deed{
					form: rapid.SampledFrom(forms).Draw(t, "form"), count: rapid.IntRange(1, 12).Draw(t, "count"),
					size:  rapid.SampledFrom([]int{0, 8, 500, 1500}).Draw(t, "size"),
					limit: time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 50, 500}).Draw(t, "limit")) * time.Microsecond,
					keep:  rapid.SampledFrom([]int{0, 0, 1, 20}).Draw(t, "keep"),
				}
			}), 1, 6).Draw(t, "deeds")
		}
		return all
	}
	senders := scripts("senders", "send", "try", "batch", "try batch", "reserve", "try reserve", "abort")
	receivers := scripts("receivers", "view", "copy", "try view", "try copy", "views", "copies", "try views", "try copies")
	closes := rapid.Bool().Draw(t, "closes")

	var sending, receiving sync.WaitGroup
	for i, script := range senders {
		sending.Go(func() { c.send(i, script) })
	}
	enough, cancel := context.WithCancel(c.ctx)
	defer cancel()
	for i, script := range receivers {
		receiving.Go(func() { c.receive(len(senders)+i, enough, script) })
	}
	sending.Wait()
	if closes {
		call := c.now()
		_ = c.from.Close() // a server's says that its client is there
		c.record(-1, call, queued{string(finis)}, 1)
	}
	received := func() bool {
		_, unreceived := c.to.Pending()
		return unreceived == 0 && (!closes || c.toldEnd())
	}
	for !received() && c.ctx.Err() == nil {
		runtime.Gosched()
	}
	if c.ctx.Err() != nil {
		_, unreceived := c.to.Pending()
		t.Fatalf("M7: %d receivers wait, and %d messages are there\n%s", len(receivers), unreceived, stacks())
	}
	cancel()
	receiving.Wait()
	for _, text := range c.wrong {
		t.Error(text)
	}
	model := queueModel(c.to.Role() == RoleClient)
	if verdict := porcupine.CheckOperationsTimeout(model, c.history, watchdog); verdict != porcupine.Ok {
		slices.SortFunc(c.history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
		for _, o := range c.history {
			t.Logf("goroutine %d, %d to %d: %s", o.ClientId, o.Call, o.Return, model.DescribeOperation(o.Input, o.Output))
		}
		t.Fatalf("M1 M2: no queue says this (%v)", verdict)
	}
}

func (c *crowd) now() int64 { return int64(time.Since(c.begin)) }

func (c *crowd) record(who int, call int64, in queued, out any) {
	returned := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history = append(c.history, porcupine.Operation{ClientId: who + 1, Input: in, Call: call, Output: out, Return: returned})
}

// toldEnd reports whether the end has come to a receiver.
func (c *crowd) toldEnd() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.history, func(o porcupine.Operation) bool { return o.Output == string(finis) })
}

func (c *crowd) isWrong(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// within is ctx, or one that ends sooner.
func (d deed) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if d.limit == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d.limit)
}

func (c *crowd) send(who int, script []deed) {
	for i, d := range script {
		if !strings.HasSuffix(d.form, "batch") {
			d.count = 1
		}
		var runes []rune
		messages := make([]Message, d.count)
		for k := range messages {
			kind := uint32(0x1000 + who<<8 + i<<4 + k) // a rune
			runes = append(runes, rune(kind))
			messages[k] = Message{Kind: kind, Data: sized(kind, d.size)}
		}
		ctx, cancel := d.within(c.ctx)
		call := c.now()
		n, err := c.sendOne(ctx, d, messages)
		cancel()
		if err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, context.DeadlineExceeded) || err == nil && n < d.count && d.form != "abort" {
			c.isWrong("%s: %d of %d sent, %v", d.form, n, d.count, err)
		}
		if n > 0 {
			c.record(who, call, queued{string(runes)}, n)
		}
	}
}

func (c *crowd) sendOne(ctx context.Context, d deed, messages []Message) (n int, err error) {
	m := messages[0]
	var r Reservation
	switch d.form {
	case "batch":
		return c.from.SendBatch(ctx, messages)
	case "try batch":
		return c.from.TrySendBatch(messages)
	case "send":
		err = c.from.Send(ctx, m.Kind, m.Data)
	case "try":
		err = c.from.TrySend(m.Kind, m.Data)
	case "try reserve":
		r, err = c.from.TryReserve(len(m.Data))
	default:
		r, err = c.from.Reserve(ctx, len(m.Data))
	}
	switch {
	case err != nil:
		return 0, err
	case d.form == "abort":
		return 0, r.Abort()
	case r.Data != nil:
		copy(r.Data, m.Data)
		err = r.Commit(m.Kind, len(m.Data))
	}
	if err != nil {
		return 0, err
	}
	return 1, nil
}

// receive plays a script, and receives what others leave until there is enough.
func (c *crowd) receive(who int, enough context.Context, script []deed) {
	last := deed{form: "copy"}
	for i := 0; enough.Err() == nil; i++ {
		d := last
		if i < len(script) {
			d = script[i]
		}
		ctx, cancel := d.within(enough)
		call := c.now()
		messages, err := c.receiveOne(ctx, d)
		cancel()
		var got []rune
		for _, m := range messages {
			if string(m.Data) != string(sized(m.Kind, len(m.Data))) || m.Redelivered {
				c.isWrong("%s: message %x of %d bytes is not whole, or marked", d.form, m.Kind, len(m.Data))
			}
			got = append(got, rune(m.Kind))
		}
		if errors.Is(err, ErrPeerClosed) {
			got = []rune{finis}
		} else if err != nil && !errors.Is(err, ErrEmpty) && !errors.Is(err, ErrViewsHeld) && ctx.Err() == nil {
			c.isWrong("%s: %v", d.form, err)
		}
		if len(got) > 0 {
			c.record(who, call, queued{}, string(got))
		}
		for range d.keep {
			runtime.Gosched()
		}
		if strings.HasSuffix(d.form, "view") || strings.HasSuffix(d.form, "views") {
			if err := ReleaseBatch(messages); err != nil {
				c.isWrong("%s: release: %v", d.form, err)
			}
		}
		if errors.Is(err, ErrPeerClosed) && c.to.Role() == RoleClient {
			return
		}
	}
}

func (c *crowd) receiveOne(ctx context.Context, d deed) ([]Message, error) {
	into, buffer := make([]Message, d.count), make([]byte, os.Getpagesize())
	var n int
	var err error
	switch d.form {
	case "view":
		into[0], err = c.to.Receive(ctx)
	case "try view":
		into[0], err = c.to.TryReceive()
	case "copy":
		into = make([]Message, 1)
		into[0], err = c.to.ReceiveInto(ctx, buffer)
	case "try copy":
		into[0], err = c.to.TryReceiveInto(buffer)
	case "views":
		n, err = c.to.ReceiveBatch(ctx, into)
		return into[:n], err
	case "try views":
		n, err = c.to.TryReceiveBatch(into)
		return into[:n], err
	case "copies":
		n, err = c.to.ReceiveBatchInto(ctx, buffer, into)
		return into[:n], err
	case "try copies":
		n, err = c.to.TryReceiveBatchInto(buffer, into)
		return into[:n], err
	}
	if err != nil {
		return nil, err
	}
	return into[:1], nil
}

// sized is what a message of some size says.
func sized(kind uint32, size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(kind) + byte(i)
	}
	return data
}
