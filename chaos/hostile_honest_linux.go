package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// An honestScript is what the honest side of a hostile episode is to do.
type honestScript struct {
	Path, Diary        string
	Seed               uint64
	Lane               uint16 // of what a client sends; the server's is 0
	ToServer, ToClient int
	Spin               time.Duration
	Kill               bool // a server's Close kills who does not leave
	Pace               time.Duration
}

func (s *honestScript) options() *ipc.Options {
	return &ipc.Options{
		ToServerSize: s.ToServer, ToClientSize: s.ToClient, Spin: s.Spin, HeartbeatInterval: 5 * time.Millisecond, HangTimeout: 25 * time.Millisecond,
		HandshakeTimeout: 400 * time.Millisecond, CloseTimeout: 100 * time.Millisecond, KillOnClose: s.Kill, Wait: true,
	}
}

// The kinds of messages between honest ones.
const (
	kindPing = 0x70696e67 // answer me
	kindPong = 0x706f6e67 // with the lane of who asked in the place of the first half
)

// An honest is one endpoint of a process that keeps its promises.
type honest struct {
	honestScript
	p     *player
	e     *ipc.Endpoint
	diary *diary

	hushed  atomic.Bool // sends no more
	ctx     context.Context
	stop    context.CancelFunc
	working sync.WaitGroup

	mu    sync.Mutex
	mode  string // of receiving: eager, lazy or absent
	rouse context.CancelFunc
	nap   context.Context

	pings chan uint16 // a server's: lanes that want an answer
	pongs chan struct{}
	over  chan error // a client's: how it has ended
	held  []ipc.Message
}

