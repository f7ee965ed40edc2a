package model

// channel is what the ring's state means for its user. A store counts when the
// processor retires it, which is when nothing but its way to memory is left and
// no death undoes it.
func (c *ring) channel(s RingState) ChannelState {
	from, to := s.readPos(), s.writePos()
	return ChannelState{
		Gen:     int(s.Gen),
		Deaths:  int(c.kills[c.client] - s.Kills[c.client]),
		Alive:   s.Up,
		Log:     s.Log,
		Kept:    c.whole(&s, from, to),
		Rel:     int(from),
		Dlv:     int(s.deliveredPos()),
		Cur:     int(s.Cursor[consumer]),
		View:    c.whole(&s, s.Cursor[consumer]-s.Held, s.Cursor[consumer]),
		Mark:    int(s.Mark),
		Seen:    int(s.Handed),
		Fin:     s.Fin,
		Telling: s.PC[consumer] == ringTold || s.PC[consumer] == ringDisarmTold,
		Acct:    s.Acct,
	}
}

// whole are the messages between two positions, as they stand in the ring; 0 for
// one of which the halves do not belong together.
func (c *ring) whole(s *RingState, from, to int16) List {
	if to <= from {
		return ""
	}
	all := make([]int, 0, maxCap)
	for i := from + 1; i <= to; i++ {
		halves := s.Slot[c.slot(i)]
		if halves[0] != halves[1] {
			halves[0] = 0
		}
		all = append(all, int(halves[0]))
	}
	return List("").with(all...)
}

// invariants are the channel's promises, and what the ring promises beyond:
// nobody sleeps for ever.
func (c *ring) invariants() []Invariant[RingState] {
	all := []Invariant[RingState]{{"TypeOK", c.typeOK}, {"M7", c.m7}}
	for _, promise := range c.promise.invariants() {
		if promise.Name != "TypeOK" {
			all = append(all, Invariant[RingState]{promise.Name, func(s RingState) bool { return promise.Holds(c.channel(s)) }})
		}
	}
	return all
}

func (c *ring) typeOK(s RingState) bool {
	within := func(n int16, most int) bool { return n >= 0 && int(n) <= most }
	for _, v := range s.Mem {
		if !within(v, c.MaxMsg+1) {
			return false
		}
	}
	for r := range 2 {
		if !within(s.Cursor[r], c.MaxMsg) || s.Stale[r] && !s.loaded(r) {
			return false
		}
	}
	for _, b := range s.Buf {
		if b.Len() > 4 {
			return false
		}
	}
	return within(s.Held, c.Hold) && within(s.Mark, c.MaxMsg) &&
		(!s.Up[consumer] || int(s.Cursor[consumer]-s.Held) <= c.MaxMsg)
}

// due reports whether what r waits for is there.
func (c *ring) due(s *RingState, r int) bool {
	if s.Cancel[r] || s.Ends[r] != "" {
		return true
	}
	if r == producer {
		return int(s.Cursor[producer]-s.Mem[readPos]) < c.Cap
	}
	return s.Mem[writePos] > s.Cursor[consumer]
}

// wakeComes reports whether somebody is on the way to wake r: the peer between
// its store and its wake, r's own watcher or canceller, or the kernel with the
// news of a death.
func (c *ring) wakeComes(s *RingState, r int) bool {
	waker := producer
	if r == producer {
		waker = releaser
	}
	switch s.PC[waker] {
	case ringPublished, ringReleased, ringNotify, ringUnfilled, ringUnpublished:
		return true
	}
	switch s.Watch[r] {
	case ringProven, ringTaken, ringWatchRaised:
		return true
	case ringWatching:
		if !s.Up[peer(r)] {
			return true
		}
	}
	return s.Canc[r] != ringCancNone
}

// m7 is M7, without the help of time-outs: nobody sleeps on something that has
// happened with nobody on the way to say so, and the two never wait for each
// other, but for one that holds the space which the other wants.
func (c *ring) m7(s RingState) bool {
	var stuck [2]bool
	for r := range 2 {
		stuck[r] = s.Up[r] && s.PC[r] == ringAsleep && !c.wakeComes(&s, r)
		if stuck[r] && c.due(&s, r) {
			return false
		}
	}
	return !stuck[producer] || !stuck[consumer] || s.Held != 0
}
