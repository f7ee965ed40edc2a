package chaos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A tape is the history that one endpoint of a campaign writes: a file that it
// has mapped, so that a kill loses nothing of it. Behind a head of one page each
// lane, which is one goroutine, has a region of slots that it alone writes. An
// operation takes one slot for each message that it may be about; the slot is
// whole before its operation begins, and its outcome is stored when it returns.
// The steps that the operation passed stand in its first slot.
//
// Times are CLOCK_MONOTONIC, the same clock in every process.
const (
	tapeMagic = 0x3165706174 // "tape1"
	headSize  = 4096
	slotSize  = 64
	laneSlots = 1 << 17 // the file is sparse: what is not written costs nothing
	maxLanes  = 8

	eventLane = 0 // the goroutine that takes the endpoint's events
	mainLane  = 1
	workLanes = 2 // the first of those that send and receive
)

// The words of a head.
const (
	headMagic = 8 * iota
	headIncarnation
	headRole
	headGeneration
	headAttachment
	headBegun    // when Listen or Dial was called
	headUp       // when it had returned
	headReadPos  // the last readPos that is known to be stored
	headActive   // when a background goroutine last passed a step with its memory mapped
	headClosing  // when Close was called
	headLast     // the last background step
	headInterval // the heartbeat
	headCounts   // how often each step was passed in the background, 32 bits each
)

// A doing is what an operation of a history does.
type doing uint8

const (
	doSend doing = iota + 1
	doTrySend
	doSendBatch
	doTrySendBatch
	doReserve
	doTryReserve
	doAbort
	doReceive
	doTryReceive
	doReceiveInto
	doReceiveBatch
	doReceiveBatchInto
	doRelease
	doEvent   // an event was told
	doAccount // the messages that Unreleased returned
)

var doingNames = []string{"", "send", "try-send", "batch", "try-batch", "reserve", "try-reserve", "abort",
	"receive", "try-receive", "receive-into", "receive-batch", "receive-batch-into", "release", "event", "account"}

func (d doing) String() string { return nameOf(doingNames, uint8(d)) }
func (d doing) sends() bool    { return d >= doSend && d <= doAbort }
func (d doing) takes() bool    { return d >= doReceive && d <= doReceiveBatchInto }
func (d doing) copies() bool   { return d == doReceiveInto || d == doReceiveBatchInto }

// A fate is how an operation of a history returned.
type fate uint8

const (
	inFlight fate = iota // it has not
	done
	unused // of a batch, a slot without a message
	wasFull
	wasEmpty
	gaveUp // its context ended
	wasHeld
	wasHung
	peerDied
	peerClosed
	selfClosed
	aborted
	wasCorrupt
	otherwise // an error that nothing explains
)

var fateNames = []string{"in flight", "done", "unused", "full", "empty", "gave up", "views held", "hung",
	"peer died", "peer closed", "closed", "aborted", "corrupt", "error"}

func (r fate) String() string { return nameOf(fateNames, uint8(r)) }

// What is known of a slot's message.
const (
	hasPos    = 1 << iota // where it begins
	hasEnd                // where it ends: the record is sealed
	published             // writePos was stored behind it
	delivered             // deliveredPos was stored behind it
	marked                // it came with Redelivered
	damaged               // its content was not whole
	settled               // of an account: nobody sent or received meanwhile
)

// The bytes of a slot.
const (
	slotDoing     = 0
	slotFate      = 1
	slotFlags     = 2
	slotStep      = 3  // the last step that was passed
	slotSteps     = 4  // how many were, 16 bits
	slotNth       = 6  // the how manieth of its name the last one was, 16 bits
	slotCall      = 8  // time
	slotReturn    = 16 // time
	slotPos       = 24
	slotEnd       = 32
	slotNumber    = 40 // of the message, 32 bits
	slotPayload   = 44 // its size, 32 bits
	slotBirth     = 48 // the message's generation, 32 bits
	slotLane      = 52 // the message's lane, 16 bits
	slotIndex     = 54 // within the operation, 16 bits
	slotOperation = 56 // its number in the lane, 32 bits
)

