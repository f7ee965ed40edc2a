package model

// ringWithReach is the ring with the invariants of tla/MCRing.tla that must break:
// each says that a state is never reached without which the checks mean nothing.
func ringWithReach(config RingConfig) Machine[RingState] {
	c, m := newRing(config), Ring(config)
	for name, reached := range c.reach() {
		m.Invariants = append(m.Invariants, Invariant[RingState]{"Reach_" + name, func(s RingState) bool { return !reached(&s) }})
	}
	return m
}

func (c *ring) reach() map[string]func(*RingState) bool {
	return map[string]func(*RingState) bool{
		"Redelivery": func(s *RingState) bool {
			return s.Up[consumer] && s.Held > 0 && s.Cursor[consumer]-s.Held+1 <= s.Mark
		},
		"FullDead": func(s *RingState) bool {
			return !s.Up[consumer] && int(s.writePos()-s.Mem[readPos]) == c.Cap && s.PC[producer] == ringAsleep
		},
		"DeadBeforeNotify": func(s *RingState) bool {
			return !s.Up[consumer] && s.PC[producer] == ringAsleep && int(s.Cursor[producer]-s.Mem[readPos]) < c.Cap
		},
		"SleepBeforeDrain": func(s *RingState) bool {
			return s.Buf[producer] != "" && s.PC[consumer] == ringAsleep && s.PC[producer] == ringPublished
		},
		"UncommittedLost": func(s *RingState) bool {
			for _, slot := range s.Slot[:c.Cap] {
				if slot[0] != 0 && int(slot[0])%c.death > s.Log.Len() {
					return !s.Up[producer]
				}
			}
			return false
		},
		"EndBehindSuccessor": func(s *RingState) bool {
			return s.Up[consumer] && s.Ends[consumer] != "" && int(s.Mem[writePos]) > s.Ends[consumer].At(0)
		},
		"TwoEnds": func(s *RingState) bool { return s.Ends[consumer].Len() >= 2 },
		"SeenTwice": func(s *RingState) bool {
			return s.Up[consumer] && s.Kills[consumer] == 0 && c.KillC == 2 && s.Held > 0 && s.Cursor[consumer] <= s.Mark
		},
		"LastGeneration": func(s *RingState) bool {
			return int(s.Gen) == c.MaxGen && c.MaxGen > 1 && int(s.readPos()) == c.MaxMsg
		},
		"Disarmed": func(s *RingState) bool {
			return s.PC[consumer] == ringDisarmIdle && s.Mem[dataWaitFor] > 0
		},
	}
}
