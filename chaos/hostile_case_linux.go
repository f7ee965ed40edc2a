package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// A hostileCase is one case of the enumerator with hostile clients: they come one
// behind the other, and each does its acts, by their names. The last one does them
// when the server reaches a step in what it does then. An honest client that comes
// behind them must be served as if nothing had been.
type hostileCase struct {
	Rows       [][]string // what each does
	Operations []string   // of the server's, while the last is there
	Step       int        // of the server's, counted from there: then the last one acts; 0: before
	Eager      bool       // the server receives all behind each of them
	Seed       uint64     // draws what an act leaves open
}

func (c hostileCase) String() string {
	text, _ := json.Marshal(c)
	return "hostile:" + string(text)
}

// hostileOperations are what a server does meanwhile.
var hostileOperations = []string{"receive", "copy", "send", "batch", "release", "account", "stats", "wait"}

// A hostileStage is a case that is played: a server and its clients.
type hostileStage struct {
	c      hostileCase
	ctx    context.Context
	path   string
	e      *ipc.Endpoint
	random *rand.Rand
	diary  *diary // of all hostile clients together
	broken []Failure

	acting sync.Mutex // guards what is to happen at a step, and is held while it does
	left   int
	act    func()

	sent     uint32
	held     []ipc.Message
	received int // messages of nobody honest
	fits     int
}

func (g *hostileStage) fail(contract, format string, args ...any) {
	g.broken = append(g.broken, Failure{contract, fmt.Sprintf(format, args...), ""})
}

// memoryDiary is a diary that nobody else reads.
func memoryDiary() *diary { return &diary{memory: make([]byte, diaryHead+(1<<10)*entrySize)} }

// playHostile plays and judges a case.
func playHostile(ctx context.Context, c hostileCase) (broken []Failure) {
	directory, err := newDirectory()
	if err != nil {
		return []Failure{{"harness", err.Error(), ""}}
	}
	defer os.RemoveAll(directory)
	ctx, cancel := context.WithTimeout(ctx, watchdog/2)
	defer cancel()
	g := &hostileStage{c: c, ctx: ctx, path: filepath.Join(directory, "s"), random: rand.New(rand.NewPCG(c.Seed, 7)), diary: memoryDiary(), fits: pageSize / 8}
	g.e, err = ipc.Listen(ctx, g.path, g.options(g.step))
	if err != nil {
		return []Failure{{"L3 BothRestart", err.Error(), ""}}
	}
	go func() {
		for range g.e.Events() {
		}
	}()
	g.play()
	if err := g.e.Close(); err != nil {
		g.fail("L8 NoLeak", "Close of the server: %v", err)
	}
	return g.broken
}

func (g *hostileStage) options(hook func(step.ID, uint64)) *ipc.Options {
	return step.Watched(&ipc.Options{ToServerSize: pageSize, ToClientSize: pageSize, Spin: ipc.NoSpin, HeartbeatInterval: 10 * time.Millisecond,
		HangTimeout: time.Minute, HandshakeTimeout: time.Second, CloseTimeout: time.Second}, hook)
}

// step hears the steps of the server's calls, and of its own goroutines.
func (g *hostileStage) step(step.ID, uint64) {
	g.acting.Lock()
	defer g.acting.Unlock()
	if g.left--; g.left == 0 && g.act != nil {
		g.act()
		g.act = nil
	}
}

// arm has the act happen at a step from now on.
func (g *hostileStage) arm(steps int, act func()) {
	g.acting.Lock()
	defer g.acting.Unlock()
	g.left, g.act = steps, act
}

// disarm has the act happen now, if it has not yet. Nothing of it is under way then.
func (g *hostileStage) disarm() {
	g.acting.Lock()
	defer g.acting.Unlock()
	if g.act != nil {
		g.act()
		g.act = nil
	}
}