// newHonest opens the diary and the endpoint.
func newHonest(p *player, open func(h *honest) (*ipc.Endpoint, error)) (*honest, error) {
	h := &honest{p: p, pings: make(chan uint16, 64), pongs: make(chan struct{}, 64), over: make(chan error, 1)}
	p.arg(&h.honestScript)
	var err error
	if h.diary, err = openDiary(h.Diary); err != nil {
		p.fail("harness: %v", err)
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	h.setMode("eager")
	if h.e, err = open(h); err != nil {
		return h, err
	}
	h.diary.put(pageUp, h.e.Generation()<<32|h.e.Attachment())
	return h, nil
}

func (h *honest) setMode(mode string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.rouse != nil {
		h.rouse()
	}
	h.mode = mode
	h.nap, h.rouse = context.WithCancel(h.ctx)
}

// work starts to send and to receive.
func (h *honest) work() {
	for lane, do := range []func(*rand.Rand){h.send, h.receive} {
		h.working.Add(1)
		random := rand.New(rand.NewPCG(h.Seed, uint64(h.Lane)<<2|uint64(lane)))
		go func() { defer h.working.Done(); do(random) }()
	}
}

// send sends one message after the other, and answers.
func (h *honest) send(r *rand.Rand) {
	for number := uint32(1); h.ctx.Err() == nil; {
		kind := uint32(kindOrdinary)
		select {
		case lane := <-h.pings:
			if kind = kindPing; h.Lane == 0 {
				kind = kindPong&^0xffff | uint32(lane)
			}
		default:
			if h.hushed.Load() || number > h.budget() {
				time.Sleep(200 * time.Microsecond)
				continue
			}
		}
		if h.one(r, kind, number) {
			number++
		}
		if h.Pace > 0 {
			time.Sleep(time.Duration(r.Int64N(int64(h.Pace))))
		}
	}
}

// budget is how many messages it sends of its own accord: as many as all diaries of
// an episode have room for, however long it takes.
func (h *honest) budget() uint32 {
	if h.Lane == 0 {
		return diaryEntries / 2
	}
	return diaryEntries / 16
}

// tries is how often a full ring is tried again before the sender waits for it. A
// server that holds a view as large as the ring hears of that only from a sender that waits (W8).
const tries = 50

// one sends one message, in some form, and reports whether it was committed.
func (h *honest) one(r *rand.Rand, kind, number uint32) bool {
	data := payload(ID{uint32(h.e.Generation()), h.Lane, number}, idSize+r.IntN(4)*r.IntN(50))
	h.diary.put(pageBegun, uint64(number))
	var err error
	switch r.IntN(3) {
	case 0:
		err = h.e.Send(h.ctx, kind, data)
	case 1:
		err = h.e.TrySend(kind, data)
		for n := 0; n < tries && errors.Is(err, ipc.ErrFull) && h.ctx.Err() == nil; n++ {
			time.Sleep(100 * time.Microsecond)
			err = h.e.TrySend(kind, data)
		}
		if errors.Is(err, ipc.ErrFull) {
			err = h.e.Send(h.ctx, kind, data)
		}
	case 2:
		var res ipc.Reservation
		if res, err = h.e.Reserve(h.ctx, len(data)); err == nil {
			copy(res.Data, data)
			err = res.Commit(kind, len(data))
		}
	}
	if err == nil {
		h.diary.put(pageSent, uint64(number))
	} else if h.ctx.Err() == nil {
		if h.failed(err); h.Lane != 0 || errors.Is(err, ipc.ErrClosed) {
			<-h.ctx.Done() // there is nobody to send to
		}
	}
	return err == nil
}

// failed takes an error that no promise explains as one of the harness's.
func (h *honest) failed(err error) {
	if err != nil && howEnded(err) == endOther && !errors.Is(err, ipc.ErrClosed) {
		h.p.say("FAIL harness: %v", err)
	}
}

// howEnded is what an error says of the end of a peer.
func howEnded(err error) uint32 {
	var corrupt *ipc.CorruptError
	switch {
	case errors.As(err, &corrupt):
		return endCorrupt
	case errors.Is(err, ipc.ErrPeerDied):
		return endDied
	case errors.Is(err, ipc.ErrPeerClosed):
		return endClosed
	}
	return endOther
}

// receive receives as the mode says, until the end.
func (h *honest) receive(r *rand.Rand) {
	defer func() { h.release(len(h.held)) }()
	for h.ctx.Err() == nil {
		h.mu.Lock()
		mode, nap := h.mode, h.nap
		h.mu.Unlock()
		m, err := ipc.Message{}, error(ipc.ErrEmpty)
		switch form := r.IntN(3); {
		case mode == "absent":
			<-nap.Done()
		case mode == "lazy" || form == 0:
			if mode == "lazy" {
				time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
			}
			if m, err = h.e.TryReceive(); errors.Is(err, ipc.ErrEmpty) && mode != "lazy" {
				time.Sleep(50 * time.Microsecond)
			}
		case form == 1:
			m, err = h.e.ReceiveInto(nap, make([]byte, 1<<17))
		default:
			m, err = h.e.Receive(nap)
		}
		switch {
		case err == nil:
			h.took(m, r)
		case errors.Is(err, ipc.ErrViewsHeld):
			h.release(len(h.held))
		case errors.Is(err, ipc.ErrEmpty):
		case errors.Is(err, context.Canceled): // views keep memory that was replaced
			h.release(len(h.held))
		case errors.Is(err, ipc.ErrClosed):
			return
		default:
			h.failed(err)
			h.diary.enter(entry{entryTold, howEnded(err), 0})
			if h.Lane != 0 {
				h.over <- err
				return
			}
		}
	}
}

// took notes a message, and releases it, or one that it has held for some time.
func (h *honest) took(m ipc.Message, r *rand.Rand) {
	id, damage := identify(append([]byte(nil), m.Data...)) // a hostile one can change what is shared
	known := damage == "" && id.Generation == uint32(h.e.Generation()) && (h.Lane == 0) == (id.Lane != 0)
	what := uint32(entryMessage)
	if m.Redelivered {
		what = entryAgain
	}
	if known {
		h.diary.enter(entry{what, uint32(id.Lane), uint64(id.Number)})
	} else {
		h.diary.enter(entry{entryOther, 0, 1})
	}
	switch {
	case known && h.Lane == 0 && m.Kind == kindPing:
		select {
		case h.pings <- id.Lane:
		default: // a hostile one has said again what another had
		}
	case known && h.Lane != 0 && m.Kind == kindPong&^0xffff|uint32(h.Lane):
		h.pongs <- struct{}{}
	}
	h.held = append(h.held, m)
	if keep := r.IntN(4); len(h.held) > keep {
		h.release(len(h.held) - keep)
	}
}

// release releases the oldest messages that it holds.
func (h *honest) release(count int) {
	for _, m := range h.held[:count] {
		if h.Lane != 0 {
			if id, damage := identify(m.Data); damage == "" {
				h.diary.put(pageTaking, uint64(id.Number))
				_ = m.Release()
				h.diary.put(pageReleased, uint64(id.Number))
				continue
			}
		}
		_ = m.Release() // one that was copied is released already
	}
	h.held = append([]ipc.Message(nil), h.held[count:]...)
}

// leave closes the endpoint, which must come to its end.
func (h *honest) leave() {
	h.stop()
	h.working.Wait()
	err := h.e.Close()
	h.p.say("closed %v", err)
}

// account is what Unreleased says of an honest server's messages: a list of its own
// numbers, one behind the other.
func (h *honest) account() string {
	list, err := h.e.Unreleased()
	if err != nil {
		return "FAIL M6 Account: " + err.Error()
	}
	last := uint32(0)
	for _, m := range list {
		id, damage := identify(m.Data)
		if damage != "" || id.Lane != h.Lane || last != 0 && id.Number != last+1 {
			return fmt.Sprintf("FAIL M6 Account: an entry is %v, behind number %d: %s", id, last, damage)
		}
		last = id.Number
	}
	return fmt.Sprintf("account %d", len(list))
}

var _ = register("honest server", func(p *player) {
	h, err := newHonest(p, func(h *honest) (*ipc.Endpoint, error) {
		ctx, cancel := context.WithTimeout(h.ctx, settleLimit/2)
		defer cancel()
		return ipc.Listen(ctx, h.Path, h.options())
	})
	if err != nil {
		p.fail("L3 BothRestart: a server does not start: %v", err)
	}
	go h.watch()
	h.work()
	p.say("up %d", h.e.Generation())
	for {
		switch command := p.next(); command {
		case "eager", "lazy", "absent":
			h.setMode(command)
		case "hush", "speak":
			h.hushed.Store(command == "hush")
		case "account":
			p.say("%s", h.account())
		case "foot":
			h.setMode("eager")
			p.say("foot %s", ownFooting())
		case "close":
			h.leave()
			return
		}
	}
})

// watch notes the events of a server.
func (h *honest) watch() {
	for event := range h.e.Events() {
		switch event.Kind {
		case ipc.EventAttached:
			h.diary.enter(entry{entryAttached, 0, event.Attachment})
		case ipc.EventDied, ipc.EventClosed:
			h.diary.enter(entry{entryEnd, howEnded(event.Err), event.Attachment})
			h.p.say("left %d %v", event.Attachment, event.Err)
		case ipc.EventAdmissionFailed, ipc.EventPathLost:
			h.p.say("event %v: %v", event.Kind, event.Err)
		}
	}
}

var _ = register("honest client", func(p *player) {
	h, err := newHonest(p, func(h *honest) (*ipc.Endpoint, error) {
		ctx, cancel := context.WithTimeout(h.ctx, settleLimit/2)
		defer cancel()
		return ipc.Dial(ctx, h.Path, h.options())
	})
	if err != nil {
		p.say("refused %d %v", howEnded(err), err)
		return
	}
	h.work()
	p.say("up %d %d", h.e.Generation(), h.e.Attachment())
	commands := make(chan string)
	go func() {
		for {
			commands <- p.next()
		}
	}()
	for {
		select {
		case err := <-h.over:
			p.say("ended %d %v", howEnded(err), err)
			_, err = h.e.Unreleased()
			h.failed(err)
			h.leave()
			return
		case <-h.pongs:
			p.say("quiet")
		case command := <-commands:
			switch command {
			case "ping":
				h.hushed.Store(true)
				h.pings <- 0
			case "close":
				_, err = h.e.Unreleased()
				h.failed(err)
				h.leave()
				return
			}
		}
	}
})
