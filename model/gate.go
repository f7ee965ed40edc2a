package model

import (
	"fmt"
	"slices"
)

// maxGoroutines is for how many goroutines a GateState has room.
const maxGoroutines = 4

// A GateConfig bounds the machine [Gate]; its fields are the constants of
// tla/Gate.tla.
type GateConfig struct {
	Goroutines int      // how many wait, 4 at most; number g wants g units
	Units      int      // how many the peer publishes
	Cancels    int      // how many goroutines may be cancelled
	Left       []string // the rules that are left out
}

// A GateState is a state of [Gate]. Goroutines count from 1 there and from 0 here.
type GateState struct {
	Pos     int8 // the peer's position
	Taken   int8 // units that were taken up to now
	WaitFor int8 // the waiting word: an event index
	Holder  int8 // who holds the gate; 0 for nobody, Goroutines+1 for whoever claims it
	PC      [maxGoroutines]gatePC
	Seen    [maxGoroutines]int8 // the position that each decided on
	Stale   [maxGoroutines]bool // the interrupt counter has moved since each loaded it
	Cancel  [maxGoroutines]bool
	Peer    gatePeer
	Canc    [maxGoroutines]gateCanc // whose cancelling is on the way, and how far
}

// gatePC is where a goroutine stands.
type gatePC uint8

const (
	gateIdle gatePC = iota
	gateCount
	gateFlags
	gatePosition
	gateArm
	gateSleep
	gateAsleep
	gateLeave
	gateLeft
	gateOffered
	gateDone
)

var gatePCs = [...]string{"idle", "count", "flags", "position", "arm", "sleep", "asleep", "leave", "left", "offered", "done"}

// gatePeer is where the committer stands.
type gatePeer uint8

const (
	gatePeerIdle gatePeer = iota
	gatePeerPublished
	gatePeerNotify
)

var gatePeers = [...]string{"idle", "published", "notify"}

// gateCanc is how far the cancelling of a goroutine is.
type gateCanc uint8

const (
	gateCancNone gateCanc = iota
	gateCancSet
	gateCancRaised
	gateCancOver
)

var gateCancs = [...]string{"none", "set", "raised", "over"}

var gateFaults = []string{"NoGate", "GateDeaf", "Boolean", "HandedLost", "HandedBlind"}

const (
	faultNoGate = iota
	faultGateDeaf
	faultBoolean
	faultHandedLost
	faultHandedBlind
)

// A gate is a machine's configuration, as its actions need it.
type gate struct {
	GateConfig
	left faults
}

// Gate is the machine of tla/Gate.tla: several goroutines of one process that
// wait on one direction, and queue for its one waiting word.
func Gate(config GateConfig) Machine[GateState] {
	if config.Goroutines > maxGoroutines || config.Units > 100 {
		panic(fmt.Sprintf("model: a GateState has no room for %+v", config))
	}
	c := &gate{config, faultsNamed(gateFaults, config.Left)}
	all := machine([]GateState{{}}, c.rules(), c.invariants(), c.text)
	all.Fair, all.Temporal = c.fairness(), c.temporal()
	return all
}

func (c *gate) rules() []rule[GateState] {
	var all []rule[GateState]
	each := func(name string, do func(*GateState, int) bool) {
		for g := range c.Goroutines {
			all = append(all, rule[GateState]{Action{name, fmt.Sprint(g + 1)}, func(s *GateState) bool { return do(s, g) }})
		}
	}
	each("GateTaken", c.gateTaken)
	each("GateLeft", c.queueLeft)
	each("GateFreed", c.gateFreed)
	each("GateHanded", c.gateHanded)
	each("HandedPassed", c.handedPassed)
	each("HandedBack", c.handedBack)
	each("CountLoaded", c.countLoaded)
	each("FlagsLoaded", c.flagsLoaded)
	each("PositionLoaded", c.positionLoaded)
	each("Armed", c.armed)
	each("Sleeping", c.sleeping)
	all = append(all,
		rule[GateState]{Action{"Published", ""}, c.published},
		rule[GateState]{Action{"WaitLoaded", ""}, c.waitLoaded},
		rule[GateState]{Action{"Notified", ""}, c.notified})
	each("Cancelled", c.cancelled)
	each("CancelRaised", c.cancelRaised)
	each("CancelNotified", c.cancelNotified)
	return all
}

// moves is the guard and the effect that most actions begin with.
func (s *GateState) moves(g int, from, to gatePC) bool {
	if s.PC[g] != from {
		return false
	}
	s.PC[g] = to
	return true
}

