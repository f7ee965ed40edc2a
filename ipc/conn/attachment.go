package conn

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// An attachment is one client's stay, as either side sees it: the connections, and
// what they share. One goroutine receives, and never waits for anything else; else
// both sides could wait for each other. The clerk sends what it may not wait for.
type attachment struct {
	endpoint *ipc.Endpoint
	stamp    uint64
	who      ipc.Peer // the process at the other side
	own      hello    // what this side takes
	peer     hello    // what the other side takes

	accept   func(*Conn)   // at the server: takes a new connection, without waiting
	idle     func()        // at the server: nobody waits for a connection's close any more
	patience time.Duration // at the server: how long one waits for that

	ctx    context.Context // ends with the attachment
	cancel context.CancelFunc
	clerk  chan struct{} // closed when the clerk has gone

	chunkSize atomic.Int64 // the most bytes of a stream in one frame

	slots   chan struct{} // at the client: one in it for each connection
	opening chan struct{} // at the client: held from the number to its open frame, which go in one order

	mu         sync.Mutex
	conns      map[uint64]*Conn
	lastNumber uint64
	talking    int // connections that have not said their close, or given it up
	owing      []*Conn
	owes       chan struct{} // capacity 1: "look at owing"
	reason     error         // why it has ended
}

// maxChunk is so much of a stream that the cost of a frame does not count, and not
// so much that other connections wait long.
const maxChunk = 64 << 10

// newAttachment begins the stay of the client whose hello was received last, or, at
// the client, its own.
func newAttachment(endpoint *ipc.Endpoint, stamp uint64, own hello) *attachment {
	a := &attachment{
		endpoint: endpoint, stamp: stamp, own: own, who: endpoint.Sender(),
		clerk: make(chan struct{}), owes: make(chan struct{}, 1), opening: make(chan struct{}, 1),
		conns: map[uint64]*Conn{},
	}
	a.chunkSize.Store(maxChunk)
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// begin is called when the peer's hello is known.
func (a *attachment) begin(peer hello) {
	a.peer = peer
	a.slots = make(chan struct{}, peer.connLimit)
	go a.settle()
}

// send commits one frame, waiting for space until ctx ends.
func (a *attachment) send(ctx context.Context, kind frameKind, number uint64, body []byte) error {
	r, err := a.endpoint.TryReserve(headerSize + len(body))
	if errors.Is(err, ipc.ErrFull) {
		r, err = a.endpoint.Reserve(ctx, headerSize+len(body))
	}
	if err != nil {
		return err
	}
	return a.commit(r, kind, number, body)
}

// trySend is send without waiting.
func (a *attachment) trySend(kind frameKind, number uint64, body []byte) error {
	r, err := a.endpoint.TryReserve(headerSize + len(body))
	if err != nil {
		return err
	}
	return a.commit(r, kind, number, body)
}

func (a *attachment) commit(r ipc.Reservation, kind frameKind, number uint64, body []byte) error {
	defer r.Abort() // the copy may fault; after Commit it does nothing
	putHeader(r.Data, a.stamp, number)
	copy(r.Data[headerSize:], body)
	return r.Commit(uint32(kind), headerSize+len(body))
}

// open makes a connection at the client. It fails when ctx ends, or, with the
// endpoint's error, when the attachment does.
func (a *attachment) open(ctx context.Context) (*Conn, error) {
	for _, take := range []chan struct{}{a.slots, a.opening} {
		select {
		case take <- struct{}{}:
		case <-ctx.Done():
			if take == a.opening {
				<-a.slots
			}
			return nil, ctx.Err()
		case <-a.ctx.Done():
			return nil, a.why()
		}
	}
	defer func() { <-a.opening }()
	a.mu.Lock()
	number := a.lastNumber + 1
	c, err := a.add(number)
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := a.send(ctx, openFrame, number, nil); err != nil {
		a.forget(c)
		a.quiet()
		return nil, err
	}
	return c, nil
}

// add enters a new connection; a.mu is held.
func (a *attachment) add(number uint64) (*Conn, error) {
	if a.reason != nil {
		return nil, a.reason
	}
	c := newConn(a, number)
	a.lastNumber = number
	a.conns[number] = c
	a.talking++
	return c, nil
}

// forget removes a connection that both sides have closed.
func (a *attachment) forget(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conns[c.number] != c {
		return
	}
	delete(a.conns, c.number)
	if a.accept == nil {
		<-a.slots
	}
}

// restore undoes forget at the server.
func (a *attachment) restore(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.reason == nil {
		a.conns[c.number] = c
	}
}

// quiet counts a connection that has said its close, or whose close nobody waits for any
// more.
func (a *attachment) quiet() {
	a.mu.Lock()
	a.talking--
	last := a.talking == 0
	a.mu.Unlock()
	if last && a.idle != nil {
		a.idle()
	}
}

// busy reports whether a connection has still to say its close.
func (a *attachment) busy() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.talking > 0 && a.reason == nil
}

