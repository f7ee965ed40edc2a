package model

// maxCap is for how many slots a RingState has room.
const maxCap = 8

// In states the threads are places in arrays: the producer and the consumer, each
// at its role's, and releaser, who releases what the consumer took.
const (
	releaser = 2
	threads  = 3
)

var threadNames = []string{"P", "C", "R"}

// A word is one of the shared ones.
type word uint8

const (
	writePos word = iota
	readPos
	deliveredPos
	dataWaitFor
	spaceWaitFor
	words
)

var wordNames = []string{"writePos", "readPos", "deliveredPos", "dataWaitFor", "spaceWaitFor"}

// A RingState is a state of [Ring].
type RingState struct {
	// Shared memory and what is on its way to it.
	Mem  [words]int16
	Slot [maxCap][2]int32 // first half, second half
	Buf  [threads]List    // stores: the word in the upper half, the value in the lower

	// Private to each side.
	Up     [2]bool // a process lives
	Frozen [2]bool
	PC     [threads]ringPC
	Cursor [2]int16       // the producer's: records filled up to here; the consumer's: messages handed out up to here
	Seen   [threads]int16 // the peer's position that was decided on, or the own one before it moved
	Stop   [2]bool        // the flags, as they were loaded
	Held   int16          // messages in the consumer's hands
	Mark   int16          // the consumer marks messages up to here Redelivered
	Cancel [2]bool        // the flag that a cancelled call sets
	Ends   [2]List        // recorded ends of the peer, not yet reported
	Stale  [2]bool        // the interrupt counter has moved since it was loaded
	Watch  [2]ringWatch   // where the EOF watcher stands
	Canc   [2]ringCanc    // where the canceller stands

	// What no process knows.
	Gen     int16
	Log     List
	Handed  int16
	Fin     List
	Acct    List
	Kills   [2]int16 // faults that may still happen
	Cancels [2]int16
	Freezes [2]int16
}

// ringPC is where a thread stands.
type ringPC uint8

const (
	ringIdle ringPC = iota
	ringFlags
	ringPosition
	ringEnd
	ringViews
	ringLate
	ringArm
	ringSleep
	ringSleep2
	ringAsleep
	ringWoken
	ringDisarmIdle
	ringDisarmTold
	ringDisarmEnded
	ringClaimed
	ringFilled
	ringSealed
	ringEarly
	ringUnfilled
	ringUnpublished
	ringPublished
	ringNotify
	ringFound
	ringPeeked
	ringDelivered
	ringReleased
	ringTold
	ringEnded
	ringMapped
	ringDead
)

var ringPCs = [...]string{"idle", "flags", "position", "end", "views", "late", "arm", "sleep", "sleep2", "asleep", "woken",
	"disarm idle", "disarm told", "disarm ended", "claimed", "filled", "sealed", "early", "unfilled", "unpublished",
	"published", "notify", "found", "peeked", "delivered", "released", "told", "ended", "mapped", "dead"}

// ringWatch is how far the news of the peer's end has got.
type ringWatch uint8

const (
	ringWatching ringWatch = iota
	ringProven
	ringTaken
	ringWatchRaised
	ringGone
)

var ringWatches = [...]string{"watching", "proven", "taken", "raised", "gone"}

// ringCanc is how far the cancelling of a call has got.
type ringCanc uint8

const (
	ringCancNone ringCanc = iota
	ringCancSet
	ringCancRaised
)

var ringCancs = [...]string{"none", "set", "raised"}

// roleOf is the side that a thread belongs to.
func roleOf(thread int) int {
	if thread == producer {
		return producer
	}
	return consumer
}

// peer is the other side.
func peer(role int) int {
	return 1 - role
}

// positionOf is the word that says how far a side has got.
func positionOf(role int) word {
	if role == producer {
		return writePos
	}
	return readPos
}

// waitOf is the word by which a side says what it waits for.
func waitOf(role int) word {
	if role == producer {
		return spaceWaitFor
	}
	return dataWaitFor
}

