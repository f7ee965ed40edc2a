//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The last byte of each message says what the player is to do behind it.
const (
	benchMore = iota // take it
	benchSync        // take it, and say that everything before it was taken
	benchLast        // the same, and leave the task
)

// A benchSetup is what the two processes of a benchmark agree on.
type benchSetup struct {
	Spin  time.Duration
	Size  int  // of a message
	Ring  int  // of each ring; the default if 0
	Batch int  // messages in one batch
	Apart bool // each process on a processor of its own, if there are two

	// Filled in by setStage.
	Path, SocketPath, MemoryPath string
	Processor                    int // of the player, if Apart
}

// A stage is the test's side of a benchmark: one player, attached to it in
// every way that is to be compared.
type stage struct {
	b        testing.TB
	ctx      context.Context // ends with the player
	setup    benchSetup
	player   *process
	server   *Endpoint
	net, raw int // indices into sockets
	sockets  []socket
	ping     floorWords
	message  []byte
	answer   []byte
}

// setStage starts the player and attaches it. What could be in the way of a
// measurement happens here.
func setStage(b *testing.B, setup benchSetup) *stage {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	s := &stage{b: b, ctx: ctx, net: 0, raw: 1, message: make([]byte, setup.Size), answer: make([]byte, setup.Size)}
	setup.Path = testPath(b)
	setup.SocketPath = setup.Path + ".bench"
	s.ping, setup.MemoryPath = newFloorWords(b)
	processor, left, err := allowedProcessors()
	s.must(err)
	setup.Processor = left
	s.setup = setup

	server, err := Listen(ctx, setup.Path, &Options{Spin: setup.Spin, ToServerSize: setup.Ring, ToClientSize: setup.Ring})
	s.must(err)
	b.Cleanup(func() { _ = server.Close() })
	s.server = server
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: setup.SocketPath, Net: "unix"})
	s.must(err)
	b.Cleanup(func() { _ = listener.Close() })
	s.must(listener.SetDeadline(time.Now().Add(watchdog)))

	s.player = start(b, "bench", setup)
	go func() { <-s.player.done; cancel() }()
	first, err := listener.AcceptUnix()
	s.must(err)
	b.Cleanup(func() { _ = first.Close() })
	second, err := listener.AcceptUnix()
	s.must(err)
	blocking, err := newRawSocket(second)
	s.must(err)
	b.Cleanup(func() { _ = unix.Close(int(blocking)) })
	s.sockets = []socket{first, blocking}
	s.player.expect("ready")
	if setup.Apart {
		runApart(b, processor)
	}
	return s
}

func (s *stage) must(err error) {
	if err != nil {
		s.b.Helper()
		s.b.Fatalf("%v; the player wrote: %s", err, s.player.wrote())
	}
}

func (p *process) wrote() string {
	if p == nil {
		return ""
	}
	return p.log.String()
}

// mark sets the mark of the next message.
func (s *stage) mark(mark byte) { s.message[len(s.message)-1] = mark }

func markOf(message []byte) byte { return message[len(message)-1] }

// A task is work that the two processes do together.
type task struct {
	name  string // what the player calls it
	chunk int    // how much of it between two looks at the clock
	// do does n units, the last one with the given mark in its message.
	do func(n int, mark byte)
}

// A sample is how long a part of a task took.
type sample struct {
	ops     int
	took    time.Duration
	mallocs uint64 // by the whole process meanwhile
}

func (s sample) perOp() float64       { return float64(s.took.Nanoseconds()) / float64(s.ops) }
func (s sample) allocsPerOp() float64 { return float64(s.mallocs / uint64(s.ops)) }

// measure does a task for about the given time.
func (s *stage) measure(t task, d time.Duration) sample {
	s.player.tell("%s", t.name)
	t.do(1, benchSync) // the player is there
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ops, begun := 0, time.Now()
	for ; time.Since(begun) < d; ops += t.chunk {
		t.do(t.chunk, benchMore)
	}
	t.do(1, benchSync)
	took := time.Since(begun)
	runtime.ReadMemStats(&after)
	t.do(1, benchLast)
	return sample{ops + 1, took, after.Mallocs - before.Mallocs}
}

// channel is a task done through shared memory.
func (s *stage) channel(form string, chunk int) task {
	one := func() { s.must(s.server.Send(s.ctx, 0, s.message)) }
	wait := func() {
		_, err := s.server.ReceiveInto(s.ctx, s.answer)
		s.must(err)
	}
	do := func(n int, mark byte) {
		for range n - 1 {
			one()
		}
		s.mark(mark)
		one()
		s.mark(benchMore)
		if mark != benchMore {
			wait()
		}
	}
	switch form {
	case "echo":
		do = func(n int, mark byte) {
			for i := range n {
				if i == n-1 {
					s.mark(mark)
				}
				one()
				wait()
			}
			s.mark(benchMore)
		}
	case "batch":
		do = s.batches(wait)
	}
	return task{form, chunk, do}
}

