package chaos

import (
	"slices"
	"sort"
)

// A trial is one direction of one generation before the judge: the stream that
// the validators read, and behind it, in the order of their positions, what was
// sent and what was taken, with the times.
type trial struct {
	chronicle *chronicle
	toServer  bool
	senders   []*life
	receivers []*life
	stream    *Stream
	sends     []sending // by position; those that were committed, or may have been
	takes     []taking  // by receiver and position
	ends      []telling
	broken    []string // what contradicts the recording itself
	lingering []string // what never returned, in a process that was not killed
}

// A sending is a message that was committed, or may have been.
type sending struct {
	*slot
	life      *life
	committed Outcome
}

// A taking is a message that was handed out, or was about to be when its
// receiver died.
type taking struct {
	*slot
	life     *life
	id       ID
	unseen   bool
	released Outcome
}

// A telling is an end that a receiver was told of.
type telling struct {
	*slot
	life *life
}

func (c *chronicle) trial(toServer bool, rings *swarm) *trial {
	t := &trial{chronicle: c, toServer: toServer, senders: []*life{c.server}, receivers: c.clients}
	t.stream = &Stream{Generation: c.generation, Direction: "toClient", RingSize: uint64(rings.ToClient), Exact: true}
	if toServer {
		t.senders, t.receivers = t.receivers, t.senders
		t.stream.Direction, t.stream.RingSize = "toServer", uint64(rings.ToServer)
	}
	for _, l := range t.senders {
		t.collectSends(l)
	}
	for _, l := range t.receivers {
		t.collectTakes(l)
	}
	t.stream.Complete = t.complete()
	t.settle()
	t.name()
	for _, l := range t.receivers {
		t.releases(l)
	}
	t.fill()
	return t
}

// stuckIn records an operation that never returned though nobody killed it.
func (t *trial) stuckIn(l *life, s *slot) {
	t.lingering = append(t.lingering, roleName(l.server)+"'s "+s.doing.String()+" never returned")
}

func (t *trial) collectSends(l *life) {
	for i := range l.slots {
		s := &l.slots[i]
		if !s.doing.sends() {
			continue
		}
		committed := No
		switch {
		case s.fate == done && s.has(hasPos|hasEnd|published):
			committed = Yes
		case s.fate == done:
			t.broken = append(t.broken, "a send returned nil and passed no step")
		case s.fate == inFlight && l.killed == 0:
			t.stuckIn(l, s)
		case s.fate == inFlight && s.has(hasEnd|published):
			committed = Yes
		case s.fate == inFlight && s.has(hasEnd):
			committed = Unknown
		}
		if committed != No {
			t.sends = append(t.sends, sending{s, l, committed})
		}
		t.stream.Sent = append(t.stream.Sent, Sent{ID: s.id, Size: int(s.size), Life: l.number, Committed: committed})
	}
}

func (t *trial) collectTakes(l *life) {
	for i := range l.slots {
		s := &l.slots[i]
		if !s.doing.takes() {
			continue
		}
		switch {
		case s.fate == done && s.has(hasPos|hasEnd):
			t.takes = append(t.takes, taking{slot: s, life: l, id: s.id})
		case s.fate == done:
			t.broken = append(t.broken, "a message was received and passed no step")
		case s.fate == inFlight && l.killed == 0:
			t.stuckIn(l, s)
		case s.fate == inFlight && s.has(hasPos|delivered):
			t.takes = append(t.takes, taking{slot: s, life: l, unseen: true})
		case s.fate == inFlight && s.has(hasPos):
			t.stream.Exact = false // its mark may have been stored
		case s.fate == peerDied || s.fate == peerClosed:
			t.ends = append(t.ends, telling{s, l})
		}
	}
}

// complete reports whether somebody received until nothing came any more.
func (t *trial) complete() bool {
	if t.chronicle.last {
		return true
	}
	if t.toServer || len(t.receivers) == 0 {
		return false
	}
	last := t.receivers[len(t.receivers)-1]
	if slices.ContainsFunc(t.takes, func(take taking) bool { return take.unseen && take.life == last }) {
		return false // it was told the end, and killed with a message half received
	}
	return slices.ContainsFunc(t.ends, func(end telling) bool { return end.life == last })
}

