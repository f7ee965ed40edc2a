package model

import (
	"slices"
	"strings"
)

// fairness is what goes on: each goroutine and each store buffer, unless its process
// is frozen or dead; and the next client comes. Nobody must die, freeze, cancel, be
// woken for nothing, or, unless that is a constant, release.
func (c *ring) fairness() (all []Fairness[RingState]) {
	// It is made of one role's, or thread's, own steps, and of some that only it has.
	fair := func(name, of, own, only string) {
		owned, others := strings.Fields(own), strings.Fields(only)
		all = append(all, Fairness[RingState]{Name: name, Is: func(_ RingState, a Action) bool {
			return a.Args == of && slices.Contains(owned, a.Name) || slices.Contains(others, a.Name)
		}})
	}
	const waits = "CountLoaded Woken FlagsLoaded Sleeping Slept Disarmed"
	fair("Produces", "P", waits, "SendOpen SendFailed Claimed SpaceNeeded SendStopped SpaceArmed"+
		" Filled Sealed Published DataWaitLoaded Notified SpaceWaitCleared")
	fair("Consumes", "C", waits, "PositionLoaded DataFound EndReported DataNeeded ReceiveStopped"+
		" HoldsViews ViewsHeld ViewsFine DataArmed Peeked Delivered HandedOut EndTaken DataWaitCleared")
	if c.Eager {
		fair("Releases", "", "", "Released SpaceWaitLoaded ReleaseNotified")
	}
	fair("SegmentsMapped", "", "", "SegmentsMapped")
	for _, t := range threadNames {
		fair("Drained("+t+")", t, "Drained", "")
	}
	for _, r := range roleNames {
		fair("Renewed("+r+")", r, "Renewed", "")
		fair("Watches("+r+")", r, "EndProven AccountTaken Interrupted InterruptNotified", "")
		fair("CancelGoesOn("+r+")", r, "CancelRaised CancelNotified", "")
		fair("TimedOut("+r+")", r, "TimedOut", "")
	}
	return all
}

// temporal are the spec's properties of what must happen in the end.
func (c *ring) temporal(start RingState) (all []LeadsTo[RingState]) {
	leads := func(name string, from, to func(s *RingState) bool) {
		all = append(all, LeadsTo[RingState]{
			name, func(s RingState) bool { return from(&s) }, func(s RingState) bool { return to(&s) },
		})
	}
	server := peer(c.client)
	for i := 1; i <= c.MaxMsg; i++ {
		leads("M1_Live", func(s *RingState) bool { return s.Log.Len() >= i },
			func(s *RingState) bool { return int(s.Mem[readPos]) >= i || !s.Up[server] })
	}
	leads("M5_Live", func(s *RingState) bool { return s.Fin != "" }, func(s *RingState) bool { return s.Fin == "" })
	for r := range roleNames {
		leads("M7_Live", func(s *RingState) bool { return s.PC[r] == ringAsleep && c.due(s, r) },
			func(s *RingState) bool { return s.PC[r] != ringAsleep })
	}
	leads("L7_Live", func(s *RingState) bool { return *s == start },
		func(s *RingState) bool { return int(s.Mem[readPos]) == c.MaxMsg || !s.Up[server] })
	leads("M7_Held", func(s *RingState) bool {
		return s.PC[producer] == ringAsleep && s.PC[consumer] == ringAsleep && int(s.Held) == c.Cap
	}, func(s *RingState) bool {
		return s.PC[consumer] == ringIdle || s.PC[consumer] == ringDisarmIdle || int(s.Held) < c.Cap
	})
	return all
}
