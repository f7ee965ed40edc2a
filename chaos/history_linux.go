package chaos

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// monotonic is the clock of all histories. It is a system call each time, and
// not the clock of package time: that one is not the same in two processes.
func monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return now.Nano()
}

// A tape is the writing side of a recording.
type tape struct {
	memory []byte
	fatal  spot // where the process kills itself, in a replay

	lanes [maxLanes]struct {
		thread atomic.Int32 // that the lane's goroutine is locked to
		*track
	}

	mu sync.Mutex // guards the head's words that more than one goroutine stores
}

// newTape makes the file of a tape and maps it.
func newTape(path string, incarnation int, server bool) (*tape, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size := laneOffset(maxLanes)
	if err := file.Truncate(int64(size)); err != nil {
		return nil, err
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("chaos: map %s: %w", path, err)
	}
	// Else the kernel reads ahead, megabytes of nothing.
	if err := unix.Madvise(memory, unix.MADV_RANDOM); err != nil {
		return nil, fmt.Errorf("chaos: map %s: %w", path, err)
	}
	t := &tape{memory: memory}
	t.put(headIncarnation, uint64(incarnation))
	if server {
		t.put(headRole, 1)
	}
	t.put(headBegun, uint64(monotonic()))
	t.put(headMagic, tapeMagic)
	return t, nil
}

// close unmaps a tape that nobody writes any more.
func (t *tape) close() { _ = unix.Munmap(t.memory) }

func (t *tape) put(word int, value uint64) { binary.LittleEndian.PutUint64(t.memory[word:], value) }
func (t *tape) get(word int) uint64        { return binary.LittleEndian.Uint64(t.memory[word:]) }

// closing records that Close is about to be called.
func (t *tape) closing() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(headClosing, uint64(monotonic()))
}

// hook is the endpoint's hook. A step in a lane belongs to its operation; any
// other belongs to the endpoint's own goroutines.
func (t *tape) hook(at step.ID, value uint64) {
	thread := int32(unix.Gettid())
	for i := range t.lanes {
		if t.lanes[i].thread.Load() == thread {
			t.lanes[i].passed(at, value)
			return
		}
	}
	t.background(at, value)
}

func (t *tape) background(at step.ID, value uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch at {
	case step.GrantReceived:
		t.put(headAttachment, value)
	case step.SegmentUnmapped:
		t.put(headActive, uint64(monotonic()))
	case step.TokenClosed, step.ConnectionClosed, step.TokenAwaited, step.ClientKilled, step.ServerUnlocked:
		// It holds nothing any more, or is about to let it go.
	default:
		if t.get(headClosing) == 0 {
			t.put(headActive, uint64(monotonic()))
		}
	}
	count := t.memory[headCounts+4*int(at):]
	nth := binary.LittleEndian.Uint32(count) + 1
	binary.LittleEndian.PutUint32(count, nth)
	t.put(headLast, uint64(at))
	if t.fatal.Lane < 0 && t.fatal.Step == at && t.fatal.Nth == int(nth) {
		signalSelf(unix.SIGKILL)
	}
}

// A track is one lane of a tape: what one goroutine writes.
type track struct {
	tape      *tape
	number    int
	region    []byte
	next      int    // the first free slot
	operation uint32 // its number, from 1
	first     int    // the slots of the operation under way
	count     int
	at        int // of these, the one that the steps are about; -1 before the first
	counts    [step.Count]uint16
}

// open makes the calling goroutine the lane's, and locks it to its thread, by
// which the hook knows it.
func (t *tape) open(number int) *track {
	runtime.LockOSThread()
	if t.lanes[number].track == nil {
		region := t.memory[laneOffset(number):laneOffset(number+1)]
		t.lanes[number].track = &track{tape: t, number: number, region: region}
	}
	t.lanes[number].thread.Store(int32(unix.Gettid()))
	return t.lanes[number].track
}

// leave undoes open.
func (l *track) leave() {
	l.tape.lanes[l.number].thread.Store(0)
	runtime.UnlockOSThread()
}

func (l *track) slot(i int) []byte { return l.region[(l.first+i)*slotSize : (l.first+i+1)*slotSize] }

// room reports whether so many slots are left.
func (l *track) room(count int) bool { return l.next+count < laneSlots }

// begin records that an operation on count messages begins now. describe fills
// in what is known of them.
func (l *track) begin(d doing, count int, describe func(i int, s []byte)) {
	l.first, l.count, l.at = l.next, count, -1
	l.next += count
	l.operation++
	clear(l.counts[:])
	for i := count - 1; i >= 0; i-- {
		s := l.slot(i)
		if describe != nil {
			describe(i, s)
		}
		binary.LittleEndian.PutUint16(s[slotIndex:], uint16(i))
		binary.LittleEndian.PutUint32(s[slotOperation:], l.operation)
		binary.LittleEndian.PutUint64(s[slotCall:], uint64(monotonic()))
		s[slotDoing] = byte(d) // last: now it counts
	}
}

// end records how the operation under way returned, message by message. One that
// has found nothing to do, and so says nothing, is taken off the tape again.
func (l *track) end(outcome func(i int, s []byte) fate) {
	now := uint64(monotonic())
	empty := true
	for i := range l.count {
		s := l.slot(i)
		r := outcome(i, s)
		binary.LittleEndian.PutUint64(s[slotReturn:], now)
		s[slotFate] = byte(r) // last
		empty = empty && (r == wasEmpty || r == wasFull || r == wasHung || r == wasHeld || r == unused)
	}
	if empty {
		l.next = l.first
		clear(l.region[l.first*slotSize : (l.first+l.count)*slotSize])
	}
	l.count = 0
}

// passed records a step of the operation under way.
func (l *track) passed(at step.ID, value uint64) {
	if l.count == 0 {
		l.tape.background(at, value)
		return
	}
	first := l.slot(0)
	l.counts[at]++
	binary.LittleEndian.PutUint16(first[slotNth:], l.counts[at])
	binary.LittleEndian.PutUint16(first[slotSteps:], binary.LittleEndian.Uint16(first[slotSteps:])+1)
	first[slotStep] = byte(at)
	switch at {
	case step.Claimed, step.Peeked:
		l.at = min(l.at+1, l.count-1)
		s := l.slot(l.at)
		binary.LittleEndian.PutUint64(s[slotPos:], value)
		s[slotFlags] |= hasPos
	case step.Sealed:
		s := l.slot(l.at)
		binary.LittleEndian.PutUint64(s[slotEnd:], value)
		s[slotFlags] |= hasEnd
	case step.Published:
		l.note(published, hasEnd, slotEnd, value)
	case step.Delivered:
		l.note(delivered, hasPos, slotPos, value-1)
	case step.Released:
		l.tape.put(headReadPos, value) // in the order of the stores: the caller holds what orders them
	}
	if l.tape.fatal.reached(l.number, int(l.operation), at, int(l.counts[at])) {
		signalSelf(unix.SIGKILL)
	}
}

// note sets a flag on the messages of the operation of which a position is known
// that is at most limit.
func (l *track) note(flag, having byte, position int, limit uint64) {
	for i := range l.count {
		if s := l.slot(i); s[slotFlags]&having != 0 && binary.LittleEndian.Uint64(s[position:]) <= limit {
			s[slotFlags] |= flag
		}
	}
}
