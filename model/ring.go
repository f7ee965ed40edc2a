package model

import "fmt"

// A RingConfig bounds the machine [Ring]; its fields are the constants of
// tla/MCRing.tla.
type RingConfig struct {
	Cap              int  // slots of the ring, 8 at most
	MaxMsg           int  // messages per generation
	MaxGen           int  // generations
	Client           Role // which role the client has
	KillP, KillC     int  // how often each role may be killed
	CancelP, CancelC int  // how often each one's calls may be cancelled
	FreezeP, FreezeC int  // how often each may freeze, for ever
	Batch            int  // records behind one store of writePos
	Hold             int  // messages that the consumer may hold at once
	Aborts           bool // reservations may be given back
	Tso              bool // stores pass through a buffer
	Idle             bool // sleeps end for no reason
	Eager            bool // what is held is released in the end
	Left             []string
}

// The rules that may be left out, by the names of the faults, and their places in
// a set of them.
var ringFaults = []string{
	"SpaceOffByOne", "PublishBeforeFill", "PublishHalf", "NotifyBeforePublish", "BatchHeldBack", "CounterAfterFlags",
	"PositionBeforeEnd", "PositionAfterEnd", "DrainSkipped", "EndNoLimit", "ViewsIgnored", "ArmBeyond", "StaleCompare",
	"NoWaiterFence", "NoPositionCompare", "NoCounterCompare", "SleepUnbounded", "WaitsKept", "WakeExact", "WakeBelow",
	"WakeNever", "NoFenceProducer", "NoFenceConsumer", "DeliveredLate", "DeliveredBack", "DeliveredReset", "ReleaseAtPeek",
	"ReleaseAll", "ReleaseBeforeCopy", "NoInterrupt", "NoInterruptWake", "CountBeforeFlag", "AdmitBehindSend",
	"AdmitBeforeAccount", "StartAtDelivered", "StartAtRead", "MarkLost", "MarkAll", "MemoryKept",
}

const (
	faultSpaceOffByOne = iota
	faultPublishBeforeFill
	faultPublishHalf
	faultNotifyBeforePublish
	faultBatchHeldBack
	faultCounterAfterFlags
	faultPositionBeforeEnd
	faultPositionAfterEnd
	faultDrainSkipped
	faultEndNoLimit
	faultViewsIgnored
	faultArmBeyond
	faultStaleCompare
	faultNoWaiterFence
	faultNoPositionCompare
	faultNoCounterCompare
	faultSleepUnbounded
	faultWaitsKept
	faultWakeExact
	faultWakeBelow
	faultWakeNever
	faultNoFenceProducer
	faultNoFenceConsumer
	faultDeliveredLate
	faultDeliveredBack
	faultDeliveredReset
	faultReleaseAtPeek
	faultReleaseAll
	faultReleaseBeforeCopy
	faultNoInterrupt
	faultNoInterruptWake
	faultCountBeforeFlag
	faultAdmitBehindSend
	faultAdmitBeforeAccount
	faultStartAtDelivered
	faultStartAtRead
	faultMarkLost
	faultMarkAll
	faultMemoryKept
)

// A ring is a machine's configuration, as its actions need it.
type ring struct {
	RingConfig
	numbering
	left    faults
	client  int
	kills   [2]int16
	promise *channel // what the ring must refine
}

// Ring is the machine of tla/MCRing.tla: one direction at the code's own grain.
// One action is one load or store of a shared word, or one system call; where
// package internal/step has a name for it, that is the action's name.
func Ring(config RingConfig) Machine[RingState] {
	c := newRing(config)
	start := RingState{
		Up:      [2]bool{true, true},
		Gen:     1,
		Kills:   c.kills,
		Cancels: [2]int16{int16(config.CancelP), int16(config.CancelC)},
		Freezes: [2]int16{int16(config.FreezeP), int16(config.FreezeC)},
	}
	all := machine([]RingState{start}, c.rules(), c.invariants(), c.text)
	all.Fair, all.Temporal = c.fairness(), c.temporal(start)
	return all
}

func newRing(config RingConfig) *ring {
	if config.Cap < 1 || config.Cap > maxCap || config.MaxMsg >= 1<<15-maxCap {
		panic(fmt.Sprintf("model: a RingState has no room for %+v", config))
	}
	c := &ring{
		RingConfig: config,
		left:       faultsNamed(ringFaults, config.Left),
		client:     config.Client.index(),
		kills:      [2]int16{int16(config.KillP), int16(config.KillC)},
	}
	c.promise = newChannel(ChannelConfig{
		Bound: config.Cap, Batch: config.Batch, Client: config.Client,
		MaxMsg: config.MaxMsg, MaxGen: config.MaxGen, MaxDeaths: int(c.kills[c.client]),
	})
	c.numbering = c.promise.numbering
	return c
}

