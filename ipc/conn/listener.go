package conn

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// A Listener is the server of a pair as a net.Listener. It outlives its clients. A nil
// Listener, and one that Listen has not made, is closed.
type Listener struct {
	endpoint *ipc.Endpoint
	own      hello
	patience time.Duration // with a client that takes nothing
	served   chan struct{} // closed when nothing is received any more

	mu      sync.Mutex
	arrived sync.Cond
	pending []*Conn // not accepted yet
	closing bool

	// attachment is of the client that is there. Only serve changes it, and reads it
	// without the mutex. One that broke the protocol stays until its client has left.
	attachment *attachment

	closeOne sync.Once
	closeErr error
	closed   chan struct{}
}

// Listen becomes the server of a path, with the errors of ipc.Listen. ctx bounds
// Listen only.
func Listen(ctx context.Context, path string, o *Options) (*Listener, error) {
	s, err := o.read()
	if err != nil {
		return nil, err
	}
	endpoint, err := ipc.Listen(ctx, path, s.ipc)
	if err != nil {
		return nil, err
	}
	l := newListener(endpoint, s)
	go l.serve()
	return l, nil
}

func newListener(endpoint *ipc.Endpoint, s settings) *Listener {
	l := &Listener{
		endpoint: endpoint, own: s.own, patience: s.patience(),
		served: make(chan struct{}), closed: make(chan struct{}),
	}
	l.arrived.L = &l.mu
	return l
}

// Addr returns the path of the pair.
func (l *Listener) Addr() net.Addr { return Addr(l.orUnopened().endpoint.Path()) }

// Accept returns the next connection, waiting for it. It comes also when its client
// has died since: what that one wrote is read first. After Close the error is
// net.ErrClosed, and no other error is returned.
func (l *Listener) Accept() (net.Conn, error) {
	l = l.orUnopened()
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.pending) == 0 && !l.closing {
		l.arrived.Wait()
	}
	if l.closing {
		return nil, &net.OpError{Op: "accept", Net: Network, Addr: l.Addr(), Err: net.ErrClosed}
	}
	c := l.pending[0]
	l.pending = l.pending[1:]
	return c, nil
}

// Close stops accepting. As with every net.Listener, connections that were accepted
// go on, so that http.Server.Shutdown can wait for them; those that were not are
// closed. The pair is closed behind the last of them, and Closed tells when. If there
// is none, Close closes the pair itself, and returns what ipc.Endpoint.Close returns. A
// connection that is closed, and to whose client that cannot be said for
// ipc.Options.CloseTimeout, because the ring to it is full, is waited for no longer: if it
// is the last, it ends at the client with ipc.ErrPeerClosed.
func (l *Listener) Close() error {
	l = l.orUnopened()
	attachment := l.stop()
	if attachment != nil && attachment.busy() {
		return nil
	}
	return l.finish()
}

// Abort is Close, but connections do not go on: they end with net.ErrClosed, and at
// the client with ipc.ErrPeerClosed. It returns what ipc.Endpoint.Close returns.
func (l *Listener) Abort() error {
	l = l.orUnopened()
	l.stop()
	return l.finish()
}

// Closed is closed when the Listener has left the path, and another can listen.
func (l *Listener) Closed() <-chan struct{} { return l.orUnopened().closed }

// stop accepts nothing more, and returns the attachment that is there.
func (l *Listener) stop() *attachment {
	l.mu.Lock()
	l.closing = true
	pending, attachment := l.pending, l.attachment
	l.pending = nil
	l.arrived.Broadcast()
	l.mu.Unlock()
	for _, c := range pending {
		_ = c.Close()
	}
	return attachment
}

func (l *Listener) finish() error {
	l.closeOne.Do(func() {
		l.closeErr = l.endpoint.Close()
		<-l.served
		close(l.closed)
	})
	<-l.closed
	return l.closeErr
}

// finishIfClosing is called where the last connection may have gone. It does not wait.
func (l *Listener) finishIfClosing() {
	l.mu.Lock()
	defer l.mu.Unlock()
	// What has gone may be a former client's: those of the one that is there go on.
	if l.closing && (l.attachment == nil || !l.attachment.busy()) {
		go func() { _ = l.finish() }()
	}
}

// serve receives until the endpoint is closed.
func (l *Listener) serve() {
	defer close(l.served)
	in := inlet{endpoint: l.endpoint}
	for {
		m, err := in.next()
		if err == nil {
			l.take(m)
			continue
		}
		// The end of a client, behind its last message, or this side's own.
		if a := l.attachment; a != nil {
			a.end(err)
			<-a.clerk
			l.replace(nil)
			l.finishIfClosing()
		}
		if errors.Is(err, ipc.ErrClosed) {
			return
		}
	}
}

func (l *Listener) replace(a *attachment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attachment = a
}

// take handles one message of the client that is there, and sees to its release. One of a former client cannot
// come behind the end of that client, but one that claims to be of it can.
func (l *Listener) take(m ipc.Message) {
	f, ok := parse(m)
	a := l.attachment
	if a != nil && ok && f.stamp == a.stamp {
		if err := a.handle(m, f); err != nil {
			l.expel(a, err)
		}
		return
	}
	switch {
	case a == nil && ok && f.kind == helloFrame:
		l.greet(f)
	case a == nil: // it does not know how to begin
	case !ok:
		l.expel(a, protocolError("a message of kind %#x, %d bytes", m.Kind, len(m.Data)))
	default:
		l.expel(a, protocolError("a frame with another stamp"))
	}
	_ = m.Release()
}

// expel ends the attachment of a client that is still there. It is not heard any more.
func (l *Listener) expel(a *attachment, err error) {
	a.end(err)
	_ = a.trySend(expelFrame, 0, nil)
	l.finishIfClosing()
}

// greet begins an attachment. The client is answered also if it cannot be spoken to:
// it finds the reason in the hello of this side.
func (l *Listener) greet(f frame) {
	a := newAttachment(l.endpoint, f.stamp, l.own)
	a.accept, a.idle, a.patience = l.arrive, l.finishIfClosing, l.patience
	peer, err := decodeHello(f.body)
	l.replace(a)
	a.begin(peer)
	if err != nil {
		_ = a.trySend(helloFrame, 0, a.own.encode())
		l.expel(a, err)
	}
}

// arrive queues a connection for Accept. There are no more than ConnLimit: if there
// were, the oldest are of clients that have gone, because the one that is there cannot
// have so many.
func (l *Listener) arrive(c *Conn) {
	l.mu.Lock()
	closing := l.closing
	if !closing {
		if len(l.pending) >= l.own.connLimit {
			l.pending = l.pending[1:]
		}
		l.pending = append(l.pending, c)
		l.arrived.Signal()
	}
	l.mu.Unlock()
	if closing {
		_ = c.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.giveUp() // else a client that takes nothing could open one after the other
	}
}