// handle takes one frame of this attachment, in the message m, and sees to its
// release. It does not wait. An error is a break of the protocol.
func (a *attachment) handle(m ipc.Message, f frame) error {
	keeps, err := a.dispatch(m, f)
	if !keeps {
		_ = m.Release()
	}
	return err
}

func (a *attachment) dispatch(m ipc.Message, f frame) (keeps bool, err error) {
	if f.kind == openFrame {
		return false, a.opened(f.number)
	}
	a.mu.Lock()
	c, last, ended := a.conns[f.number], a.lastNumber, a.reason != nil
	a.mu.Unlock()
	switch {
	case ended:
		return false, nil
	case f.kind == expelFrame && a.accept == nil:
		return false, protocolError("the server says so of this side")
	case c == nil && (f.number == 0 || f.number > last):
		return false, protocolError("a frame for connection %d, and the last is %d", f.number, last)
	case c == nil:
		return false, nil // it was under way when this side closed
	}
	switch f.kind {
	case dataFrame:
		return c.receive(m, f.body)
	case creditFrame:
		return false, c.credited(f.body)
	case finishFrame:
		return false, c.peerEnds(false)
	case closeFrame:
		return false, c.peerEnds(true)
	default:
		return false, protocolError("a frame of kind %#x", uint32(f.kind))
	}
}

// opened takes a new connection of the client.
func (a *attachment) opened(number uint64) error {
	if a.accept == nil {
		return protocolError("a server opens no connections")
	}
	a.mu.Lock()
	switch {
	case a.reason != nil:
		a.mu.Unlock()
		return nil
	case number <= a.lastNumber:
		a.mu.Unlock()
		return protocolError("connection %d comes after %d", number, a.lastNumber)
	case len(a.conns) >= a.own.connLimit:
		a.mu.Unlock()
		return protocolError("more than %d connections", a.own.connLimit)
	}
	c, _ := a.add(number)
	a.mu.Unlock()
	a.accept(c)
	return nil
}

// end ends the attachment for a reason, if it has not ended. Each connection is told
// once it has received all that came before.
func (a *attachment) end(reason error) {
	reason = ownWords(reason)
	a.mu.Lock()
	if a.reason != nil {
		a.mu.Unlock()
		return
	}
	conns := a.conns
	a.reason, a.conns, a.owing = reason, nil, nil
	a.mu.Unlock()
	for _, c := range conns {
		c.end(reason)
	}
	a.cancel() // last: a Write that this wakes finds the reason
}

// why returns why the attachment has ended, or nil.
func (a *attachment) why() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.reason
}

// postpone leaves to the clerk what a connection owes.
func (a *attachment) postpone(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.reason != nil {
		return
	}
	a.owing = append(a.owing, c)
	select {
	case a.owes <- struct{}{}:
	default:
	}
}

// settle is the clerk: it sends what connections owe and the ring had no room for.
// At the server it answers the hello before.
func (a *attachment) settle() {
	defer close(a.clerk)
	if a.accept != nil && a.send(a.ctx, helloFrame, 0, a.own.encode()) != nil {
		return
	}
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-a.owes:
		}
		a.mu.Lock()
		owing := a.owing
		a.owing = nil
		a.mu.Unlock()
		for _, c := range owing {
			c.payAll()
		}
	}
}
