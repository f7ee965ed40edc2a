package conn

import (
	"encoding/binary"
	"errors"
	"time"

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
		early := c.closesEarly(kind)
		if c.reason == nil && errors.Is(c.a.trySend(kind, c.number, body), ipc.ErrFull) {
			if early {
				c.saidClose = false
				c.a.restore(c)
			}
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
		c.closesEarly(kind)
		c.mu.Unlock()
		_ = c.a.send(c.a.ctx, kind, c.number, body)
		c.mu.Lock()
		c.paid(kind, body)
	}
}

// closesEarly is called before a frame is sent. The server counts a connection as gone
// before its close can be seen, and the client, in paid, after its close is: else
// an open in the place of this connection could find it still there, and the server
// would take the client for one that opens too many.
func (c *Conn) closesEarly(kind frameKind) bool {
	if kind != closeFrame || c.a.accept == nil {
		return false
	}
	c.saidClose = true
	c.leave()
	return true
}

// giveUp has nobody wait for this connection's close any more; c.mu is held. The clerk
// goes on trying to send it.
func (c *Conn) giveUp() {
	if c.givenUp {
		return
	}
	c.givenUp = true
	if c.patience != nil {
		c.patience.Stop()
	}
	c.a.quiet()
}

// hurry gives up in a while, at the server, if the close is not sent; c.mu is held. A
// client that takes nothing would else keep a Listener that is closed as long as it likes.
func (c *Conn) hurry() {
	if c.a.accept == nil || c.givenUp {
		return
	}
	c.patience = time.AfterFunc(c.a.patience, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.giveUp()
	})
}

// leave ends the connection if both sides have closed it; c.mu is held.
func (c *Conn) leave() {
	if c.saidClose && c.peerGone {
		c.a.forget(c)
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
		c.leave()
		c.giveUp()
	case finishFrame:
		c.owesFinish = false
	case creditFrame:
		c.owedCredit -= int(binary.LittleEndian.Uint64(body))
	}
}
