package ipc

import (
	"context"
	"runtime"
	"sync/atomic"
)

// A consumer is this process's end of the direction that it receives on. Its
// ring lies in the peer's segment, mapped read-only.
type consumer struct {
	e    *Endpoint
	gate gate // guards the fields up to wait
	ring ring
	own  *control // readPos, deliveredPos, dataWaitFor
	peer *segment // writePos, spaceWaitFor

	cursor       uint64 // end of what this process has taken
	deliveredPos uint64 // what the own word holds
	inherited    uint64 // what it held when this process came: what lies below is marked
	joined       uint64 // at a client, where the peer's word stood when this process came
	stay         uint64 // Message.Attachment of what stands at the cursor, if known
	known        bool
	batch        []record // what a call has peeked at to take at once
	wait         waiter
	received     counter
	starved      starvation

	writePos seenPos // the peer's

	// attention is set when something but the peer's position must be looked
	// at: the end of an attachment, a new peer segment.
	attention atomic.Bool

	// held counts the views not yet out of the way; while it is 0 only the
	// holder of the gate moves readPos.
	held  atomic.Int64
	views views
}

// lock takes the gate and looks at what has happened meanwhile.
func (c *consumer) lock(ctx context.Context) error {
	if ctx == nil {
		return errNoContext
	}
	if !c.gate.tryLock() {
		if !c.e.isOpened() {
			return ErrClosed
		}
		if err := c.gate.queue(ctx, c.e.closed); err != nil {
			return err
		}
	}
	if c.e.closing.Load() {
		c.gate.unlock()
		return ErrClosed
	}
	return nil
}

// tryLock is lock for the calls that do not wait.
func (c *consumer) tryLock() error {
	if !c.gate.tryEnter() {
		if !c.e.isOpened() || c.e.closing.Load() {
			return ErrClosed
		}
		return ErrEmpty
	}
	if c.e.closing.Load() { // one look decides whether the gate is kept
		c.gate.unlock()
		return ErrClosed
	}
	return nil
}

// look implements end: it samples the peer's position, then what has ended. A
// message of the next client cannot be seen before the end of the former is
// told, because that end was recorded before the next was admitted.
func (c *consumer) look() (bool, error) {
	seen, frozen := c.writePos.get()
	writePos := seen
	if !frozen {
		writePos = c.peer.control.writePos.Load() // pairs: message-committed
	}
	if c.attention.Load() {
		return c.attend(writePos)
	}
	if !c.ring.isWritePos(writePos, seen, c.views.readPosOf(c)) {
		return false, c.suspect(seen)
	}
	if c.cursor == writePos {
		return false, c.starving()
	}
	if c.writePos.advance(seen, writePos) {
		return true, nil
	}
	// It is frozen, before anybody says why: what was checked by then can be taken.
	return c.cursor != c.limit(), nil
}

// attend is look when an attachment has ended or the peer's memory was replaced.
// What the ended one committed comes first (M5), its end after that, once.
// The caller has read writePos before it saw attention, as look does.
func (c *consumer) attend(writePos uint64) (bool, error) {
	now := c.e.attendConsumer(c.cursor)
	if now.peer != nil {
		c.views.replace(c.peer, now.peer, now.renewal)
		c.peer, c.ring = now.peer, now.peer.ring
	}
	c.known = c.known && !now.again
	if now.err != nil {
		return false, now.err
	}
	if now.again {
		return c.look()
	}
	seen, frozen := c.writePos.get()
	if frozen {
		return c.cursor != seen, nil
	}
	limit := writePos
	if now.limited {
		limit = now.limit
	}
	if !c.ring.isWritePos(limit, seen, c.views.readPosOf(c)) {
		return false, c.suspect(seen)
	}
	c.writePos.advance(seen, limit) // or it is frozen, as in look
	return c.cursor != c.limit(), nil
}

// suspect drops the peer if its writePos is wrong for sure. It returns nil if that
// must be looked at again: the value was perhaps a former client's, whose end
// comes first and whose memory was judged with it.
func (c *consumer) suspect(seen uint64) error {
	return c.e.expel(true, func() error {
		if c.e.role == RoleServer && len(c.e.ends) > 0 {
			return nil
		}
		writePos := c.peer.control.writePos.Load() // pairs: message-committed
		return c.ring.checkWritePos(writePos, seen, c.views.readPosOf(c))
	})
}

// starving reports that the peer waits for space which only views held here
// take up, with nothing left to receive (W8). The waiting word of one that has gone
// stands there until the next clears it.
func (c *consumer) starving() error {
	if c.held.Load() == 0 {
		return nil
	}
	readPos := c.views.readPosOf(c)
	waitFor := c.peer.control.spaceWaitFor.Load() // pairs: waiting
	forSpace := waitFor%recordAlign == 0          // else it is a flush
	if forSpace && crosses(readPos, c.cursor, waitFor) && c.e.peerIsThere() {
		return ErrViewsHeld
	}
	return nil
}