func (g *hostileStage) play() {
	g.send(3)
	for i, names := range g.c.Rows {
		c, err := g.hostile()
		if err != nil {
			g.fail("harness", "hostile client %d: %v", i, err)
			return
		}
		act := func() {
			for _, name := range names {
				actNamed(name).do(c, g.random)
			}
		}
		if i < len(g.c.Rows)-1 {
			act()
		} else {
			g.beside(act)
		}
		c.leave()
		if g.c.Eager {
			g.drain(nil)
		}
	}
	g.succeed()
}

// hostile is the next hostile client. What it needs that the server receives first,
// it receives.
func (g *hostileStage) hostile() (c *rawClient, err error) {
	for g.ctx.Err() == nil {
		if c, err = rawAttach(g.path, g.diary, false); err == nil {
			return c, nil
		}
		if errors.Is(err, errRawRefused) {
			_, _ = g.receive("receive")
		}
	}
	return nil, err
}

// beside has the last one act while the server does what it has to.
func (g *hostileStage) beside(act func()) {
	if g.arm(g.c.Step, act); g.c.Step == 0 {
		g.disarm()
	}
	for _, operation := range g.c.Operations {
		switch operation {
		case "receive", "copy", "wait":
			_, _ = g.receive(operation)
		case "send", "batch":
			g.send(1 + 2*count(operation == "batch"))
		case "release":
			g.release()
		case "account":
			g.account()
		case "stats":
			g.e.Stats()
		}
	}
	g.disarm()
}

// send sends so many messages, or finds no room.
func (g *hostileStage) send(count int) {
	for range count {
		id := ID{uint32(g.e.Generation()), 0, g.sent + 1}
		switch err := g.e.TrySend(kindOrdinary, payload(id, idSize+int(g.sent)%40)); {
		case err == nil:
			g.sent++
		case errors.Is(err, ipc.ErrFull), howEnded(err) != endOther:
		default:
			g.fail("M8 Bounded", "a send: %v", err)
		}
	}
}

func (g *hostileStage) release() {
	for _, m := range g.held {
		if err := m.Release(); err != nil {
			g.fail("M8 Bounded", "a release: %v", err)
		}
	}
	g.held = nil
}

// account sees that the list is of the server's own messages, whole and in order.
func (g *hostileStage) account() {
	list, err := g.e.Unreleased()
	if err != nil && howEnded(err) != endCorrupt {
		g.fail("M6 Account", "%v", err)
	}
	if err != nil {
		return
	}
	last := g.sent
	for _, m := range slices.Backward(list) {
		id, damage := identify(m.Data)
		if damage != "" || id.Number != last || id.Lane != 0 {
			g.fail("M6 Account", "an entry is %v %s, before %d", id, damage, last+1)
			return
		}
		last--
	}
}

// receive receives one message, and reports whether there was one, or an end.
func (g *hostileStage) receive(form string) (m ipc.Message, err error) {
	switch form {
	case "copy":
		m, err = g.e.TryReceiveInto(make([]byte, 2*pageSize))
	case "wait":
		ctx, cancel := context.WithTimeout(g.ctx, 2*time.Millisecond)
		defer cancel()
		m, err = g.e.Receive(ctx)
	default:
		m, err = g.e.TryReceive()
	}
	switch {
	case err == nil:
		g.received++
		if form == "copy" {
			break
		}
		if g.held = append(g.held, m); len(g.held) > 2 {
			_ = g.held[0].Release()
			g.held = g.held[1:]
		}
	case errors.Is(err, ipc.ErrViewsHeld):
		g.release()
	case errors.Is(err, ipc.ErrEmpty), errors.Is(err, context.DeadlineExceeded), howEnded(err) != endOther:
	default:
		g.fail("harness", "a receive: %v", err)
	}
	return m, err
}

