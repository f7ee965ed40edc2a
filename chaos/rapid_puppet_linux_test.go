package chaos

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// A puppet holds one endpoint and does one thing for each line, in one thread,
// so that the steps of what it does are the same each time. It answers with one
// line, of stable text. Armed, it says each step that it passes and kills itself
// at the n-th.
type puppet struct {
	puppetArgument
	p *player

	recorder *recorder

	e       *ipc.Endpoint
	held    map[int]ipc.Message // by the message's number
	thread  int
	fuse    int // steps until death; 0 for none
	mu      sync.Mutex
	changed *sync.Cond
	ends    int // how many ends of peers were told as events
}

type puppetArgument struct {
	Path  string
	Seat  seat
	Start uint64 // of the positions
}

var _ = register("puppet", func(p *player) {
	runtime.LockOSThread()
	u := &puppet{p: p, held: map[int]ipc.Message{}, thread: unix.Gettid()}
	u.changed = sync.NewCond(&u.mu)
	p.arg(&u.puppetArgument)
	var err error
	if u.recorder, err = u.Seat.open(); err != nil {
		p.fail("%v", err)
	}
	for {
		words := strings.Fields(p.next())
		numbers := make([]int, len(words))
		for i, w := range words {
			_, _ = fmt.Sscan(w, &numbers[i])
		}
		p.say("%s", u.do(words, numbers))
		u.fuse = 0
	}
})

func (u *puppet) options() *ipc.Options {
	return step.WatchedFrom(&ipc.Options{
		ToServerSize: traceRingSize, ToClientSize: traceRingSize, HeartbeatInterval: 10 * time.Millisecond, HangTimeout: 30 * time.Millisecond,
		CloseTimeout: time.Hour, FailOnHang: true,
	}, u.Start, u.hook)
}

func (u *puppet) hook(at step.ID, value uint64) {
	u.recorder.hook(at, value)
	if u.fuse == 0 || unix.Gettid() != u.thread {
		return
	}
	u.p.say("step %v", at)
	if u.fuse--; u.fuse == 0 {
		signalSelf(unix.SIGKILL)
	}
}

// do does one thing and returns the answer.
func (u *puppet) do(words []string, n []int) (answer string) {
	if words[0] == "armed" {
		u.fuse = n[1]
		words, n = words[2:], n[2:]
	}
	var err error
	switch words[0] {
	case "listen":
		if u.e, err = ipc.Listen(context.Background(), u.Path, u.options()); err == nil {
			go u.watch()
			return "up"
		}
	case "dial":
		if u.e, err = ipc.Dial(context.Background(), u.Path, u.options()); err == nil {
			go u.watch()
			return fmt.Sprint("up ", u.e.Attachment())
		}
	case "send", "reserve", "abort", "batch":
		if err = u.send(words[0], n[1:]); err == nil {
			return "done"
		}
	case "patient-send", "brief-send", "patient-reserve":
		ctx, cancel := contextOf(words[0])
		defer cancel()
		if err = u.sendWaiting(ctx, strings.HasSuffix(words[0], "reserve"), uint32(n[1])); err == nil {
			return "done"
		}
	case "receive", "copy", "patient-receive", "patient-copy", "brief-receive", "brief-copy":
		return u.receive(words[0])
	case "views", "copies":
		return u.receiveBatch(words[0] == "copies", n[1])
	case "release":
		m := u.held[n[1]]
		delete(u.held, n[1])
		if err = m.Release(); err == nil {
			return "done"
		}
	case "account":
		return u.account()
	case "ends":
		u.await(func() bool { return u.ends >= n[1] })
		return "done"
	case "end":
		<-u.e.Done()
		return "done"
	case "state":
		peer := u.e.Peer()
		return fmt.Sprint(peer.State, " ", peer.Attachment)
	case "close":
		if err = u.e.Close(); err == nil {
			return "done"
		}
	default:
		return "no verb " + words[0]
	}
	return "error " + sortOfError(err)
}

// sortOfError is an error's text without what differs from run to run.
func sortOfError(err error) string {
	for text, known := range map[string]error{
		"server running": ipc.ErrServerRunning, "client running": ipc.ErrClientRunning, "full": ipc.ErrFull, "empty": ipc.ErrEmpty,
		"died": ipc.ErrPeerDied, "closed": ipc.ErrPeerClosed, "released": ipc.ErrReleased, "views held": ipc.ErrViewsHeld,
		"hung": ipc.ErrPeerHung, "over": context.DeadlineExceeded,
	} {
		if errors.Is(err, known) {
			return text
		}
	}
	return "of another sort: " + err.Error()
}

