package ipc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// An Endpoint is one side of the pair: the server, from Listen, or the client,
// from Dial. All its methods may be called from any goroutine at any time.
//
// The server's endpoint outlives its clients (L7). When one ends, Receive still
// returns what that one committed (M5); then one call of Receive returns
// ErrPeerDied, ErrPeerClosed or a *CorruptError, once; then it goes on with the
// next client. Sending does not notice: the messages wait in the ring for the
// next client, marked if the former may have seen them. Only a call that finds the
// client's memory corrupt itself returns that, once, and may be made again.
//
// The client's endpoint ends with its server: Receive returns what the server
// committed, and then the error, for ever; sending returns the error at once.
// Redial makes a new one.
//
// A nil Endpoint, and one that neither Listen nor Dial has made, is closed: its calls
// return ErrClosed. A nil context is an error, in sending and receiving when the call
// would have to wait.
type Endpoint struct {
	role       Role
	path       string
	options    *Options
	generation uint64
	attachment atomic.Uint64

	heartbeatInterval time.Duration
	hangTimeout       time.Duration
	spinOption        time.Duration
	failOnHang        bool
	hookFunc          func(step.ID, uint64)

	own                         *segment
	firstWritePos, firstReadPos uint64 // where the positions stood at the start
	out                         producer
	in                          consumer
	bell                        doorbell

	// renewals counts how often the peer's memory was replaced. The two ends go
	// over to the new memory when they come to it; until then they wake whoever is
	// there, whose waiting words they do not look at yet.
	renewals atomic.Uint32

	// never is a position that does not move: what is watched while the
	// peer's memory must not be believed.
	never atomic.Uint64

	closing  atomic.Bool   // Close has begun
	closed   chan struct{} // closed at the same time, for those in a gate
	resting  chan struct{} // closed when the beat ends, later
	looking  atomic.Bool   // a look at the path is under way
	hung     atomic.Bool   // the verdict on the attached peer
	done     chan struct{} // closed when err is set
	events   chan Event
	life     life
	closeOne sync.Once
	leaving  atomic.Bool            // what calls hook now is Close
	caught   atomic.Pointer[ending] // the first of user code in Close
	closeErr error
	workers  sync.WaitGroup

	mu      sync.Mutex
	err     error    // why the endpoint is finished
	peer    *segment // for the heartbeat; replaced after corruption
	state   PeerState
	pending uint64 // the attachment that was granted and is not ready yet, or 0
	granted Peer   // at a server: the client that was granted last
	peerPID int
	peerUID uint32

	sharesProcessor atomic.Bool // with the peer

	// peerInterval is the time between the peer's beats, as it says; 0 if it does not.
	peerInterval time.Duration
	anew         bool  // the peer was killed: its silence counts from now
	corrupt      error // the peer was expelled for this and has not left yet
	told         bool  // a Receive has returned corrupt
	ends         []endMark
	lastEnd      error // of a peer

	// Of clients, at a server; stored with mu held: the latest, before it is granted
	// anything, and that of ends[0], or 0.
	newest, nextEnd atomic.Uint64

	fresh  *segment // new peer memory that the producer has not taken over
	missed int

	deliveredSeen uint64 // the peer's deliveredPos, as the last account found it
	tally         tally
	atClose       byteCounts // what Stats says once the memory is gone
}

// life is what differs between server and client.
type life interface {
	expel(reason error)                        // drop the corrupt peer, without waiting; e.mu is held
	kill() error                               // kill the peer's process
	pidfd(attachment uint64) (*os.File, error) // of a client's process
	look()                                     // see that the path is still ours; it may take for ever, and outlive close
	close() error                              // leave; sending and receiving have stopped
}

var (
	errNoRoom       = errors.New("no room") // does not leave the package
	errNegativeSize = errors.New("ipc: the size of a reservation is negative: nothing was reserved: give the bytes that the message needs")
)

// tooLarge explains ErrTooLarge.
func (e *Endpoint) tooLarge(size int) error {
	return fmt.Errorf("%w: %d bytes, and the ring holds at most %d in one message", ErrTooLarge, size, e.out.ring.maxPayload())
}

// newEndpoint prepares the parts that need no memory yet.
func newEndpoint(role Role, path string, o *Options) *Endpoint {
	options := o.get()
	e := &Endpoint{
		role: role, path: path, options: &options,
		heartbeatInterval: o.heartbeatInterval(), hangTimeout: o.hangTimeout(),
		spinOption: options.Spin, failOnHang: options.FailOnHang, hookFunc: options.hook,
		closed: make(chan struct{}), resting: make(chan struct{}), done: make(chan struct{}), events: make(chan Event, 64),
	}
	e.out.e, e.in.e = e, e
	e.out.gate.open()
	e.in.gate.open()
	e.out.flushes.open()
	e.out.wait = waiter{which: 0, armed: step.SpaceArmed}
	e.in.wait = waiter{which: 1, armed: step.DataArmed}
	return e
}

