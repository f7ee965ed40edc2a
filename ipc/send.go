package ipc

import (
	"context"
	"fmt"

	"github.com/tandem-ipc/tandem/internal/step"
)

// Send commits one message, waiting for space until ctx ends. When it returns
// nil the message survives this process's death (M1). When it returns an error
// nothing was committed. A context that has ended does not keep Send from
// committing what fits at once.
func (e *Endpoint) Send(ctx context.Context, kind uint32, data []byte) error {
	p := &e.orUnopened().out
	if p.sendNow(kind, data) {
		return nil
	}
	if err := p.begin(ctx, len(data)); err != nil {
		return err
	}
	defer p.leave()
	p.fill(kind, data)
	p.publish()
	return nil
}

// TrySend is Send without waiting: ErrFull if there is no room now, or if
// another goroutine is just sending.
func (e *Endpoint) TrySend(kind uint32, data []byte) error {
	p := &e.orUnopened().out
	if p.sendNow(kind, data) {
		return nil
	}
	if err := p.tryBegin(len(data)); err != nil {
		return err
	}
	defer p.leave()
	p.fill(kind, data)
	p.publish()
	return nil
}

// sendNow is begin, fill, seal and publish in one piece, for the common case:
// nobody else sends, there is space, and nothing but the ring must be looked at.
// If it is not so, nothing has happened. What follows a spin runs with cold
// branch predictors: without the calls and branches of the general case, here and
// in receiveInto, a spinning round trip takes a fifth less.
//
// The copy may fault and the hook may panic (T4): before the store of the position
// nothing is changed, and behind it everything is, before anybody is called.
func (p *producer) sendNow(kind uint32, data []byte) bool {
	if len(data) > p.ring.maxPayload() || !p.gate.tryLock() {
		return false
	}
	defer p.gate.unlock()
	hook, pos := p.e.hookFunc, p.filled
	next := pos + recordSize(len(data))
	if p.attention.Load() || next-p.freePos > p.ring.size {
		return false
	}
	if hook != nil {
		hook(step.Claimed, pos)
	}
	i := p.ring.index(pos)
	copy(p.ring.mem[i+headerSize:], data)
	if hook != nil {
		hook(step.Filled, pos)
	}
	putWord(p.ring.mem, i, uint64(len(data))|uint64(kind)<<32)
	if hook != nil {
		hook(step.Sealed, next)
	}
	p.sent.count(1)
	p.writePos.begin(next)
	storeFenced(&p.own.writePos, next) // pairs: message-committed
	p.writePos.set(next)
	p.starts.mark(pos, next)
	p.filled = next
	if hook != nil {
		p.published(pos, next)
	}
	p.e.bell.notify(&p.own.writePos, pos, next, p.peer.control.dataWaitFor.Load()) // pairs: waiting
	if p.renewed() {
		p.e.bell.wake(&p.own.writePos)
	}
	if hook != nil {
		hook(step.Notified, next)
	}
	p.warm()
	return true
}

// SendBatch commits messages in order, as many as possible with one store and
// one wake-up. It returns how many were committed; with an error, those behind
// were not.
func (e *Endpoint) SendBatch(ctx context.Context, messages []Message) (int, error) {
	p := &e.orUnopened().out
	if err := p.lock(ctx); err != nil {
		return 0, err
	}
	defer p.leave()
	committed := 0
	for i := range messages {
		m := messages[i] // once: the caller may change it while this waits
		need, err := p.room(len(m.Data))
		if err == errNoRoom {
			p.publish() // W8: before it waits
			committed = i
			err = p.awaitRoom(ctx, need)
		}
		if err != nil {
			p.publish()
			return max(committed, i), err
		}
		e.hook(step.Claimed, p.filled)
		p.fill(m.Kind, m.Data)
	}
	p.publish()
	return len(messages), nil
}

