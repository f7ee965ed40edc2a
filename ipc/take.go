package ipc

import (
	"context"

	"github.com/tandem-ipc/tandem/internal/step"
)

// peek reads and checks the record at pos.
func (c *consumer) peek(pos uint64) (record, error) {
	r := c.ring.load(pos)
	if limit := c.limit(); !r.within(limit) {
		return record{}, r.beyond(limit)
	}
	c.e.hook(step.Peeked, pos)
	return r, nil
}

// reject drops a peer whose record at the cursor is not one, with everything
// that it says it has committed.
func (c *consumer) reject(err error) error {
	departed := false
	var end uint64
	if now := c.e.expel(true, func() error {
		if end, departed = c.e.blameDeparted(); departed {
			return nil
		}
		return err
	}); now != nil {
		err = now
	}
	if seen, frozen := c.writePos.get(); departed && !frozen {
		c.writePos.advance(seen, end)
	}
	if limit := c.limit(); c.cursor != limit {
		c.deliver(limit)
		c.e.hook(step.Delivered, limit)
		c.cursor = limit
		_ = c.release(c.views.push(c, limit)) // a view that nobody else knows
	}
	return err
}

// deliver marks everything up to next as handed out. The mark only ever grows
// (W7), and it is stored before the caller sees the message.
func (c *consumer) deliver(next uint64) {
	if int64(next-c.deliveredPos) > 0 {
		putPosition(&c.own.deliveredPos, next) // pairs: message-delivered (store)
		c.deliveredPos = next
	}
}

// describe fills in what a record is as a view.
func (c *consumer) describe(r *record, m *Message) {
	m.Data = c.ring.payload(r.pos, r.size)
	if !c.known {
		c.stay, c.known = c.e.stayOf(r.pos)
	}
	m.Kind, m.Attachment = r.kind, c.stay
	m.Redelivered = int64(c.inherited-r.pos) > 0
}

// store moves readPos from old to new: a release.
//
// Preconditions: the caller holds the gate with no view held, or views' mutex.
func (c *consumer) store(old, new uint64) {
	storeFenced(&c.own.readPos, new) // pairs: message-released
	if c.e.hookFunc != nil {
		c.storedReadPos(old, new)
	}
	c.e.bell.notify(&c.own.readPos, old, new, c.views.peer.control.spaceWaitFor.Load()) // pairs: waiting
	if c.renewed() {
		c.e.bell.wake(&c.own.readPos)
	}
	c.e.hook(step.ReleaseNotified, new)
}

// storedReadPos reports the step Released. If the hook panics the peer is woken all
// the same: what is released is told (M7).
func (c *consumer) storedReadPos(old, new uint64) {
	told := false
	defer func() {
		if !told {
			c.e.bell.notify(&c.own.readPos, old, new, c.views.peer.control.spaceWaitFor.Load())
		}
	}()
	c.e.hook(step.Released, new)
	told = true
}

// takeView takes the record at the cursor as a view.
func (c *consumer) takeView(m *Message) error {
	r, err := c.peek(c.cursor)
	if err != nil {
		return c.reject(err)
	}
	c.describe(&r, m)
	c.deliver(r.next)
	c.e.hook(step.Delivered, r.next)
	c.cursor = r.next
	m.from, m.seq = c, c.views.push(c, r.next)
	c.received.count(1)
	return nil
}

// takeCopy copies the record at the cursor into buf and releases it.
func (c *consumer) takeCopy(buf []byte, m *Message) error {
	r, err := c.peek(c.cursor)
	if err != nil {
		return c.reject(err)
	}
	if r.size > len(buf) {
		return &ShortBufferError{r.size}
	}
	c.describe(&r, m)
	c.deliver(r.next)
	c.e.hook(step.Delivered, r.next)
	m.Data = buf[:copy(buf, m.Data)] // it may fault (T4): nothing is taken yet
	c.cursor = r.next
	c.received.count(1)
	if c.held.Load() == 0 {
		c.views.advance(c, r.next)
		return nil
	}
	return c.release(c.views.push(c, r.next))
}

// receiveInto is receive and takeCopy in one piece, for the common case: nobody
// else receives, no view is held, nothing but the ring must be looked at, and a
// message is there or comes within a short spin. If it is not so it has taken
// nothing, and leaves it to receive. See sendNow.
func (e *Endpoint) receiveInto(ctx context.Context, buf []byte) (m Message, err error) {
	c := &e.orUnopened().in
	if c.gate.tryLock() && c.takeNow(buf, &m) {
		return m, nil
	}
	return e.receive(ctx, buf, false)
}

