package tandemgrpc

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/tandem-ipc/tandem/ipc/conn"
)

// patience is how long an attempt waits for a server that is not there: a worker that
// has died is started again within it. Then gRPC is told that nobody is there.
const patience = time.Second

// A key names an attachment of this process.
type key struct {
	path    string
	options *conn.Options
}

// A dialer is the client of one pair, shared by all connections of this process.
type dialer struct {
	*conn.Dialer
	uses int           // connections that are open, and attempts
	left chan struct{} // closed when the attachment is no more
}

// dialers are those in use: a pair has one client (L2), and several ClientConns may
// go to one path.
var dialers = struct {
	sync.Mutex
	of map[key]*dialer
}{of: map[key]*dialer{}}

// dialPath opens a connection. A server that is there is waited for until ctx ends.
func dialPath(ctx context.Context, k key) (net.Conn, error) {
	d, err := use(ctx, k)
	if err != nil {
		return nil, err
	}
	brief, cancel := context.WithTimeout(ctx, patience)
	c, err := d.Dial(brief)
	cancel()
	if errors.Is(err, context.DeadlineExceeded) && isBound(k.path) {
		c, err = d.Dial(ctx)
	}
	if err != nil {
		d.drop(k)
		return nil, err
	}
	return &shared{Conn: c, drop: sync.OnceFunc(func() { d.drop(k) })}, nil
}

// isBound reports whether a process has a socket at the path. It does not connect to a
// pair's, which is of another type.
func isBound(path string) bool {
	c, err := net.Dial("unix", path)
	if err == nil { // somebody else's
		_ = c.Close()
	}
	return errors.Is(err, syscall.EPROTOTYPE)
}

// use returns the dialer of k, or a new one. If the last one is just leaving it waits
// for that.
func use(ctx context.Context, k key) (*dialer, error) {
	for {
		dialers.Lock()
		d := dialers.of[k]
		if d == nil {
			d = &dialer{Dialer: conn.NewDialer(k.path, k.options), left: make(chan struct{})}
			dialers.of[k] = d
		}
		leaving := d.uses < 0
		if !leaving {
			d.uses++
		}
		dialers.Unlock()
		if !leaving {
			return d, nil
		}
		select {
		case <-d.left:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// drop ends a use. The last one leaves the server, so that another process can come.
func (d *dialer) drop(k key) {
	dialers.Lock()
	last := d.uses == 1
	if d.uses--; last {
		d.uses = -1
	}
	dialers.Unlock()
	if !last {
		return
	}
	_ = d.Close() // what it returns is for one who could do something about it
	dialers.Lock()
	delete(dialers.of, k)
	dialers.Unlock()
	close(d.left)
}

// A shared is a connection that keeps its dialer in use until Close.
type shared struct {
	*conn.Conn
	drop func()
}

// Close closes the connection. The last one of its dialer leaves the server before
// Close returns.
func (s *shared) Close() error {
	err := s.Conn.Close()
	s.drop()
	return err
}