// watch counts the ends that the endpoint tells as events.
func (u *puppet) watch() {
	for event := range u.e.Events() {
		if event.Kind == ipc.EventDied || event.Kind == ipc.EventClosed {
			u.mu.Lock()
			u.ends++
			u.changed.Broadcast()
			u.mu.Unlock()
		}
	}
}

func (u *puppet) await(holds func() bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for !holds() {
		u.changed.Wait()
	}
}

func puppetPayload(number int) []byte {
	return payload(ID{Number: uint32(number)}, tracePayload)
}

func (u *puppet) send(verb string, numbers []int) error {
	messages := make([]ipc.Message, len(numbers))
	for i, n := range numbers {
		messages[i] = ipc.Message{Kind: uint32(n), Data: puppetPayload(n)}
	}
	if verb == "batch" {
		_, err := u.e.TrySendBatch(messages)
		return err
	}
	for _, m := range messages {
		if verb == "send" {
			if err := u.e.TrySend(m.Kind, m.Data); err != nil {
				return err
			}
			continue
		}
		r, err := u.e.TryReserve(len(m.Data))
		if err != nil {
			return err
		}
		copy(r.Data, m.Data)
		if verb == "abort" {
			err = r.Abort()
		} else {
			err = r.Commit(m.Kind, len(m.Data))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// contextOf is the context of a call: one that waits as long as it takes, or not long.
func contextOf(verb string) (context.Context, context.CancelFunc) {
	if strings.HasPrefix(verb, "brief-") {
		return context.WithTimeout(context.Background(), time.Millisecond)
	}
	return context.WithCancel(context.Background())
}

func (u *puppet) sendWaiting(ctx context.Context, reserved bool, number uint32) error {
	data := puppetPayload(int(number))
	if !reserved {
		return u.e.Send(ctx, number, data)
	}
	r, err := u.e.Reserve(ctx, len(data))
	if err != nil {
		return err
	}
	copy(r.Data, data)
	return r.Commit(number, len(data))
}

func (u *puppet) receive(verb string) string {
	ctx, cancel := contextOf(verb)
	defer cancel()
	how, form, waits := strings.Cut(verb, "-")
	if !waits {
		form = how
	}
	m, err, buffer := ipc.Message{}, error(nil), make([]byte, 4096)
	switch {
	case form == "copy" && waits:
		m, err = u.e.ReceiveInto(ctx, buffer)
	case form == "copy":
		m, err = u.e.TryReceiveInto(buffer)
	case waits:
		m, err = u.e.Receive(ctx)
	default:
		m, err = u.e.TryReceive()
	}
	if err != nil {
		return sortOfError(err)
	}
	return u.take(m, form == "copy")
}

func (u *puppet) receiveBatch(copied bool, count int) string {
	into, err := make([]ipc.Message, count), error(nil)
	if copied {
		count, err = u.e.TryReceiveBatchInto(make([]byte, 4096), into)
	} else {
		count, err = u.e.TryReceiveBatch(into)
	}
	if err != nil {
		return sortOfError(err)
	}
	texts := make([]string, count)
	for i, m := range into[:count] {
		texts[i] = u.take(m, copied)
	}
	return strings.Join(texts, ", ")
}

// take holds a message, if it is a view, and says what it is.
func (u *puppet) take(m ipc.Message, copied bool) string {
	id, damage := identify(m.Data)
	text := fmt.Sprint(id.Number)
	if damage != "" || m.Kind != id.Number {
		text += " not whole"
	}
	if m.Redelivered {
		text += " again"
	}
	if !copied {
		u.held[int(id.Number)] = m
	}
	return text
}

// account is what Unreleased says: numbers, with a d for delivered.
func (u *puppet) account() string {
	list, err := u.e.Unreleased()
	if err != nil {
		return sortOfError(err)
	}
	var text []string
	for _, m := range list {
		id, damage := identify(m.Data)
		entry := fmt.Sprint(id.Number)
		if m.Delivered {
			entry += "d"
		}
		if damage != "" {
			entry += " not whole"
		}
		text = append(text, entry)
	}
	return "[" + strings.Join(text, " ") + "]"
}
