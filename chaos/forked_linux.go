package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// Forked is layer 2: real processes, each of which is killed, or frozen and
// killed, or frozen and thawed, at its first step of an operation, at its second,
// and so on until the operation comes to its end untouched.
func Forked(ctx context.Context, o ForkedOptions) (*Report, error) {
	if o.Budget > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Budget+2*watchdog)
		defer cancel()
	}
	f := &forking{options: o, report: NewReport("forked", o.Seed), replays: newReplayer(), rows: make(chan func(context.Context))}
	if o.Budget > 0 {
		f.until = time.Now().Add(o.Budget)
	}
	var players sync.WaitGroup
	for range runtime.NumCPU() {
		players.Add(1)
		go func() {
			defer players.Done()
			for row := range f.rows {
				row(ctx)
			}
		}()
	}
	f.rows <- f.killOnClose // whatever the budget
	draw := rand.New(rand.NewPCG(o.Seed, 3))
	for _, row := range f.all(draw) {
		if f.over(ctx) {
			break
		}
		f.rows <- row
	}
	for o.Budget > 0 && !f.over(ctx) {
		f.rows <- f.drawn(draw)
	}
	close(f.rows)
	players.Wait()
	if ctx.Err() == nil {
		f.report.cover(forkedOnly())
	}
	f.report.Count("rows finished", f.finished)
	f.report.coverage()
	return f.report.Finish(1), ctx.Err()
}

// A forking is one run of layer 2.
type forking struct {
	options ForkedOptions
	report  *Report
	replays *replayer
	until   time.Time
	rows    chan func(context.Context)

	mu       sync.Mutex
	cases    int
	finished int
}

func (f *forking) over(ctx context.Context) bool {
	return ctx.Err() != nil || !f.until.IsZero() && time.Now().After(f.until)
}

// all are the rows: what is done to whom in which operations. Each goes on from
// step to step. They come in the order that the seed draws.
func (f *forking) all(draw *rand.Rand) (rows []func(context.Context)) {
	life := beginnings
	for _, actor := range roles {
		for _, operations := range append(life, sequences(1)...) {
			for _, victim := range roles {
				for _, b := range strokes {
					rows = append(rows, func(ctx context.Context) { f.row(ctx, coordinate{Actor: actor, Operations: operations}, victim, b) })
				}
			}
		}
		life = nil // nobody acts in it
	}
	draw.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	return rows
}

// drawn is one case of a longer sequence, for the time that is left.
func (f *forking) drawn(draw *rand.Rand) func(context.Context) {
	all := sequences(3)
	victim := roles[draw.IntN(len(roles))]
	c := coordinate{
		Actor:      roles[draw.IntN(len(roles))],
		Operations: all[draw.IntN(len(all))],
		Deaths:     []point{{victim, victim, 1 + draw.IntN(30)}},
	}
	b := strokes[draw.IntN(len(strokes))]
	return func(ctx context.Context) { f.enter(ctx, f.play(ctx, c, b)) }
}

// row kills, or freezes, at one step after the other, until nobody is touched.
func (f *forking) row(ctx context.Context, c coordinate, victim ipc.Role, b stroke) {
	for n := 1; !f.over(ctx); n++ {
		c.Deaths = []point{{victim, victim, n}}
		p := f.play(ctx, c, b)
		touched := len(p.Deaths)+len(p.Thaws) > 0
		f.enter(ctx, p)
		if !touched || len(p.Failures) > 0 {
			if !touched {
				f.mu.Lock()
				f.finished++
				f.mu.Unlock()
			}
			return
		}
	}
}

// playForked plays one case of layer 2, and nothing else.
func playForked(ctx context.Context, c coordinate, b stroke) played {
	return (&forking{report: NewReport("forked", 0), replays: newReplayer()}).play(ctx, c, b)
}

