//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// An actor is a real process that holds one endpoint and does what the test
// tells it, line by line. It can be made to die, or to stop, at a step.

// actorArgument is how an actor begins.
type actorArgument struct {
	Path    string
	Options actorOptions
	DieAt   string // a step's name; "" for none
	DieNth  int
	Signal  syscall.Signal // SIGKILL if 0
}

// actorOptions is what of Options crosses to another process.
type actorOptions struct {
	ToServerSize, ToClientSize                              int
	Spin                                                    time.Duration
	HeartbeatInterval, HangTimeout, CloseTimeout, Handshake time.Duration
	Wait, KillOrphan, KillOnClose, FailOnHang               bool
}

func (a actorOptions) options(hook func(step.ID, uint64)) *Options {
	return &Options{
		ToServerSize: a.ToServerSize, ToClientSize: a.ToClientSize, Spin: a.Spin,
		HeartbeatInterval: a.HeartbeatInterval, HangTimeout: a.HangTimeout, CloseTimeout: a.CloseTimeout,
		HandshakeTimeout: a.Handshake, Wait: a.Wait, KillOrphan: a.KillOrphan, KillOnClose: a.KillOnClose,
		FailOnHang: a.FailOnHang, hook: hook,
	}
}

// pattern is the payload of the message with a given kind, so that a torn or
// foreign one is recognised.
func pattern(kind uint32) []byte {
	data := make([]byte, 1+int(kind*37)%300)
	for i := range data {
		data[i] = byte(kind) + byte(i)*7
	}
	return data
}

// checkPattern refuses any other payload (M4).
func checkPattern(m Message) error {
	if want := pattern(m.Kind); string(m.Data) != string(want) {
		return fmt.Errorf("M4 NoTear: message %d has %d bytes %.20x, want %d bytes %.20x", m.Kind, len(m.Data), m.Data, len(want), want)
	}
	return nil
}

var _ = part("actor", func(p *player) {
	var a actorArgument
	p.arg(&a)
	actor := &actor{p: p, argument: a}
	if a.DieAt != "" {
		actor.arm(a.DieAt, a.DieNth, a.Signal)
	}
	for {
		words := strings.Fields(p.next())
		if len(words) == 0 {
			continue
		}
		answer, err := actor.do(words[0], words[1:])
		if err != nil {
			p.say("error %v", err)
		} else {
			p.say("%s", answer)
		}
	}
})

// actor is the inside of the process.
type actor struct {
	p        *player
	argument actorArgument
	e        *Endpoint
	held     []Message

	mu    sync.Mutex
	fatal func(step.ID, uint64)
}

// hook is the endpoint's hook; what it does can be changed while it runs.
func (a *actor) hook(at step.ID, value uint64) {
	a.mu.Lock()
	fatal := a.fatal
	a.mu.Unlock()
	if fatal != nil {
		fatal(at, value)
	}
}

