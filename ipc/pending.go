package ipc

// MaxMessage returns the size in bytes of the largest message that this side can send:
// what its ring holds when nothing else is in it. It never changes.
func (e *Endpoint) MaxMessage() int {
	if !e.isOpened() {
		return 0
	}
	return e.out.ring.maxPayload()
}

// Pending counts the messages of this moment in both rings: those that this side has
// committed and the peer has not released, and those that the peer has committed and
// this side has not received. The peer may be gone: then they wait for the next client,
// or are received before its end is told. Both are 0 after Close.
//
// It goes through the messages. That takes as long as there are many, and a sender that
// finds the ring full waits meanwhile; Stats has the same in bytes, at once.
func (e *Endpoint) Pending() (unreleased, unreceived int) {
	if !e.isOpened() {
		return 0, 0
	}
	unreleased, unreceived = e.pendingOut(), e.in.pending()
	if e.closing.Load() {
		return 0, 0 // what was read may have been unmapped
	}
	return unreleased, unreceived
}

// pendingOut counts what is unreleased. What a corrupt peer says of it counts as none:
// sending and Unreleased judge the peer.
func (e *Endpoint) pendingOut() int {
	e.mu.Lock()
	if e.closing.Load() {
		e.mu.Unlock()
		return 0
	}
	a, err := e.account()
	if err != nil {
		e.mu.Unlock()
		return 0
	}
	own := e.own
	own.refs.Add(1)
	defer own.release()
	e.out.keep(a.readPos)
	defer e.out.unkeep(a.readPos)
	e.mu.Unlock()
	unreleased, _ := e.count(a)
	return unreleased
}

// unreceived is where what was committed and not received begins and ends, and the memory
// that it lies in, which is the caller's to release; nil after Close. Of what a hostile
// peer says it is a guess, within the bounds of the ring, that nobody acts upon.
func (c *consumer) unreceived() (peer *segment, from, to uint64) {
	v := &c.views
	v.mu.Lock()
	defer v.mu.Unlock()
	readPos := v.readPos.load()
	from = readPos
	if v.first != v.next {
		from = v.queue[(v.next-1)&uint64(len(v.queue)-1)].end
	}
	to, frozen := c.writePos.get()
	if !v.closed {
		peer = v.peer
		peer.refs.Add(1)
		if writePos := peer.control.writePos.Load(); !frozen && peer.ring.isWritePos(writePos, to, readPos) {
			to = writePos
		}
	}
	if int64(to-from) < 0 {
		to = from // a receiver is just at work
	}
	return peer, from, to
}

// pending counts what is unreceived, beside a receiver. A record that was released
// meanwhile may be written over: if readPos has passed it, the count begins anew there.
func (c *consumer) pending() (n int) {
	peer, pos, to := c.unreceived()
	if peer == nil {
		return 0
	}
	defer peer.release()
	for int64(to-pos) > 0 {
		r := peer.ring.load(pos)
		if readPos := c.views.readPos.load(); int64(readPos-pos) > 0 {
			pos, n = readPos, 0
			continue
		}
		pos, n = r.next, n+1 // also if it goes beyond what is committed: Receive judges it
	}
	return n
}
