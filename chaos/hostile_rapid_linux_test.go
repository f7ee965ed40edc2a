package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tandem-ipc/tandem/ipc"
)

// A hostileModel is a server, the client of the moment, hostile or honest, and what
// the honest ones may be told. The server and its clients are in this process: what
// panics in a call shrinks too.
type hostileModel struct {
	t      *rapid.T
	path   string
	server *ipc.Endpoint
	raw    *rawClient // the hostile client that is there
	former *rawClient // one that has left and kept its memory
	honest *ipc.Endpoint
	diary  *diary

	held [2][]ipc.Message // views of the server's, of the honest client's

	// To the server: the numbers that honest ones have committed, and how many of
	// them the server has received for certain, or must not be asked about.
	committed, received uint32
	doubtful            bool // a hostile one has had the memory since: what is under way is in its hands
	others              int  // messages of nobody honest

	// To the client.
	sent, released, seen uint32
	last                 uint32 // that this honest client has received; 0: none
	free                 bool   // a hostile one may have released, or marked, what it likes
}

const rapidLane = 7

func (g *hostileModel) options() *ipc.Options {
	return &ipc.Options{ToServerSize: pageSize, ToClientSize: pageSize, HeartbeatInterval: 10 * time.Millisecond,
		HangTimeout: time.Minute, HandshakeTimeout: 2 * time.Second, CloseTimeout: time.Second, Wait: true}
}

func (g *hostileModel) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), watchdog/3)
}

func (g *hostileModel) random() *rand.Rand {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(g.t, "seed"), 1))
}

// comes has a hostile client attach, if the server admits anybody.
func (g *hostileModel) comes() {
	for range 3 {
		c, err := rawAttach(g.path, g.diary, rapid.IntRange(0, 9).Draw(g.t, "halfway") == 0)
		if err == nil {
			g.raw, g.doubtful = c, true
			return
		}
		if !errors.Is(err, errRawRefused) {
			g.t.Fatalf("harness: %v", err)
		}
		g.receive() // the server has too much of the former ones' to go through
	}
}

func (g *hostileModel) acts() {
	names := make([]string, 0, len(acts))
	for _, a := range acts {
		if a.name != "rest" {
			names = append(names, a.name)
		}
	}
	c := g.raw
	if c == nil {
		c = g.former
	}
	a := actNamed(rapid.SampledFrom(names).Draw(g.t, "act"))
	a.do(c, g.random())
	g.free = g.free || g.diary.get(pageReads)+g.diary.get(pageDelivers) > 0
}

func (g *hostileModel) leaves() {
	if g.former == nil && rapid.IntRange(0, 3).Draw(g.t, "keeps all") == 0 {
		g.raw.part()
		g.former = g.raw
	} else {
		g.raw.leave()
	}
	g.raw, g.free = nil, true // also what it has only shown
}

func (g *hostileModel) forgets() { g.former.leave(); g.former = nil }

func (g *hostileModel) arrives() {
	ctx, cancel := g.context()
	defer cancel()
	arrived := make(chan error, 1)
	go func() {
		var err error
		g.honest, err = ipc.Dial(ctx, g.path, g.options())
		arrived <- err
	}()
	for {
		select {
		case err := <-arrived:
			if err != nil {
				g.t.Fatalf("L7 ClientRestart: an honest client does not attach: %v", err)
			}
			g.last = 0
			return
		case <-time.After(5 * time.Millisecond): // sleep: it may wait for the server to receive
			g.receive()
		}
	}
}

func (g *hostileModel) departs() {
	g.drop(1)
	if err := g.honest.Close(); err != nil {
		g.t.Fatalf("L8 NoLeak: Close: %v", err)
	}
	g.honest = nil
}

func (g *hostileModel) drop(side int) {
	for _, m := range g.held[side] {
		if id, damage := identify(m.Data); side == 1 && damage == "" {
			g.released = max(g.released, id.Number)
		}
		if err := m.Release(); err != nil {
			g.t.Fatalf("M8 Bounded: a release: %v", err)
		}
	}
	g.held[side] = nil
}

func (g *hostileModel) send(e *ipc.Endpoint, lane uint16, number *uint32) {
	data := payload(ID{uint32(g.server.Generation()), lane, *number + 1}, idSize+rapid.IntRange(0, 60).Draw(g.t, "size"))
	err := e.TrySend(kindOrdinary, data)
	switch {
	case err == nil:
		*number++
	case errors.Is(err, ipc.ErrFull):
	case lane == 0 && howEnded(err) != endOther: // of its client
	default:
		g.t.Fatalf("M8 Bounded: a send of lane %d: %v", lane, err)
	}
}

