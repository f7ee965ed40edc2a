package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// A scribe writes a history by hand.
type scribe struct {
	now  int64
	tail [2]uint64 // of toServer, toClient
}

func (s *scribe) tick() int64 { s.now += 10; return s.now }

func (s *scribe) send(l *life, lane int, number uint32) *slot {
	tail := &s.tail[1-role(l.server)]
	l.slots = append(l.slots, slot{
		doing: doSend, fate: done, flags: hasPos | hasEnd | published, call: s.tick(), returned: s.tick(),
		pos: *tail, end: *tail + recordSize(100), id: ID{1, laneName(uint64(l.number), l.server, lane), number}, size: 100, lane: lane,
	})
	*tail += recordSize(100)
	return &l.slots[len(l.slots)-1]
}

// take receives what a send has sent, and releases it if it is to.
func (s *scribe) take(l *life, from slot, flags uint8, release bool) {
	t := from
	t.doing, t.fate, t.flags, t.call, t.returned, t.lane = doReceive, done, hasPos|hasEnd|delivered|flags, s.tick(), s.tick(), 5
	l.slots = append(l.slots, t)
	if release {
		t.doing, t.flags, t.call, t.returned = doRelease, hasPos|hasEnd, s.tick(), s.tick()
		l.slots = append(l.slots, t)
		l.readPos = t.end
	}
}

func (s *scribe) event(l *life, kind ipc.EventKind, attachment uint32) {
	l.slots = append(l.slots, slot{
		doing: doEvent, fate: done, call: s.tick(), returned: s.tick(), end: uint64(s.now),
		id: ID{Number: uint32(kind), Generation: attachment},
	})
}

// soundDocket is one generation. The first client received 1 to 3, released 1 and
// 2, sent three messages, the last of which it did not live to know of, and was
// killed; the second one got the rest, and both came to rest.
func soundDocket() *docket {
	s := &scribe{now: 1000}
	server := &life{recording: &recording{incarnation: 100, server: true, generation: 1, begun: s.tick(), up: s.tick()}, number: 1}
	first := &life{recording: &recording{incarnation: 200, generation: 1, attachment: 1, begun: s.tick(), up: s.tick()}, number: 1}
	second := &life{recording: &recording{incarnation: 400, generation: 1, attachment: 2}, number: 2}
	var toClient, toServer []slot
	for n := uint32(1); n <= 6; n++ {
		toClient = append(toClient, *s.send(server, 2, n))
	}
	for n := uint32(1); n <= 3; n++ {
		toServer = append(toServer, *s.send(first, 2, n))
	}
	last := &first.slots[len(first.slots)-1]
	last.fate, last.returned, last.flags = inFlight, 0, hasPos|hasEnd
	for _, m := range toServer {
		s.take(server, m, 0, true)
	}
	for i, m := range toClient[:3] {
		s.take(first, m, 0, i < 2)
	}
	first.active = s.tick()
	killed := s.tick()
	s.event(server, ipc.EventDied, 1)
	server.slots = append(server.slots, slot{doing: doReceive, fate: peerDied, call: s.tick(), returned: s.tick()})
	second.begun, second.up = s.tick(), s.tick()
	s.take(second, toClient[2], marked, true)
	for _, m := range toClient[3:] {
		s.take(second, m, 0, true)
	}
	for n := uint32(1); n <= 2; n++ {
		s.take(server, *s.send(second, 2, n), 0, true)
	}
	for _, l := range []*life{server, second} {
		l.slots = append(l.slots, slot{doing: doAccount, fate: unused, call: s.tick(), returned: s.tick()})
		l.active, l.closing = s.tick(), s.tick()
		l.counts[step.GoodbyeSaid] = 1
	}
	d := &docket{episode: &episode{Calm: true, Swarm: swarm{ToServer: 4096, ToClient: 4096}}, lives: []*life{server, first, second}}
	d.Log = []occurrence{{killed, didKill, 200, ""}}
	return d
}

// Places in a sound docket.
const (
	theServer, theFirst, theSecond = 0, 1, 2
)

// find returns the n-th slot of a life that does something, from 1.
func (d *docket) find(life int, what doing, n int) *slot {
	for i := range d.lives[life].slots {
		if s := &d.lives[life].slots[i]; s.doing == what {
			if n--; n == 0 {
				return s
			}
		}
	}
	return nil
}