// A slot is one message of one operation, read back.
type slot struct {
	doing          doing
	fate           fate
	flags          uint8
	step           step.ID
	steps, nth     uint16
	call, returned int64
	pos, end       uint64
	id             ID
	size           uint32
	index          uint16
	operation      uint32
	lane           int // that recorded it
}

func (s *slot) has(flags uint8) bool { return s.flags&flags == flags }

func decodeSlot(b []byte, lane int) slot {
	le := binary.LittleEndian
	return slot{
		doing: doing(b[slotDoing]), fate: fate(b[slotFate]), flags: b[slotFlags], step: step.ID(b[slotStep]),
		steps: le.Uint16(b[slotSteps:]), nth: le.Uint16(b[slotNth:]),
		call: int64(le.Uint64(b[slotCall:])), returned: int64(le.Uint64(b[slotReturn:])),
		pos: le.Uint64(b[slotPos:]), end: le.Uint64(b[slotEnd:]),
		id:   ID{le.Uint32(b[slotBirth:]), le.Uint16(b[slotLane:]), le.Uint32(b[slotNumber:])},
		size: le.Uint32(b[slotPayload:]), index: le.Uint16(b[slotIndex:]), operation: le.Uint32(b[slotOperation:]),
		lane: lane,
	}
}

// A recording is a tape read back.
type recording struct {
	incarnation            int
	server                 bool
	generation, attachment uint32
	begun, up              int64 // up is 0 if Listen or Dial has not returned
	readPos                uint64
	active, closing        int64
	last                   step.ID // in the background
	counts                 [step.Count]uint32
	slots                  []slot // lane by lane, each in order
}

var errNoTape = errors.New("chaos: not a tape")

// readTape reads a tape whose writer is gone.
func readTape(path string) (*recording, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	head := make([]byte, headSize)
	if _, err := io.ReadFull(file, head); err != nil || binary.LittleEndian.Uint64(head[headMagic:]) != tapeMagic {
		return nil, fmt.Errorf("%w: %s", errNoTape, path)
	}
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(head[at:]) }
	r := &recording{
		incarnation: int(word(headIncarnation)), server: word(headRole) == 1,
		generation: uint32(word(headGeneration)), attachment: uint32(word(headAttachment)),
		begun: int64(word(headBegun)), up: int64(word(headUp)), readPos: word(headReadPos),
		active: int64(word(headActive)), closing: int64(word(headClosing)), last: step.ID(word(headLast)),
	}
	for i := range r.counts {
		r.counts[i] = binary.LittleEndian.Uint32(head[headCounts+4*i:])
	}
	for lane := range maxLanes {
		if err := r.readLane(file, lane); err != nil {
			return nil, fmt.Errorf("chaos: read %s: %w", path, err)
		}
	}
	return r, nil
}

// readLane reads slots until one that was never begun.
func (r *recording) readLane(file io.ReaderAt, lane int) error {
	chunk := make([]byte, 64*slotSize)
	for at := laneOffset(lane); at < laneOffset(lane+1); at += len(chunk) {
		n, err := file.ReadAt(chunk, int64(at))
		if err != nil && err != io.EOF {
			return err
		}
		for i := 0; i+slotSize <= n; i += slotSize {
			s := decodeSlot(chunk[i:], lane)
			if s.doing == 0 {
				return nil
			}
			r.slots = append(r.slots, s)
		}
		if n < len(chunk) {
			return nil
		}
	}
	return nil
}

func laneOffset(lane int) int { return headSize + lane*laneSlots*slotSize }

// laneName is the ID.Lane of what a lane sends, unique in a generation.
func laneName(attachment uint64, server bool, number int) uint16 {
	if server {
		return uint16(number)
	}
	return uint16(attachment)<<3 | uint16(number)
}

// lifeOf is the attachment of the client that sent a message.
func lifeOf(id ID) int { return int(id.Lane >> 3) }
