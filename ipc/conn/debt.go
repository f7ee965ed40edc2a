package conn

import (
	"encoding/binary"
	"errors"

	"github.com/tandem-ipc/tandem/ipc"
)

// What a connection owes its peer is credit, a finish and a close. Read and Close do
// not wait for the peer, and the loop that receives waits for nobody; so these frames
// go at once if there is room, and else the clerk sends them. A connection stands in
// the clerk's list once at most, so that the list is bounded.

// pay sends what is owed if there is room, and else leaves it to the clerk; c.mu is
// held.
func (c *Conn) pay() {
	for !c.postponed {
		kind, body := c.owed()
		if kind == 0 {
			return
		}
		if c.reason == nil && errors.Is(c.a.trySend(kind, c.number, body), ipc.ErrFull) {
			c.postponed = true
			c.a.postpone(c)
			return
		}
		c.paid(kind, body) // also with an error: then nobody is there to be owed anything
	}
}

// payAll is pay for the clerk, who waits.
func (c *Conn) payAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		kind, body := c.owed()
		if kind == 0 {
			c.postponed = false
			return
		}
		c.mu.Unlock()
		_ = c.a.send(c.a.ctx, kind, c.number, body)
		c.mu.Lock()
		c.paid(kind, body)
	}
}

// owed returns the next frame that is owed, or kind 0. Behind a close nothing is.
func (c *Conn) owed() (frameKind, []byte) {
	switch {
	case c.saidClose:
	case c.owesClose:
		return closeFrame, nil
	case c.owesFinish:
		return finishFrame, nil
	case c.owedCredit > 0:
		return creditFrame, binary.LittleEndian.AppendUint64(nil, uint64(c.owedCredit))
	}
	return 0, nil
}

func (c *Conn) paid(kind frameKind, body []byte) {
	switch kind {
	case closeFrame:
		c.saidClose = true
		if c.peerGone {
			c.a.forget(c)
		}
		c.a.quiet()
	case finishFrame:
		c.owesFinish = false
	case creditFrame:
		c.owedCredit -= int(binary.LittleEndian.Uint64(body))
	}
}