// join lays the two directions over the mapped memories, each continuing where
// its positions stand: a fresh server's at 0, a client's where its predecessor
// left them (L7).
// It takes over both references, also with an error.
func (e *Endpoint) join(own, peer *segment) error {
	ownAt, peerAt, err := checkPair(own, peer)
	if err != nil {
		own.release()
		peer.release()
		return err
	}
	e.own, e.peer = own, peer
	if e.options.DumpRings {
		own.dump()
		peer.dump()
	}
	peer.refs.Add(2) // heartbeat, producer, consumer
	e.out.ring, e.out.own, e.out.peer = own.ring, own.control, peer
	e.out.writePos.set(ownAt.writePos)
	e.out.filled = ownAt.writePos
	e.out.readPos.set(peerAt.readPos)
	e.out.freePos = peerAt.readPos
	e.in.ring, e.in.own, e.in.peer = peer.ring, own.control, peer
	e.in.cursor = ownAt.readPos
	e.in.deliveredPos = ownAt.deliveredPos
	e.in.inherited = ownAt.deliveredPos
	e.in.joined = peerAt.writePos
	e.in.writePos.set(e.in.cursor)
	e.in.views.readPos.set(e.in.cursor)
	e.in.views.peer = peer
	e.firstWritePos, e.firstReadPos = ownAt.writePos, ownAt.readPos
	e.deliveredSeen = peerAt.readPos // the least that it can be
	if e.role == RoleServer {
		e.out.starts.init(own.ring.size, ownAt.writePos) // the ring is empty
	}
	return nil
}

// Listen opens the environment on a path and becomes its server. It fails at
// once with ErrServerRunning or ErrClientRunning, as a *RunningError, while a
// server or any client lives on the path, or waits for them with Options.Wait.
// ctx bounds Listen only; one that has ended already fails it at once.
//
// It fails with ErrForeign if what is at the path, or a file beside it, is something
// else's, and if others can write in the directory; see Options.SharedDirectory.
//
// The path is a Unix socket in a directory of the caller's choosing; beside it
// lie path.lock and path.token, which must never be deleted while a server or client
// lives. A relative path is looked up again later, by Close, by Redial, for each client that
// comes, and by the watch over the path. A process that uses one must not change its
// working directory: what it puts there later would lie elsewhere, and L3 would not hold.
//
// A process that has a server and forks without exec hands its child a copy of the
// server lock and of the socket. If it is then killed, no server starts before the
// child has ended: the *RunningError names that child.
//
// A process to which the path leads nowhere, because it has mounts of its own, can
// inherit a descriptor of the directory instead, and dial /proc/self/fd/N/name.
//
// Listen, Dial and Close act for the process, and not for the thread that calls them.
// In a thread that is locked and has mounts, a root or a working directory of its own,
// the path leads where it does in the other threads.
func Listen(ctx context.Context, path string, o *Options) (*Endpoint, error) {
	o = o.read()
	if err := cmp.Or(checkContext(ctx), o.check(), checkPath(path)); err != nil {
		return nil, err
	}
	return listen(ctx, path, o)
}

// Dial attaches to the server on a path as its client, waiting for one until ctx
// ends, or not at all with Options.FailFast. It fails at once with ErrClientRunning while another client is attached
// (or waits for it to leave, with Options.Wait), with ErrRefused, with a
// *VersionError, and with ErrForeign. ctx bounds Dial only; one that has ended already
// fails it at once.
func Dial(ctx context.Context, path string, o *Options) (*Endpoint, error) {
	o = o.read()
	if err := cmp.Or(checkContext(ctx), o.check(), checkPath(path)); err != nil {
		return nil, err
	}
	return dial(ctx, path, o)
}

// Role tells which side this is.
func (e *Endpoint) Role() Role { return e.orUnopened().role }

// Path returns the path that Listen or Dial was given.
func (e *Endpoint) Path() string { return e.orUnopened().path }

// Generation returns the number of this start of the server. It grows by one
// with each Listen on the path, as long as the lock file is not deleted.
func (e *Endpoint) Generation() uint64 { return e.orUnopened().generation }

// Attachment returns the number of the client's stay, counted by the server
// from 1; at a server, of the last client that came, 0 if none has.
func (e *Endpoint) Attachment() uint64 { return e.orUnopened().attachment.Load() }

