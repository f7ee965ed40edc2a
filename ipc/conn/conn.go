package conn

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// Network is what the addresses of this package say as their network.
const Network = "tandem"

// An Addr is the path of a pair, as a net.Addr. Both ends of a connection have the
// same one.
type Addr string

// Network returns Network.
func (Addr) Network() string { return Network }

// String returns the path.
func (a Addr) String() string { return string(a) }

// A Conn is one connection, from a Listener or a Dialer. It is a net.Conn, and its
// errors are *net.OpErrors, except io.EOF. errors.Is finds in them:
//
//   - os.ErrDeadlineExceeded: Timeout reports true; more may follow after a later
//     deadline was set;
//   - net.ErrClosed: this side has closed the connection, or the Listener or Dialer;
//   - syscall.EPIPE: a Write, and the peer has closed the connection;
//   - ipc.ErrPeerDied, ipc.ErrPeerClosed: the peer's process died, or left, with the
//     connection open; errors.As finds an *ipc.CorruptError;
//   - ErrProtocol.
//
// A nil Conn, and one that neither Accept nor Dial has returned, is closed.
type Conn struct {
	a      *attachment
	number uint64

	writing sync.Mutex // held by one Write at a time, until its last byte

	mu                 sync.Mutex
	readable, writable sync.Cond
	reason             error // why the attachment has ended
	closed             bool  // by Close
	finished           bool  // by CloseWrite

	// The stream that comes.
	received  store
	readers   int // how many Reads wait
	allowance int // how many bytes more the peer may send
	taken     int // bytes read that the peer has no credit for yet
	peerEnded bool
	peerGone  bool

	// The stream that goes.
	credit      int // how many bytes more this side may send
	writeCtx    context.Context
	cancelWrite context.CancelFunc

	readDeadline, writeDeadline deadline

	// What the peer is owed. The clerk has the connection while postponed.
	owedCredit            int
	owesFinish, owesClose bool
	postponed, saidClose  bool
	givenUp               bool        // nobody waits for the close
	patience              *time.Timer // until then
}

func newConn(a *attachment, number uint64) *Conn {
	c := &Conn{a: a, number: number, allowance: a.own.windowSize, credit: a.peer.windowSize}
	c.readable.L, c.writable.L = &c.mu, &c.mu
	return c
}

// LocalAddr returns the path of the pair.
func (c *Conn) LocalAddr() net.Addr { return Addr(c.orUnopened().a.endpoint.Path()) }

// RemoteAddr returns the path of the pair.
func (c *Conn) RemoteAddr() net.Addr { return c.LocalAddr() }

// Peer describes the process at the other side, as the kernel named it when it
// attached: its user, its number, which is 0 if it cannot be seen from here, and the
// number of its attachment. It stays so when that process has ended and another one is
// attached.
func (c *Conn) Peer() ipc.Peer {
	if c = c.orUnopened(); c == unopened {
		return ipc.Peer{}
	}
	who := c.a.who
	who.State = ipc.PeerAttached
	return who
}

func (c *Conn) fault(operation string, err error) error {
	return &net.OpError{Op: operation, Net: Network, Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// Read reads what has come, and waits if nothing has. It returns io.EOF when the
// peer has ended the stream, by Close or CloseWrite, and all of it was read.
func (c *Conn) Read(b []byte) (int, error) {
	c = c.orUnopened()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.fault("read", net.ErrClosed)
		case c.readDeadline.expired:
			c.received.dropView(c.a.own.windowSize)
			return 0, c.fault("read", os.ErrDeadlineExceeded)
		case len(b) == 0:
			return 0, nil
		case c.received.count() > 0:
			n := c.received.read(b, c.a.own.windowSize)
			if c.taken += n; c.taken >= c.a.own.windowSize/2 && !c.peerEnded && c.reason == nil {
				c.owedCredit += c.taken
				c.allowance += c.taken
				c.taken = 0
				c.pay()
			}
			return n, nil
		case c.peerEnded:
			return 0, io.EOF
		case c.reason != nil:
			return 0, c.fault("read", c.reason)
		}
		c.readers++
		c.readable.Wait()
		c.readers--
	}
}

// Write returns when all of b is committed: it then survives this process's death
// (M1), as long as the peer lives and reads. It waits for the peer to read, and for
// space in the ring. Writes of several goroutines are not mixed.
func (c *Conn) Write(b []byte) (int, error) {
	c = c.orUnopened()
	c.writing.Lock()
	defer c.writing.Unlock()
	written := 0
	for {
		size, ctx, err := c.claim(len(b) - written)
		if err != nil {
			return written, c.fault("write", err)
		}
		if size == 0 {
			return written, nil
		}
		err = c.sendPart(ctx, b[written:written+size])
		switch {
		case err == nil:
			if written += size; written == len(b) {
				return written, nil // what has happened since is for the next Write
			}
		case errors.Is(err, ipc.ErrTooLarge) && size > 1: // only the ring knows what it holds
			c.a.chunkSize.Store(int64(size+1) / 2)
		case errors.Is(err, context.Canceled): // claim says why, or that it may go on
		default:
			return written, c.fault("write", ownWords(err))
		}
	}
}

