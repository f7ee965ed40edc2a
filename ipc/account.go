package ipc

// An account is what one side knows of the messages that it committed: which of
// them its peer has released, and which it may have seen (M6).
type account struct {
	readPos, deliveredPos, writePos uint64
}

// account reads the peer's positions for what this side sends, and checks them.
//
// Preconditions: e.mu is held, and the memory is mapped.
func (e *Endpoint) account() (account, error) {
	a := account{writePos: e.own.control.writePos.Load()}
	seen, frozen := e.out.readPos.get()
	if frozen || e.corrupt != nil {
		a.readPos, a.deliveredPos = seen, a.writePos // nothing is known: all may have been seen
		return a, nil
	}
	peer := e.peer.control
	a.readPos = peer.readPos.Load()           // pairs: message-released
	a.deliveredPos = peer.deliveredPos.Load() // pairs: message-delivered
	a.writePos = e.own.control.writePos.Load()
	if err := e.own.ring.checkReadPos(a.readPos, seen, a.writePos); err != nil {
		return account{}, err
	}
	// A live peer may move both between the two loads: then the mark is ahead.
	if err := e.own.ring.checkDeliveredPos(a.deliveredPos, a.readPos, a.writePos); err != nil {
		return account{}, err
	}
	return a, nil
}

// list copies the messages of the account out of the ring. It gives up when they
// turn out to be overwritten meanwhile, which needs a peer that releases and a
// sender that sends. It reads beside a sender by design: what it reads is not
// written as long as readPos stands, and that is checked behind it.
//
//go:norace
func (e *Endpoint) list(a account) (unreleased []Unreleased, stable bool) {
	for pos := a.readPos; pos != a.writePos; {
		kind, size, next, err := e.own.ring.peek(pos, a.writePos)
		if err != nil {
			return nil, false
		}
		data := make([]byte, size)
		copy(data, e.own.ring.payload(pos, size))
		unreleased = append(unreleased, Unreleased{data, kind, int64(a.deliveredPos-pos) > 0})
		pos = next
	}
	again, err := e.account()
	return unreleased, err == nil && again.readPos == a.readPos
}

// count tells how many messages the account leaves unreleased, and how many of
// them the peer may have seen.
//
// Preconditions: e.mu is held, and no peer is there to move readPos.
func (e *Endpoint) count(a account) (unreleased, redeliverable int) {
	for pos := a.readPos; pos != a.writePos; unreleased++ {
		_, _, next, err := e.own.ring.peek(pos, a.writePos)
		if err != nil {
			return unreleased, redeliverable
		}
		if int64(a.deliveredPos-pos) > 0 {
			redeliverable++
		}
		pos = next
	}
	return unreleased, redeliverable
}

// Unreleased returns copies of the messages that this side committed and that no
// peer has released, oldest first (M6). After the end of a peer it is the exact
// account of what that peer left; while one is attached it is a moment's.
func (e *Endpoint) Unreleased() ([]Unreleased, error) {
	for {
		list, stable, err := e.unreleased()
		if stable || err != nil {
			return list, err
		}
		if e.out.gate.tryLock() { // nobody sends: the next look is stable
			list, stable, err = e.unreleased()
			e.out.gate.unlock()
			if stable || err != nil {
				return list, err
			}
		}
	}
}

func (e *Endpoint) unreleased() ([]Unreleased, bool, error) {
	e.mu.Lock()
	if e.closing.Load() {
		e.mu.Unlock()
		return nil, false, ErrClosed
	}
	a, err := e.account()
	if err != nil {
		e.mu.Unlock()
		return nil, false, e.expel(err, false)
	}
	defer e.mu.Unlock()
	list, stable := e.list(a)
	return list, stable, nil
}
