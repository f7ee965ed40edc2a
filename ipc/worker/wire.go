package worker

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// A frame is one message of the channel. Its kind is the message's kind; its
// header is the same for all kinds:
//
//	offset  size  field
//	0       8     start: the number of the process's start, in both directions
//	8       8     id of the call; the version in a hello and in a return; the start in an adoption
//	16      8     nanoseconds that the call has left; 0 if it has no deadline
//	24      4     attempt in a request, status in an answer, bytes in a credit
//	28      2     size of the method's name
//	30      2     zero
//	32            method, then payload
//
// All integers are little endian. A worker takes only frames with the number of
// its own start: others wait in the channel from its predecessor, and the service
// has sent those calls elsewhere. A worker that comes back has no start until it is
// adopted. Until then its number is comingBack with that of its attachment, so that no
// answer for another one is taken for its own.
const headerSize = 32

const wireVersion = 3

const comingBack = 1 << 63

const maxMethodSize = 255

const (
	kindHello   uint32 = iota + 1 // worker: I serve
	kindRequest                   // both: a call; one of the worker's is an ask
	kindStarted                   // worker: a handler starts for this call; for the next notification with id 0
	kindAnswer                    // both: the call's result
	kindCancel                    // both: nobody waits for this call any more
	kindStop                      // service: finish what was started, then leave; to one that comes back: leave
	kindOpen                      // service: a call that is answered with a stream
	kindPart                      // worker: a part of a stream
	kindCredit                    // both: so many bytes more of a stream may come; of notifications with id 0
	kindNotice                    // both: a message without an answer
	kindReturn                    // worker: I served a pool that is gone, and these are my terms
	kindAdopted                   // service: serve here, with this start
	kindCount
)

// The statuses of an answer. The payload is the answer, or the error's text.
const (
	statusOK uint32 = iota
	statusFailed
	statusUnknownMethod
	statusTooLarge
	statusDeadline // the handler gave up at its deadline
	statusCanceled // or because nobody waits
	statusEnd      // a stream ends, and this answer is no part of it
	statusCount
)

// A header is the fixed part of a frame, as checked.
type header struct {
	start, id  uint64
	remaining  time.Duration
	number     uint32
	methodSize int
}

func (h header) put(b []byte) {
	binary.LittleEndian.PutUint64(b[0:], h.start)
	binary.LittleEndian.PutUint64(b[8:], h.id)
	binary.LittleEndian.PutUint64(b[16:], uint64(h.remaining))
	binary.LittleEndian.PutUint32(b[24:], h.number)
	binary.LittleEndian.PutUint16(b[28:], uint16(h.methodSize))
	binary.LittleEndian.PutUint16(b[30:], 0)
}

// A malformedError is a frame that no peer of this version sends.
type malformedError struct{ what string }

func (e *malformedError) Error() string { return "malformed frame: " + e.what }

// parseHeader reads and checks a frame's header. The peer can change shared bytes
// at any time: they are copied once, and only the copy is looked at.
func parseHeader(kind uint32, data []byte) (header, error) {
	if kind < kindHello || kind >= kindCount {
		return header{}, &malformedError{fmt.Sprintf("kind %d", kind)}
	}
	var fixed [headerSize]byte
	if copy(fixed[:], data) < headerSize {
		return header{}, &malformedError{fmt.Sprintf("%d bytes", len(data))}
	}
	nanos := binary.LittleEndian.Uint64(fixed[16:])
	h := header{
		start:      binary.LittleEndian.Uint64(fixed[0:]),
		id:         binary.LittleEndian.Uint64(fixed[8:]),
		remaining:  time.Duration(nanos),
		number:     binary.LittleEndian.Uint32(fixed[24:]),
		methodSize: int(binary.LittleEndian.Uint16(fixed[28:])),
	}
	isCall := kind == kindRequest || kind == kindOpen
	hasMethod := isCall || kind == kindNotice
	hasPayload := hasMethod || kind == kindAnswer || kind == kindPart || kind == kindReturn
	switch rest := len(data) - headerSize; {
	case nanos > math.MaxInt64 || !isCall && nanos != 0:
		return header{}, &malformedError{fmt.Sprintf("kind %d with %d ns", kind, nanos)}
	case h.methodSize > maxMethodSize || h.methodSize > rest || !hasMethod && h.methodSize != 0:
		return header{}, &malformedError{fmt.Sprintf("kind %d with a method of %d bytes", kind, h.methodSize)}
	case !hasPayload && rest != 0:
		return header{}, &malformedError{fmt.Sprintf("kind %d with %d bytes behind its header", kind, rest)}
	case kind == kindAnswer && h.number >= statusCount:
		return header{}, &malformedError{fmt.Sprintf("status %d", h.number)}
	case fixed[30] != 0 || fixed[31] != 0:
		return header{}, &malformedError{"reserved bytes are set"}
	}
	return h, nil
}

func frameSize(method string, payload []byte) int { return headerSize + len(method) + len(payload) }

// transmit commits a frame. It waits for space until ctx ends.
func transmit(ctx context.Context, e *ipc.Endpoint, kind uint32, h header, method string, payload []byte) error {
	r, err := e.Reserve(ctx, frameSize(method, payload))
	if err != nil {
		return err
	}
	return commit(r, kind, h, method, payload)
}

// commit fills a reservation of a frame's size, and commits it.
func commit(r ipc.Reservation, kind uint32, h header, method string, payload []byte) error {
	defer func() { _ = r.Abort() }() // nothing, once it is committed
	return r.Commit(kind, fill(r, h, method, payload))
}

// fill fills a reservation of a frame's size. The memory of method and payload is the user's: it
// may fault, and it may be slow. So no lock is held here, and what fills also aborts.
func fill(r ipc.Reservation, h header, method string, payload []byte) (size int) {
	h.put(r.Data)
	n := headerSize + copy(r.Data[headerSize:], method)
	return n + copy(r.Data[n:], payload)
}