// takeNow is receiveInto but for the receive, with the gate held, which it unlocks. The
// copy may fault and the hook may panic (T4): a message that was not copied is not
// taken, and what was stored is known before anybody is called.
func (c *consumer) takeNow(buf []byte, m *Message) bool {
	defer c.gate.unlock()
	hook, pos, limit := c.e.hookFunc, c.cursor, c.spinNow()
	if pos == limit || !c.known {
		return false
	}
	r := c.ring.load(pos)
	if !r.within(limit) || r.size > len(buf) {
		return false
	}
	if hook != nil {
		hook(step.Peeked, pos)
	}
	m.Kind, m.Redelivered = r.kind, int64(c.inherited-pos) > 0
	m.Attachment = c.stay
	c.deliver(r.next)
	if hook != nil {
		hook(step.Delivered, r.next)
	}
	m.Data = buf[:copy(buf, c.ring.payload(pos, r.size))]
	c.cursor = r.next
	c.views.readPos.set(r.next)
	storeFenced(&c.own.readPos, r.next) // pairs: message-released
	c.received.count(1)
	if hook != nil {
		c.storedReadPos(pos, r.next)
	}
	c.e.bell.notify(&c.own.readPos, pos, r.next, c.peer.control.spaceWaitFor.Load()) // pairs: waiting
	if c.renewed() {
		c.e.bell.wake(&c.own.readPos)
	}
	if hook != nil {
		hook(step.ReleaseNotified, r.next)
	}
	return true
}

// spinNow returns the end of what may be taken at once: the cursor if nothing may.
func (c *consumer) spinNow() uint64 {
	seen := c.limit()
	if c.e.closing.Load() || c.held.Load() != 0 {
		return c.cursor
	}
	if c.cursor != seen {
		return seen
	}
	looks := 1
	if c.e.spinBudget(&c.wait) > 0 {
		looks = looksBeforeClock
	}
	for word := &c.peer.control.writePos; looks > 0; looks-- {
		limit := word.Load() // pairs: message-committed
		if limit == seen {
			continue
		}
		if c.attention.Load() || !c.ring.isWritePos(limit, seen, c.cursor) || !c.writePos.advance(seen, limit) {
			break
		}
		c.wait.adapt(true)
		return limit
	}
	return c.cursor
}

// takeViews takes records as views, as many as wait and fit, marked delivered
// with one store. What into holds, which the caller may change, is not read back (T4).
func (c *consumer) takeViews(into []Message) (int, error) {
	n, end, seq := 0, c.cursor, c.views.next // which only the holder of the gate moves
	c.batch = c.batch[:0]
	for limit := c.limit(); n < len(into) && end != limit; n++ {
		r, err := c.peek(end)
		if err != nil && n == 0 {
			return 0, c.reject(err)
		}
		if err != nil {
			break // told by the next call, which begins here
		}
		c.describe(&r, &into[n])
		into[n].from, into[n].seq = c, seq+uint64(n)
		c.batch = append(c.batch, r)
		end = r.next
	}
	c.deliver(end)
	c.e.hook(step.Delivered, end)
	c.views.pushAll(c, c.batch)
	c.cursor = end
	c.received.count(n)
	return n, nil
}

// takeCopies copies records into buf, one behind the other, as many as wait and
// fit: marked delivered with one store, and released with one.
func (c *consumer) takeCopies(buf []byte, into []Message) (int, error) {
	n, end := 0, c.cursor
	room := len(buf)
	c.batch = c.batch[:0]
	for limit := c.limit(); n < len(into) && end != limit; n++ {
		r, err := c.peek(end)
		switch {
		case err != nil && n == 0:
			return 0, c.reject(err)
		case r.size > room && n == 0 && err == nil:
			return 0, &ShortBufferError{r.size}
		}
		if err != nil || r.size > room {
			break // told by the next call, which begins here
		}
		c.describe(&r, &into[n])
		into[n].from, into[n].seq = nil, 0 // a view may have stood here before
		c.batch = append(c.batch, r)
		room -= r.size
		end = r.next
	}
	c.deliver(end)
	c.e.hook(step.Delivered, end)
	for i, r := range c.batch {
		size := copy(buf, c.ring.payload(r.pos, r.size))
		into[i].Data, buf = buf[:size:size], buf[size:]
	}
	c.cursor = end
	c.received.count(n)
	if c.held.Load() == 0 {
		c.views.advance(c, end)
	} else if err := c.release(c.views.push(c, end)); err != nil {
		return 0, err
	}
	return n, nil
}