func (c *ring) rules() []rule[RingState] {
	var all []rule[RingState]
	one := func(name string, do func(*RingState) bool) {
		all = append(all, rule[RingState]{Action{name, ""}, do})
	}
	side := func(name string, do func(*RingState, int) bool) {
		for r, role := range roleNames {
			all = append(all, rule[RingState]{Action{name, role}, func(s *RingState) bool { return do(s, r) }})
		}
	}
	up := func(name, choice string, n int, do func(*RingState, int) bool) {
		for k := 1; k <= n; k++ {
			all = append(all, rule[RingState]{Action{name, fmt.Sprintf("%s=%d", choice, k)}, func(s *RingState) bool { return do(s, k) }})
		}
	}
	for t, thread := range threadNames {
		all = append(all, rule[RingState]{Action{"Drained", thread}, func(s *RingState) bool { return s.drains(t) }})
	}
	c.waiting(one, side)
	c.passing(one, up)
	c.ending(one, side)
	return all
}

// waiting adds the rules of the wait loop.
func (c *ring) waiting(one func(string, func(*RingState) bool), side func(string, func(*RingState, int) bool)) {
	side("CountLoaded", c.countLoaded)
	side("Woken", c.woken)
	side("FlagsLoaded", c.flagsLoaded)
	side("CountLate", c.countLate)
	one("SendOpen", c.sendOpen)
	one("SendFailed", c.sendFailed)
	one("Claimed", c.claimed)
	one("SpaceNeeded", c.spaceNeeded)
	one("SendStopped", c.sendStopped)
	one("PositionLoaded", c.positionLoaded)
	one("DataFound", c.dataFound)
	one("EndReported", c.endReported)
	one("PositionLate", c.positionLate)
	one("DataNeeded", c.dataNeeded)
	one("ReceiveStopped", c.receiveStopped)
	one("HoldsViews", c.holdsViews)
	one("ViewsHeld", c.viewsHeld)
	one("ViewsFine", c.viewsFine)
	one("SpaceArmed", c.spaceArmed)
	one("DataArmed", c.dataArmed)
	side("Sleeping", c.sleeping)
	side("Slept", c.slept)
	side("WokenForNothing", c.wokenForNothing)
	side("TimedOut", c.timedOut)
	side("Disarmed", c.disarmed)
	side("Renewed", c.renewed)
}

// passing adds the rules by which a message goes from one side to the other.
func (c *ring) passing(one func(string, func(*RingState) bool), up func(string, string, int, func(*RingState, int) bool)) {
	one("Filled", c.filled)
	one("Sealed", c.sealed)
	one("BatchContinued", c.batchContinued)
	one("Aborted", c.aborted)
	one("Published", c.published)
	one("PublishedEarly", c.publishedEarly)
	one("PublishedLate", c.publishedLate)
	one("DataWaitLoaded", c.dataWaitLoaded)
	one("Notified", func(s *RingState) bool { return c.wakes(s, producer) })
	up("Peeked", "k", c.Batch, c.peeked)
	one("Delivered", c.delivered)
	one("HandedOut", c.handedOut)
	up("Released", "n", c.Cap+1, c.released) // the mutant with one slot too many fills one more
	one("CopiedLate", c.copiedLate)
	one("SpaceWaitLoaded", c.spaceWaitLoaded)
	one("ReleaseNotified", func(s *RingState) bool { return c.wakes(s, releaser) })
}

// ending adds the rules of ends, cancelling and new beginnings.
func (c *ring) ending(one func(string, func(*RingState) bool), side func(string, func(*RingState, int) bool)) {
	one("EndTaken", c.endTaken)
	side("EndProven", c.endProven)
	side("AccountTaken", c.accountTaken)
	side("Interrupted", c.interrupted)
	side("InterruptNotified", c.interruptNotified)
	side("Cancelled", c.cancelled)
	side("CancelRaised", c.cancelRaised)
	side("CancelNotified", c.cancelNotified)
	side("Killed", c.killed)
	side("Frozen", c.freezes)
	one("SegmentsMapped", c.segmentsMapped)
	one("DataWaitCleared", func(s *RingState) bool { return c.clearsWait(s, consumer) })
	one("SpaceWaitCleared", func(s *RingState) bool { return c.clearsWait(s, producer) })
	one("NewGeneration", c.newGeneration)
}

// store puts a value into a word, or on its way there.
func (c *ring) store(s *RingState, thread int, w word, v int16) {
	if c.Tso {
		s.Buf[thread] = s.Buf[thread].with(int(w)<<16 | int(uint16(v)))
	} else {
		s.Mem[w] = v
	}
}

// message is the number of the i-th message, by who commits it where.
func (c *ring) message(s *RingState, i int16) int32 {
	n := int(s.Gen)*c.generation + int(i)
	if c.client == producer {
		n += int(c.kills[producer]-s.Kills[producer]) * c.death
	}
	return int32(n)
}

// slot is the i-th message's place in the ring.
func (c *ring) slot(i int16) int {
	return ((int(i)-1)%c.Cap + c.Cap) % c.Cap
}