// receive has the server receive one message, or an end.
func (g *hostileModel) receive() {
	m, err := g.server.TryReceive()
	switch {
	case errors.Is(err, ipc.ErrEmpty):
		if !g.doubtful && g.received < g.committed {
			g.t.Fatalf("M1 NoLoss: nothing waits behind %d of %d", g.received, g.committed)
		}
		return
	case errors.Is(err, ipc.ErrViewsHeld):
		g.drop(0)
		return
	case howEnded(err) == endCorrupt && g.diary.get(pageEntries) == 0:
		g.t.Fatalf("T1: nobody hostile was there, and: %v", err)
	case howEnded(err) != endOther:
		return
	case err != nil:
		g.t.Fatalf("harness: the server receives: %v", err)
	}
	g.held[0] = append(g.held[0], m)
	id, damage := identify(append([]byte(nil), m.Data...))
	switch {
	case damage != "" || id.Lane != rapidLane || g.doubtful && id.Number != g.received+1:
		if g.others++; !g.doubtful && g.raw == nil && damage == "" {
			g.t.Fatalf("M2 FIFO: the server receives %v behind %d", id, g.received)
		}
	case id.Number != g.received+1 || id.Number > g.committed:
		g.t.Fatalf("M2 FIFO: the server receives %d behind %d of %d", id.Number, g.received, g.committed)
	default:
		g.received = id.Number
	}
	if most := pageSize / 8 * int(g.diary.get(pageWrites)+g.diary.get(pageEntries)); g.others > most {
		g.t.Fatalf("M4 NoTear: %d messages of nobody, where at most %d can have been committed", g.others, most)
	}
}

// takes has the honest client receive one message.
func (g *hostileModel) takes() {
	m, err := g.honest.TryReceive()
	if errors.Is(err, ipc.ErrViewsHeld) {
		g.drop(1)
		return
	}
	if errors.Is(err, ipc.ErrEmpty) {
		if behind := max(g.last, g.released); !g.free && behind < g.sent || g.last != 0 && g.last < g.sent {
			g.t.Fatalf("M1 NoLoss: nothing waits for the client behind %d of %d", behind, g.sent)
		}
		return
	}
	if err != nil {
		g.t.Fatalf("T1: an honest client that is alone receives: %v", err)
	}
	g.held[1] = append(g.held[1], m)
	id, damage := identify(m.Data)
	switch {
	case damage != "" || id.Lane != 0 || id.Number > g.sent:
		g.t.Fatalf("M4 NoTear: the client receives %v of %d, %s", id, g.sent, damage)
	case g.last != 0 && id.Number != g.last+1, g.last == 0 && id.Number <= g.released:
		g.t.Fatalf("M2 FIFO: the client receives %d behind %d", id.Number, max(g.last, g.released))
	case g.last == 0 && !g.free && id.Number != g.released+1:
		g.t.Fatalf("M1 NoLoss: the client receives %d first, and %d were released", id.Number, g.released)
	case id.Number <= g.seen && !m.Redelivered:
		g.t.Fatalf("M3 AtLeastOnce: the client receives %d again, without mark", id.Number)
	case !g.free && id.Number > g.seen && m.Redelivered:
		g.t.Fatalf("M3 AtLeastOnce: the client receives %d with mark, and nobody has seen it", id.Number)
	}
	g.last, g.seen = id.Number, max(g.seen, id.Number)
}

// settles has the server receive all that waits, behind every hostile one: from
// then on nothing is doubtful.
func (g *hostileModel) settles() {
	for range 1 << 16 {
		before := g.server.Stats().Received
		g.receive()
		_, err := g.server.TryReceiveInto(nil)
		if g.server.Stats().Received == before && errors.Is(err, ipc.ErrEmpty) {
			g.received, g.doubtful = g.committed, false
			return
		}
	}
	g.t.Fatalf("M4 NoTear: the server does not come to an end of what was committed")
}

func (g *hostileModel) act(t *rapid.T) {
	g.t = t
	var all []func()
	offer := func(weight int, makesSense bool, do func()) {
		for i := 0; i < weight && makesSense; i++ {
			all = append(all, do)
		}
	}
	nobody := g.raw == nil && g.honest == nil
	offer(6, nobody, g.comes)
	offer(8, g.raw != nil, g.acts)
	offer(4, g.raw != nil, g.leaves)
	offer(1, g.former != nil && g.honest == nil, g.acts)
	offer(1, g.former != nil, g.forgets)
	offer(3, nobody && g.former == nil, g.arrives)
	offer(2, g.honest != nil, g.departs)
	offer(3, g.honest != nil, func() { g.send(g.honest, rapidLane, &g.committed) })
	offer(4, g.honest != nil, g.takes)
	offer(2, true, func() { g.send(g.server, 0, &g.sent) })
	offer(2, true, g.receive)
	offer(1, true, func() { g.drop(rapid.IntRange(0, 1).Draw(t, "side")) })
	offer(1, g.raw == nil && g.former == nil, g.settles)
	offer(1, true, func() { _, _ = g.server.Unreleased() })
	all[evenly(len(all)).Draw(t, "action")]()
}

func TestRapidHostile(t *testing.T) {
	defer seedRapid(t)()
	rapid.Check(t, func(t *rapid.T) {
		directory, err := newDirectory()
		if err != nil {
			t.Fatalf("harness: %v", err)
		}
		defer os.RemoveAll(directory)
		g := &hostileModel{t: t, path: filepath.Join(directory, "s"), diary: memoryDiary()}
		ctx, cancel := g.context()
		defer cancel()
		if g.server, err = ipc.Listen(ctx, g.path, g.options()); err != nil {
			t.Fatalf("L3 BothRestart: %v", err)
		}
		defer func() {
			for _, c := range []*rawClient{g.raw, g.former} {
				if c != nil {
					c.leave()
				}
			}
			if g.honest != nil {
				_ = g.honest.Close()
			}
			_ = g.server.Close()
		}()
		t.Repeat(map[string]func(*rapid.T){"act": g.act})
	})
}
