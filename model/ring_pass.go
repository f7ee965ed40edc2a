package model

// The producer: claim, fill in two stores, publish, notify.

// filled stores the payload, which takes many stores, and stands for all of them.
func (c *ring) filled(s *RingState) bool {
	if !s.at(producer, ringClaimed) {
		return false
	}
	next := s.Cursor[producer] + 1
	s.Slot[c.slot(next)][1] = c.message(s, next)
	s.PC[producer] = ringFilled
	if c.left.has(faultPublishHalf) {
		s.PC[producer] = ringEarly
	}
	return true
}

// sealed stores the header: the record is whole.
func (c *ring) sealed(s *RingState) bool {
	if !s.at(producer, ringFilled) {
		return false
	}
	next := s.Cursor[producer] + 1
	s.Slot[c.slot(next)][0] = c.message(s, next)
	s.Cursor[producer] = next
	s.PC[producer] = ringSealed
	if c.left.has(faultNotifyBeforePublish) {
		s.PC[producer], s.Seen[producer] = ringPublished, s.writePos()
	}
	return true
}

// batchContinued fills one more record before the batch is published, if there is
// room.
func (c *ring) batchContinued(s *RingState) bool {
	if !s.at(producer, ringSealed) || int(s.Cursor[producer]-s.writePos()) >= c.Batch || int(s.Cursor[producer]) >= c.MaxMsg {
		return false
	}
	switch {
	case c.space(s):
		s.PC[producer] = ringClaimed
	case c.left.has(faultBatchHeldBack):
		s.PC[producer] = ringIdle
	default:
		return false
	}
	return true
}

// aborted gives a reservation back: its bytes stay where nobody looks.
func (c *ring) aborted(s *RingState) bool {
	if !c.Aborts || !s.at(producer, ringClaimed) && !s.at(producer, ringFilled) || s.Cursor[producer] > s.writePos() {
		return false
	}
	s.PC[producer] = ringIdle
	return true
}

// commits stores writePos, up to the producer's cursor.
func (c *ring) commits(s *RingState) {
	for i := s.writePos() + 1; i <= s.Cursor[producer]; i++ {
		s.Log = s.Log.with(int(c.message(s, i)))
	}
	c.store(s, producer, writePos, s.Cursor[producer])
}

// published is the commit point.
func (c *ring) published(s *RingState) bool {
	if !s.at(producer, ringSealed) {
		return false
	}
	s.PC[producer], s.Seen[producer] = ringPublished, s.writePos()
	c.commits(s)
	return true
}

// publishedEarly is of the mutants that publish too early; then comes what
// belonged before.
func (c *ring) publishedEarly(s *RingState) bool {
	switch {
	case s.at(producer, ringEarly):
		s.Cursor[producer]++
		s.PC[producer], s.Seen[producer] = ringUnfilled, s.writePos()
		c.commits(s)
	case s.at(producer, ringUnfilled):
		last := s.Cursor[producer]
		s.Slot[c.slot(last)] = [2]int32{c.message(s, last), c.message(s, last)}
		s.PC[producer] = ringPublished
	default:
		return false
	}
	return true
}

// publishedLate is of the mutant that notifies too early.
func (c *ring) publishedLate(s *RingState) bool {
	if !s.at(producer, ringUnpublished) {
		return false
	}
	s.PC[producer] = ringIdle
	c.commits(s)
	return true
}

// Notifying, the same for both sides: the position has moved from seen to what it
// is now; the peer is woken if and only if it waits for a place in between. Fence,
// load and wake are apart.

func (c *ring) crosses(seen, waitFor, now int16) bool {
	switch {
	case c.left.has(faultWakeExact):
		return waitFor == now
	case c.left.has(faultWakeBelow):
		return seen < waitFor && waitFor < now
	case c.left.has(faultWakeNever):
		return false
	}
	return seen < waitFor && waitFor <= now
}

func (c *ring) afterNotify(thread int) ringPC {
	if thread == producer && c.left.has(faultNotifyBeforePublish) {
		return ringUnpublished
	}
	return ringIdle
}

