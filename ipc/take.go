package ipc

import (
	"fmt"

	"github.com/tandem-ipc/tandem/ipc/step"
)

// A record is a message seen but not yet taken.
type record struct {
	kind uint32
	size int
	pos  uint64
	next uint64
}

// peek reads and checks the record at pos.
func (c *consumer) peek(pos uint64) (record, error) {
	kind, size, next, err := c.ring.peek(pos, c.limit())
	if err != nil {
		return record{}, err
	}
	c.e.hook(step.Peeked, pos)
	return record{kind, size, pos, next}, nil
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
		c.cursor = limit
		_ = c.release(c.views.push(c, limit)) // a view that nobody else knows
	}
	return err
}

// deliver marks everything up to next as handed out. The mark only ever grows
// (W7), and it is stored before the caller sees the message.
func (c *consumer) deliver(next uint64) {
	if int64(next-c.deliveredPos) > 0 {
		c.own.deliveredPos.Store(next) // pairs: message-delivered
		c.deliveredPos = next
	}
	c.e.hook(step.Delivered, next)
}

// describe fills in what a record is as a view.
func (c *consumer) describe(r *record, m *Message) {
	m.Data = c.ring.payload(r.pos, r.size)
	m.Kind = r.kind
	m.Redelivered = int64(c.deliveredPos-r.pos) > 0
}

// store moves readPos from old to new: a release.
//
// Preconditions: the caller holds the gate with no view held, or views' mutex.
func (c *consumer) store(old, new uint64) {
	c.own.readPos.Store(new) // pairs: message-released
	c.e.hook(step.Released, new)
	c.e.bell.notify(&c.own.readPos, old, new, &c.views.peer.control.spaceWaitFor)
	c.e.hook(step.ReleaseNotified, new)
}

// takeView takes the record at the cursor as a view.
func (c *consumer) takeView(m *Message) error {
	r, err := c.peek(c.cursor)
	if err != nil {
		return c.reject(err)
	}
	c.describe(&r, m)
	c.deliver(r.next)
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
		return fmt.Errorf("%w: it has %d bytes", ErrShortBuffer, r.size)
	}
	c.describe(&r, m)
	c.deliver(r.next)
	m.Data = buf[:copy(buf, m.Data)]
	c.cursor = r.next
	if c.held.Load() == 0 {
		c.views.advance(c, r.next)
	} else if err := c.release(c.views.push(c, r.next)); err != nil {
		return err
	}
	c.received.count(1)
	return nil
}

// takeViews takes records as views, as many as wait and fit, marked delivered
// with one store.
func (c *consumer) takeViews(into []Message) (int, error) {
	n, end := 0, c.cursor
	for limit := c.limit(); n < len(into) && end != limit; n++ {
		r, err := c.peek(end)
		if err != nil && n == 0 {
			return 0, c.reject(err)
		}
		if err != nil {
			break // told by the next call, which begins here
		}
		c.describe(&r, &into[n])
		into[n].from = c
		end = r.next
	}
	c.deliver(end)
	c.views.pushAll(c, into[:n])
	c.cursor = end
	c.received.count(n)
	return n, nil
}

// takeCopies copies records into buf, one behind the other, as many as wait and
// fit: marked delivered with one store, and released with one.
func (c *consumer) takeCopies(buf []byte, into []Message) (int, error) {
	n, end := 0, c.cursor
	room := len(buf)
	for limit := c.limit(); n < len(into) && end != limit; n++ {
		r, err := c.peek(end)
		switch {
		case err != nil && n == 0:
			return 0, c.reject(err)
		case r.size > room && n == 0 && err == nil:
			return 0, fmt.Errorf("%w: it has %d bytes", ErrShortBuffer, r.size)
		}
		if err != nil || r.size > room {
			break // told by the next call, which begins here
		}
		c.describe(&r, &into[n])
		room -= r.size
		end = r.next
	}
	c.deliver(end)
	for i := range into[:n] {
		size := copy(buf, into[i].Data)
		into[i].Data, buf = buf[:size:size], buf[size:]
	}
	c.cursor = end
	if c.held.Load() == 0 {
		c.views.advance(c, end)
	} else if err := c.release(c.views.push(c, end)); err != nil {
		return 0, err
	}
	c.received.count(n)
	return n, nil
}
