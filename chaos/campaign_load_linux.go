package chaos

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// The ways to send and to receive, as swarm.Forms and swarm.Takes weigh them.
var (
	sendForms = []doing{doSend, doTrySend, doSendBatch, doTrySendBatch, doReserve, doTryReserve, doAbort}
	takeForms = []doing{doReceive, doTryReceive, doReceiveInto, doReceiveBatch, doReceiveBatchInto}
)

const maxBatch = 6

// describe fills in what a sender knows of one message.
func describe(id ID, size int) func(int, []byte) {
	return func(_ int, s []byte) { putMessage(s, id, size) }
}

func putMessage(s []byte, id ID, size int) {
	binary.LittleEndian.PutUint32(s[slotNumber:], id.Number)
	binary.LittleEndian.PutUint32(s[slotBirth:], id.Generation)
	binary.LittleEndian.PutUint16(s[slotLane:], id.Lane)
	binary.LittleEndian.PutUint32(s[slotPayload:], uint32(size))
}

// putTaken fills in what a receiver has got.
func putTaken(s []byte, m *ipc.Message) {
	id, damage := identify(m.Data)
	putMessage(s, id, len(m.Data))
	pos := binary.LittleEndian.Uint64(s[slotPos:])
	binary.LittleEndian.PutUint64(s[slotEnd:], pos+recordSize(len(m.Data)))
	s[slotFlags] |= hasEnd
	if damage != "" {
		s[slotFlags] |= damaged
	}
	if m.Redelivered {
		s[slotFlags] |= marked
	}
}

// event records what the endpoint told of its peer.
func (l *track) event(event ipc.Event) {
	since := time.Since(event.Time).Nanoseconds()
	at := monotonic() - since // if anything, late: in between others may run
	l.begin(doEvent, 1, func(_ int, s []byte) {
		binary.LittleEndian.PutUint32(s[slotNumber:], uint32(event.Kind))
		binary.LittleEndian.PutUint32(s[slotPayload:], uint32(event.Unreleased))
		binary.LittleEndian.PutUint32(s[slotBirth:], uint32(event.Attachment))
		binary.LittleEndian.PutUint16(s[slotLane:], uint16(min(event.Missed, 1<<16-1)))
		binary.LittleEndian.PutUint64(s[slotPos:], uint64(event.Redeliverable))
		binary.LittleEndian.PutUint64(s[slotEnd:], uint64(at))
	})
	l.end(func(int, []byte) fate { return done })
}

// account records a list of unreleased messages. Its last slot is no message: an
// account that was not written to its end does not have it.
func (l *track) account(list []ipc.Unreleased) {
	l.begin(doAccount, len(list)+1, func(i int, s []byte) {
		if i == len(list) {
			return
		}
		id, damage := identify(list[i].Data)
		putMessage(s, id, len(list[i].Data))
		if damage != "" {
			s[slotFlags] |= damaged
		}
		if list[i].Delivered {
			s[slotFlags] |= delivered
		}
	})
	l.end(func(i int, _ []byte) fate {
		if i == len(list) {
			return unused
		}
		return done
	})
}

// draw makes the next message of a lane.
func (s *stay) draw(number int, random *rand.Rand) (ID, []byte) {
	ring := s.Swarm.ToServer
	if s.Server {
		ring = s.Swarm.ToClient
	}
	id := s.identity(number)
	return id, payload(id, s.Swarm.size(ring, random))
}

// send is a lane that sends until no more faults come, or its endpoint ends.
func (s *stay) send(number int, random *rand.Rand) {
	l := s.tape.open(number)
	defer l.leave()
	for sent := 0; !s.calm.Load() && sent < s.Swarm.budget() && l.room(maxBatch); {
		form := sendForms[pick(random, s.Swarm.Forms[:])]
		count := 1
		if form == doSendBatch || form == doTrySendBatch {
			count = 1 + random.IntN(maxBatch)
		}
		err := s.sendOne(l, form, count, number, random)
		if r := s.fateOf(err); r == peerDied || r == peerClosed || r == selfClosed || r >= wasCorrupt {
			return
		}
		sent += count
		s.rest(err, random, s.Swarm.SendPace)
	}
}

// impatient is a context that a part of the calls has, and that ends soon.
func (s *stay) impatient(random *rand.Rand) (context.Context, context.CancelFunc) {
	if s.Swarm.Traced || random.IntN(8) != 0 {
		return s.ctx, func() {}
	}
	return context.WithTimeout(s.ctx, time.Duration(random.Int64N(int64(2*time.Millisecond))))
}