// claim waits until some of size bytes may be sent, and returns how many, and what
// ends the wait for space. It returns 0 only if size is 0.
func (c *Conn) claim(size int) (int, context.Context, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed || c.finished:
			return 0, nil, net.ErrClosed
		case c.writeDeadline.expired:
			return 0, nil, os.ErrDeadlineExceeded
		case c.reason != nil:
			return 0, nil, c.reason
		case c.peerGone:
			return 0, nil, syscall.EPIPE
		case c.credit > 0 || size == 0:
			size = min(size, c.credit, int(c.a.chunkSize.Load()))
			c.credit -= size
			if c.writeCtx == nil {
				c.writeCtx, c.cancelWrite = context.WithCancel(c.a.ctx)
			}
			return size, c.writeCtx, nil
		}
		c.writable.Wait()
	}
}

// sendPart sends what is claimed. What is not sent, because b faults too, is unclaimed.
func (c *Conn) sendPart(ctx context.Context, b []byte) error {
	sent := false
	defer func() {
		if !sent {
			c.unclaim(len(b))
		}
	}()
	err := c.a.send(ctx, dataFrame, c.number, b)
	sent = err == nil
	return err
}

func (c *Conn) unclaim(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.credit += size
}

// stopWriting wakes a Write, wherever it waits, to look again; c.mu is held.
func (c *Conn) stopWriting() {
	c.writable.Broadcast()
	if c.writeCtx != nil {
		c.cancelWrite()
		c.writeCtx, c.cancelWrite = nil, nil
	}
}

// CloseWrite ends the stream of this side: the peer reads what was written, and
// then io.EOF. The other direction goes on.
func (c *Conn) CloseWrite() error {
	c = c.orUnopened()
	c.mu.Lock()
	reason := c.reason
	if c.closed || c.finished {
		reason = net.ErrClosed
	}
	if reason != nil {
		c.mu.Unlock()
		return c.fault("close", reason)
	}
	c.finished = true
	c.stopWriting()
	c.mu.Unlock()
	c.sayLast(&c.owesFinish)
	return nil
}

// Close ends the connection. The peer reads what was written, and then io.EOF; its
// Writes fail. What has come and was not read is dropped. Close does not wait for
// the peer.
func (c *Conn) Close() error {
	c = c.orUnopened()
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.fault("close", net.ErrClosed)
	}
	c.closed = true
	c.received.clear()
	c.readDeadline.stop()
	c.writeDeadline.stop()
	c.readable.Broadcast()
	c.stopWriting()
	c.mu.Unlock()
	c.sayLast(&c.owesClose)
	return nil
}

// sayLast owes the peer a finish or a close, behind the last byte: a Write that is
// under way has been told to stop, and is waited for.
func (c *Conn) sayLast(owed *bool) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	*owed = true
	c.pay()
	if c.owesClose {
		c.hurry()
	}
}

// receive takes bytes that have come, which lie in m, and reports whether it keeps m.
func (c *Conn) receive(m ipc.Message, body []byte) (keeps bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.peerEnded:
		return false, protocolError("data for connection %d, behind its end", c.number)
	case len(body) > c.allowance:
		return false, protocolError("%d bytes for connection %d, which takes %d", len(body), c.number, c.allowance)
	}
	c.allowance -= len(body)
	if c.closed {
		return false, nil
	}
	c.received.dropView(c.a.own.windowSize)
	if keeps = c.readers > 0 && c.received.keepView(m, body); !keeps {
		c.received.write(body, c.a.own.windowSize)
	}
	c.readable.Broadcast()
	return keeps, nil
}

// credited takes the peer's word that it has read.
func (c *Conn) credited(body []byte) error {
	var copied [8]byte
	n := copy(copied[:], body)
	more := binary.LittleEndian.Uint64(copied[:])
	c.mu.Lock()
	defer c.mu.Unlock()
	if n != len(copied) || more > uint64(max(0, c.a.peer.windowSize-c.credit)) {
		return protocolError("credit of %d for connection %d, which has %d of %d", more, c.number, c.credit, c.a.peer.windowSize)
	}
	c.credit += int(more)
	c.writable.Broadcast()
	return nil
}

// peerEnds takes the peer's finish, or its close.
func (c *Conn) peerEnds(gone bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peerGone || c.peerEnded && !gone {
		return protocolError("a second end of connection %d", c.number)
	}
	c.peerEnded = true
	c.readable.Broadcast()
	if gone {
		c.peerGone = true
		c.stopWriting()
		c.leave()
	}
	return nil
}

// end takes the end of the attachment.
func (c *Conn) end(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reason = reason
	c.readable.Broadcast()
	c.stopWriting()
}