// renewed reports whether a client may be there whose memory is not that of views.
//
// Preconditions: as for store.
func (c *consumer) renewed() bool { return c.e.renewals.Load() != c.views.renewal }

// watching implements end.
func (c *consumer) watching() (word *atomic.Uint64, value uint64, waitFor *atomic.Uint64, target uint64) {
	seen, frozen := c.writePos.get()
	if frozen {
		return &c.e.never, 0, &c.own.dataWaitFor, c.cursor + 1
	}
	return &c.peer.control.writePos, seen, &c.own.dataWaitFor, c.cursor + 1
}

// settle implements end.
func (c *consumer) settle() { c.received.settle() }

// available makes sure that a record stands at the cursor.
func (c *consumer) available(ctx context.Context) error {
	for {
		err := c.await(ctx)
		if err != ErrViewsHeld {
			return err
		}
		if err = c.starved.pace(ctx, c); err != nil {
			return err
		}
	}
}

// await waits for a record at the cursor.
func (c *consumer) await(ctx context.Context) error {
	if c.cursor != c.limit() {
		return nil
	}
	if ready, err := c.look(); ready || err != nil {
		return err
	}
	if c.e.spinBudget(&c.wait) > 0 {
		seen := c.limit()
		for range looksBeforeClock {
			if c.peer.control.writePos.Load() != seen {
				if ready, err := c.look(); ready || err != nil {
					c.wait.adapt(true)
					return err
				}
				break
			}
		}
	}
	return c.e.await(ctx, &c.wait, c)
}

// availableNow is available for the calls that do not wait.
func (c *consumer) availableNow() error {
	if c.cursor != c.limit() {
		return nil
	}
	ready, err := c.look()
	if err == nil && !ready || err == ErrViewsHeld && !c.starved.isDue(c) {
		err = ErrEmpty
	}
	return err
}

// limit is the end of what is known to be committed.
func (c *consumer) limit() uint64 {
	pos, _ := c.writePos.get()
	return pos
}

// receive waits for a record and takes it with one of the two forms.
func (e *Endpoint) receive(ctx context.Context, buf []byte, view bool) (Message, error) {
	c := &e.orUnopened().in
	var m Message
	if err := c.lock(ctx); err != nil {
		return m, err
	}
	defer c.gate.unlock()
	err := c.available(ctx)
	switch {
	case err != nil:
	case view:
		err = c.takeView(&m)
	default:
		err = c.takeCopy(buf, &m)
	}
	return m, err
}

// tryReceive is receive without waiting.
func (e *Endpoint) tryReceive(buf []byte, view bool) (Message, error) {
	c := &e.orUnopened().in
	if err := c.tryLock(); err != nil {
		return Message{}, err
	}
	defer c.gate.unlock()
	var m Message
	err := c.availableNow()
	switch {
	case err != nil:
	case view:
		err = c.takeView(&m)
	default:
		err = c.takeCopy(buf, &m)
	}
	return m, err
}

// receiveBatch is receive for several.
func (e *Endpoint) receiveBatch(ctx context.Context, buf []byte, into []Message, view bool) (int, error) {
	c := &e.orUnopened().in
	if len(into) == 0 {
		return 0, nil
	}
	if err := c.lock(ctx); err != nil {
		return 0, err
	}
	defer c.gate.unlock()
	if err := c.available(ctx); err != nil {
		return 0, err
	}
	if view {
		return c.takeViews(into)
	}
	return c.takeCopies(buf, into)
}

// tryReceiveBatch is receiveBatch without waiting.
func (e *Endpoint) tryReceiveBatch(buf []byte, into []Message, view bool) (int, error) {
	c := &e.orUnopened().in
	if len(into) == 0 {
		return 0, nil
	}
	if err := c.tryLock(); err != nil {
		return 0, err
	}
	defer c.gate.unlock()
	if err := c.availableNow(); err != nil {
		return 0, err
	}
	if view {
		return c.takeViews(into)
	}
	return c.takeCopies(buf, into)
}

// retire ends receiving for good: it returns when no goroutine reads the peer's
// memory any more, apart from the views that callers still hold. It returns how many
// bytes are left unreceived.
//
// Preconditions: closing is set, and waiters were interrupted.
func (c *consumer) retire() (unreceived uint64) {
	for !c.gate.tryLock() {
		runtime.Gosched() // to a waiter that needs this goroutine's processor to leave
	}
	c.received.settle()
	c.e.shield(c.wait.forget)
	peer, from, to := c.unreceived()
	peer.release()
	c.views.close(c.peer)
	return to - from
}
