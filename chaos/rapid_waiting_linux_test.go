package chaos

import (
	"strings"

	"pgregory.net/rapid"

	"github.com/tandem-ipc/tandem/model"
)

// A waitingCall is a call of a puppet that waits, and has not answered.
type waitingCall struct {
	verb   string
	number int // of the message, if it sends
}

func (c waitingCall) sends() bool {
	return strings.HasSuffix(c.verb, "send") || strings.HasSuffix(c.verb, "reserve")
}

// begin has a side make a call that waits. What it must answer, and when, follows from
// what the other side does (settle).
func (g *stage) begin(side int, c waitingCall) {
	g.waits[side] = c
	g.tellAgain(side)
}

func (g *stage) tellAgain(side int) {
	if c := g.waits[side]; c.sends() {
		g.members[side].tell("%s %d", c.verb, c.number)
	} else {
		g.members[side].tell("%s", c.verb)
	}
}

// waitToReceive begins a call that finds nothing to receive.
func (g *stage) waitToReceive(side int) {
	g.begin(side, waitingCall{verb: rapid.SampledFrom([]string{"patient-receive", "patient-copy"}).Draw(g.t, "form")})
}

// waitToSend begins a call that finds no space.
func (g *stage) waitToSend(side int) {
	form := rapid.SampledFrom([]string{"patient-send", "patient-reserve"}).Draw(g.t, "form")
	g.begin(side, waitingCall{form, g.out(side).following()})
}

// brief makes a call whose context ends soon, and which takes or commits what it can
// all the same.
func (g *stage) brief(side int) {
	if g.out(side).more() && rapid.Bool().Draw(g.t, "sends") {
		want := "done"
		switch {
		case side == clientSide && g.orphaned:
			want = "error " + g.serverVerdict()
		case !g.out(side).hasRoom():
			want = "error over"
		}
		g.wantUnlessHung("M8 Bounded", side, want, "brief-send %d", g.out(side).following())
		if want == "done" {
			g.out(side).may(model.Commit(1))
		}
		return
	}
	verb := rapid.SampledFrom([]string{"brief-receive", "brief-copy"}).Draw(g.t, "form")
	_, got := g.ask(side, "%s", verb)
	g.received(side, verb, got)
}

// wantUnlessHung is want for a call that would wait, where a busy machine can have
// called the peer hung.
func (g *stage) wantUnlessHung(contract string, side int, want, format string, args ...any) {
	if _, got := g.ask(side, format, args...); got != want && !(got == "error hung" && want == "error over") {
		g.differs(contract, "the %s answers %q to a call with a short context, want %q", sideNames[side], got, want)
	}
}

// received judges what a call that could wait has received, and takes note of it.
func (g *stage) received(side int, verb, got string) {
	d := g.in(side)
	place := d.s.Cur
	want := d.next(true, true)
	if want == "empty" && (got == "over" || got == "hung" || got == "views held" && g.starves(side)) {
		return
	}
	if got != want {
		g.differs(contractOf(got, want), "the %s receives %q, want %q", sideNames[side], got, want)
	}
	switch {
	case want == "died" || want == "closed":
		d.told(side == clientSide)
	case strings.HasSuffix(verb, "copy"):
		d.release(place)
	}
}

// receiveBatch receives several messages in one call, up to the next end. It may be fewer
// than are there: of what it has not looked for since, it knows nothing.
func (g *stage) receiveBatch(side int, verb string) {
	most := rapid.IntRange(1, rapidBatch).Draw(g.t, "count")
	_, got := g.ask(side, "%s %d", verb, most)
	d := g.in(side)
	if d.idle() || d.endsHere() {
		if want := d.next(true, true); got != want && !(got == "views held" && g.starves(side)) {
			g.differs(contractOf(got, want), "the %s receives %q, want %q", sideNames[side], got, want)
		} else if want != "empty" {
			d.told(side == clientSide)
		}
		return
	}
	var wants []string
	for len(wants) < min(most, 1+strings.Count(got, ",")) && !d.idle() && !d.endsHere() {
		place := d.s.Cur
		wants = append(wants, d.next(true, true))
		if verb == "copies" {
			d.release(place)
		}
	}
	for i, part := range strings.Split(got, ", ") {
		want := "no more"
		if i < len(wants) {
			want = wants[i]
		}
		if part != want {
			g.differs(contractOf(part, want), "the %s receives %q in the batch %q, want %q", sideNames[side], part, got, wants)
		}
	}
}

// starves reports whether the other side waits for space that only what this one
// holds occupies (W8), or may look so.
func (g *stage) starves(side int) bool {
	d := g.in(side)
	waits := g.waits[1-side].sends() && !d.hasRoom()
	return d.idle() && len(d.held) > 0 && (waits || g.holdsTheWrap(d))
}

// holdsTheWrap reports whether position 0 is among what is held. There a word that says
// that nobody waits says the same as one that waits for it.
func (g *stage) holdsTheWrap(d *direction) bool {
	at := func(place int) uint64 { return g.start + uint64(place*traceSlotSize) }
	return at(d.s.Rel) > at(d.s.Cur)
}

// settle hears the answer of a call that waits, if it must come now.
func (g *stage) settle(side int) {
	c, hung := g.waits[side], g.frozen[1-side]
	if c.verb == "" || !hung && !g.due(side) {
		return
	}
	line := g.answer(side)
	early := func() bool { // it came before what is due: the machine was busy, or see starves
		return strings.HasSuffix(line, "hung") || line == "views held" && g.holdsTheWrap(g.in(side))
	}
	for early() && g.due(side) {
		g.tellAgain(side)
		line = g.answer(side)
	}
	switch {
	case strings.HasSuffix(line, "hung"):
	case c.sends():
		g.sent(side, line)
	default:
		g.received(side, c.verb, line)
	}
	g.waits[side] = waitingCall{}
	if g.owed[side] {
		g.learn(side)
	}
}

// answer waits for what a call that waits says at its end.
func (g *stage) answer(side int) string {
	line, err := g.members[side].hear(g.ctx)
	if err != nil {
		g.differs(contractStuck, "the %s does not come back from %s", sideNames[side], g.waits[side].verb)
	}
	return line
}

// due reports whether a call that waits must come back now, by what the model says.
func (g *stage) due(side int) bool {
	if g.waits[side].sends() {
		return g.out(side).hasRoom() || side == clientSide && g.owed[side]
	}
	d := g.in(side)
	return !d.idle() || g.starves(side) && !g.holdsTheWrap(d)
}

// sent judges the answer of a call that has waited for space.
func (g *stage) sent(side int, line string) {
	want := "done"
	if side == clientSide && g.owed[side] {
		want = "error " + g.serverVerdict()
	}
	if line != want {
		g.differs("M8 Bounded", "the %s has waited for space and says %q, want %q", sideNames[side], line, want)
	}
	if want == "done" {
		g.out(side).may(model.Commit(1))
	}
}
