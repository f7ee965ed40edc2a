package model

// RingSteps says what package ipc records of the ring's actions, by the names of
// internal/step. Who acts is "P", "C", or "R", who releases; "P.watch" and "C.watch",
// who learn of the peer's end; and the [Kernel], who kills, as [RingKill] says. Life
// is how often the role's process was killed before.
//
// Two steps of the code are less than one action, or more: Notified and
// ReleaseNotified are recorded whether or not anybody had to be woken; and each
// record of a batch is claimed. What the code records of one action in several
// pieces, [RingEvents] makes one of.
func RingSteps(config RingConfig) Observer[RingState] {
	c := newRing(config)
	return func(from RingState, a Action, to RingState) (Event, bool) {
		thread, name := ringStep(&from, a, &to)
		switch {
		case name == "":
			return Event{}, false
		case name == "Killed":
			return RingKill(Role(a.Args)), true
		case name == "SegmentsMapped":
			thread = threadNames[c.client]
		}
		role := producer
		if thread[0] != 'P' {
			role = consumer
		}
		return Event{Who: thread, Life: int(c.kills[role] - from.Kills[role]), Name: name}, true
	}
}

// RingKill is the event of a role's process having been killed, which its killer
// records, who knows when it is over.
func RingKill(r Role) Event {
	return Event{Who: Kernel, Name: "Killed " + string(r)}
}

// ringStep is the thread and the step that an action is recorded as.
func ringStep(from *RingState, a Action, to *RingState) (thread, step string) {
	switch a.Name {
	case "Claimed", "Filled", "Sealed", "Published", "Aborted", "Notified", "SpaceArmed", "SpaceWaitCleared":
		return "P", a.Name
	case "BatchContinued":
		if to.PC[producer] == ringClaimed {
			return "P", "Claimed"
		}
	case "DataWaitLoaded":
		if to.PC[producer] == ringIdle {
			return "P", "Notified"
		}
	case "Peeked", "Delivered", "DataArmed", "DataWaitCleared":
		return "C", a.Name
	case "Released", "ReleaseNotified":
		return "R", a.Name
	case "SpaceWaitLoaded":
		if to.PC[releaser] == ringIdle {
			return "R", "ReleaseNotified"
		}
	case "Sleeping", "Woken", "Disarmed":
		return a.Args, a.Name
	case "EndProven", "AccountTaken":
		return a.Args + ".watch", a.Name
	case "SegmentsMapped", "Killed":
		return "", a.Name
	}
	return "", ""
}

// RingEvents prepares what package ipc has recorded for [ReplayConcurrent]. Sleeping
// and Woken are recorded before the action of that name, and so is AccountTaken, in
// part. Each header that is looked at is a Peeked of its own, also one that is not
// taken then: only the last before Delivered is kept.
func RingEvents(events []Event) []Event {
	var all []Event
	peeked := map[string]*Event{}
	for _, e := range events {
		switch e.Name {
		case "Sleeping", "Woken", "AccountTaken":
			e.Early = true
		case "Peeked":
			held := e
			peeked[e.Who] = &held
			continue
		case "Delivered":
			if p := peeked[e.Who]; p != nil && p.Life == e.Life {
				all = append(all, *p)
			}
			delete(peeked, e.Who)
		}
		all = append(all, e)
	}
	return all
}