// play plays one case.
func (f *forking) play(ctx context.Context, c coordinate, b stroke) played {
	if c.Operations[0] == killClose {
		return f.playKillOnClose(ctx, c)
	}
	var mu sync.Mutex
	var thawed []died
	frozen := func(m *member) {
		m.w.checkFrozen(m)
		if b.behind == syscall.SIGCONT {
			m.w.mu.Lock()
			at := m.last
			m.w.mu.Unlock()
			mu.Lock()
			thawed = append(thawed, died{at.String(), strings.Join(c.Operations, ","), m.role.String() + " " + b.name})
			mu.Unlock()
		}
	}
	p := f.inWorld(ctx, c, worldOptions(c.Operations), b, frozen, func(p *played, w *world) { p.play(w, c) })
	for i := range p.Deaths {
		if b.behind != 0 {
			p.Deaths[i].Outcome += ", frozen before"
		}
	}
	for i := range p.Failures {
		p.Failures[i].Reproduce = strings.ReplaceAll(b.name, " ", "-") + "," + p.Failures[i].Reproduce
	}
	mu.Lock()
	defer mu.Unlock()
	p.Thaws = thawed
	return p
}

// inWorld plays a case with processes that get the stroke.
func (f *forking) inWorld(ctx context.Context, c coordinate, o actorOptions, b stroke, frozen func(*member), script func(*played, *world)) played {
	follows := follower{f.replays, f.report, f.options.traced}
	return follows.play(ctx, c, o, func(fl *flight) func(*member) (party, error) { return forks(fl, b, frozen) }, script)
}

// checkFrozen sees that a frozen process is not taken for a dead one, and that
// nobody takes its place.
func (w *world) checkFrozen(m *member) {
	w.mu.Lock()
	server := w.server
	holds := m.attached && !m.goodbye
	known := server != nil && countOf(server.trail, step.ReadyReceived) == m.life // the server has heard of this one
	locked := countOf(m.trail, step.ServerLocked) > 0 && countOf(m.trail, step.ServerUnlocked) == 0
	w.mu.Unlock()
	if m.role == ipc.RoleServer {
		if locked {
			w.checkRefused(m, "listen", "server running", "L1 SingleServer")
		}
		return
	}
	if !holds || !server.up() || w.closing(server) {
		return
	}
	if known {
		ctx, cancel := context.WithTimeout(w.ctx, patience/4)
		defer cancel()
		_, err := server.do(ctx, command{Verb: "alive"})
		if errors.Is(err, context.DeadlineExceeded) && !w.closing(server) {
			w.broken("L5 TrueVerdict", "server: the client is frozen, and not seen as one that lives")
		}
	}
	if !w.closing(server) {
		w.checkRefused(m, "dial", "client running", "L2 SingleClient")
	}
}

// closing reports whether a member has begun to close.
func (w *world) closing(m *member) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return countOf(m.trail, step.CloseBegun) > 0
}

func countOf(trail []step.ID, at step.ID) (count int) {
	for _, reached := range trail {
		if reached == at {
			count++
		}
	}
	return count
}

// checkRefused sees that somebody else is refused beside a frozen one, and does not
// wait for it. A server that has begun to close meanwhile refuses nobody, and keeps a
// client waiting.
func (w *world) checkRefused(frozen *member, verb, want, contract string) {
	ctx, cancel := context.WithTimeout(w.ctx, patience/2)
	defer cancel()
	probe := &member{role: frozen.role, w: w, cues: map[step.ID]*cue{}}
	p, err := recordedCells(frozen.party.(*fork).flight)(probe)
	if err != nil {
		w.broken("harness", "%v", err)
		return
	}
	probe.party = p
	defer p.bury()
	got, err := p.do(ctx, command{Verb: verb})
	waits := ctx.Err() != nil && verb == "dial" && w.closing(w.server)
	if err == nil && got.Sort != want && !waits {
		w.broken(contract, "another %v beside a frozen one: %q, want %s", probe.role, got.Sort, want)
	}
}

// enter enters a case into the report, if it says anything.
func (f *forking) enter(ctx context.Context, p played) {
	if ctx.Err() != nil && len(p.Failures) == 0 {
		return
	}
	p.enter(f.report, "forked")
	f.mu.Lock()
	f.cases++
	cases := f.cases
	f.mu.Unlock()
	if f.options.Progress != nil {
		f.options.Progress(cases)
	}
}
