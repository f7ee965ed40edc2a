package model

// endTaken is Receive returning the end of the producer: a client stops there, a
// server goes on with the next client.
func (c *ring) endTaken(s *RingState) bool {
	if !s.at(consumer, ringTold) {
		return false
	}
	s.PC[consumer] = ringIdle
	if c.client == consumer {
		s.PC[consumer] = ringEnded
	}
	if s.Fin != "" {
		s.Fin = s.Fin.without(0)
	}
	return true
}

// The end of the peer, and cancelling: set the flag, then raise the counter, then
// wake.

func raises(s *RingState, r int) {
	s.Stale[r] = s.Stale[r] || s.loaded(r)
}

func wakesOwn(s *RingState, r int) {
	if s.PC[r] == ringAsleep {
		s.PC[r] = ringWoken
	}
}

// endProven is EOF on the socket, and the kernel has freed the lock.
func (c *ring) endProven(s *RingState, r int) bool {
	if s.Watch[r] != ringWatching || s.Up[peer(r)] || !s.alive(r) {
		return false
	}
	s.Watch[r] = ringProven
	return true
}

// accountTaken reads and records the peer's last positions; that is the flag. A
// server's producer goes on with the next client, so for it there is no end to
// report.
func (c *ring) accountTaken(s *RingState, r int) bool {
	if s.Watch[r] != ringProven || !s.alive(r) {
		return false
	}
	s.Watch[r] = ringTaken
	if c.left.has(faultNoInterrupt) {
		s.Watch[r] = ringGone
	}
	if r == producer {
		s.Acct = List("").with(int(s.Mem[readPos]), int(s.Mem[deliveredPos]))
		if c.client == producer {
			s.Ends[producer] = List("").with(0)
		}
		return true
	}
	s.Ends[consumer] = s.Ends[consumer].with(int(s.Mem[writePos]))
	return true
}

func (c *ring) interrupted(s *RingState, r int) bool {
	if s.Watch[r] != ringTaken || !s.alive(r) {
		return false
	}
	s.Watch[r] = ringWatchRaised
	if c.left.has(faultNoInterruptWake) {
		s.Watch[r] = ringGone
	}
	raises(s, r)
	return true
}

func (c *ring) interruptNotified(s *RingState, r int) bool {
	if s.Watch[r] != ringWatchRaised || !s.alive(r) {
		return false
	}
	s.Watch[r] = ringGone
	wakesOwn(s, r)
	return true
}

// The three steps of cancelling: the mutant puts the flag last.

func (c *ring) cancelled(s *RingState, r int) bool {
	if s.Canc[r] != ringCancNone || s.Cancels[r] == 0 || !s.alive(r) {
		return false
	}
	s.Canc[r] = ringCancSet
	s.Cancels[r]--
	if c.left.has(faultCountBeforeFlag) {
		raises(s, r)
	} else {
		s.Cancel[r] = true
	}
	return true
}

func (c *ring) cancelRaised(s *RingState, r int) bool {
	if s.Canc[r] != ringCancSet || !s.alive(r) {
		return false
	}
	s.Canc[r] = ringCancRaised
	if c.left.has(faultCountBeforeFlag) {
		wakesOwn(s, r)
	} else {
		raises(s, r)
	}
	return true
}

func (c *ring) cancelNotified(s *RingState, r int) bool {
	if s.Canc[r] != ringCancRaised || !s.alive(r) {
		return false
	}
	s.Canc[r] = ringCancNone
	if c.left.has(faultCountBeforeFlag) {
		s.Cancel[r] = true
	} else {
		wakesOwn(s, r)
	}
	return true
}

// Death, freezing, the next client, the next generation.

// killed loses the locals of a process; its retired stores reach memory.
func (c *ring) killed(s *RingState, r int) bool {
	if !s.Up[r] || s.Kills[r] == 0 {
		return false
	}
	s.Kills[r]--
	s.Up[r], s.Frozen[r] = false, false
	if r == consumer {
		s.Handed = max(s.Handed, s.Cursor[consumer])
		s.Held, s.Mark, s.Fin = 0, 0, ""
	} else if s.Up[consumer] {
		s.Fin = s.Fin.with(s.Log.Len())
	}
	for t := range threads {
		if roleOf(t) == r {
			for s.drains(t) {
			}
			s.PC[t], s.Seen[t] = ringDead, 0
		}
	}
	s.Cursor[r], s.Stop[r], s.Cancel[r], s.Ends[r], s.Stale[r] = 0, false, false, "", false
	s.Watch[r], s.Canc[r] = ringGone, ringCancNone
	return true
}

func (c *ring) freezes(s *RingState, r int) bool {
	if !s.alive(r) || s.Freezes[r] == 0 {
		return false
	}
	s.Freezes[r]--
	s.Frozen[r] = true
	return true
}

// segmentsMapped admits the next client, once the former one's account is taken.
// It reads where its predecessor left off and stores nothing yet.
func (c *ring) segmentsMapped(s *RingState) bool {
	server := peer(c.client)
	if s.Up[c.client] || !s.alive(server) ||
		c.left.has(faultAdmitBehindSend) && s.PC[server] == ringAsleep ||
		s.Watch[server] != ringGone && !c.left.has(faultAdmitBeforeAccount) {
		return false
	}
	s.Up[c.client] = true
	s.PC[c.client], s.Watch[c.client] = ringMapped, ringWatching
	if s.Watch[server] == ringGone {
		s.Watch[server] = ringWatching
	}
	switch {
	case c.left.has(faultStartAtDelivered):
		s.Cursor[c.client] = s.Mem[deliveredPos]
	case c.left.has(faultStartAtRead):
		s.Cursor[c.client] = s.Mem[readPos]
	default:
		s.Cursor[c.client] = s.Mem[positionOf(c.client)]
	}
	if c.client == producer {
		return true
	}
	s.PC[releaser], s.Acct = ringIdle, ""
	switch {
	case c.left.has(faultMarkLost):
		s.Mark = 0
	case c.left.has(faultMarkAll):
		s.Mark = s.Mem[writePos]
	default:
		s.Mark = s.Mem[deliveredPos]
	}
	return true
}

// clearsWait clears the waiting word of the predecessor.
func (c *ring) clearsWait(s *RingState, r int) bool {
	if r != c.client || !s.at(r, ringMapped) {
		return false
	}
	switch {
	case c.left.has(faultDeliveredReset) && r == consumer:
		c.store(s, consumer, deliveredPos, s.Mem[readPos])
	case !c.left.has(faultWaitsKept):
		c.store(s, r, waitOf(r), 0)
	}
	s.PC[r] = ringIdle
	return true
}

// newGeneration is the next server's, when both are gone: fresh memory.
func (c *ring) newGeneration(s *RingState) bool {
	if s.Up[producer] || s.Up[consumer] || int(s.Gen) >= c.MaxGen {
		return false
	}
	s.Gen++
	if c.left.has(faultMemoryKept) {
		s.Cursor = [2]int16{s.Mem[writePos], s.Mem[readPos]}
	} else {
		s.Mem, s.Slot, s.Cursor = [words]int16{}, [maxCap][2]int32{}, [2]int16{}
	}
	s.Up = [2]bool{true, true}
	s.PC = [threads]ringPC{}
	s.Watch = [2]ringWatch{}
	s.Log, s.Handed, s.Fin, s.Acct = "", 0, "", ""
	return true
}
