package chaos

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"pgregory.net/rapid"

	"github.com/tandem-ipc/tandem/model"
)

// A stage is a pair of puppets beside the model of it. What each of them must
// answer follows from the model alone; the first answer that differs fails.
type stage struct {
	t        *rapid.T
	ctx      context.Context
	path     string
	start    uint64 // of the positions
	flight   *flight
	members  [2]*puppetry // server, client
	up       [2]bool      // has an endpoint whose process lives
	frozen   [2]bool
	attached bool // a client has come in this generation
	number   int  // attachment of the last client that is up
	orphaned bool // the client's server has ended, and the client is told so
	owed     [2]bool
	leaving  bool // the server closes, and waits for its client to leave
	ends     int  // ends of clients that the server's events have told
	began    bool // there was a generation
	waits    [2]waitingCall
	toServer *direction
	toClient *direction
}

// A puppetry is a puppet as the stage sees it.
type puppetry struct {
	*process
	seat seat
}

var sideNames = [2]string{"server", "client"}

const (
	serverSide = 0
	clientSide = 1
)

// differs fails with a stable text: no times, no process numbers, no paths.
func (g *stage) differs(contract, format string, args ...any) {
	g.t.Fatalf("%s: %s", contract, fmt.Sprintf(format, args...))
}

// ask has a puppet do one thing. It returns the steps that it passed, if it was
// armed, and its answer, which is "dead" if it has died of that.
func (g *stage) ask(side int, format string, args ...any) (steps []string, answer string) {
	m := g.members[side]
	m.tell(format, args...)
	for {
		line, err := m.hear(g.ctx)
		if err != nil && g.ctx.Err() != nil {
			g.differs(contractStuck, "the %s does not come back from %q", sideNames[side], fmt.Sprintf(format, args...))
		}
		if err != nil {
			return steps, "dead"
		}
		name, isStep := strings.CutPrefix(line, "step ")
		if !isStep {
			return steps, line
		}
		steps = append(steps, name)
	}
}

func (g *stage) want(contract string, side int, want, format string, args ...any) {
	if _, got := g.ask(side, format, args...); got != want {
		g.differs(contract, "the %s answers %q to %q, want %q", sideNames[side], got, fmt.Sprintf(format, args...), want)
	}
}

// launch starts a puppet that has no endpoint yet.
func (g *stage) launch(r tracedRole) *puppetry {
	at, err := g.flight.seat(r, puppetSlots)
	var p *process
	if err == nil {
		p, err = start("puppet", puppetArgument{g.path, at, g.start})
	}
	if err != nil {
		g.t.Fatalf("harness: %v", err)
	}
	return &puppetry{p, at}
}

// puppetSlots is for how many events a puppet has room.
const puppetSlots = 1 << 11

// slay kills a puppet, whatever it does.
func (g *stage) slay(m *puppetry) {
	m.kill()
	g.flight.killed(m.seat)
}

// fuse draws at which step of the next operation, of about so many, a puppet
// dies: 0 for none, which is the most likely.
func (g *stage) fuse(steps int) (n int, prefix string) {
	if n = evenly(10*steps).Draw(g.t, "step"); n > steps {
		n = 0
	}
	if n > 0 {
		prefix = fmt.Sprintf("armed %d ", n)
	}
	return n, prefix
}

// gone takes note of a death or a clean end of one side, and has the other side
// learn of it.
func (g *stage) gone(side int, verdict string) {
	g.up[side], g.frozen[side], g.owed[side] = false, false, false
	other := 1 - side
	if side == clientSide {
		g.toClient.consumerEnds()
		g.toServer.producerEnds(verdict)
		g.ends++
	} else {
		g.toServer.consumerEnds()
		g.toClient.producerEnds(verdict)
	}
	g.waits[side] = waitingCall{}
	if g.up[other] {
		if g.frozen[other] || g.waits[other].verb != "" {
			g.owed[other] = true
			return
		}
		g.learn(other)
	}
}

// learn waits until a side knows of the other's end (L6).
func (g *stage) learn(side int) {
	g.owed[side] = false
	if side == serverSide {
		g.want("L6 Detect", side, "done", "ends %d", g.ends)
		return
	}
	g.want("L6 Detect", side, "done", "end")
	g.orphaned = true
}

// perish takes note of the death of one who was there.
func (g *stage) perish(side int) {
	g.reap(side)
	g.gone(side, "died")
	g.left(side)
}

// reap waits for the end of a puppet that has killed itself or was killed.
func (g *stage) reap(side int) {
	signal, err := g.members[side].awaitEnd(g.ctx)
	if err != nil || signal != syscall.SIGKILL {
		g.differs("harness", "the %s did not die", sideNames[side])
	}
	_ = g.members[side].stdin.Close()
	g.flight.killed(g.members[side].seat)
	g.members[side] = nil
}