// settle decides the sends of which the sender did not live to know, by what the
// shared memory has said since: somebody received it; or the next sender went on
// behind it, or in its place; or everything was received, and it was not there.
func (t *trial) settle() {
	t.sortByPosition()
	taken := map[ID]bool{}
	for i := range t.takes {
		taken[t.takes[i].id] = taken[t.takes[i].id] || !t.takes[i].unseen
	}
	fates := map[ID]Outcome{}
	kept := t.sends[:0]
	for _, s := range t.sends {
		if s.committed == Unknown {
			s.committed = t.fateOf(s, taken)
			fates[s.id] = s.committed
		}
		if s.committed != No {
			kept = append(kept, s)
		}
	}
	t.sends = kept
	for i := range t.stream.Sent {
		if fate, asked := fates[t.stream.Sent[i].ID]; asked {
			t.stream.Sent[i].Committed = fate
			t.stream.Exact = t.stream.Exact && fate != Unknown
		}
	}
}

func (t *trial) fateOf(s sending, taken map[ID]bool) Outcome {
	if taken[s.id] {
		return Yes
	}
	after := slices.Index(t.senders, s.life) + 1
	for _, next := range t.senders[after:] {
		if began, sent := next.beganAt(); sent && began >= s.end {
			return Yes
		} else if sent {
			return No
		}
	}
	for i := range t.takes {
		if at := &t.takes[i]; at.unseen && at.pos == s.pos {
			return Yes
		}
	}
	if t.stream.Complete {
		return No
	}
	return Unknown
}

// beganAt is where a life's own messages begin, if it has sent any.
func (l *life) beganAt() (first uint64, sent bool) {
	for i := range l.slots {
		if s := &l.slots[i]; s.doing.sends() && s.has(hasPos) && (!sent || s.pos < first) {
			first, sent = s.pos, true
		}
	}
	return first, sent
}

func (t *trial) sortByPosition() {
	sort.SliceStable(t.sends, func(i, j int) bool { return t.sends[i].pos < t.sends[j].pos })
	sort.SliceStable(t.takes, func(i, j int) bool {
		a, b := &t.takes[i], &t.takes[j]
		if a.life != b.life {
			return a.life.number < b.life.number
		}
		return a.pos < b.pos
	})
}

// name gives each message that its receiver did not live to see its ID, by the
// position.
func (t *trial) name() {
	for i := range t.takes {
		take := &t.takes[i]
		if !take.unseen {
			continue
		}
		at := t.at(take.pos)
		if at == nil {
			t.broken = append(t.broken, "a record was delivered where nothing was committed")
			continue
		}
		take.id, take.end = at.id, at.end
	}
}

// at finds the send at a position.
func (t *trial) at(pos uint64) *sending {
	i := sort.Search(len(t.sends), func(i int) bool { return t.sends[i].pos >= pos })
	if i < len(t.sends) && t.sends[i].pos == pos {
		return &t.sends[i]
	}
	return nil
}

// releases tells of each message that a life took whether its space was given
// back: readPos follows the oldest view, so one that was released before an
// older one still counts as held.
func (t *trial) releases(l *life) {
	asked := map[uint64]fate{}
	for i := range l.slots {
		if s := &l.slots[i]; s.doing == doRelease && (s.fate == done || s.fate == inFlight) {
			asked[s.pos] = s.fate
		}
	}
	surely, maybe := true, true
	for i := range t.takes {
		take := &t.takes[i]
		if take.life != l {
			continue
		}
		now, may := false, false
		switch fate, released := asked[take.pos]; {
		case take.doing.copies():
			now, may = !take.unseen, true
		case released:
			now, may = fate == done, true
		}
		surely, maybe = surely && now, maybe && may
		switch {
		case surely, take.end <= l.readPos && take.end != 0:
			take.released = Yes
		case maybe:
			take.released = Unknown
			t.stream.Exact = false
		default:
			take.released = No
		}
	}
}