// batches sends several messages at a time.
func (s *stage) batches(wait func()) func(n int, mark byte) {
	batch := make([]Message, s.setup.Batch)
	for i := range batch {
		batch[i].Data = s.message
	}
	last := []Message{{Data: make([]byte, s.setup.Size)}}
	return func(n int, mark byte) {
		for left := n - 1; left > 0; {
			sent, err := s.server.SendBatch(s.ctx, batch[:min(left, len(batch))])
			s.must(err)
			left -= sent
		}
		last[0].Data[s.setup.Size-1] = mark
		_, err := s.server.SendBatch(s.ctx, last)
		s.must(err)
		if mark != benchMore {
			wait()
		}
	}
}

// A table collects figures by unit, one of each a round.
type table struct {
	units   []string
	figures map[string][]float64
}

func (t *table) add(unit string, figure float64) {
	if t.figures == nil {
		t.figures = map[string][]float64{}
	}
	if t.figures[unit] == nil {
		t.units = append(t.units, unit)
	}
	t.figures[unit] = append(t.figures[unit], figure)
}

func (t *table) report(b *testing.B) {
	for _, unit := range t.units {
		b.ReportMetric(median(t.figures[unit]), unit)
	}
}

// spread is the largest figure in terms of the smallest.
func (t *table) spread(unit string) float64 {
	return slices.Max(t.figures[unit]) / slices.Min(t.figures[unit])
}

func median(figures []float64) float64 {
	sorted := slices.Sorted(slices.Values(figures))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// The player does the task that it is told to, until a message says that it was
// the last, and waits for the next.
var _ = part("bench", func(p *player) {
	var setup benchSetup
	p.arg(&setup)
	if setup.Apart {
		if err := runOnOne(setup.Processor); err != nil {
			p.fail("%v", err)
		}
	}
	client, err := Dial(p.ctx, setup.Path, &Options{Spin: setup.Spin})
	if err != nil {
		p.fail("dial: %v", err)
	}
	sockets := dialSockets(p, setup.SocketPath)
	ping := openFloorWords(p, setup.MemoryPath)
	actor := benchActor{p: p, client: client, setup: setup, buffer: make([]byte, max(setup.Size, collectSize)), into: make([]Message, max(setup.Batch, 1))}
	p.say("ready")
	for {
		switch name := p.next(); name {
		case "floor":
			ping.answer()
		case "echo":
			actor.echo()
		case "into":
			actor.takeCopies()
		case "view", "batch":
			actor.takeViews()
		case "net-echo", "raw-echo":
			actor.socketEcho(sockets[name[:3]])
		case "net-take":
			actor.socketTake(sockets[name[:3]])
		default:
			p.fail("no task %q", name)
		}
	}
})

// A benchActor is the player's side of a benchmark. Its tasks do not allocate.
type benchActor struct {
	p      *player
	client *Endpoint
	setup  benchSetup
	buffer []byte
	into   []Message
	seen   byte // what was read is used
}

func (a *benchActor) must(err error) {
	if err != nil {
		a.p.fail("%v", err)
	}
}

func (a *benchActor) echo() {
	for mark := byte(benchMore); mark != benchLast; {
		m, err := a.client.ReceiveInto(a.p.ctx, a.buffer)
		a.must(err)
		mark = markOf(m.Data)
		a.must(a.client.Send(a.p.ctx, 0, m.Data))
	}
}

// answer says that everything up to a marked message was taken, and whether the
// task goes on.
func (a *benchActor) answer(mark byte) (goOn bool) {
	if mark != benchMore {
		a.must(a.client.Send(a.p.ctx, 0, a.buffer[:8]))
	}
	return mark != benchLast
}

func (a *benchActor) takeCopies() {
	for goOn := true; goOn; {
		m, err := a.client.ReceiveInto(a.p.ctx, a.buffer)
		a.must(err)
		goOn = a.answer(markOf(m.Data))
	}
}

func (a *benchActor) takeViews() {
	for goOn := true; goOn; {
		var n int
		var err error
		if len(a.into) > 1 {
			n, err = a.client.ReceiveBatch(a.p.ctx, a.into)
		} else {
			n = 1
			a.into[0], err = a.client.Receive(a.p.ctx)
		}
		a.must(err)
		mark := byte(benchMore)
		for _, m := range a.into[:n] {
			mark = max(mark, markOf(m.Data))
			for i := 0; i < len(m.Data); i += 64 {
				a.seen += m.Data[i]
			}
		}
		a.must(ReleaseBatch(a.into[:n]))
		goOn = a.answer(mark)
	}
}
