package conn

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"sync"

	"github.com/tandem-ipc/tandem/ipc"
)

// A Dialer is the client of a pair, and makes its connections. It attaches to the
// server with the first Dial, and again with the first one after the server has ended. A
// nil Dialer, and one that NewDialer has not made, is closed.
type Dialer struct {
	path     string
	settings settings
	wrong    error // of the options, which Dial returns

	attaching chan struct{} // capacity 1: held while the fields below are looked at
	endpoint  *ipc.Endpoint // the last one; nil before the first
	current   *attachment   // of endpoint; nil if there is none
	gone      chan struct{} // closed when current has ended and endpoint is closed

	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	closeOne sync.Once
	closeErr error
}

// NewDialer returns a Dialer for a path. It reads the options, and does nothing else yet:
// if they make no sense, each Dial says so.
func NewDialer(path string, o *Options) *Dialer {
	d := &Dialer{path: path, attaching: make(chan struct{}, 1)}
	d.settings, d.wrong = o.read()
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Dial opens a connection. Until ctx ends it waits for a server, with the errors of
// ipc.Dial, and while there are as many connections as the Listener takes. It returns
// when the connection is on its way; Accept may come later.
func (d *Dialer) Dial(ctx context.Context) (*Conn, error) {
	d = d.orUnopened()
	c, err := d.dial(ctx)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: Network, Addr: Addr(d.path), Err: err}
	}
	return c, nil
}

// DialContext is Dial for those who know networks and addresses, as http.Transport:
// it ignores both, because one path leads to one server.
func (d *Dialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	c, err := d.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (d *Dialer) dial(ctx context.Context) (*Conn, error) {
	if err := cmp.Or(d.wrong, checkContext(ctx)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	for {
		a, gone, err := d.attach(ctx)
		if err != nil {
			return nil, d.orClosed(ownWords(err))
		}
		c, err := a.open(ctx)
		if err == nil {
			return c, nil
		}
		// The server has ended, which its endpoint may know before its attachment
		// does: then the next one. Or ctx has ended.
		select {
		case <-gone:
		case <-ctx.Done():
			return nil, d.orClosed(ctx.Err())
		}
	}
}

// orClosed returns net.ErrClosed after Close, and err before.
func (d *Dialer) orClosed(err error) error {
	if d.ctx.Err() != nil {
		return net.ErrClosed
	}
	return err
}

// attach returns the attachment that lives, or makes one.
func (d *Dialer) attach(ctx context.Context) (*attachment, <-chan struct{}, error) {
	select {
	case d.attaching <- struct{}{}:
		defer func() { <-d.attaching }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if d.current != nil {
		select {
		case <-d.gone:
			d.current = nil
		default:
			return d.current, d.gone, nil
		}
	}
	var endpoint *ipc.Endpoint
	var err error
	if d.endpoint == nil {
		endpoint, err = ipc.Dial(ctx, d.path, d.settings.ipc)
	} else {
		endpoint, err = d.endpoint.Redial(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	d.endpoint = endpoint
	var number [8]byte
	_, _ = rand.Read(number[:]) // it does not fail
	a := newAttachment(endpoint, binary.LittleEndian.Uint64(number[:]), d.settings.own)
	if err := greet(ctx, a); err != nil {
		_ = endpoint.Close()
		return nil, nil, err
	}
	d.current, d.gone = a, make(chan struct{})
	go serve(a, d.gone)
	return a, d.gone, nil
}

// greet exchanges the hellos. What comes before the server's was meant for a former
// client.
func greet(ctx context.Context, a *attachment) error {
	if err := a.send(ctx, helloFrame, 0, a.own.encode()); err != nil {
		return err
	}
	for {
		m, err := a.endpoint.Receive(ctx)
		if err != nil {
			return err
		}
		f, ok := parse(m)
		if !ok || f.stamp != a.stamp || f.kind != helloFrame {
			_ = m.Release()
			if ctx.Err() != nil { // Receive looks only when it waits, and here it may never
				return ctx.Err()
			}
			continue
		}
		peer, err := decodeHello(f.body)
		_ = m.Release()
		if err == nil {
			a.begin(peer)
		}
		return err
	}
}

// serve receives until the server has ended, or has broken the protocol.
func serve(a *attachment, gone chan struct{}) {
	in := inlet{endpoint: a.endpoint}
	for {
		m, err := in.next()
		if err == nil {
			if f, ok := parse(m); ok && f.stamp == a.stamp {
				err = a.handle(m, f)
			} else {
				_ = m.Release() // for a former client
			}
		}
		if err != nil {
			a.end(err)
			<-a.clerk
			_ = a.endpoint.Close() // as long as it lives, no other server starts (L3)
			close(gone)
			return
		}
	}
}

// Close leaves the server. Connections that are open end with net.ErrClosed, and at
// the server with ipc.ErrPeerClosed, behind what was written; Dial fails from now on.
func (d *Dialer) Close() error {
	d = d.orUnopened()
	d.closeOne.Do(func() {
		d.cancel()
		d.attaching <- struct{}{} // for ever
		if d.current != nil {
			d.closeErr = d.endpoint.Close()
			<-d.gone
		}
	})
	return d.closeErr
}