// fill completes the stream.
func (t *trial) fill() {
	var high uint64 // of what the receivers before have had
	for i := range t.takes {
		take := &t.takes[i]
		if take.unseen && take.pos < high {
			take.flags |= marked // whatever it would have said, nobody has heard it
		}
		high = max(high, take.end)
		r := Received{ID: take.id, Life: take.life.number, Redelivered: take.has(marked), Released: take.released, Unseen: take.unseen}
		if take.has(damaged) {
			r.Damage = "its content is another"
		}
		if at := t.at(take.pos); r.Damage == "" && at != nil && at.id == take.id && !take.unseen && at.size != take.size {
			r.Damage = "its size is another"
		}
		t.stream.Received = append(t.stream.Received, r)
	}
	for _, l := range t.senders {
		if l.departed {
			t.stream.Departed = append(t.stream.Departed, Departure{Life: l.number, Closed: l.closed()})
		}
	}
	t.fillEnds()
	t.fillAccounts()
	for _, l := range t.receivers {
		if !t.toServer && l.up != 0 {
			t.stream.Successions = append(t.stream.Successions, Succession{Life: l.number, Generation: l.generation})
		}
	}
}

// fillEnds finds for each end the place among the messages where it was told. A
// client is told one end, behind everything. A server receives in several
// goroutines, so that the times leave a choice.
func (t *trial) fillEnds() {
	sort.SliceStable(t.ends, func(i, j int) bool { return t.ends[i].returned < t.ends[j].returned })
	told := map[*life]bool{}
	departures := slices.Clone(t.stream.Departed)
	for _, end := range t.ends {
		if !t.toServer && told[end.life] {
			continue
		}
		told[end.life] = true
		verdict := "died"
		if end.fate == peerClosed {
			verdict = "closed"
		}
		least, most := t.bracket(end)
		place := most
		if t.toServer {
			place, departures = t.placeOf(least, most, verdict, departures)
		}
		t.stream.Ends = append(t.stream.Ends, End{Reader: end.life.number, After: place, Verdict: verdict})
	}
}

// bracket is between which entries of Received an end was told.
func (t *trial) bracket(end telling) (least, most int) {
	most = len(t.takes)
	for i := range t.takes {
		take := &t.takes[i]
		if take.life.number < end.life.number || take.life == end.life && take.returned != 0 && take.returned < end.call {
			least = i + 1
		}
		if most == len(t.takes) && (take.life.number > end.life.number || take.life == end.life && take.call > end.returned) {
			most = i
		}
	}
	return least, most
}

// placeOf is the first place in the bracket where a life had ended, of those not
// told before, and as the verdict says. It returns those that are left.
func (t *trial) placeOf(least, most int, verdict string, departures []Departure) (int, []Departure) {
	for i, d := range departures {
		place := sort.Search(len(t.takes), func(i int) bool { return lifeOf(t.takes[i].id) > d.Life })
		if place >= least && place <= most && (d.Closed == Unknown || (d.Closed == Yes) == (verdict == "closed")) {
			return place, slices.Delete(departures, i, i+1)
		}
	}
	return least, departures
}

// fillAccounts takes over what a client was told of its server's end, and what
// both are told at rest.
func (t *trial) fillAccounts() {
	for _, l := range t.senders {
		var list []Unreleased
		for i := range l.slots {
			s := &l.slots[i]
			if s.doing != doAccount {
				continue
			}
			if s.fate == done {
				u := Unreleased{ID: s.id, Delivered: s.has(delivered)}
				if s.has(damaged) {
					u.Damage = "its content is another"
				}
				list = append(list, u)
			}
			if s.fate == unused { // the account's last slot
				t.stream.Accounts = append(t.stream.Accounts, Account{
					Life: t.lastReceiver(), Sent: len(t.stream.Sent), After: len(t.stream.Received), Unreleased: list,
				})
			}
		}
	}
}

func (t *trial) lastReceiver() int {
	if len(t.receivers) == 0 {
		return 0
	}
	return t.receivers[len(t.receivers)-1].number
}