// gateFreed and gateHanded are the two ways to leave the gate, the other for the sake of
// one that has waited for long. How long is not modelled: it may always be either.
func (c *gate) gateFreed(s *GateState, g int) bool {
	if !c.left.has(faultNoGate) {
		s.Holder = 0
	}
	return s.moves(g, gateLeave, gateDone)
}

func (c *gate) gateHanded(s *GateState, g int) bool {
	if c.left.has(faultNoGate) || c.Goroutines == 1 {
		return false
	}
	s.Holder = c.handed()
	return s.moves(g, gateLeave, gateOffered)
}

// handed is the holder of a gate that is handed over: whoever claims it.
func (c *gate) handed() int8 { return int8(c.Goroutines + 1) }

func (c *gate) queued(s *GateState) bool { return slices.Contains(s.PC[:c.Goroutines], gateIdle) }

func (c *gate) gateTaken(s *GateState, g int) bool {
	if s.Holder != 0 && s.Holder != c.handed() || !s.moves(g, gateIdle, gateCount) {
		return false
	}
	s.Holder = 0
	if !c.left.has(faultNoGate) {
		s.Holder = int8(g + 1)
	}
	return true
}

// queueLeft is of a goroutine that is cancelled while it queues.
func (c *gate) queueLeft(s *GateState, g int) bool {
	return s.Cancel[g] && !c.left.has(faultGateDeaf) && s.moves(g, gateIdle, gateLeft)
}

// handedPassed is its look, behind its leaving, for a gate that was meant for it.
func (c *gate) handedPassed(s *GateState, g int) bool {
	if s.Holder == c.handed() && !c.left.has(faultHandedLost) {
		s.Holder = 0
	}
	return s.moves(g, gateLeft, gateDone)
}

// handedBack is the look of who has handed the gate over: whom it was meant for may
// have left.
func (c *gate) handedBack(s *GateState, g int) bool {
	if s.Holder == c.handed() && !c.queued(s) && !c.left.has(faultHandedBlind) {
		s.Holder = 0
	}
	return s.moves(g, gateOffered, gateDone)
}

func (c *gate) countLoaded(s *GateState, g int) bool {
	s.Stale[g] = false
	return s.moves(g, gateCount, gateFlags)
}

func (c *gate) flagsLoaded(s *GateState, g int) bool {
	if !s.Cancel[g] {
		return s.moves(g, gateFlags, gatePosition)
	}
	s.WaitFor = 0
	return s.moves(g, gateFlags, gateLeave)
}

func (c *gate) positionLoaded(s *GateState, g int) bool {
	wanted := int8(g + 1)
	if s.Pos-s.Taken < wanted {
		s.Seen[g] = s.Pos
		return s.moves(g, gatePosition, gateArm)
	}
	if c.left.has(faultBoolean) { // which whoever leaves must lower; an event index need not be
		s.WaitFor = 0
	}
	s.Taken += wanted
	return s.moves(g, gatePosition, gateLeave)
}

func (c *gate) armed(s *GateState, g int) bool {
	s.WaitFor = s.Taken + int8(g+1)
	if c.left.has(faultBoolean) {
		s.WaitFor = 1
	}
	return s.moves(g, gateArm, gateSleep)
}

func (c *gate) sleeping(s *GateState, g int) bool {
	to := gateCount
	if s.Pos == s.Seen[g] && !s.Stale[g] {
		to = gateAsleep
	}
	s.Seen[g] = 0
	return s.moves(g, gateSleep, to)
}

func (c *gate) wakeAll(s *GateState) {
	for g := range s.PC {
		s.moves(g, gateAsleep, gateCount)
	}
}

func (c *gate) published(s *GateState) bool {
	if s.Peer != gatePeerIdle || int(s.Pos) >= c.Units {
		return false
	}
	s.Pos++
	s.Peer = gatePeerPublished
	return true
}

func (c *gate) waitLoaded(s *GateState) bool {
	if s.Peer != gatePeerPublished {
		return false
	}
	waited := s.WaitFor == s.Pos
	if c.left.has(faultBoolean) {
		waited = s.WaitFor == 1
	}
	s.Peer = gatePeerIdle
	if waited {
		s.Peer = gatePeerNotify
	}
	return true
}

func (c *gate) notified(s *GateState) bool {
	if s.Peer != gatePeerNotify {
		return false
	}
	s.Peer = gatePeerIdle
	c.wakeAll(s)
	return true
}