// Events returns what happens to the peer, in order. The channel holds 64;
// while nobody receives, the oldest are dropped and counted in Event.Missed. It
// is closed by Close.
func (e *Endpoint) Events() <-chan Event {
	if !e.isOpened() {
		return noEvents
	}
	return e.events
}

// Done is closed when the endpoint is of no more use: Err then tells why.
func (e *Endpoint) Done() <-chan struct{} {
	if !e.isOpened() {
		return isDone
	}
	return e.done
}

// Err is nil until Done is closed: ErrClosed after Close, and at a client the
// end of its server.
func (e *Endpoint) Err() error {
	if !e.isOpened() {
		return ErrClosed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// Peer describes the other side as seen now, or by Close, which leaves it.
func (e *Endpoint) Peer() Peer {
	if !e.isOpened() {
		return Peer{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := Peer{State: e.state, PID: e.peerPID, UID: e.peerUID, Attachment: e.attachment.Load()}
	switch {
	case p.State == PeerAttached && errors.Is(e.err, ErrClosed):
		p.State = PeerAbsent // this side has left
	case p.State == PeerAttached && e.hung.Load():
		p.State = PeerHung
	}
	return p
}

// KillPeer kills the client's process with SIGKILL, by its pidfd and not by its
// number. It is for a client that hangs; the end is then reported as any death.
// At a client it is an error, and so it is beside Close, which kills as
// Options.KillOnClose says, and for a client in this very process.
func (e *Endpoint) KillPeer() error {
	if !e.isOpened() {
		return ErrClosed
	}
	return e.life.kill()
}

// PeerPidfd returns a pidfd of the client with the given number, with which its process can
// be signalled and its end be waited for, also after it has left. The caller closes it. It
// is only given for a client that is attached, with the evidence that KillPeer needs. At
// a client it is an error.
func (e *Endpoint) PeerPidfd(attachment uint64) (*os.File, error) {
	if !e.isOpened() {
		return nil, ErrClosed
	}
	return e.life.pidfd(attachment)
}

// Close ends the endpoint: waiting calls return ErrClosed, the peer is told, the
// shared memory is unmapped. Views still held stay readable until their release.
//
// At a client, what was committed stays so, and messages not released come again
// to the next client, marked. At a server, Close ends the generation: an attached
// client still receives what was committed, but no later one does, and what the
// client has sent and Receive has not returned is gone. Unreleased, before Close,
// has what nobody has released.
//
// At a server, Close waits for the client to leave, up to Options.CloseTimeout,
// and returns an error with a *RunningError in it if it has not. The endpoint is
// closed all the same, and the next Listen fails until that client has left; see
// Options.KillOnClose and Options.KillOrphan. Calling it again returns the same.
func (e *Endpoint) Close() error {
	if !e.isOpened() {
		return ErrClosed
	}
	e.closeOne.Do(func() {
		defer func() { e.caught.Load().resume() }()
		e.shield(func() { e.hook(step.CloseBegun, 0) })
		e.closing.Store(true)
		close(e.closed)
		e.mu.Lock()
		e.out.attention.Store(true)
		e.in.attention.Store(true)
		e.mu.Unlock()
		e.bell.interrupt()
		e.out.retire()
		unreceived := e.in.retire()
		e.mu.Lock()
		e.atClose = e.byteCounts()
		e.atClose.unreceived = unreceived
		e.leaving.Store(true) // nobody sends or receives any more
		e.mu.Unlock()
		e.closeErr = e.life.close()
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, mark := range e.ends {
			if mark.peer != nil {
				mark.peer.release()
			}
		}
		if e.fresh != nil {
			e.fresh.release()
		}
		e.ends, e.fresh = nil, nil
		e.peer.release()
		e.own.release()
		e.finish(ErrClosed)
		close(e.events)
	})
	return e.closeErr
}

// Redial closes a client whose server has ended and dials the path again with
// the same options. The old endpoint goes first: as long as it lives, no server
// can start (C9). So Unreleased must be asked before. Unlike Dial it waits for the
// directory too, which may go and come with the server. If it fails it returns nil
// and the error, and may be called again on the old endpoint, which stays closed.
func (e *Endpoint) Redial(ctx context.Context) (*Endpoint, error) {
	if !e.isOpened() {
		return nil, ErrClosed
	}
	if err := checkContext(ctx); err != nil {
		return nil, err
	}
	if e.role != RoleClient {
		return nil, errors.New("ipc: only a client redials: a server goes on with its next client, or closes and listens again")
	}
	if err := e.Close(); err != nil {
		return nil, err
	}
	return redial(ctx, e.path, e.options)
}