// TrySendBatch is SendBatch without waiting: it commits what fits, and returns
// ErrFull if that is not all.
func (e *Endpoint) TrySendBatch(messages []Message) (int, error) {
	p := &e.orUnopened().out
	if err := p.tryLock(); err != nil {
		return 0, err
	}
	defer p.leave()
	for i := range messages {
		m := messages[i]
		_, err := p.room(len(m.Data))
		if err == errNoRoom {
			err = ErrFull
		}
		if err != nil {
			p.publish()
			return i, err
		}
		e.hook(step.Claimed, p.filled)
		p.fill(m.Kind, m.Data)
	}
	p.publish()
	return len(messages), nil
}

// A Reservation is space in the ring that the caller fills itself. Until it is
// ended by Commit or Abort, nobody else sends on this endpoint. Writing to Data
// after the end corrupts later messages, or faults after Close; between Close and the
// end it goes nowhere.
type Reservation struct {
	Data []byte

	p        *producer
	reserved []byte // Data as it was
	serial   uint64
}

// Reserve finds space for a message of up to size bytes, waiting like Send. Who has a
// reservation open and calls Reserve or Send before its end waits for itself, until ctx
// ends; TryReserve and TrySend return ErrFull.
func (e *Endpoint) Reserve(ctx context.Context, size int) (Reservation, error) {
	if size < 0 {
		return Reservation{}, errNegativeSize
	}
	if err := e.orUnopened().out.begin(ctx, size); err != nil {
		return Reservation{}, err
	}
	return e.out.reserve(size)
}

// TryReserve is Reserve without waiting.
func (e *Endpoint) TryReserve(size int) (Reservation, error) {
	if size < 0 {
		return Reservation{}, errNegativeSize
	}
	if err := e.orUnopened().out.tryBegin(size); err != nil {
		return Reservation{}, err
	}
	return e.out.reserve(size)
}

// reserve leaves the gate to the reservation.
func (p *producer) reserve(size int) (Reservation, error) {
	p.claim.Lock()
	defer p.claim.Unlock()
	if p.e.closing.Load() {
		p.gate.unlock()
		return Reservation{}, ErrClosed
	}
	p.claim.active = true
	p.claim.serial++
	p.sent.settle()
	data := p.ring.payload(p.filled, size)
	p.claim.data = data
	return Reservation{Data: data, p: p, reserved: data, serial: p.claim.serial}, nil
}

// Commit commits the first size bytes of Data as one message. It returns
// ErrClosed if the endpoint was closed meanwhile, ErrReleased if the reservation
// has ended before, and ErrNotReserved, which leaves it open, if these bytes are
// not in the space reserved; nothing was committed then.
func (r Reservation) Commit(kind uint32, size int) error {
	if r.p == nil {
		return ErrReleased
	}
	if size < 0 || size > len(r.Data) || size > len(r.reserved) || size > 0 && &r.Data[0] != &r.reserved[0] {
		return fmt.Errorf("%w: %d bytes of %d", ErrNotReserved, size, len(r.reserved))
	}
	return r.p.endClaim(r.serial, func(p *producer) {
		p.e.hook(step.Filled, p.filled)
		p.seal(kind, size)
		p.publish()
	})
}

// Abort gives the space back. It is ErrReleased if the reservation has ended.
func (r Reservation) Abort() error {
	if r.p == nil {
		return ErrReleased
	}
	return r.p.endClaim(r.serial, func(p *producer) { p.e.hook(step.Aborted, p.filled) })
}

// endClaim ends the reservation with the given serial, once.
func (p *producer) endClaim(serial uint64, finish func(*producer)) error {
	p.claim.Lock()
	defer p.claim.Unlock()
	if !p.claim.active || p.claim.serial != serial {
		return ErrReleased
	}
	p.claim.active = false
	if p.claim.orphaned {
		p.e.own.release()
		return ErrClosed
	}
	p.rouseFlush()
	defer p.leave()
	finish(p)
	return nil
}
