package chaos

import "sort"

// judge judges what only the times and positions tell, and asks porcupine. It
// reports whether porcupine could not decide.
func (t *trial) judge(found *Report, reproduce string) (undecided bool) {
	fail := func(contract, what string) { found.Fail(contract, reproduce, "%s: %s", t.stream.Direction, what) }
	for _, what := range t.broken {
		fail("M4 NoTear", what)
	}
	for _, what := range t.lingering {
		fail(contractStuck, what)
	}
	for _, check := range []struct {
		contract string
		broken   func() string
	}{
		{"M1 NoLoss", t.gapless},
		{"M2 FIFO", t.inTime},
		{"M5 Drain", t.endLast},
		{"M4 NoTear", t.heldWhole},
		{"M8 Bounded", t.bounded},
	} {
		if what := check.broken(); what != "" {
			fail(check.contract, what)
		}
	}
	legal, decided := t.linearizable()
	if decided && !legal {
		fail("M2 FIFO", "porcupine finds no order of the operations that a channel could have had")
	}
	return !decided
}

// account adds the trial to the counts.
func (t *trial) account(found *Report) {
	found.Count(countMessages, 0)
	for i := range t.takes {
		if t.takes[i].has(marked) {
			found.Count(countAgain, 1)
		}
	}
	for _, m := range t.stream.Sent {
		if m.Committed == Unknown {
			found.Count(countUnknown, 1)
		}
	}
}

// gapless: what is committed lies one behind the other, and each receiver takes
// one record behind the other.
func (t *trial) gapless() string {
	for i := 1; i < len(t.sends); i++ {
		a, b := &t.sends[i-1], &t.sends[i]
		switch {
		case a.committed == Unknown || b.committed == Unknown:
		case b.pos < a.end:
			return "a committed message was overwritten by another"
		case b.pos > a.end:
			return "there is a hole between two committed messages"
		}
	}
	for i := 1; i < len(t.takes); i++ {
		a, b := &t.takes[i-1], &t.takes[i]
		if a.life == b.life && a.end != 0 && b.pos > a.end {
			return "a receiver has passed over a message"
		}
	}
	return ""
}

// inTime: what was sent, or taken, before something else began stands before it,
// and nothing is taken before it was sent.
func (t *trial) inTime() string {
	var latest int64
	for i := range t.sends {
		s := &t.sends[i]
		if s.returned != 0 && s.returned < latest {
			return "a message was committed before one whose sending had not begun"
		}
		latest = max(latest, s.call)
	}
	latest = 0
	for i := range t.takes {
		s := &t.takes[i]
		if i > 0 && t.takes[i-1].life != s.life {
			latest = 0
		}
		if s.returned != 0 && s.returned < latest {
			return "a message was received behind one whose receiving had not begun"
		}
		latest = max(latest, s.call)
		if at := t.at(s.pos); at != nil && s.returned != 0 && at.id == s.id && s.returned < at.call {
			return "a message was received before it was sent"
		}
	}
	return ""
}

// endLast: who was told the end for good receives nothing more.
func (t *trial) endLast() string {
	if t.toServer {
		return "" // goes on with the next client
	}
	for _, end := range t.ends {
		for i := range t.takes {
			if t.takes[i].life == end.life && t.takes[i].call > end.returned {
				return "a message was received behind the end of its sender"
			}
		}
	}
	return ""
}

// heldWhole: a view does not change while it is held.
func (t *trial) heldWhole() string {
	for _, l := range t.receivers {
		for i := range l.slots {
			if s := &l.slots[i]; s.doing == doRelease && s.has(damaged) {
				return "a message is not whole any more when its view is released"
			}
		}
	}
	return ""
}

// bounded: the ring never holds more than its size: whoever returned from a
// send had the space, so somebody had begun to give it back by then.
func (t *trial) bounded() string {
	type freeing struct {
		at  int64
		end uint64
	}
	var freed []freeing
	for _, l := range t.receivers {
		for i := range l.slots {
			s := &l.slots[i]
			if s.doing == doRelease || s.doing.copies() && s.has(hasEnd) {
				freed = append(freed, freeing{s.call, s.end})
			}
		}
	}
	for i := range t.takes {
		if take := &t.takes[i]; take.unseen && take.doing.copies() {
			freed = append(freed, freeing{take.call, take.end})
		}
	}
	sort.Slice(freed, func(i, j int) bool { return freed[i].at < freed[j].at })
	for i := range freed[:max(len(freed)-1, 0)] {
		freed[i+1].end = max(freed[i+1].end, freed[i].end)
	}
	for i := range t.sends {
		s := &t.sends[i]
		if s.returned == 0 {
			continue
		}
		n := sort.Search(len(freed), func(i int) bool { return freed[i].at > s.returned })
		room := t.stream.RingSize
		if n > 0 {
			room += freed[n-1].end
		}
		if s.end > room {
			return "more was committed than the ring can hold"
		}
	}
	return ""
}
