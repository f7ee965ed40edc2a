package ipc

import (
	"cmp"
	"sync"
	"sync/atomic"
)

// views is the queue of messages handed out as views and not yet out of the
// way. They are released in any order; readPos follows the oldest.
type views struct {
	mu      sync.Mutex
	queue   []view        // a circle; its length is a power of two
	first   uint64        // sequence number of the oldest
	next    uint64        // sequence number of the next
	marked  atomic.Uint64 // how often one was released
	readPos ownPos
	peer    *segment
	renewal uint32 // the number of peer
	retired []retiredSegment
	closed  bool
}

type view struct {
	end      uint64
	released bool
}

// A retiredSegment is peer memory that was replaced while views into it were
// held; it is unmapped when the last of them is released.
type retiredSegment struct {
	segment *segment
	until   uint64 // sequence number behind its last view
}

// readPosOf returns readPos as the holder of the gate may know it: exact if no
// view is held, and else not ahead of it.
func (v *views) readPosOf(c *consumer) uint64 {
	if c.held.Load() == 0 {
		return v.readPos.load()
	}
	return v.lockedReadPos()
}

func (v *views) lockedReadPos() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.readPos.load()
}

// advance releases the record that ends at end, when no view is held.
func (v *views) advance(c *consumer, end uint64) {
	old := v.readPos.load()
	v.readPos.set(end)
	c.store(old, end)
}

// push adds the view that ends at end and returns its sequence number.
func (v *views) push(c *consumer, end uint64) uint64 {
	v.mu.Lock()
	seq := v.add(end)
	c.held.Add(1)
	v.mu.Unlock()
	return seq
}

// pushAll adds the views of consecutive records.
func (v *views) pushAll(c *consumer, records []record) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range records {
		v.add(records[i].next)
	}
	c.held.Add(int64(len(records)))
}

func (v *views) add(end uint64) uint64 {
	if v.next-v.first == uint64(len(v.queue)) {
		grown := make([]view, max(64, 2*len(v.queue)))
		for seq := v.first; seq != v.next; seq++ {
			grown[seq&uint64(len(grown)-1)] = v.queue[seq&uint64(len(v.queue)-1)]
		}
		v.queue = grown
	}
	seq := v.next
	v.queue[seq&uint64(len(v.queue)-1)] = view{end: end}
	v.next++
	return seq
}

// release releases one view.
func (c *consumer) release(seq uint64) error {
	v := &c.views
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.mark(seq); err != nil {
		return err
	}
	return c.sweep()
}

// releaseAll releases views with one store of readPos. It goes on after an error,
// and returns the first.
func (c *consumer) releaseAll(messages []Message) error {
	v := &c.views
	v.mu.Lock()
	defer v.mu.Unlock()
	var first error
	marked := false
	for i := range messages {
		err := v.mark(messages[i].seq)
		marked = marked || err == nil
		first = cmp.Or(first, err)
	}
	if marked { // else readPos may be the gate's holder's
		first = cmp.Or(first, c.sweep())
	}
	return first
}

// mark notes that a view is released.
func (v *views) mark(seq uint64) error {
	if seq-v.first >= v.next-v.first {
		return ErrReleased
	}
	view := &v.queue[seq&uint64(len(v.queue)-1)]
	if view.released {
		return ErrReleased
	}
	view.released = true
	v.marked.Add(1)
	return nil
}

// sweep moves readPos behind the oldest views that are released.
func (c *consumer) sweep() error {
	v := &c.views
	first, end := v.first, v.readPos.load()
	for v.first != v.next && v.queue[v.first&uint64(len(v.queue)-1)].released {
		end = v.queue[v.first&uint64(len(v.queue)-1)].end
		v.first++
	}
	if v.closed {
		v.drop()
		c.held.Add(int64(first) - int64(v.first))
		return ErrClosed
	}
	if v.first == first {
		return nil
	}
	defer func() { // also if a hook panics
		v.drop()
		c.held.Add(int64(first) - int64(v.first)) // last: the gate's holder may move readPos now
	}()
	old := v.readPos.load()
	v.readPos.set(end)
	c.store(old, end)
	return nil
}

// drop unmaps retired memory that no view is left in.
func (v *views) drop() {
	for len(v.retired) > 0 && int64(v.first-v.retired[0].until) >= 0 {
		v.retired[0].segment.release()
		v.retired = v.retired[1:]
	}
}

// replace goes on with another peer segment, and keeps the old one until the
// views into it are released.
func (v *views) replace(old, new *segment, renewal uint32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leave(old)
	v.peer, v.renewal = new, renewal
}

// close lets go of the peer's memory, at once or with the last view.
func (v *views) close(peer *segment) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leave(peer)
	v.closed = true
}

func (v *views) leave(old *segment) {
	n := len(v.retired)
	if v.first == v.next || n > 0 && v.retired[n-1].until == v.next {
		old.release() // no view lies in it, though one may in what was before
		return
	}
	v.retired = append(v.retired, retiredSegment{old, v.next})
}