func (c *gate) cancelled(s *GateState, g int) bool {
	count := 0
	for _, cancelled := range s.Cancel {
		if cancelled {
			count++
		}
	}
	if s.Canc[g] != gateCancNone || s.PC[g] == gateDone || count >= c.Cancels {
		return false
	}
	s.Cancel[g] = true
	s.Canc[g] = gateCancSet
	return true
}

func (c *gate) cancelRaised(s *GateState, g int) bool {
	if s.Canc[g] != gateCancSet {
		return false
	}
	s.Canc[g] = gateCancRaised
	for h := range c.Goroutines {
		s.Stale[h] = true
	}
	return true
}

func (c *gate) cancelNotified(s *GateState, g int) bool {
	if s.Canc[g] != gateCancRaised {
		return false
	}
	s.Canc[g] = gateCancOver
	c.wakeAll(s)
	return true
}

func (c *gate) invariants() []Invariant[GateState] {
	return []Invariant[GateState]{
		{"M7", c.m7},
		{"OneWaits", c.oneWaits},
		{"NeverLost", c.neverLost},
	}
}

// m7 says that nobody sleeps on what has happened while nobody is on the way to
// say so.
func (c *gate) m7(s GateState) bool {
	if s.Peer != gatePeerIdle {
		return true
	}
	for _, canc := range s.Canc {
		if canc == gateCancSet || canc == gateCancRaised {
			return true
		}
	}
	for g, pc := range s.PC {
		if pc == gateAsleep && (s.Pos-s.Taken >= int8(g+1) || s.Cancel[g]) {
			return false
		}
	}
	return true
}

// oneWaits says: one at a time.
func (c *gate) oneWaits(s GateState) bool {
	count := 0
	for _, pc := range s.PC {
		if pc != gateIdle && pc < gateLeft {
			count++
		}
	}
	return count <= 1
}

// neverLost says that a gate which is handed over is of somebody, who claims it,
// passes it on or takes it back.
func (c *gate) neverLost(s GateState) bool {
	return s.Holder != c.handed() || slices.ContainsFunc(s.PC[:c.Goroutines], func(pc gatePC) bool {
		return pc == gateIdle || pc == gateLeft || pc == gateOffered
	})
}

// fairness is what goes on: the peer, who is at the gate, and who waits for it again
// and again; nobody must be cancelled.
func (c *gate) fairness() []Fairness[GateState] {
	fair := func(strong bool, of string, actions ...string) Fairness[GateState] {
		return Fairness[GateState]{actions[0] + "(" + of + ")", strong, func(_ GateState, a Action) bool {
			return a.Args == of && slices.Contains(actions, a.Name)
		}}
	}
	all := []Fairness[GateState]{fair(false, "", "Published", "WaitLoaded", "Notified")}
	for g := range c.Goroutines {
		of := fmt.Sprint(g + 1)
		all = append(all, fair(true, of, "GateTaken"),
			fair(false, of, "GateLeft", "GateFreed", "GateHanded", "HandedPassed", "HandedBack", "CountLoaded", "FlagsLoaded", "PositionLoaded", "Armed", "Sleeping"),
			fair(false, of, "CancelRaised", "CancelNotified"))
	}
	return all
}

// temporal says that a cancelled call returns, whoever holds the gate.
func (c *gate) temporal() (all []LeadsTo[GateState]) {
	for g := range c.Goroutines {
		all = append(all, LeadsTo[GateState]{"M7_Live", func(s GateState) bool { return s.Cancel[g] }, func(s GateState) bool { return s.PC[g] == gateDone }})
	}
	return all
}

func (c *gate) text(s GateState) string {
	var w stateText
	w.number("pos", int(s.Pos))
	w.number("taken", int(s.Taken))
	w.number("waitFor", int(s.WaitFor))
	w.number("gate", int(s.Holder))
	w.sequence("pc", c.Goroutines, func(g int) { w.quote(gatePCs[s.PC[g]]) })
	w.sequence("seen", c.Goroutines, func(g int) { w.int(int(s.Seen[g])) })
	w.sequence("stale", c.Goroutines, func(g int) { w.bool(s.Stale[g]) })
	w.sequence("cancel", c.Goroutines, func(g int) { w.bool(s.Cancel[g]) })
	w.name("peer")
	w.quote(gatePeers[s.Peer])
	w.sequence("canc", c.Goroutines, func(g int) { w.quote(gateCancs[s.Canc[g]]) })
	return w.String()
}
