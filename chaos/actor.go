package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// An actor holds one endpoint and does what it is told, command by command. It is
// the same in a process of its own (layer 2) and beside its peer (layer 1).
//
// It stores nothing that it was not told to store: its heart beats when it is
// told, apart from the first beat, so that its steps can be counted.
type actor struct {
	path    string
	options actorOptions
	report  func(step.ID, uint64) // told of every step, before anything else happens

	e    *ipc.Endpoint
	held []ipc.Message
	life int

	heart    atomic.Pointer[heart]
	giveUp   atomic.Pointer[context.CancelFunc]
	hookless bool
}

// actorOptions is what of ipc.Options crosses to another process.
type actorOptions struct {
	RingSize                                                       int
	Spin                                                           time.Duration
	HeartbeatInterval, HangTimeout, HandshakeTimeout, CloseTimeout time.Duration
	KillOnClose                                                    bool
	Start                                                          uint64 // of the positions
}

// A heart lets one endpoint beat when it may.
type heart struct {
	may    chan struct{} // one for each beat
	beaten chan struct{} // one after each
	free   chan struct{} // closed: it may beat as it likes, and nobody is told
	freed  atomic.Bool
}

func newHeart() *heart {
	return &heart{may: make(chan struct{}, 1), beaten: make(chan struct{}, 64), free: make(chan struct{})}
}

func (h *heart) release() {
	if h != nil && !h.freed.Swap(true) {
		close(h.free)
	}
}

// hook is the endpoint's hook.
func (a *actor) hook(at step.ID, value uint64) {
	switch at {
	case step.ListenBegun, step.DialBegun:
		a.heart.Store(newHeart())
	case step.Beaten:
		h := a.heart.Load()
		if h.freed.Load() {
			return
		}
		a.report(at, value)
		h.beaten <- struct{}{}
		select {
		case <-h.may:
		case <-h.free:
		}
		return
	}
	a.report(at, value)
	switch at {
	case step.CloseBegun:
		a.heart.Load().release()
	case step.Sleeping:
		if cancel := a.giveUp.Load(); cancel != nil {
			(*cancel)()
		}
	}
}

func (a *actor) ipcOptions(wait bool) *ipc.Options {
	o := a.options
	options := &ipc.Options{
		ToServerSize: o.RingSize, ToClientSize: o.RingSize, Spin: o.Spin,
		HeartbeatInterval: o.HeartbeatInterval, HangTimeout: o.HangTimeout,
		HandshakeTimeout: o.HandshakeTimeout, CloseTimeout: o.CloseTimeout,
		Wait: wait, KillOnClose: o.KillOnClose,
	}
	hook := a.hook
	if a.hookless {
		hook = nil
	}
	return step.WatchedFrom(options, o.Start, hook)
}

// do does what it is told. An error of the endpoint is part of the answer.
func (a *actor) do(ctx context.Context, c command) (answer reply) {
	var err error
	defer func() {
		if err != nil {
			answer.Trouble, answer.Sort = err.Error(), sortOf(err)
		}
	}()
	switch c.Verb {
	case "listen", "dial":
		answer, err = a.open(ctx, c)
	case "close":
		err = a.close()
	case "send", "trysend", "batch", "reserve", "abort":
		answer.Committed, err = a.send(ctx, c)
	case "receive":
		err = a.receive(ctx, &answer)
	case "giveup":
		given, cancel := context.WithCancel(ctx)
		a.giveUp.Store(&cancel)
		err = a.receive(given, &answer)
		a.giveUp.Store(nil)
		cancel()
	case "take":
		err = a.take(&answer, c.Count)
	case "release":
		err = a.release(c.Count)
	case "drain":
		err = a.drain(&answer)
	case "beat":
		h := a.heart.Load()
		h.may <- struct{}{}
		err = awaitBeat(ctx, h)
	case "event":
		answer.Events, err = a.awaitEvent(ctx, c)
	case "done":
		select {
		case <-a.e.Done():
		case <-ctx.Done():
			err = ctx.Err()
		}
	case "account":
		answer.Unreleased, err = a.account()
	case "alive":
		err = a.alive(ctx)
	default:
		err = fmt.Errorf("no verb %q", c.Verb)
	}
	return answer
}

