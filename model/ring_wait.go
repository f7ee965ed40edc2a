package model

// The wait loop, nearly the same for both sides: the producer waits for readPos,
// the consumer for writePos. The interrupt counter first, then the flags, then
// the peer's position and its recorded end; decide.

func (c *ring) looks(s *RingState, r int, from ringPC) bool {
	if !s.at(r, from) {
		return false
	}
	s.PC[r], s.Stale[r] = ringFlags, false
	return true
}

func (c *ring) countLoaded(s *RingState, r int) bool {
	wanted := int(s.Held) < c.Hold
	if r == producer {
		wanted = int(s.Cursor[producer]) < c.MaxMsg
	}
	return wanted && c.looks(s, r, ringIdle)
}

// woken is back from the sleep, and round again, the counter first.
func (c *ring) woken(s *RingState, r int) bool {
	return c.looks(s, r, ringWoken)
}

// afterFlags is where the flags have just been loaded.
func afterFlags(r int) ringPC {
	if r == producer {
		return ringEnd
	}
	return ringPosition
}

// flagsLoaded loads what counts only if there is nothing to go on with.
func (c *ring) flagsLoaded(s *RingState, r int) bool {
	if !s.at(r, ringFlags) {
		return false
	}
	s.Stop[r], s.PC[r] = s.Cancel[r], afterFlags(r)
	return true
}

// countLate is of the mutant that loads the counter behind the flags.
func (c *ring) countLate(s *RingState, r int) bool {
	if !c.left.has(faultCounterAfterFlags) || !s.at(r, afterFlags(r)) || !s.Stale[r] {
		return false
	}
	s.Stale[r] = false
	return true
}

// target is the position that would do.
func (c *ring) target(s *RingState, r int) int16 {
	if r == producer {
		return s.Cursor[producer] + 1 - int16(c.Cap)
	}
	return s.Cursor[consumer] + 1
}

func (c *ring) isArmed(s *RingState, r int) bool {
	target := c.target(s, r)
	return target > 0 && s.own(r, waitOf(r)) == target
}

// decides ends a look: to is where the call goes on, seen the position decided on.
func decides(s *RingState, r int, to ringPC, seen int16) bool {
	s.PC[r], s.Seen[r], s.Stop[r] = to, seen, false
	if to != ringArm && to != ringLate {
		s.Stale[r] = false
	}
	return true
}

// givesUp is where a waiter goes on that does not wait any more: it lowers its
// word first, if it had raised it.
func (c *ring) givesUp(s *RingState, r int, to ringPC) ringPC {
	if !c.isArmed(s, r) {
		return to
	}
	switch to {
	case ringTold:
		return ringDisarmTold
	case ringEnded:
		return ringDisarmEnded
	}
	return ringDisarmIdle
}

// sendOpen finds no end of the peer. A server has none to look for: it goes on
// with the next client.
func (c *ring) sendOpen(s *RingState) bool {
	if !s.at(producer, ringEnd) || s.Ends[producer] != "" {
		return false
	}
	s.PC[producer] = ringPosition
	return true
}

// sendFailed is what a client's Send does when the server is gone, now and for ever.
func (c *ring) sendFailed(s *RingState) bool {
	return s.at(producer, ringEnd) && s.Ends[producer] != "" && decides(s, producer, c.givesUp(s, producer, ringEnded), 0)
}

func (c *ring) space(s *RingState) bool {
	used := int(s.Cursor[producer] - s.Mem[readPos])
	return used < c.Cap || used == c.Cap && c.left.has(faultSpaceOffByOne)
}

func (c *ring) claimed(s *RingState) bool {
	to := ringClaimed
	if c.left.has(faultPublishBeforeFill) {
		to = ringEarly
	}
	return s.at(producer, ringPosition) && c.space(s) && decides(s, producer, to, 0)
}

func (c *ring) spaceNeeded(s *RingState) bool {
	return s.at(producer, ringPosition) && !c.space(s) && !s.Stop[producer] && decides(s, producer, ringArm, s.Mem[readPos])
}

func (c *ring) sendStopped(s *RingState) bool {
	return s.at(producer, ringPosition) && !c.space(s) && s.Stop[producer] &&
		decides(s, producer, c.givesUp(s, producer, ringIdle), 0)
}

// positionLoaded comes before the look for recorded ends. What the ended one
// committed comes first, then its end, then its successor's.
func (c *ring) positionLoaded(s *RingState) bool {
	if !s.at(consumer, ringPosition) {
		return false
	}
	s.PC[consumer], s.Seen[consumer] = ringEnd, s.Mem[writePos]
	return true
}

// limit is how far the consumer may go.
func (c *ring) limit(s *RingState) int16 {
	if s.Ends[consumer] == "" {
		return s.Seen[consumer]
	}
	end := int16(s.Ends[consumer].At(0))
	switch {
	case c.left.has(faultPositionBeforeEnd):
		return min(s.Seen[consumer], end)
	case c.left.has(faultDrainSkipped):
		return s.Cursor[consumer]
	case c.left.has(faultEndNoLimit):
		return max(s.Seen[consumer], end)
	}
	return end
}

// atEnd reports whether the consumer decides, and has nothing to go on with.
func (c *ring) atEnd(s *RingState) bool {
	return s.at(consumer, ringEnd) && c.limit(s) <= s.Cursor[consumer]
}

func (c *ring) nothing(s *RingState) bool {
	return c.atEnd(s) && s.Ends[consumer] == "" && !c.left.has(faultPositionAfterEnd)
}