func (c *ring) loadsWaitFor(s *RingState, thread int, now int16) {
	s.PC[thread] = c.afterNotify(thread)
	if c.crosses(s.Seen[thread], s.Mem[waitOf(peer(roleOf(thread)))], now) {
		s.PC[thread] = ringNotify
	}
	s.Seen[thread] = 0
}

func (c *ring) dataWaitLoaded(s *RingState) bool {
	if !s.at(producer, ringPublished) || !s.fenced(producer) && !c.left.has(faultNoFenceProducer) {
		return false
	}
	c.loadsWaitFor(s, producer, s.Cursor[producer])
	return true
}

func (c *ring) spaceWaitLoaded(s *RingState) bool {
	if !s.at(releaser, ringReleased) || !s.fenced(releaser) && !c.left.has(faultNoFenceConsumer) {
		return false
	}
	c.loadsWaitFor(s, releaser, s.readPos())
	return true
}

// wakes takes whoever is queued on the position out of the queue.
func (c *ring) wakes(s *RingState, thread int) bool {
	if !s.at(thread, ringNotify) {
		return false
	}
	s.PC[thread] = c.afterNotify(thread)
	r := peer(roleOf(thread))
	switch s.PC[r] {
	case ringSleep2:
		s.PC[r], s.Stale[r] = ringWoken, false
	case ringAsleep:
		s.PC[r] = ringWoken
	}
	return true
}

// The consumer: peek, mark delivered, hand out, release, notify.

// peeked loads and checks the record's header. A batch takes more than one.
func (c *ring) peeked(s *RingState, k int) bool {
	if !s.at(consumer, ringFound) || k > int(s.Seen[consumer]-s.Cursor[consumer]) || int(s.Held)+k > c.Hold {
		return false
	}
	s.Seen[consumer] = s.Cursor[consumer] + int16(k)
	s.PC[consumer] = ringPeeked
	if c.left.has(faultDeliveredLate) {
		s.PC[consumer] = ringDelivered
	}
	return true
}

// delivered stores deliveredPos before the hand-out, and never puts it back.
func (c *ring) delivered(s *RingState) bool {
	if !s.at(consumer, ringPeeked) {
		return false
	}
	to := s.Seen[consumer]
	s.PC[consumer] = ringDelivered
	if c.left.has(faultDeliveredLate) {
		to = s.Cursor[consumer]
		s.PC[consumer] = ringIdle
	}
	if to > s.deliveredPos() || c.left.has(faultDeliveredBack) {
		c.store(s, consumer, deliveredPos, to)
	}
	return true
}

// handedOut gives the user a view of the ring, until it is released.
func (c *ring) handedOut(s *RingState) bool {
	if !s.at(consumer, ringDelivered) {
		return false
	}
	s.Held += s.Seen[consumer] - s.Cursor[consumer]
	s.Cursor[consumer], s.Seen[consumer] = s.Seen[consumer], 0
	s.PC[consumer] = ringIdle
	if c.left.has(faultDeliveredLate) {
		s.PC[consumer] = ringPeeked
	}
	return true
}

// released gives back the oldest n of what the user holds.
func (c *ring) released(s *RingState, n int) bool {
	if !s.at(releaser, ringIdle) {
		return false
	}
	early := c.left.has(faultReleaseAtPeek) && s.PC[consumer] == ringPeeked
	last := s.Cursor[consumer]
	if early {
		last = s.Seen[consumer]
	}
	from := s.readPos()
	to := from + int16(n)
	if to > last {
		return false
	}
	if !early && !c.left.has(faultReleaseBeforeCopy) {
		s.Held -= int16(n)
	}
	if c.left.has(faultReleaseAll) {
		to = s.writePos()
	}
	c.store(s, releaser, readPos, to)
	s.Seen[releaser], s.PC[releaser] = from, ringReleased
	return true
}

// copiedLate is of the mutant that releases before it has copied: now it has.
func (c *ring) copiedLate(s *RingState) bool {
	if !c.left.has(faultReleaseBeforeCopy) || !s.at(releaser, ringIdle) || s.Held == 0 || s.readPos() != s.Cursor[consumer] {
		return false
	}
	s.Held = 0
	return true
}
