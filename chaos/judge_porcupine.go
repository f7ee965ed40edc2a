package chaos

import (
	"fmt"
	"math"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

// porcupineTimeout bounds the search for an order. What is not decided by then
// is Void, and not Pass.
const porcupineTimeout = 20 * time.Second

// The operations of a channel with redelivery, as porcupine sees them. Each names
// the place in the stream that it is about; the steps that the processes passed
// have recorded it, so that there is next to nothing to search for.
type channelInput struct {
	what     channelWhat
	receiver int
	pos, end uint64
	id       ID
	open     bool // whether it happened nobody knows
	marked   bool
	anyMark  bool // whether it must be marked nobody knows
	released Outcome
}

type channelWhat uint8

const (
	channelSend channelWhat = iota
	channelTake
	channelAttach // a receiver begins at pos
)

// channelState is a persistent value: its records are a list from the newest to
// the oldest, shared between states.
type channelState struct {
	newest   *channelRecord
	tail     uint64 // where the next record begins
	head     uint64 // what the receiver takes next
	high     uint64 // end of what was ever taken
	freed    uint64 // end of what was released
	kept     uint64 // where the first record begins that was taken and not released, or none
	receiver int
}

const noneKept = math.MaxUint64

type channelRecord struct {
	pos, end uint64
	id       ID
	chain    uint64 // commits to this record and all before it
	before   *channelRecord
}

func (s channelState) chain() uint64 {
	if s.newest == nil {
		return 0
	}
	return s.newest.chain
}

// channelModel is a FIFO channel whose receiver can be replaced.
var channelModel = porcupine.Model{
	Init: func() any { return channelState{kept: noneKept} },
	Step: func(state, input, _ any) (bool, any) {
		next, legal := state.(channelState).step(input.(channelInput))
		return legal, next
	},
	Equal: func(a, b any) bool {
		x, y := a.(channelState), b.(channelState)
		sameRecords := x.chain() == y.chain()
		x.newest, y.newest = nil, nil
		return sameRecords && x == y
	},
	Hash: func(state any) uint64 {
		s := state.(channelState)
		return mix(mix(mix(mix(s.chain(), s.head), s.freed), s.kept), uint64(s.receiver))
	},
	DescribeOperation: func(input, _ any) string { return input.(channelInput).String() },
	DescribeState: func(state any) string {
		s := state.(channelState)
		return fmt.Sprintf("receiver %d at %d, of %d", s.receiver, s.head, s.tail)
	},
}

func mix(a, b uint64) uint64 {
	a ^= b*0x9e3779b97f4a7c15 + 0x7f4a7c15 + a<<6 + a>>2
	a *= 0xbf58476d1ce4e5b9
	return a ^ a>>31
}

func (in channelInput) String() string {
	switch {
	case in.what == channelSend && in.open:
		return fmt.Sprintf("send %v at %d, or not", in.id, in.pos)
	case in.what == channelSend:
		return fmt.Sprintf("send %v at %d", in.id, in.pos)
	case in.what == channelAttach:
		return fmt.Sprintf("receiver %d begins at %d", in.receiver, in.pos)
	case in.marked:
		return fmt.Sprintf("receive %v at %d, again", in.id, in.pos)
	}
	return fmt.Sprintf("receive %v at %d", in.id, in.pos)
}

func (s channelState) step(in channelInput) (channelState, bool) {
	switch in.what {
	case channelSend:
		if in.open && in.pos != s.tail {
			return s, in.pos < s.tail // another stands in its place
		}
		r := &channelRecord{pos: in.pos, end: in.end, id: in.id, before: s.newest}
		r.chain = mix(mix(s.chain(), in.end), uint64(in.id.Number)<<16|uint64(in.id.Lane))
		legal := in.pos == s.tail
		s.newest, s.tail = r, in.end
		return s, legal
	case channelAttach:
		legal := in.pos <= s.tail && in.pos >= s.freed && in.pos <= s.kept && in.receiver > s.receiver
		s.receiver, s.head, s.kept = in.receiver, in.pos, noneKept
		return s, legal
	}
	if in.receiver != s.receiver || in.pos != s.head || !in.anyMark && in.marked != (in.pos < s.high) {
		return s, false
	}
	r := s.newest
	for r != nil && r.pos > in.pos {
		r = r.before
	}
	if r == nil || r.pos != in.pos || r.end != in.end || r.id != in.id {
		return s, false
	}
	s.head, s.high = in.end, max(s.high, in.end)
	switch in.released {
	case Yes:
		s.freed = in.end
	case No:
		s.kept = min(s.kept, in.pos)
	}
	return s, true
}

// operations is the trial as porcupine wants it. What a killed process had in
// flight has no end in time: it may have happened at once, or, if nobody knows,
// not at all.
func (t *trial) operations() (history []porcupine.Operation) {
	add := func(client int, in channelInput, call, returned int64) {
		if returned == 0 {
			returned = math.MaxInt64
		}
		history = append(history, porcupine.Operation{ClientId: client, Input: in, Call: call, Return: returned})
	}
	for i := range t.sends {
		s := &t.sends[i]
		add(s.lane, channelInput{what: channelSend, pos: s.pos, end: s.end, id: s.id, open: s.committed == Unknown}, s.call, s.returned)
	}
	doubtful := map[*life]uint64{} // an entry for each receiver that took anything
	for i := range t.takes {
		take := &t.takes[i]
		if _, begun := doubtful[take.life]; !begun {
			doubtful[take.life] = t.doubtful(take.life)
			add(maxLanes, channelInput{what: channelAttach, receiver: take.life.number, pos: take.pos}, take.life.begun, take.life.up)
		}
		add(maxLanes+1+take.lane, channelInput{
			what: channelTake, receiver: take.life.number, pos: take.pos, end: take.end, id: take.id,
			marked: take.has(marked), released: take.released, anyMark: take.unseen || take.pos < doubtful[take.life],
		}, take.call, take.returned)
	}
	sort.SliceStable(history, func(i, j int) bool { return history[i].Call < history[j].Call })
	return history
}

// doubtful is the end of what a receiver before this one may have marked as
// delivered just before it died.
func (t *trial) doubtful(l *life) (end uint64) {
	for _, former := range t.receivers {
		if former.number >= l.number {
			break
		}
		for i := range former.slots {
			s := &former.slots[i]
			if s.doing.takes() && s.fate == inFlight && s.has(hasPos) && !s.has(delivered) {
				if at := t.at(s.pos); at != nil {
					end = max(end, at.end)
				}
			}
		}
	}
	return end
}

// linearizable asks porcupine.
func (t *trial) linearizable() (legal, decided bool) { return t.linearizableWithin(porcupineTimeout) }

func (t *trial) linearizableWithin(limit time.Duration) (legal, decided bool) {
	switch porcupine.CheckOperationsTimeout(channelModel, t.operations(), limit) {
	case porcupine.Ok:
		return true, true
	case porcupine.Illegal:
		return false, true
	}
	return false, false
}