func (c *ring) dataFound(s *RingState) bool {
	return s.at(consumer, ringEnd) && c.limit(s) > s.Cursor[consumer] && decides(s, consumer, ringFound, c.limit(s))
}

func (c *ring) endReported(s *RingState) bool {
	if !c.atEnd(s) || s.Ends[consumer] == "" {
		return false
	}
	s.Ends[consumer] = s.Ends[consumer].without(0)
	return decides(s, consumer, c.givesUp(s, consumer, ringTold), 0)
}

// positionLate is of the mutant that loads the position once more when it found
// no end.
func (c *ring) positionLate(s *RingState) bool {
	switch {
	case !c.left.has(faultPositionAfterEnd):
		return false
	case s.at(consumer, ringLate) && s.Mem[writePos] > s.Cursor[consumer]:
		return decides(s, consumer, ringFound, s.Mem[writePos])
	case s.at(consumer, ringLate):
		return decides(s, consumer, ringArm, s.Mem[writePos])
	}
	return c.atEnd(s) && s.Ends[consumer] == "" && decides(s, consumer, ringLate, s.Seen[consumer])
}

func (c *ring) dataNeeded(s *RingState) bool {
	return c.nothing(s) && s.Held == 0 && !s.Stop[consumer] && decides(s, consumer, ringArm, s.Seen[consumer])
}

func (c *ring) receiveStopped(s *RingState) bool {
	return c.nothing(s) && s.Held == 0 && s.Stop[consumer] && decides(s, consumer, c.givesUp(s, consumer, ringIdle), 0)
}

// holdsViews is of a consumer that holds messages: it looks whether its peer waits
// for the space that they take.
func (c *ring) holdsViews(s *RingState) bool {
	if !c.nothing(s) || s.Held == 0 {
		return false
	}
	s.PC[consumer] = ringViews
	return true
}

func (c *ring) starves(s *RingState) bool {
	return s.readPos() < s.Mem[spaceWaitFor] && s.Mem[spaceWaitFor] <= s.Cursor[consumer] && !c.left.has(faultViewsIgnored)
}

func (c *ring) viewsHeld(s *RingState) bool {
	return s.at(consumer, ringViews) && c.starves(s) && decides(s, consumer, c.givesUp(s, consumer, ringIdle), 0)
}

func (c *ring) viewsFine(s *RingState) bool {
	if !s.at(consumer, ringViews) || c.starves(s) {
		return false
	}
	if s.Stop[consumer] {
		return decides(s, consumer, c.givesUp(s, consumer, ringIdle), 0)
	}
	return decides(s, consumer, ringArm, s.Seen[consumer])
}

// armed stores the position that would do.
func (c *ring) armed(s *RingState, r int, v int16) bool {
	if !s.at(r, ringArm) {
		return false
	}
	if c.left.has(faultStaleCompare) {
		s.Seen[r] = s.Mem[positionOf(peer(r))]
	}
	c.store(s, r, waitOf(r), v)
	s.PC[r] = ringSleep
	return true
}

func (c *ring) spaceArmed(s *RingState) bool {
	return c.armed(s, producer, c.target(s, producer))
}

func (c *ring) dataArmed(s *RingState) bool {
	target := c.target(s, consumer)
	if c.left.has(faultArmBeyond) {
		target++
	}
	return c.armed(s, consumer, target)
}

// sleeping queues on the peer's position and compares it ...
func (c *ring) sleeping(s *RingState, r int) bool {
	if !s.at(r, ringSleep) || !s.fenced(r) && !c.left.has(faultNoWaiterFence) {
		return false
	}
	if s.Mem[positionOf(peer(r))] == s.Seen[r] || c.left.has(faultNoPositionCompare) {
		s.PC[r] = ringSleep2
	} else {
		s.PC[r], s.Stale[r] = ringWoken, false
	}
	s.Seen[r] = 0
	return true
}

// ... and slept does the same with its own interrupt counter.
func (c *ring) slept(s *RingState, r int) bool {
	if !s.at(r, ringSleep2) {
		return false
	}
	s.PC[r] = ringAsleep
	if s.Stale[r] && !c.left.has(faultNoCounterCompare) {
		s.PC[r] = ringWoken
	}
	s.Stale[r] = false
	return true
}

// wokenForNothing is a signal, or a wake meant for somebody who waited here before.
func (c *ring) wokenForNothing(s *RingState, r int) bool {
	if !c.Idle || !s.at(r, ringAsleep) {
		return false
	}
	s.PC[r] = ringWoken
	return true
}

// timedOut is the heartbeat's bound on a sleep.
func (c *ring) timedOut(s *RingState, r int) bool {
	return !c.left.has(faultSleepUnbounded) && c.wokenForNothing(s, r)
}

// disarmed is of a waiter that gives up, and leaves no waiting word behind.
func (c *ring) disarmed(s *RingState, r int) bool {
	if !s.alive(r) {
		return false
	}
	switch s.PC[r] {
	case ringDisarmIdle:
		s.PC[r] = ringIdle
	case ringDisarmTold:
		s.PC[r] = ringTold
	case ringDisarmEnded:
		s.PC[r] = ringEnded
	default:
		return false
	}
	if !c.left.has(faultWaitsKept) {
		c.store(s, r, waitOf(r), 0)
	}
	return true
}

// renewed is the caller of a cancelled call, who comes back with another context.
func (c *ring) renewed(s *RingState, r int) bool {
	if !s.at(r, ringIdle) || !s.Cancel[r] || s.Canc[r] != ringCancNone {
		return false
	}
	s.Cancel[r] = false
	return true
}
