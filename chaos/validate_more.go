package chaos

// M6: the account has what was committed and not released, in order, and knows
// which of it was delivered.
func validateAccount(s *Stream) (found []string) {
	var c complaints
	t := s.index()
	for _, a := range s.Accounts {
		listed := map[ID]bool{}
		last := map[uint16]int{}
		for _, u := range a.Unreleased {
			at, known := t.sent[u.ID]
			switch {
			case u.Damage != "":
				c.add("the account of receiver %d has a damaged %v: %s", a.Life, u.ID, u.Damage)
				continue
			case !known:
				c.add("the account of receiver %d has %v, which was never sent", a.Life, u.ID)
				continue
			case listed[u.ID]:
				c.add("the account of receiver %d has %v twice", a.Life, u.ID)
			case s.Sent[at].Committed == No:
				c.add("the account of receiver %d has %v, which was never committed", a.Life, u.ID)
			}
			if before, any := last[u.ID.Lane]; any && at < before {
				c.add("the account of receiver %d has %v behind %v", a.Life, u.ID, s.Sent[before].ID)
			}
			listed[u.ID], last[u.ID.Lane] = true, at
			released, delivered := t.until(u.ID, a.After)
			switch {
			case released == Yes:
				c.add("the account of receiver %d has %v, which was released", a.Life, u.ID)
			case delivered && !u.Delivered:
				c.add("the account of receiver %d does not say that %v was delivered", a.Life, u.ID)
			case s.Exact && !delivered && u.Delivered:
				c.add("the account of receiver %d says that %v was delivered, and nobody had it", a.Life, u.ID)
			}
		}
		for _, m := range s.Sent[:a.Sent] {
			released, _ := t.until(m.ID, a.After)
			if m.Committed == Yes && released == No && !listed[m.ID] {
				c.add("the account of receiver %d lacks %v, which was not released", a.Life, m.ID)
			}
		}
	}
	return c
}

// until tells what had become of a message after so many entries of Received.
func (t story) until(id ID, after int) (released Outcome, delivered bool) {
	released = No
	for _, i := range t.received[id] {
		if i >= after {
			break
		}
		delivered = true
		switch t.Received[i].Released {
		case Yes:
			return Yes, true
		case Unknown:
			released = Unknown
		}
	}
	return released, delivered
}

// M8: the ring never holds more than its size, and says "full" only when it is.
func validateBounded(s *Stream) (found []string) {
	var c complaints
	for _, r := range s.Refusals {
		if r.Unreleased+recordSize(r.Size) <= s.RingSize {
			c.add("a message of %d bytes was refused with %d of %d bytes in use", r.Size, r.Unreleased, s.RingSize)
		}
	}
	for _, a := range s.Accounts {
		var used uint64
		t := s.index()
		for _, u := range a.Unreleased {
			if at, known := t.sent[u.ID]; known {
				used += recordSize(s.Sent[at].Size)
			}
		}
		if used > s.RingSize {
			c.add("the account of receiver %d has %d bytes, more than the ring of %d", a.Life, used, s.RingSize)
		}
	}
	return c
}

// L4: nothing of another generation.
func validateNoGhost(s *Stream) (found []string) {
	var c complaints
	for _, r := range s.Received {
		if r.Damage == "" && r.ID.Generation != s.Generation {
			c.add("%v was received in generation %d", r.ID, s.Generation)
		}
	}
	for _, a := range s.Accounts {
		for _, u := range a.Unreleased {
			if u.Damage == "" && u.ID.Generation != s.Generation {
				c.add("%v is in an account of generation %d", u.ID, s.Generation)
			}
		}
	}
	return c
}

// L5: died only who died, closed only who said goodbye.
func validateTrueVerdict(s *Stream) (found []string) {
	var c complaints
	t := s.index()
	for _, end := range s.Ends {
		about := t.explain(end)
		just := len(about) == 0 // M5
		for _, d := range about {
			just = just || d.Closed == Unknown || (d.Closed == Yes) == (end.Verdict == "closed")
		}
		if !just {
			c.add("the sender was called %s behind %d messages, which it was not", end.Verdict, end.After)
		}
	}
	return c
}

// L7: each client finds the same generation, and is another attachment.
func validateClientRestart(s *Stream) (found []string) {
	var c complaints
	last := 0
	for _, n := range s.Successions {
		switch {
		case n.Trouble != "":
			c.add("client %d: %s", n.Life, n.Trouble)
		case n.Generation != s.Generation:
			c.add("client %d found generation %d instead of %d", n.Life, n.Generation, s.Generation)
		case n.Life <= last:
			c.add("client %d came after client %d", n.Life, last)
		}
		last = max(last, n.Life)
	}
	return c
}
