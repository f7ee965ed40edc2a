package chaos

import (
	"slices"
	"strings"

	"github.com/tandem-ipc/tandem/model"
)

// A corruption makes of a trace one that cannot be, or reports that there is
// nothing in it to spoil.
type corruption struct {
	what  string
	spoil func(all []model.Event) ([]model.Event, bool)
}

// is reports whether an event is a step of a thread; both may be beginnings of
// what they are compared with.
func is(e model.Event, who, name string) bool {
	return strings.HasPrefix(e.Who, who) && (e.Name == name || strings.HasPrefix(e.Name, name+" "))
}

// find is the index of the first such event from a place on, or -1.
func find(all []model.Event, from int, who, name string) int {
	for i := from; i >= 0 && i < len(all); i++ {
		if is(all[i], who, name) {
			return i
		}
	}
	return -1
}

// nextOf is the index of the thread's next event, or -1.
func nextOf(all []model.Event, i int) int {
	for j := i + 1; j < len(all); j++ {
		if all[j].Who == all[i].Who && all[j].Life == all[i].Life {
			return j
		}
	}
	return -1
}

// move takes the event at from to stand before the one at to, which is earlier.
func move(all []model.Event, from, to int) []model.Event {
	e := all[from]
	return slices.Insert(slices.Delete(slices.Clone(all), from, from+1), to, e)
}

// dropped loses an event that the thread goes on behind. One that is recorded
// early does not show that it does: death may come before its action.
func dropped(who, name string) corruption {
	return corruption{name + " is lost", func(all []model.Event) ([]model.Event, bool) {
		for i := find(all, 0, who, name); i >= 0; i = find(all, i+1, who, name) {
			if j := nextOf(all, i); j >= 0 && !all[j].Early {
				return slices.Delete(slices.Clone(all), i, i+1), true
			}
		}
		return nil, false
	}}
}

// swapped has a thread do two things in the wrong order.
func swapped(who, first, second string) corruption {
	return corruption{second + " comes before " + first, func(all []model.Event) ([]model.Event, bool) {
		for i := find(all, 0, who, first); i >= 0; i = find(all, i+1, who, first) {
			if j := nextOf(all, i); j >= 0 && is(all[j], who, second) {
				all = slices.Clone(all)
				all[i], all[j] = all[j], all[i]
				return all, true
			}
		}
		return nil, false
	}}
}

// early has one thing happen before another, of which it is a consequence.
func early(who, name, whose, before string) corruption {
	return corruption{who + " " + name + " comes before " + whose + " " + before, func(all []model.Event) ([]model.Event, bool) {
		to := find(all, 0, whose, before)
		from := find(all, to+1, who, name)
		if to < 0 || from < 0 || find(all, 0, who, name) < to {
			return nil, false
		}
		return move(all, from, to), true
	}}
}

// renamed has a thread do the same thing elsewhere.
func renamed(who, name, instead string) corruption {
	return corruption{name + " as " + instead, func(all []model.Event) ([]model.Event, bool) {
		i := find(all, 0, who, name)
		if i < 0 {
			return nil, false
		}
		all = slices.Clone(all)
		all[i].Name = instead
		return all, true
	}}
}

// deadActs has a process die before what it did last.
func deadActs(process, thread string) corruption {
	return corruption{"a dead " + thread + " acts", func(all []model.Event) ([]model.Event, bool) {
		death := find(all, 0, "Killed "+process, "Killed "+process)
		var own []int
		for i := 0; i < death; i++ {
			if all[i].Who == thread {
				own = append(own, i)
			}
		}
		if len(own) < 3 {
			return nil, false
		}
		return move(all, death, own[len(own)-3]), true
	}}
}

// toldTooSoon has a death proven before the last things that the dead did: a
// successor that waits to be admitted is not the dead.
func toldTooSoon(watcher, proof, thread string) corruption {
	return corruption{"the end of " + thread + " is proven before", func(all []model.Event) ([]model.Event, bool) {
		proven := find(all, 0, watcher, proof)
		var own, dead []int
		for i := 0; i < proven; i++ {
			if all[i].Who != thread {
				continue
			}
			if len(own) > 0 && all[i].Life != all[own[0]].Life || all[i].Name == "Connected" {
				own = nil
			}
			if own = append(own, i); all[i].Name != "Connected" && all[i].Name != "HelloSent" {
				dead = own
			}
		}
		if len(dead) < 4 {
			return nil, false
		}
		return move(all, proven, dead[len(dead)-3]), true
	}}
}

var ringCorruptions = []corruption{
	dropped("P", "Filled"), dropped("P", "Sealed"), dropped("P", "Published"), dropped("C", "Delivered"), dropped("R", "Released"),
	dropped("C", "DataArmed"),
	swapped("P", "Filled", "Sealed"), swapped("P", "Sealed", "Published"), swapped("P", "Published", "Notified"),
	swapped("C", "Peeked", "Delivered"), swapped("R", "Released", "ReleaseNotified"),
	swapped("P.watch", "EndProven", "AccountTaken"), swapped("C.watch", "EndProven", "AccountTaken"),
	early("C", "Peeked", "P", "Sealed"), early("R", "Released", "C", "Peeked"),
	early("C", "SegmentsMapped", "P.watch", "EndProven"), early("P", "SegmentsMapped", "C.watch", "EndProven"),
	renamed("P", "Published 1", "Published 2"), renamed("C", "Delivered 1", "Delivered 9"), renamed("R", "Released 1", "Released 9"),
	deadActs("P", "P"), deadActs("C", "C"),
	toldTooSoon("C.watch", "EndProven", "P"), toldTooSoon("P.watch", "EndProven", "C"),
}

var lifeCorruptions = []corruption{
	dropped("s1", "TokenLocked"), dropped("s1.admit", "TokenTaken"), dropped("c1", "GrantReceived"),
	dropped("s1", "GoodbyeSaid"), dropped("c1", "SegmentUnmapped"),
	swapped("s1", "SocketBound", "SocketListening"), swapped("s1", "ServerLocked", "TokenLocked"),
	swapped("s1", "TokenAwaited", "SegmentUnmapped"), swapped("s1", "SegmentUnmapped", "ServerUnlocked"),
	swapped("c1", "SegmentUnmapped", "TokenClosed"), swapped("c1", "AttachmentStored", "ReadySent"),
	early("c1", "Connected", "s1", "SocketBound"), early("c1", "GrantReceived", "s1.admit", "TokenTaken"),
	early("s1.watch", "ReadyReceived", "c1", "SegmentsMapped"), early("c1.watch", "EndProven", "s1", "TokenReturned"),
	renamed("s1", "GenerationRecorded 2", "GenerationRecorded 1"), renamed("s1", "GenerationRecorded 1", "GenerationRecorded 3"),
	renamed("s1.admit", "GrantSent 2", "GrantSent 1"),
	deadActs("s1", "s1"), deadActs("c1", "c1"), toldTooSoon("s1.end", "EndProven", "c1"),
}