// drop removes a slot.
func (d *docket) drop(life int, what doing, n int) {
	at := d.find(life, what, n)
	d.lives[life].slots = slices.DeleteFunc(slices.Clone(d.lives[life].slots), func(s slot) bool { return s == *at })
}

// judged judges a docket that is not in a file.
func judged(d *docket) (*ruling, *Report) {
	d.deaths, d.chronicles = nil, nil
	d.arrange()
	report := NewReport("test", 1)
	return d.judge(report), report
}

func TestASoundHistoryPasses(t *testing.T) {
	r, report := judged(soundDocket())
	if r.verdict != Pass || r.messages != 12 || r.kills != 1 || report.Counts[countAgain] != 1 {
		t.Errorf("%v, %d messages, %d kills, counts %v: %v", r.verdict, r.messages, r.kills, report.Counts, report)
	}
	if text := r.deaths[0].String(); text != "200@step.ID(0)#0" {
		t.Errorf("the death is at %s", text) // nothing passed a step in this history
	}
}

// Each row plants one fault into a sound history. Porcupine has to reject those
// that have to do with the order of whole messages.
var plantedHistories = []struct {
	name      string
	contract  string
	porcupine bool
	plant     func(*docket)
}{
	{"lost", "M1", true, func(d *docket) { d.drop(theSecond, doReceive, 3) }},
	{"lost at the end", "M1", false, func(d *docket) { d.drop(theSecond, doReceive, 4) }},
	{"lost with a client", "M1", true, func(d *docket) { d.drop(theSecond, doReceive, 1) }},
	{"overwritten", "M1", true, func(d *docket) {
		again := *d.find(theServer, doSend, 3)
		again.id.Number, again.lane = 1, 3
		again.id.Lane++
		d.lives[theServer].slots = append(d.lives[theServer].slots, again)
	}},
	{"unknown, and not there", "M1", true, func(d *docket) { d.drop(theServer, doReceive, 3) }},
	{"duplicated", "M3", true, func(d *docket) {
		d.lives[theSecond].slots = append(d.lives[theSecond].slots, *d.find(theSecond, doReceive, 2))
	}},
	{"again without a mark", "M3", true, func(d *docket) { d.find(theSecond, doReceive, 1).flags &^= marked }},
	{"marked, and nobody had it", "M3", true, func(d *docket) { d.find(theSecond, doReceive, 2).flags |= marked }},
	{"again though released", "M3", true, func(d *docket) { d.lives[theFirst].readPos = 1 << 20 }},
	{"reordered", "M2", true, func(d *docket) {
		a, b := d.find(theSecond, doReceive, 2), d.find(theSecond, doReceive, 3)
		a.id, b.id = b.id, a.id
	}},
	{"sent in another order", "M2", true, func(d *docket) {
		a, b := d.find(theServer, doSend, 4), d.find(theServer, doSend, 5)
		a.call, a.returned, b.call, b.returned = b.call, b.returned, a.call, a.returned
	}},
	{"received in another order", "M2", true, func(d *docket) {
		a, b := d.find(theSecond, doReceive, 2), d.find(theSecond, doReceive, 3)
		a.call, a.returned, b.call, b.returned = b.call, b.returned, a.call, a.returned
	}},
	{"received before it was sent", "M2", true, func(d *docket) {
		s := d.find(theServer, doSend, 6)
		s.call, s.returned = 1<<40, 1<<41
	}},
	{"torn", "M4", false, func(d *docket) { d.find(theSecond, doReceive, 2).flags |= damaged }},
	{"torn while held", "M4", false, func(d *docket) { d.find(theSecond, doRelease, 2).flags |= damaged }},
	{"of another size", "M4", false, func(d *docket) { d.find(theSecond, doReceive, 2).size = 99 }},
	{"never sent", "M4", true, func(d *docket) { d.find(theSecond, doReceive, 4).id.Number = 77 }},
	{"never committed", "M4", true, func(d *docket) { d.find(theServer, doSend, 6).fate = aborted }},
	{"ghost", "L4", true, func(d *docket) { d.find(theSecond, doReceive, 4).id.Generation = 9 }},
	{"stuck receiver", "M7", false, func(d *docket) {
		d.lives[theServer].slots = append(d.lives[theServer].slots, slot{doing: doReceive, call: 5000})
	}},
	{"stuck sender", "M7", false, func(d *docket) {
		d.lives[theSecond].slots = append(d.lives[theSecond].slots, slot{doing: doSend, call: 5000})
	}},
	{"stuck pair", "M7", false, func(d *docket) {
		d.Log = append(d.Log, occurrence{What: sawBroken, Text: contractStuck + ": the pair does not come to an end"})
	}},
	{"end before the last message", "M5", false, func(d *docket) {
		end := d.find(theServer, doReceive, 4)
		end.call, end.returned = d.find(theServer, doReceive, 2).call-2, d.find(theServer, doReceive, 2).call-1
	}},
	{"account of a released one", "M6", false, func(d *docket) {
		listed := *d.find(theServer, doSend, 2)
		listed.doing, listed.flags = doAccount, delivered
		d.lives[theServer].slots = slices.Insert(d.lives[theServer].slots, len(d.lives[theServer].slots)-1, listed)
	}},
	{"more than the ring", "M8", false, func(d *docket) { d.Swarm.ToClient = 256 }},
	{"two servers", "L1", false, func(d *docket) {
		d.lives = append(d.lives, &life{recording: &recording{incarnation: 300, server: true, generation: 2, begun: 1100, up: 1110, active: 1200}})
	}},
	{"two clients", "L2", true, func(d *docket) { d.lives[theSecond].up = d.lives[theFirst].up + 1 }},
	{"a client of the generation before", "L3", false, func(d *docket) {
		d.lives[theServer].active = 1015 // it has gone; its client has not
		d.lives = append(d.lives, &life{recording: &recording{incarnation: 300, server: true, generation: 2, begun: 1100, up: 1110, active: 1200}})
	}},
	{"called dead too early", "L5", false, func(d *docket) { d.find(theServer, doEvent, 1).end = 10; d.Log[0].Time += 2 * clockSlack }},
	{"called closed", "L5", false, func(d *docket) { d.find(theServer, doEvent, 1).id.Number = uint32(ipc.EventClosed) }},
	{"called dead and lives", "L5", false, func(d *docket) { d.find(theServer, doEvent, 1).id.Generation = 2 }},
	{"never told", "L6", false, func(d *docket) { d.drop(theServer, doEvent, 1) }},
	{"left behind", "L8", false, func(d *docket) {
		d.Log = append(d.Log, occurrence{What: sawBroken, Text: "L8 NoLeak: s is left"})
	}},
}