func awaitBeat(ctx context.Context, h *heart) error {
	select {
	case <-h.beaten:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// open makes an endpoint, and waits for its first beat.
func (a *actor) open(ctx context.Context, c command) (reply, error) {
	var e *ipc.Endpoint
	var err error
	if c.Verb == "listen" {
		e, err = ipc.Listen(ctx, a.path, a.ipcOptions(c.Wait))
	} else {
		e, err = ipc.Dial(ctx, a.path, a.ipcOptions(c.Wait))
	}
	if err != nil {
		return reply{}, err
	}
	a.e, a.held, a.life = e, nil, int(e.Attachment())
	if e.Role() == ipc.RoleServer {
		a.life = 1
	}
	if !a.hookless {
		err = awaitBeat(ctx, a.heart.Load())
	}
	return reply{Generation: uint32(e.Generation()), Attachment: int(e.Attachment())}, err
}

// close closes the endpoint, and then lets the views go that were kept until
// now: they come again to the next client, and hold the memory meanwhile.
func (a *actor) close() error {
	err := a.e.Close()
	_ = a.release(0) // ErrClosed, if there were any
	return err
}

// send sends messages with the numbers from c.First on.
func (a *actor) send(ctx context.Context, c command) (committed int, err error) {
	messages := make([]ipc.Message, len(c.Sizes))
	for i, size := range c.Sizes {
		number := c.First + uint32(i)
		messages[i] = ipc.Message{Kind: number, Data: payload(ID{uint32(a.e.Generation()), laneOf(a.e.Role(), a.life), number}, size)}
	}
	if c.Verb == "batch" {
		return a.e.TrySendBatch(messages)
	}
	for i, m := range messages {
		switch c.Verb {
		case "send":
			err = a.e.Send(ctx, m.Kind, m.Data)
		case "trysend":
			err = a.e.TrySend(m.Kind, m.Data)
		default:
			var r ipc.Reservation
			if r, err = a.e.TryReserve(len(m.Data)); err == nil {
				copy(r.Data, m.Data)
				if c.Verb == "abort" {
					err = r.Abort()
				} else {
					err = r.Commit(m.Kind, len(m.Data))
				}
			}
		}
		if err != nil {
			return i, err
		}
	}
	return len(messages), nil
}

// laneOf is the lane of one who sends in order: a server's is 0, a client's its
// number.
func laneOf(role ipc.Role, life int) uint16 {
	if role == ipc.RoleServer {
		return 0
	}
	return uint16(life)
}

// note enters a message into the answer.
func (a *actor) note(to *reply, m ipc.Message) {
	id, damage := identify(m.Data)
	if damage == "" && m.Kind != id.Number {
		damage = fmt.Sprintf("its kind is %d", m.Kind)
	}
	to.Received = append(to.Received, Received{ID: id, Life: a.life, Redelivered: m.Redelivered, Damage: damage})
}

// receive waits for one message and holds it.
func (a *actor) receive(ctx context.Context, to *reply) error {
	m, err := a.e.Receive(ctx)
	if err != nil {
		return a.end(to, err)
	}
	a.note(to, m)
	a.held = append(a.held, m)
	return nil
}

// end enters the end of the peer into the answer, if err tells one.
func (a *actor) end(to *reply, err error) error {
	if sort := sortOf(err); sort == "died" || sort == "closed" {
		to.Ends = append(to.Ends, End{Reader: a.life, After: len(to.Received), Verdict: sort})
		return nil
	}
	return err
}

// take takes what waits, up to count, and holds it.
func (a *actor) take(to *reply, count int) error {
	for n := 0; count == 0 || n < count; {
		m, err := a.e.TryReceive()
		switch {
		case err == nil:
			n++
			a.note(to, m)
			a.held = append(a.held, m)
		case errors.Is(err, ipc.ErrEmpty):
			return nil
		default:
			if err = a.end(to, err); err != nil || a.e.Role() == ipc.RoleClient {
				return err
			}
		}
	}
	return nil
}

// drain receives all that waits, as copies, and then releases what is held.
func (a *actor) drain(to *reply) error {
	buf := make([]byte, a.options.RingSize)
	for {
		m, err := a.e.TryReceiveInto(buf)
		if err == nil {
			a.note(to, m)
			continue
		}
		if !errors.Is(err, ipc.ErrEmpty) {
			if err = a.end(to, err); err != nil {
				return err
			}
			if a.e.Role() == ipc.RoleServer {
				continue
			}
		}
		return a.release(0)
	}
}

// release releases the oldest that are held, with one store.
func (a *actor) release(count int) error {
	if count == 0 || count > len(a.held) {
		count = len(a.held)
	}
	oldest := a.held[:count]
	a.held = a.held[count:]
	return ipc.ReleaseBatch(oldest)
}

// awaitEvent waits for an event, and returns it with those before it.
func (a *actor) awaitEvent(ctx context.Context, c command) (events []told, err error) {
	for {
		select {
		case event, ok := <-a.e.Events():
			if !ok {
				return events, ipc.ErrClosed
			}
			events = append(events, told{event.Kind.String(), int(event.Attachment), event.Unreleased, event.Redeliverable})
			if event.Kind.String() == c.Event && int(event.Attachment) == c.Life {
				return events, nil
			}
		case <-ctx.Done():
			return events, ctx.Err()
		}
	}
}

func (a *actor) account() (list []Unreleased, err error) {
	all, err := a.e.Unreleased()
	for _, u := range all {
		id, damage := identify(u.Data)
		list = append(list, Unreleased{ID: id, Delivered: u.Delivered, Damage: damage})
	}
	return list, err
}

// alive waits until the peer is seen as one that lives.
func (a *actor) alive(ctx context.Context) error {
	for {
		state := a.e.Peer().State
		if state == ipc.PeerAttached || state == ipc.PeerHung {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}
