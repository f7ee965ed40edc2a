package conn

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/tandem-ipc/tandem/ipc"
)

// What nobody has opened is closed, and says so: each method takes a nil or zero value
// for one of these.
var (
	unopened         = newUnopened()
	unopenedListener = newUnopenedListener()
	unopenedDialer   = newUnopenedDialer()
)

// nowhere is the endpoint of what was not opened: it has the empty path.
var nowhere *ipc.Endpoint

func newUnopened() *Conn {
	c := newConn(&attachment{endpoint: nowhere}, 0)
	c.closed = true
	return c
}

func newUnopenedListener() *Listener {
	l := newListener(nowhere, settings{})
	l.closing, l.closeErr = true, closedFault("close")
	endAtOnce(&l.closeOne, l.closed)
	return l
}

func newUnopenedDialer() *Dialer {
	d := NewDialer("", nil)
	d.closeErr = closedFault("close")
	d.cancel()
	d.attaching <- struct{}{} // for ever, as Close does
	endAtOnce(&d.closeOne, make(chan struct{}))
	return d
}

// endAtOnce is an end that has come before anything began.
func endAtOnce(once *sync.Once, ended chan struct{}) { once.Do(func() { close(ended) }) }

func closedFault(operation string) error {
	return &net.OpError{Op: operation, Net: Network, Addr: Addr(""), Err: net.ErrClosed}
}

func (c *Conn) orUnopened() *Conn {
	if c == nil || c.a == nil {
		return unopened
	}
	return c
}

func (l *Listener) orUnopened() *Listener {
	if l == nil || l.closed == nil {
		return unopenedListener
	}
	return l
}

func (d *Dialer) orUnopened() *Dialer {
	if d == nil || d.attaching == nil {
		return unopenedDialer
	}
	return d
}

var errNoContext = errors.New("conn: the context is nil: nothing was done: pass context.Background()")

func checkContext(ctx context.Context) error {
	if ctx == nil {
		return errNoContext
	}
	return nil
}
