//go:build linux && (amd64 || arm64)

package ipc

import "time"

// What a client does with the token that it holds. It is a file of the server's
// choice: what is asked of it may be answered never, and nobody waits for that (T1).

// proveDeath waits for the kernel's word: the server's process has ended, or in this
// client's token file, the byte of the server that granted it is free. The server
// lock would not do: the next server may hold it already, while it waits for this
// client's token.
// Where the kernel does not let that be tested, unseen says why.
func (c *client) proveDeath() (died bool, unseen error) {
	deadline := time.Now().Add(c.e.options.handshakeTimeout())
	for wait := 20 * time.Microsecond; time.Now().Before(deadline); wait = min(2*wait, 5*time.Millisecond) {
		if c.conn.peer.died() {
			return true, nil
		}
		gone, err := c.grantorGone(deadline)
		if gone {
			return true, nil
		}
		if !c.conn.peer.exact {
			unseen = err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-c.e.closed:
			timer.Stop()
			return false, nil
		}
	}
	return false, unseen
}

// grantorGone asks for the server's byte of the token file. A file system that may not
// answer is asked only where there is no pidfd, and waited for until the deadline.
func (c *client) grantorGone(deadline time.Time) (gone bool, err error) {
	token := c.token
	ask := func() (bool, error) {
		locked, err := isLocked(token, grantorByte)
		return err == nil && !locked, err
	}
	switch {
	case c.prompt:
		return ask()
	case c.conn.peer.exact:
		return false, nil
	}
	type answer struct {
		gone bool
		err  error
	}
	answers := make(chan answer, 1)
	aside.now(func() {
		c.tokenUse.Lock()
		defer c.tokenUse.Unlock()
		var a answer
		if !c.tokenGone {
			a.gone, a.err = ask()
		}
		answers <- a
	})
	select {
	case a := <-answers:
		return a.gone, a.err
	case <-c.e.closed:
	case <-time.After(time.Until(deadline)):
	}
	return false, nil
}

// hurryLimit is how long a Dial whose context has ended waits for its token.
const hurryLimit = 100 * time.Millisecond

// letTokenGo closes the token, and waits for it, but not for ever: a file system of a
// hostile server's choice need not answer, neither to the unlock nor to the close.
func (c *client) letTokenGo() {
	token := c.token
	c.token = -1
	if c.prompt || token < 0 {
		letGo(token)
		return
	}
	done := aside.now(func() {
		c.tokenUse.Lock()
		defer c.tokenUse.Unlock()
		letGo(token)
		c.tokenGone = true
	})
	limit := time.After(c.e.options.closeTimeout())
	select {
	case <-done:
		return
	case <-limit:
		return
	case <-c.hurry:
	}
	select {
	case <-done:
	case <-time.After(hurryLimit):
	}
}