// free reports whether a side can be told to do something.
func (g *stage) free(side int) bool { return g.runs(side) && g.waits[side].verb == "" }

// runs reports whether a side is there, and neither frozen nor about to leave.
func (g *stage) runs(side int) bool {
	return g.up[side] && !g.frozen[side] && (side == clientSide || !g.leaving)
}

// out and in are the directions that a side sends and receives on.
func (g *stage) out(side int) *direction { return [2]*direction{g.toClient, g.toServer}[side] }
func (g *stage) in(side int) *direction  { return [2]*direction{g.toServer, g.toClient}[side] }

func (g *stage) startServer(int) {
	if g.members[serverSide] != nil {
		g.refused(serverSide, "listen", "error server running", "L1 SingleServer")
		return
	}
	if g.up[clientSide] { // alive or frozen
		g.refused(serverSide, "listen", "error client running", "L3 BothRestart")
		return
	}
	n, prefix := g.fuse(14)
	g.members[serverSide] = g.launch(tracedRole{Server: true})
	_, answer := g.ask(serverSide, "%slisten", prefix)
	if answer == "dead" && n > 0 {
		g.reap(serverSide)
		return
	}
	if answer != "up" {
		g.differs("L3 BothRestart", "a server that may start says %q", answer)
	}
	g.up[serverSide], g.attached, g.orphaned, g.ends = true, false, false, 0
	if g.began {
		g.toServer.restart()
		g.toClient.restart()
	}
	g.began = true
}

// refused tries to be what there is already.
func (g *stage) refused(side int, verb, want, contract string) {
	extra := g.launch(tracedRole{Server: side == serverSide, Second: true})
	defer g.slay(extra)
	extra.tell("%s", verb)
	got, err := extra.hear(g.ctx)
	if err != nil || got != want {
		g.differs(contract, "another %s says %q, want %q", sideNames[side], got, want)
	}
}

func (g *stage) startClient(int) {
	if g.members[clientSide] != nil {
		g.refused(clientSide, "dial", "error client running", "L2 SingleClient")
		return
	}
	n, prefix := g.fuse(9)
	g.members[clientSide] = g.launch(tracedRole{})
	steps, answer := g.ask(clientSide, "%sdial", prefix)
	if number, up := strings.CutPrefix(answer, "up "); up {
		answer = "up"
		if _, err := fmt.Sscan(number, &g.number); err != nil {
			g.differs("harness", "a client that is up says %q", number)
		}
	}
	if answer != "up" && (answer != "dead" || n == 0) {
		g.differs("L7 ClientRestart", "a client that may come says %q", answer)
	}
	if answer == "up" || slices.Contains(steps, "AttachmentStored") {
		if g.attached {
			g.toServer.may(named("ProducerStarts"))
			g.toClient.may(named("ConsumerStarts"))
		}
		g.attached, g.up[clientSide] = true, true
	}
	switch {
	case answer == "dead" && g.up[clientSide]:
		g.perish(clientSide)
	case answer == "dead":
		g.reap(clientSide) // it never was there
	}
}

func (g *stage) send(side int) {
	verb := rapid.SampledFrom([]string{"send", "batch", "reserve", "abort"}).Draw(g.t, "form")
	count := 1
	if verb == "batch" {
		count = rapid.IntRange(1, rapidBatch).Draw(g.t, "count")
	}
	if side == clientSide && g.orphaned {
		g.want("M5 Drain", side, "error "+g.serverVerdict(), "send 1")
		return
	}
	d := g.out(side)
	numbers, fit := d.coming(count)
	want := "done"
	if fit < count {
		want = "error full"
	}
	n, prefix := g.fuse(3 + 3*count)
	steps, answer := g.ask(side, "%s%s %s", prefix, verb, strings.Trim(fmt.Sprint(numbers), "[]"))
	if answer != want && (answer != "dead" || n == 0) {
		g.differs("M8 Bounded", "a %s of %d that has space for %d says %q", verb, count, fit, answer)
	}
	if fit > 0 && (verb != "abort" && answer == want || slices.Contains(steps, "Published")) {
		d.may(model.Commit(fit))
	}
	if answer == "dead" {
		g.perish(side)
	}
}

// serverVerdict is what the client is told of its server's end.
func (g *stage) serverVerdict() string { return g.toClient.verdicts[len(g.toClient.verdicts)-1] }

