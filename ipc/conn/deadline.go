package conn

import (
	"net"
	"sync"
	"time"
)

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.set(t, true, true)
}

// SetReadDeadline sets when Read stops waiting, also one that waits now.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.set(t, true, false)
}

// SetWriteDeadline sets when Write stops waiting, also one that waits now. It may
// have written a part by then.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.set(t, false, true)
}

func (c *Conn) set(t time.Time, read, write bool) error {
	c = c.orUnopened()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.fault("set", net.ErrClosed)
	}
	if read {
		c.readDeadline.set(t, &c.mu, c.readable.Broadcast)
	}
	if write {
		c.writeDeadline.set(t, &c.mu, c.stopWriting)
	}
	return nil
}

// A deadline is guarded by the mutex of its connection.
type deadline struct {
	expired bool
	timer   *time.Timer // nil if none runs
}

// set makes the deadline t, never if zero, and calls wake, under the mutex, when it
// expires.
func (d *deadline) set(t time.Time, mu *sync.Mutex, wake func()) {
	d.stop()
	d.expired = false
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.expired = true
		wake()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		mu.Lock()
		defer mu.Unlock()
		if d.timer == timer { // no other was set meanwhile
			d.expired = true
			wake()
		}
	})
	d.timer = timer
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
