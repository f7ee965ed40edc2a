package chaos

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// recordingSlots is for how many events a traced process has room.
const recordingSlots = 1 << 14

// A tracedArgument is what a traced process is told at its start.
type tracedArgument struct {
	Path   string
	Seat   seat
	Server bool
	DieAt  int    // the step of its own after which it kills itself; 0: none
	Start  uint64 // of the positions
}

// A traced is a process with one endpoint, whose steps are recorded, and which
// does what it is told in three lanes: one sends, one receives and releases, and
// one opens and closes. Each lane is a thread of the operating system, so that the
// recorder can tell who sleeps.
type traced struct {
	tracedArgument
	recorder *recorder
	steps    atomic.Int64
	e        atomic.Pointer[ipc.Endpoint]
	held     []ipc.Message // the receiving lane's
}

var _ = register("traced", func(p *player) {
	a := &traced{}
	p.arg(&a.tracedArgument)
	var err error
	if a.recorder, err = a.Seat.open(); err != nil {
		p.fail("%v", err)
	}
	lanes := map[string]chan string{"send": nil, "receive": nil, "life": nil}
	for name := range lanes {
		orders := make(chan string, 1)
		lanes[name] = orders
		go func() {
			runtime.LockOSThread()
			for order := range orders {
				err := a.do(name, strings.Fields(order))
				p.say("did %s %s", name, strings.ReplaceAll(sortOf(err), " ", "-"))
			}
		}()
	}
	for {
		lane, order, _ := strings.Cut(p.next(), " ")
		lanes[lane] <- order
	}
})

// hook records a step, and dies at the one that it was told to.
func (a *traced) hook(at step.ID, value uint64) {
	if at == step.Beaten {
		return
	}
	a.recorder.hook(at, value)
	if a.steps.Add(1) == int64(a.DieAt) {
		signalSelf(syscall.SIGKILL)
	}
}

func (a *traced) options() *ipc.Options {
	return step.WatchedFrom(&ipc.Options{
		ToServerSize: traceRingSize, ToClientSize: traceRingSize, Spin: ipc.NoSpin,
		HeartbeatInterval: 20 * time.Millisecond, HangTimeout: watchdog, CloseTimeout: watchdog, Wait: true,
	}, a.Start, a.hook)
}

func (a *traced) do(lane string, order []string) error {
	ctx := context.Background()
	count := 1
	if len(order) > 1 {
		count, _ = strconv.Atoi(order[1])
	}
	switch lane {
	case "send":
		return a.send(ctx, order[0], count)
	case "receive":
		return a.receive(ctx, order[0], count)
	}
	var e *ipc.Endpoint
	var err error
	switch {
	case order[0] == "close":
		return a.e.Load().Close()
	case order[0] == "redial":
		e, err = a.e.Load().Redial(ctx)
	case a.Server:
		e, err = ipc.Listen(ctx, a.Path, a.options())
	default:
		e, err = ipc.Dial(ctx, a.Path, a.options())
	}
	if err == nil {
		a.e.Store(e)
	}
	return err
}

func (a *traced) send(ctx context.Context, verb string, count int) error {
	e := a.e.Load()
	message := ipc.Message{Kind: 1, Data: make([]byte, tracePayload)}
	switch verb {
	case "batch":
		_, err := e.SendBatch(ctx, []ipc.Message{message, message, message}[:count])
		return err
	case "send":
		return e.Send(ctx, message.Kind, message.Data)
	case "try":
		return e.TrySend(message.Kind, message.Data)
	}
	r, err := e.TryReserve(len(message.Data))
	if err != nil {
		return err
	}
	if verb == "abort" {
		return r.Abort()
	}
	return r.Commit(message.Kind, len(message.Data))
}

func (a *traced) receive(ctx context.Context, verb string, count int) (err error) {
	e := a.e.Load()
	switch verb {
	case "into":
		_, err = e.ReceiveInto(ctx, make([]byte, traceSlotSize))
	case "view":
		var m ipc.Message
		if m, err = e.Receive(ctx); err == nil {
			a.held = append(a.held, m)
		}
	case "views":
		into := make([]ipc.Message, count)
		var n int
		n, err = e.ReceiveBatch(ctx, into)
		a.held = append(a.held, into[:n]...)
	case "cancelled":
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Millisecond)
		_, err = e.ReceiveInto(ctx, make([]byte, traceSlotSize))
		cancel()
	case "release":
		count = min(count, len(a.held))
		err = ipc.ReleaseBatch(a.held[:count])
		a.held = a.held[count:]
	}
	if errors.Is(err, ipc.ErrReleased) {
		a.held = nil // of an endpoint that is closed
	}
	return err
}
