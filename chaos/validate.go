package chaos

import (
	"fmt"
	"math"
)

// A Validator judges a stream by one name of the contract. It returns what is
// wrong, in stable text, or nothing.
type Validator struct {
	Contract string
	Check    func(*Stream) []string
}

// Validators are all of them. None looks at what another is for, so that a
// failure names the promise that was broken.
var Validators = []Validator{
	{"M1 NoLoss", validateNoLoss},
	{"M2 FIFO", validateFIFO},
	{"M3 AtLeastOnce", validateAtLeastOnce},
	{"M4 NoTear", validateNoTear},
	{"M5 Drain", validateDrain},
	{"M6 Account", validateAccount},
	{"M8 Bounded", validateBounded},
	{"L4 NoGhost", validateNoGhost},
	{"L5 TrueVerdict", validateTrueVerdict},
	{"L7 ClientRestart", validateClientRestart},
}

// Judge asks every validator, and tells the report what they find.
func Judge(s *Stream, report *Report, reproduce string) (sound bool) {
	sound = true
	for _, v := range Validators {
		for _, what := range v.Check(s) {
			sound = false
			report.Fail(v.Contract, reproduce, "%s: %s", s.Direction, what)
		}
	}
	return sound
}

// complaints collects what a validator finds.
type complaints []string

func (c *complaints) add(format string, args ...any) { *c = append(*c, fmt.Sprintf(format, args...)) }

// A story is a stream, indexed by message.
type story struct {
	*Stream
	sent     map[ID]int   // index in Sent
	received map[ID][]int // indices in Received, in order
}

func (s *Stream) index() story {
	t := story{s, map[ID]int{}, map[ID][]int{}}
	for i, m := range s.Sent {
		t.sent[m.ID] = i
	}
	for i, r := range s.Received {
		t.received[r.ID] = append(t.received[r.ID], i)
	}
	return t
}

// released tells whether a receiver has released the message: Yes if one is
// known to, No if all are known not to.
func (t story) released(id ID) Outcome {
	all := No
	for _, i := range t.received[id] {
		switch t.Received[i].Released {
		case Yes:
			return Yes
		case Unknown:
			all = Unknown
		}
	}
	return all
}

// lastLife is the last receiver of whom something is known.
func (s *Stream) lastLife() (last int) {
	for _, r := range s.Received {
		last = max(last, r.Life)
	}
	for _, n := range s.Successions {
		last = max(last, n.Life)
	}
	return last
}

// M1: what is committed is received: by somebody who released it, or by the last
// who received at all.
func validateNoLoss(s *Stream) (found []string) {
	if !s.Complete {
		return nil
	}
	var c complaints
	t, last := s.index(), s.lastLife()
	for _, m := range s.Sent {
		if m.Committed != Yes || t.released(m.ID) != No {
			continue
		}
		at := t.received[m.ID]
		switch {
		case len(at) == 0:
			c.add("%v was committed and never received", m.ID)
		case s.Received[at[len(at)-1]].Life != last || s.Received[at[len(at)-1]].Unseen:
			c.add("%v was not released by receiver %d, and did not come again", m.ID, s.Received[at[len(at)-1]].Life)
		}
	}
	return c
}

// M2: each lane is received in its order, by each receiver and by all of them
// together; what comes again comes in the order of the first time.
func validateFIFO(s *Stream) (found []string) {
	var c complaints
	t := s.index()
	type lane struct {
		of   uint16
		life int
	}
	first := map[uint16]int{} // lane -> index in Sent of the last one received for the first time
	within := map[lane]int{}
	again := map[int]int{} // receiver -> where its last redelivered one was received first
	for i, r := range s.Received {
		at, known := t.sent[r.ID]
		if !known {
			continue // M4, L4
		}
		if before, any := within[lane{r.ID.Lane, r.Life}]; any && at <= before {
			c.add("receiver %d got %v behind %v", r.Life, r.ID, s.Sent[before].ID)
		}
		within[lane{r.ID.Lane, r.Life}] = at
		if origin := t.received[r.ID][0]; origin != i {
			if before, any := again[r.Life]; any && origin < before {
				c.add("receiver %d got %v again behind %v", r.Life, r.ID, s.Received[before].ID)
			}
			again[r.Life] = origin
			continue
		}
		if before, any := first[r.ID.Lane]; any && at < before {
			c.add("%v came for the first time behind %v", r.ID, s.Sent[before].ID)
		}
		first[r.ID.Lane] = at
	}
	return c
}