func (a *actor) arm(name string, nth int, signal syscall.Signal) {
	if signal == 0 {
		signal = syscall.SIGKILL
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fatal = signalAt(stepNamed(name), max(nth, 1), signal)
}

func (a *actor) do(verb string, words []string) (answer string, err error) {
	var numbers []uint32
	for _, w := range words {
		var n uint32
		if _, err := fmt.Sscan(w, &n); err == nil {
			numbers = append(numbers, n)
		}
	}
	ctx := a.p.ctx
	switch verb {
	case "arm":
		var nth, signal int
		fmt.Sscan(words[1], &nth)
		fmt.Sscan(words[2], &signal)
		a.arm(words[0], nth, syscall.Signal(signal))
		return "armed", nil
	case "listen":
		a.e, err = Listen(ctx, a.argument.Path, a.argument.Options.options(a.hook))
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("listening %d", a.e.Generation()), nil
	case "dial":
		a.e, err = Dial(ctx, a.argument.Path, a.argument.Options.options(a.hook))
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("attached %d %d", a.e.Generation(), a.e.Attachment()), nil
	case "redial":
		a.e, err = a.e.Redial(ctx)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("attached %d %d", a.e.Generation(), a.e.Attachment()), nil
	case "close":
		if err := a.e.Close(); err != nil {
			return "", err
		}
		return "closed", nil
	case "send", "batch", "reserve", "abort":
		return a.send(ctx, verb, numbers)
	case "receive", "receivebatch", "receiveinto", "receivebatchinto", "giveup":
		return a.receive(ctx, verb, numbers)
	case "release":
		m := a.held[0]
		a.held = a.held[1:]
		return "released", m.Release()
	case "event":
		event := <-a.e.Events()
		return fmt.Sprintf("event %v %d %d", event.Kind, event.Unreleased, event.Redeliverable), nil
	case "state":
		return fmt.Sprintf("state %v", a.e.Peer().State), nil
	case "lock":
		return fmt.Sprint("pid ", os.Getpid()), nil
	}
	return "", fmt.Errorf("no verb %q", verb)
}

func (a *actor) send(ctx context.Context, verb string, kinds []uint32) (string, error) {
	if verb == "batch" {
		messages := make([]Message, len(kinds))
		for i, kind := range kinds {
			messages[i] = Message{Kind: kind, Data: pattern(kind)}
		}
		n, err := a.e.SendBatch(ctx, messages)
		return fmt.Sprintf("sent %d", n), err
	}
	for _, kind := range kinds {
		if verb == "send" {
			if err := a.e.Send(ctx, kind, pattern(kind)); err != nil {
				return "", err
			}
			continue
		}
		r, err := a.e.Reserve(ctx, len(pattern(kind)))
		if err != nil {
			return "", err
		}
		copy(r.Data, pattern(kind))
		if verb == "abort" {
			err = r.Abort()
		} else {
			err = r.Commit(kind, len(r.Data))
		}
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("sent %d", len(kinds)), nil
}

func (a *actor) receive(ctx context.Context, verb string, numbers []uint32) (string, error) {
	count := 1
	if len(numbers) > 0 {
		count = int(numbers[0])
	}
	var messages []Message
	switch verb {
	case "giveup": // a sleep that its context ends
		for limit := time.Millisecond; ; limit *= 2 {
			sleeps := a.e.Stats().Sleeps
			short, cancel := context.WithTimeout(ctx, limit)
			_, err := a.e.Receive(short)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				return "", fmt.Errorf("want a deadline exceeded, got %w", err)
			}
			if a.e.Stats().Sleeps != sleeps {
				return "gave up", nil
			}
		}
	case "receive", "receiveinto":
		for range count {
			var m Message
			var err error
			if verb == "receive" {
				m, err = a.e.Receive(ctx)
			} else {
				m, err = a.e.ReceiveInto(ctx, make([]byte, 512))
			}
			if err != nil {
				return "", err
			}
			messages = append(messages, m)
		}
	case "receivebatch", "receivebatchinto":
		into := make([]Message, count)
		var n int
		var err error
		if verb == "receivebatch" {
			n, err = a.e.ReceiveBatch(ctx, into)
		} else {
			n, err = a.e.ReceiveBatchInto(ctx, make([]byte, 512*count), into)
		}
		if err != nil {
			return "", err
		}
		messages = into[:n]
	}
	text := "got"
	for _, m := range messages {
		if err := checkPattern(m); err != nil {
			return "", err
		}
		text += fmt.Sprintf(" %d", m.Kind)
		if m.Redelivered {
			text += "r"
		}
		if !strings.HasSuffix(verb, "into") {
			a.held = append(a.held, m)
		}
	}
	return text, nil
}

// startActor starts an actor and leaves it waiting for its first line.
func startActor(t testing.TB, a actorArgument) *process { return start(t, "actor", a) }

// ask tells an actor to do something and returns its answer.
func (p *process) ask(want string, line string) string {
	p.t.Helper()
	p.tell("%s", line)
	return p.expect(want)
}

// receiveAll receives what waits at an endpoint until an error, as "1 2 3r".
func receiveAll(t testing.TB, e *Endpoint) (kinds string, end error) {
	t.Helper()
	for {
		m, err := e.Receive(testContext(t))
		if err != nil {
			return strings.TrimSpace(kinds), err
		}
		if err := checkPattern(m); err != nil {
			t.Fatal(err)
		}
		kinds += fmt.Sprintf(" %d", m.Kind)
		if m.Redelivered {
			kinds += "r"
		}
		if err := m.Release(); err != nil {
			t.Fatal(err)
		}
	}
}

// sendAll sends messages by their kinds.
func sendAll(t testing.TB, e *Endpoint, kinds ...uint32) {
	t.Helper()
	for _, kind := range kinds {
		if err := e.Send(testContext(t), kind, pattern(kind)); err != nil {
			t.Fatal(err)
		}
	}
}

// unreleased is the account of an endpoint, as "2d 3": kinds, d for delivered.
func unreleased(t testing.TB, e *Endpoint) string {
	t.Helper()
	list, err := e.Unreleased()
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, u := range list {
		if err := checkPattern(Message{Kind: u.Kind, Data: u.Data}); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf(" %d", u.Kind)
		if u.Delivered {
			text += "d"
		}
	}
	return strings.TrimSpace(text)
}

// listenHere is a server in the test's process.
func listenHere(t testing.TB, path string, o *Options) *Endpoint {
	t.Helper()
	e, err := Listen(testContext(t), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// dialHere is a client in the test's process.
func dialHere(t testing.TB, path string, o *Options) *Endpoint {
	t.Helper()
	e, err := Dial(testContext(t), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}
