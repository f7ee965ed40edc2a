package chaos

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// What a recording has besides the steps of package ipc: what is done to the
// processes. Whoever does it records it when it is over, with the number of the
// process as the value. One who was refused, and has let everything go, is to the
// others one who was killed.
const recordKilled = step.Count

// A recorded is one event of a flight recorder. What it tells of was done just
// before, by the same thread of control, or is about to be. So of two events of
// two processes the times say in which order they were recorded; an action lies
// somewhere between the times of its own thread's events.
type recorded struct {
	Process int // 0 is whoever breaks the others
	Thread  int // of the operating system, where the step does not say which direction it is about
	At      step.ID
	Value   uint64
	Time    time.Duration // by CLOCK_MONOTONIC, which all processors agree on
}

func (r recorded) String() string {
	if r.At == recordKilled {
		return fmt.Sprintf("process %d was killed", r.Value)
	}
	return fmt.Sprintf("process %d %v %d", r.Process, r.At, r.Value)
}

// A flightMemory is the bytes that a recorder has mapped: a head, whose first word
// counts the events that found no slot, and slots of some words. A slot is valid
// when its first word is not zero, and that is stored last: whoever is killed
// before has recorded nothing.
type flightMemory []byte

const (
	flightHead = 64
	flightSlot = 32

	flightDone = 1 << 63
)

// put fills a slot.
func (m flightMemory) put(slot int, r recorded) {
	at := m[flightHead+slot*flightSlot:][:flightSlot]
	binary.LittleEndian.PutUint64(at[8:], r.Value)
	binary.LittleEndian.PutUint64(at[16:], uint64(r.Time))
	binary.LittleEndian.PutUint64(at, flightDone|uint64(r.Process)<<40|uint64(r.At)<<32|uint64(uint32(r.Thread)))
}

// get is its inverse, and false for a slot that nobody has filled.
func (m flightMemory) get(slot int) (recorded, bool) {
	at := m[flightHead+slot*flightSlot:][:flightSlot]
	word := binary.LittleEndian.Uint64(at)
	return recorded{
		Process: int(word &^ flightDone >> 40), At: step.ID(word >> 32), Thread: int(uint32(word)),
		Value: binary.LittleEndian.Uint64(at[8:]), Time: time.Duration(binary.LittleEndian.Uint64(at[16:])),
	}, word != 0
}

// slots is for how many events there is room.
func (m flightMemory) slots() int { return (len(m) - flightHead) / flightSlot }

// lose counts an event that is not kept.
func (m flightMemory) lose() { binary.LittleEndian.PutUint64(m, binary.LittleEndian.Uint64(m)+1) }

// read returns what was recorded, and how many events were not kept.
func (m flightMemory) read() (all []recorded, lost int) {
	for slot := range m.slots() {
		r, filled := m.get(slot)
		if !filled {
			break
		}
		all = append(all, r)
	}
	return all, int(binary.LittleEndian.Uint64(m))
}

// readRecording reads the file of a recorder whose process records no more.
func readRecording(path string) (all []recorded, lost int, err error) {
	memory, err := os.ReadFile(path)
	if err != nil || len(memory) < flightHead {
		return nil, 0, err // killed while it made the file
	}
	all, lost = flightMemory(memory).read()
	return all, lost, nil
}

// merge brings the recordings of several processes into the one order of their
// times. Each process's own order stays.
func merge(all ...[]recorded) []recorded {
	merged := slices.Concat(all...)
	slices.SortStableFunc(merged, func(a, b recorded) int { return cmp.Compare(a.Time, b.Time) })
	return merged
}