// alive reports whether the thread's process takes steps.
func (s *RingState) alive(thread int) bool {
	role := roleOf(thread)
	return s.Up[role] && !s.Frozen[role]
}

// at reports whether the thread stands there and can go on.
func (s *RingState) at(thread int, pc ringPC) bool {
	return s.PC[thread] == pc && s.alive(thread)
}

// own is what the owner of a word reads there: its own last store.
func (s *RingState) own(thread int, w word) int16 {
	for i := s.Buf[thread].Len() - 1; i >= 0; i-- {
		if at, v := stored(s.Buf[thread].At(i)); at == w {
			return v
		}
	}
	return s.Mem[w]
}

// stored takes apart one entry of a store buffer.
func stored(entry int) (word, int16) {
	return word(entry >> 16), int16(entry & 0xffff)
}

// drains lets the oldest store of the thread reach memory.
func (s *RingState) drains(thread int) bool {
	if s.Buf[thread] == "" {
		return false
	}
	w, v := stored(s.Buf[thread].At(0))
	s.Mem[w], s.Buf[thread] = v, s.Buf[thread].without(0)
	return true
}

// fenced reports whether everything that the thread has stored is in memory.
func (s *RingState) fenced(thread int) bool {
	return s.Buf[thread] == ""
}

func (s *RingState) writePos() int16     { return s.own(producer, writePos) }
func (s *RingState) readPos() int16      { return s.own(releaser, readPos) }
func (s *RingState) deliveredPos() int16 { return s.own(consumer, deliveredPos) }

// loaded reports whether a loaded interrupt counter is still to be compared.
func (s *RingState) loaded(role int) bool {
	switch s.PC[role] {
	case ringFlags, ringEnd, ringPosition, ringViews, ringLate, ringArm, ringSleep, ringSleep2:
		return true
	}
	return false
}

func (c *ring) text(s RingState) string {
	var w stateText
	w.record("mem", wordNames, func(i int) { w.int(int(s.Mem[i])) })
	w.name("slot")
	w.raw("(")
	for i := range c.Cap {
		if i > 0 {
			w.raw(" @@ ")
		}
		w.int(i)
		w.raw(" :> ")
		w.elements(2, func(half int) { w.int(int(s.Slot[i][half])) })
	}
	w.raw(")")
	w.record("buf", threadNames, func(t int) {
		w.elements(s.Buf[t].Len(), func(i int) {
			at, v := stored(s.Buf[t].At(i))
			w.raw("<<")
			w.quote(wordNames[at])
			w.raw(", ")
			w.int(int(v))
			w.raw(">>")
		})
	})
	bools := func(name string, b [2]bool) { w.record(name, roleNames, func(r int) { w.bool(b[r]) }) }
	numbers := func(name string, n []int16) { w.record(name, threadNames[:len(n)], func(r int) { w.int(int(n[r])) }) }
	bools("up", s.Up)
	bools("frozen", s.Frozen)
	w.record("pc", threadNames, func(t int) { w.quote(ringPCs[s.PC[t]]) })
	numbers("cursor", s.Cursor[:])
	numbers("seen", s.Seen[:])
	bools("stop", s.Stop)
	w.number("held", int(s.Held))
	w.number("mark", int(s.Mark))
	bools("cancel", s.Cancel)
	w.record("ends", roleNames, func(r int) { w.numbers(s.Ends[r]) })
	bools("stale", s.Stale)
	w.record("watch", roleNames, func(r int) { w.quote(ringWatches[s.Watch[r]]) })
	w.record("canc", roleNames, func(r int) { w.quote(ringCancs[s.Canc[r]]) })
	w.number("gen", int(s.Gen))
	w.list("log", s.Log)
	w.number("handed", int(s.Handed))
	w.list("fin", s.Fin)
	w.list("acct", s.Acct)
	numbers("kills", s.Kills[:])
	numbers("cancels", s.Cancels[:])
	numbers("freezes", s.Freezes[:])
	return w.String()
}