func TestEachPlantedHistoryIsRejected(t *testing.T) {
	for _, row := range plantedHistories {
		t.Run(row.name, func(t *testing.T) {
			d := soundDocket()
			row.plant(d)
			r, report := judged(d)
			if r.verdict != Fail {
				t.Fatalf("verdict %v", r.verdict)
			}
			if !slices.ContainsFunc(report.Failures, func(f Failure) bool {
				return strings.HasPrefix(f.Contract, row.contract+" ") && !strings.Contains(f.What, "porcupine")
			}) {
				t.Errorf("no validator of %s found it: %v", row.contract, report)
			}
			rejected := false
			for _, c := range d.chronicles {
				for _, toServer := range []bool{true, false} {
					legal, decided := c.trial(toServer, &d.Swarm).linearizable()
					rejected = rejected || decided && !legal
				}
			}
			if rejected != row.porcupine {
				t.Errorf("porcupine rejects it: %t, want %t", rejected, row.porcupine)
			}
		})
	}
}

// A client that one goroutine of was told the end, and that was killed while
// another had a message half received, has lost nothing: there is nobody left.
func TestAMessageHalfReceivedByTheLastIsNotLost(t *testing.T) {
	d := soundDocket()
	d.Calm = false
	d.drop(theSecond, doRelease, 4)
	half := d.find(theSecond, doReceive, 4)
	half.fate, half.returned, half.flags = inFlight, 0, hasPos|delivered
	for _, l := range []int{theServer, theSecond} {
		d.lives[l].closing, d.lives[l].counts[step.GoodbyeSaid] = 0, 0
		d.drop(l, doAccount, 1)
		d.Log = append(d.Log, occurrence{d.lives[l].active + 1, didKill, d.lives[l].incarnation, ""})
	}
	d.lives[theSecond].readPos = d.find(theSecond, doReceive, 3).end
	d.lives[theSecond].slots = append(d.lives[theSecond].slots, slot{doing: doReceive, fate: peerDied, call: half.call, returned: half.call + 9, lane: 6})
	if r, report := judged(d); r.verdict != Void || report.Failed > 0 {
		t.Errorf("%v: %v", r.verdict, report)
	}
}