func (g *stage) receive(side int) {
	verb := rapid.SampledFrom([]string{"receive", "copy", "views", "copies"}).Draw(g.t, "form")
	if verb == "views" || verb == "copies" {
		g.receiveBatch(side, verb)
		return
	}
	n, prefix := g.fuse(4)
	steps, got := g.ask(side, "%s%s", prefix, verb)
	d := g.in(side)
	alive := got != "dead" || n == 0
	place := d.s.Cur
	want := d.next(alive || slices.Contains(steps, "Delivered"), alive)
	if alive && got != want && !(got == "views held" && g.starves(side)) {
		g.differs(contractOf(got, want), "the %s receives %q, want %q", sideNames[side], got, want)
	}
	if want == "died" || want == "closed" {
		if alive {
			d.told(side == clientSide)
		}
	} else if verb == "copy" && d.s.Cur > place {
		d.release(place)
	} else if verb == "copy" && !alive && slices.Contains(steps, "Released") && len(d.held) == 0 {
		d.may(model.HandOut(1)) // to nobody: it was copied, and died with its reader
		d.may(model.Release(d.s.Cur))
	}
	if !alive {
		g.perish(side)
	}
}

// contractOf names the promise that a wrong answer breaks.
func contractOf(got, want string) string {
	number := func(text string) string { word, _, _ := strings.Cut(text, " "); return word }
	switch {
	case strings.Contains(got, "whole"):
		return "M4 NoTear"
	case number(got) == number(want):
		return "M3 AtLeastOnce"
	case want == "died", want == "closed", got == "died", got == "closed":
		return "M5 Drain"
	case got == "empty":
		return "M1 NoLoss"
	}
	return "M2 FIFO"
}

func (g *stage) release(side int) {
	d := g.in(side)
	place := rapid.SampledFrom(d.held).Draw(g.t, "which")
	n, prefix := g.fuse(2)
	steps, answer := g.ask(side, "%srelease %d", prefix, d.s.Log.At(place))
	if answer != "done" && (answer != "dead" || n == 0) {
		g.differs("M8 Bounded", "a release says %q", answer)
	}
	if answer == "done" || slices.Contains(steps, "Released") {
		d.release(place)
	}
	if answer == "dead" {
		g.perish(side)
	}
}

func (g *stage) kill(side int) {
	_ = g.members[side].signal(syscall.SIGKILL)
	g.perish(side)
}

// left has a server that waited for its client come to the end of its Close.
func (g *stage) left(side int) {
	if side != clientSide || !g.leaving {
		return
	}
	line, err := g.members[serverSide].hear(g.ctx)
	if err != nil || line != "done" {
		g.differs("L8 NoLeak", "a server's Close says %q behind its client's end", line)
	}
	g.members[serverSide].kill()
	g.members[serverSide], g.leaving = nil, false
}

func (g *stage) freeze(side int) {
	stop := g.members[side].awaitStop()
	_ = g.members[side].signal(syscall.SIGSTOP)
	if <-stop != stopped {
		g.differs("harness", "the %s does not stop", sideNames[side])
	}
	g.frozen[side] = true
}

func (g *stage) thaw(side int) {
	_ = g.members[side].signal(syscall.SIGCONT)
	g.frozen[side] = false
	if g.owed[side] {
		g.learn(side)
	}
}

func (g *stage) close(side int) {
	if side == serverSide && g.up[clientSide] {
		g.members[side].tell("close")
		g.leaving = true
		g.gone(side, "closed")
		return
	}
	g.want("L8 NoLeak", side, "done", "close")
	g.members[side].kill()
	g.members[side] = nil
	g.gone(side, "closed")
	g.left(side)
}

// restart kills the client and starts the next one.
func (g *stage) restart(int) {
	_ = g.members[clientSide].signal(syscall.SIGKILL)
	g.perish(clientSide)
	g.startClient(clientSide)
}

// wait waits until a frozen side is called hung, and no more than that (L5). What
// the server says of a former client is that one's.
func (g *stage) wait(side int) {
	for {
		_, answer := g.ask(side, "state")
		state, number := "", 0
		if _, err := fmt.Sscan(answer, &state, &number); err != nil {
			g.differs("harness", "the %s says that its peer is %q", sideNames[side], answer)
		}
		switch {
		case state == "hung":
			return
		case state == "attached", state == "absent", side == serverSide && number < g.number:
			runtime.Gosched()
		default:
			g.differs("L5 TrueVerdict", "a frozen %s is called %s", sideNames[1-side], state)
		}
	}
}

// check compares what can be compared without changing anything.
func (g *stage) check(*rapid.T) {
	for _, d := range []*direction{g.toServer, g.toClient} {
		if names := d.broken(); len(names) > 0 {
			g.differs("the model", "%v do not hold", names)
		}
	}
	for side := range 2 {
		if g.free(side) && !g.owed[side] {
			g.want("M6 Account", side, g.out(side).account(), "account")
		}
	}
}