// drain receives until stop says so, or there is nothing more.
func (g *hostileStage) drain(stop func(m ipc.Message) bool) bool {
	for g.ctx.Err() == nil {
		m, err := g.receive("receive")
		if most := g.fits * int(g.diary.get(pageWrites)+g.diary.get(pageEntries)+1); g.received > most {
			g.fail("M4 NoTear", "the server receives more messages than the %d that can have been committed", most)
			return false
		}
		switch {
		case err == nil && stop != nil && stop(m):
			return true
		case errors.Is(err, ipc.ErrEmpty) && stop == nil:
			return true
		case errors.Is(err, ipc.ErrEmpty):
			time.Sleep(20 * time.Microsecond)
		}
	}
	if len(g.broken) == 0 {
		g.fail(contractStuck, "the server does not receive what an honest client has sent")
	}
	return false
}

// succeed has an honest client come: it receives what the server has sent, from the
// first that nobody released, and the server receives what it sends.
func (g *hostileStage) succeed() {
	type arrival struct {
		e   *ipc.Endpoint
		err error
	}
	arrived := make(chan arrival, 1)
	go func() {
		o := g.options(nil)
		o.Wait = true
		e, err := ipc.Dial(g.ctx, g.path, o)
		arrived <- arrival{e, err}
	}()
	var a arrival
	if g.random.IntN(2) == 0 { // it may attach to a server that has not received what others have left
		select {
		case a = <-arrived:
		case <-time.After(5 * time.Millisecond): // sleep: or not before the server receives
		}
	}
	for a.e == nil && a.err == nil {
		select {
		case a = <-arrived:
		default:
			if !g.drain(nil) {
				return
			}
			time.Sleep(50 * time.Microsecond)
		}
	}
	if a.err != nil {
		g.fail("L7 ClientRestart", "an honest client does not attach: %v", a.err)
		return
	}
	if !g.drain(nil) { // it has sent nothing yet, and there may be no room
		return
	}
	g.exchange(a.e)
	if err := a.e.Close(); err != nil {
		g.fail("L8 NoLeak", "Close of the client: %v", err)
	}
	g.release()
}

func (g *hostileStage) exchange(client *ipc.Endpoint) {
	g.release()
	const lane, messages = 77, 3
	for number := range uint32(messages) {
		if err := client.Send(g.ctx, kindPing, payload(ID{uint32(g.e.Generation()), lane, number + 1}, idSize+5)); err != nil {
			g.fail("L7 ClientRestart", "an honest client sends: %v", err)
			return
		}
	}
	wants := uint32(1)
	if !g.drain(func(m ipc.Message) bool {
		if id, damage := identify(m.Data); damage == "" && id.Lane == lane {
			if id.Number != wants {
				g.fail("M2 FIFO", "the server receives %d of the honest client's, want %d", id.Number, wants)
			}
			wants++
		}
		return wants > messages
	}) {
		return
	}
	g.release()
	last, first := uint32(0), uint32(0)
	for last < g.sent+1 {
		if last == 0 || last == g.sent {
			before := g.sent
			if g.send(1); g.sent == before && last != 0 {
				g.fail("L7 ClientRestart", "the server cannot send to an honest client that has received all")
				return
			}
		}
		m, err := client.Receive(g.ctx)
		if err != nil {
			g.fail("L7 ClientRestart", "an honest client receives: %v", err)
			return
		}
		id, damage := identify(m.Data)
		if damage != "" || id.Lane != 0 || last != 0 && id.Number != last+1 {
			g.fail("M2 FIFO", "the honest client receives %v %s, behind %d", id, damage, last)
			return
		}
		_ = m.Release()
		if last = id.Number; first == 0 {
			first = last
		}
		if last == g.sent {
			break
		}
	}
	if g.diary.get(pageReads) == 0 && first > 1 {
		g.fail("M1 NoLoss", "the honest client receives %d first, and nobody has released anything", first)
	}
}

// actNamed finds an act.
func actNamed(name string) act {
	for _, a := range acts {
		if a.name == name {
			return a
		}
	}
	return act{name: name, do: func(*rawClient, *rand.Rand) {}}
}