func (s *stay) sendOne(l *track, form doing, count, number int, random *rand.Rand) error {
	ids, messages := make([]ID, count), make([]ipc.Message, count)
	for i := range count {
		id, data := s.draw(number, random)
		ids[i], messages[i] = id, ipc.Message{Kind: kindOrdinary, Data: data}
	}
	ctx, cancel := s.impatient(random)
	defer cancel()
	l.begin(form, count, func(i int, b []byte) { putMessage(b, ids[i], len(messages[i].Data)) })
	n, err := 0, error(nil)
	data := messages[0].Data
	switch form {
	case doSend:
		err = s.e.Send(ctx, kindOrdinary, data)
	case doTrySend:
		err = s.e.TrySend(kindOrdinary, data)
	case doSendBatch:
		n, err = s.e.SendBatch(ctx, messages)
	case doTrySendBatch:
		n, err = s.e.TrySendBatch(messages)
	default:
		err = s.reserve(ctx, form, data, random)
	}
	if err == nil {
		n = count
	}
	l.end(func(i int, _ []byte) fate {
		switch {
		case i < n && form == doAbort:
			return aborted
		case i < n:
			return done
		}
		return s.fateOf(err)
	})
	return err
}

// reserve sends through a reservation that is sometimes larger than needed, or
// gives it back.
func (s *stay) reserve(ctx context.Context, form doing, data []byte, random *rand.Rand) error {
	ring := s.Swarm.ToServer
	if s.Server {
		ring = s.Swarm.ToClient
	}
	size := min(len(data)+random.IntN(64), ring-8)
	if s.Swarm.Traced {
		size = len(data)
	}
	var r ipc.Reservation
	var err error
	if form == doReserve || form == doAbort {
		r, err = s.e.Reserve(ctx, size)
	} else {
		r, err = s.e.TryReserve(size)
	}
	if err != nil {
		return err
	}
	copy(r.Data, data)
	if form == doAbort {
		return r.Abort()
	}
	return r.Commit(kindOrdinary, len(data))
}

// A heldView is a message that a lane has not released, with its place.
type heldView struct {
	m   ipc.Message
	pos uint64
}

// receive is a lane that receives until nothing more comes.
func (s *stay) receive(number int, random *rand.Rand) {
	l := s.tape.open(number)
	defer l.leave()
	ring := s.Swarm.ToClient
	if s.Server {
		ring = s.Swarm.ToServer
	}
	buf, into := make([]byte, ring), make([]ipc.Message, maxBatch)
	var held []heldView
	for {
		if !l.room(2 * maxBatch) {
			s.p.fail("harness: the tape is full")
		}
		form := takeForms[pick(random, s.Swarm.Takes[:])]
		if s.calm.Load() {
			form = doReceive // the others would spin
		}
		taken, err := s.take(l, form, buf, into, random)
		held = append(held, taken...)
		keep := s.Swarm.Held
		if err != nil || s.calm.Load() {
			keep = 0
		}
		held = s.release(l, held, keep, random)
		switch r := s.fateOf(err); {
		case r == selfClosed, r == gaveUp && s.ctx.Err() != nil, r >= wasCorrupt,
			(r == peerDied || r == peerClosed) && !s.Server:
			s.release(l, held, 0, random)
			return
		}
		s.rest(err, random, s.Swarm.TakePace)
	}
}

// take receives once, and returns the views.
func (s *stay) take(l *track, form doing, buf []byte, into []ipc.Message, random *rand.Rand) (views []heldView, err error) {
	count := 1
	if form == doReceiveBatch || form == doReceiveBatchInto {
		count = 1 + random.IntN(len(into))
	}
	ctx, cancel := s.impatient(random)
	defer cancel()
	l.begin(form, count, nil)
	n := 0
	switch form {
	case doReceive:
		into[0], err = s.e.Receive(ctx)
	case doTryReceive:
		into[0], err = s.e.TryReceive()
	case doReceiveInto:
		into[0], err = s.e.ReceiveInto(ctx, buf)
	case doReceiveBatch:
		n, err = s.e.ReceiveBatch(ctx, into[:count])
	case doReceiveBatchInto:
		n, err = s.e.ReceiveBatchInto(ctx, buf, into[:count])
	}
	if count == 1 && err == nil {
		n = 1
	}
	final := false
	l.end(func(i int, b []byte) fate {
		switch {
		case i >= n && i > 0:
			return unused
		case i >= n:
			return s.fateOf(err)
		}
		m := &into[i]
		putTaken(b, m)
		final = final || m.Kind == kindFinal
		if !form.copies() {
			views = append(views, heldView{*m, binary.LittleEndian.Uint64(b[slotPos:])})
		}
		return done
	})
	if final {
		s.finished.Do(func() { close(s.final) })
	}
	return views, err
}

// release releases views, not the oldest first, until only keep are held.
func (s *stay) release(l *track, held []heldView, keep int, random *rand.Rand) []heldView {
	for len(held) > keep {
		i := random.IntN(len(held))
		v := held[i]
		held[i] = held[len(held)-1]
		held = held[:len(held)-1]
		size := len(v.m.Data)
		l.begin(doRelease, 1, func(_ int, b []byte) {
			binary.LittleEndian.PutUint64(b[slotPos:], v.pos)
			binary.LittleEndian.PutUint64(b[slotEnd:], v.pos+recordSize(size))
			b[slotFlags] |= hasPos | hasEnd
			if _, damage := identify(v.m.Data); damage != "" {
				b[slotFlags] |= damaged // while it was held
			}
		})
		err := v.m.Release()
		l.end(func(int, []byte) fate { return s.fateOf(err) })
	}
	return held
}