// M3: once, unless a receiver ended without releasing it; then again, marked,
// and before all that is not.
func validateAtLeastOnce(s *Stream) (found []string) {
	var c complaints
	former := map[ID]Received{}
	unmarked := map[int]ID{} // receiver -> the first that it got without a mark
	initial := math.MaxInt
	for _, r := range s.Received {
		initial = min(initial, r.Life)
	}
	for _, r := range s.Received {
		before, again := former[r.ID]
		former[r.ID] = r
		if at, any := unmarked[r.Life]; any && r.Redelivered {
			c.add("receiver %d got %v marked, behind %v that is not", r.Life, r.ID, at)
		}
		if _, any := unmarked[r.Life]; !any && !r.Redelivered {
			unmarked[r.Life] = r.ID
		}
		switch {
		case again && before.Life == r.Life:
			c.add("receiver %d got %v twice", r.Life, r.ID)
		case again && before.Released == Yes:
			c.add("receiver %d released %v, and receiver %d got it again", before.Life, r.ID, r.Life)
		case again && !r.Redelivered:
			c.add("receiver %d got %v again without a mark", r.Life, r.ID)
		case !again && r.Redelivered && (s.Exact || r.Life == initial && !succeeds(s, r.Life)):
			c.add("receiver %d got %v marked, and nobody had it before", r.Life, r.ID)
		}
	}
	return c
}

// succeeds reports whether a receiver has come after another, who may have died
// before it was seen to receive anything.
func succeeds(s *Stream, life int) bool {
	for _, n := range s.Successions {
		if n.Life <= life {
			return true
		}
	}
	return false
}

// M4: whole, and only what somebody has committed.
func validateNoTear(s *Stream) (found []string) {
	var c complaints
	t := s.index()
	for _, r := range s.Received {
		at, known := t.sent[r.ID]
		switch {
		case r.Damage != "":
			c.add("%v is not whole: %s", r.ID, r.Damage)
		case known && s.Sent[at].Committed == No:
			c.add("%v was received and never committed", r.ID)
		case !known && r.ID.Generation == s.Generation:
			c.add("%v was received and never sent", r.ID)
		}
	}
	return c
}

// M5: the end is told behind all that the ended life had committed, before
// anything of the next, and it is told.
func validateDrain(s *Stream) (found []string) {
	var c complaints
	t := s.index()
	for _, end := range s.Ends {
		if at := t.explain(end); at == nil {
			c.add("an end was told behind %d messages, where no life of the sender had ended", end.After)
		}
	}
	if !s.Complete {
		return c
	}
	for _, d := range s.Departed {
		spoke := false
		for _, m := range s.Sent {
			spoke = spoke || m.Life == d.Life && m.Committed == Yes
		}
		told := !spoke
		for _, end := range s.Ends {
			told = told || t.fits(end, d)
		}
		if !told {
			c.add("the end of life %d was not told behind its messages", d.Life)
		}
	}
	return c
}

// explain returns the departures that an end may be about.
func (t story) explain(end End) (found []Departure) {
	for _, d := range t.Departed {
		if t.fits(end, d) {
			found = append(found, d)
		}
	}
	return found
}

// fits reports whether an end stands behind everything of the departed life and
// of those before it, and before everything of those after it.
func (t story) fits(end End, d Departure) bool {
	for _, m := range t.Sent {
		seen, mine := false, false
		for _, i := range t.received[m.ID] {
			seen = seen || i < end.After
			mine = mine || i < end.After && (t.Received[i].Life == end.Reader || t.Received[i].Released != No)
			if i >= end.After && m.Life <= d.Life && t.Received[i].Life <= end.Reader {
				return false // came late
			}
		}
		if m.Life > d.Life && seen || m.Life <= d.Life && m.Committed == Yes && !mine {
			return false
		}
	}
	return true
}