// Void: nothing was in flight, nobody came to rest, nothing was exchanged.
func TestTooLittleIsVoid(t *testing.T) {
	for name, spoil := range map[string]func(*docket){
		"nothing in flight": func(d *docket) {
			last := d.find(theFirst, doSend, 3)
			last.fate, last.returned, last.flags = done, last.call+5, hasPos|hasEnd|published
		},
		"no liveness phase": func(d *docket) { d.Calm = false },
		"no messages": func(d *docket) {
			for _, l := range d.lives {
				l.slots = slices.DeleteFunc(l.slots, func(s slot) bool { return s.doing != doEvent && s.fate != inFlight })
			}
			d.find(theFirst, doSend, 1).flags = 0
		},
	} {
		d := soundDocket()
		spoil(d)
		if r, report := judged(d); r.verdict != Void || report.Counts[countKills] != 0 || report.Cases != 0 {
			t.Errorf("%s: %v: %v", name, r.verdict, report)
		}
	}
}

// What nobody was killed in has shown nothing, however much passed; what failed has.
func TestACampaignWithoutAKillIsVoid(t *testing.T) {
	for _, test := range []struct {
		kills, failures int
		want            Verdict
	}{{0, 0, Void}, {1, 0, Pass}, {0, 1, Fail}} {
		report := NewReport("campaign", 1)
		report.Case(0)
		report.Count(countKills, test.kills)
		for range test.failures {
			report.Fail("M1 NoLoss", "", "message 3 is lost")
		}
		if finishCampaign(report); report.Verdict != test.want {
			t.Errorf("%d kills, %d failures: %v, want %v", test.kills, test.failures, report.Verdict, test.want)
		}
	}
}

// A search that does not end in time is undecided, which makes the episode Void.
func TestPorcupineOutOfTimeDecidesNothing(t *testing.T) {
	s := &scribe{}
	server := &life{recording: &recording{incarnation: 100, server: true, generation: 1}, number: 1}
	for n := range uint32(20000) {
		s.send(server, 2, n)
	}
	c := &chronicle{generation: 1, server: server}
	trial := c.trial(false, &swarm{ToServer: 4096, ToClient: 1 << 30})
	if legal, decided := trial.linearizableWithin(time.Nanosecond); legal || decided {
		t.Errorf("legal %t, decided %t", legal, decided)
	}
	if legal, decided := trial.linearizable(); !legal || !decided {
		t.Errorf("with enough time: legal %t, decided %t", legal, decided)
	}
}

func TestASpotGoesThroughText(t *testing.T) {
	for _, c := range []spot{{102, 3, 17, step.Published, 2}, {Incarnation: 5, Lane: -1, Step: step.TokenLocked, Nth: 1}} {
		if back, err := parseSpot(c.String()); err != nil || back != c {
			t.Errorf("%v became %v, %v", c, back, err)
		}
	}
	for _, text := range []string{"", "1@Published", "1.2@Published#1", "1@Nowhere#1", "x@Published#1", "1.2.3@Published#y"} {
		if c, err := parseSpot(text); err == nil {
			t.Errorf("%q became %v", text, c)
		}
	}
}

func TestSwarmsDifferAndRepeat(t *testing.T) {
	on := map[blow]int{}
	for n := range 200 {
		a, b := drawSwarm(episodeSeed(7, n)), drawSwarm(episodeSeed(7, n))
		if len(a.Blows) != len(b.Blows) || a.ToServer != b.ToServer || a.Blows[0] != b.Blows[0] {
			t.Fatalf("episode %d was drawn twice, and differs", n)
		}
		for _, s := range a.Blows {
			on[s.What]++
		}
	}
	if len(on) != int(blowCount) {
		t.Errorf("200 episodes have only %v", on)
	}
}
