package model

// The promises, each by its name. They are invariants of the channel; the ring is
// checked against them too.
func (c *channel) invariants() []Invariant[ChannelState] {
	return []Invariant[ChannelState]{
		{"TypeOK", c.typeOK},
		{"M1", func(s ChannelState) bool { return s.noLoss() }},
		{"M2", func(s ChannelState) bool { return s.inOrder() }},
		{"M3", func(s ChannelState) bool { return s.marked() }},
		{"M4", func(s ChannelState) bool { return s.untorn() }},
		{"M5", func(s ChannelState) bool { return s.drained() }},
		{"M6", func(s ChannelState) bool { return s.accounted() }},
		{"M8", func(s ChannelState) bool { return s.Log.Len()-s.Rel <= c.Bound }},
		{"L4", c.noGhost},
	}
}

func (c *channel) typeOK(s ChannelState) bool {
	for _, n := range []int{s.Rel, s.Dlv, s.Cur, s.Mark, s.Seen} {
		if n < 0 || n > c.MaxMsg {
			return false
		}
	}
	return s.Gen >= 1 && s.Gen <= c.MaxGen && s.Deaths >= 0 && s.Deaths <= c.MaxDeaths && s.Log.Len() <= c.MaxMsg
}

// noLoss is M1: what is committed and not released is kept, whole, whoever dies;
// and only what was handed to the living consumer is released by it.
func (s *ChannelState) noLoss() bool {
	return s.Kept == s.Log.part(s.Rel, s.Log.Len()) && (!s.Alive[consumer] || s.Rel <= s.Cur)
}

// inOrder is M2: what a consumer has in hand begins right behind what was released
// and ends at its last, without a hole.
func (s *ChannelState) inOrder() bool {
	return !s.Alive[consumer] || s.View.Len() == s.Cur-s.Rel
}

// marked is M3: what a dead consumer was handed, and only what it may have been
// handed, is marked when it comes again.
func (s *ChannelState) marked() bool {
	if s.Alive[consumer] && s.Rel < min(s.Cur, s.Seen) && min(s.Cur, s.Seen) > s.Mark {
		return false
	}
	return s.Mark <= s.Dlv
}

// untorn is M4: what is in hand is what was committed, unchanged, for as long as
// it is in hand.
func (s *ChannelState) untorn() bool {
	n := s.View.Len()
	return n <= s.Cur && s.Cur <= s.Log.Len() && s.View == s.Log.part(s.Cur-n, s.Cur)
}

// drained is M5: the end comes behind the last message of the dead, and before the
// first one of its successor.
func (s *ChannelState) drained() bool {
	if s.Fin == "" {
		return !s.Telling
	}
	return s.Cur <= s.Fin.At(0) && (!s.Telling || s.Cur == s.Fin.At(0))
}

// accounted is M6: what the producer is told of a dead consumer is what is so, and
// stays so until it is told; everything that was handed out is in it.
func (s *ChannelState) accounted() bool {
	return s.Acct == "" || !s.Alive[consumer] && s.Acct == List("").with(s.Rel, s.Dlv) && s.Seen <= s.Dlv
}

// noGhost is L4: nothing of an older generation is ever in hand.
func (c *channel) noGhost(s ChannelState) bool {
	for i := range s.View.Len() {
		if s.View.At(i)/c.generation != s.Gen {
			return false
		}
	}
	return true
}
