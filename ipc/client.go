//go:build linux && (amd64 || arm64)

package ipc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A client is what the client's endpoint has besides the shared memory: the
// connection, and the token, which it holds by existing.
type client struct {
	e       *Endpoint
	conn    *conn
	token   int
	granted []int // descriptors that are not mapped yet
	gone    bool  // the process that called listen had ended before anything was said

	// prompt says that the token makes nobody wait. Of any other only the kernel
	// knows who answers, so it is asked and closed where nobody waits for it, by one
	// job at a time.
	prompt    bool
	tokenUse  sync.Mutex
	tokenGone bool            // guarded by tokenUse
	hurry     <-chan struct{} // the end of Dial's context, while it dials
}

// What a client waits for to change.
var (
	errNoServer    = errors.New("no server listens")
	errNoDirectory = errors.New("there is no such directory")
	errNotNow      = errors.New("the server can admit nobody now: it is short of descriptors or memory, is denied a call, or has yet to receive what corrupt clients have left; its EventAdmissionFailed says which")
)

// dial is Dial: it tries until there is a server, or ctx ends.
func dial(ctx context.Context, path string, o *Options) (*Endpoint, error) {
	return dialWhile(ctx, path, o, func(err error) bool { return worthWaiting(err, o) })
}

// redial is dial where a server has been before: its directory may come with it.
func redial(ctx context.Context, path string, o *Options) (*Endpoint, error) {
	return dialWhile(ctx, path, o, func(err error) bool { return worthWaiting(err, o) || !o.FailFast && errors.Is(err, errNoDirectory) })
}

// dialWhile tries as long as what failed is worth waiting for.
func dialWhile(ctx context.Context, path string, o *Options, worth func(error) bool) (*Endpoint, error) {
	if err := checkEnded(ctx, "dial", path); err != nil {
		return nil, err
	}
	var why error // the attempt before did not succeed
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		e, err := dialOnce(ctx, path, o)
		if err != nil && why != nil && errors.Is(err, ctx.Err()) {
			return nil, fmt.Errorf("%w: %w", err, why)
		}
		if err == nil || !worth(err) {
			return e, advise(noServer(err, path, o))
		}
		why = err
		if ctx.Err() != nil || pause(ctx, wait) != nil {
			return nil, nameSandbox(fmt.Errorf("ipc: dial %s: %w: nothing was attached: %w", path, ctx.Err(), err))
		}
	}
}

// worthWaiting reports whether what failed may work a little later.
func worthWaiting(err error, o *Options) bool {
	return errors.Is(err, errNoServer) && !o.FailFast || errors.Is(err, errNotNow) || errors.Is(err, errBusy) || errors.Is(err, ErrClientRunning) && o.get().Wait
}

// noServer makes ErrNoServer of an error that Options.FailFast does not wait for.
func noServer(err error, path string, o *Options) error {
	if o.FailFast && (errors.Is(err, errNoServer) || errors.Is(err, errNoDirectory)) {
		return fmt.Errorf("%w: %s: %w", ErrNoServer, path, err)
	}
	return err
}

// dialOnce makes one attempt.
func dialOnce(ctx context.Context, path string, o *Options) (_ *Endpoint, err error) {
	e := newEndpoint(RoleClient, path, o)
	e.hook(step.DialBegun, 0)
	c := &client{e: e, token: -1, hurry: ctx.Done()}
	e.life = c
	if c.conn, err = reach(ctx, path); err != nil {
		return nil, err
	}
	var waking sync.Once // not behind the end: it would meet whatever gets the descriptor's number next
	settled := false
	defer func() {
		if !settled { // it fails, or user code does not return (T4)
			waking.Do(func() {})
			c.abandon()
		}
	}()
	e.hook(step.Connected, 0)
	if err := c.knows(path); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { waking.Do(c.conn.wake) })
	defer stop()
	err = c.attach(path)
	late := !stop() // of the context, which may be the user's: before there is an endpoint
	if err == nil && late {
		waking.Do(func() {})
		settled = true
		c.leave()
	}
	if late || err != nil && ctx.Err() != nil {
		hint := ""
		if err != nil {
			hint = cmp.Or(c.deserted(), ": somebody listens there, and has not answered")
		}
		err = fmt.Errorf("ipc: dial %s: %w: nothing was attached%s", path, ctx.Err(), hint)
	}
	if err != nil {
		return nil, err
	}
	settled, c.hurry = true, nil
	e.attachedTo()
	e.workers.Add(2)
	go e.pulse()
	go c.watch()
	return e, nil
}

// reach connects, unless too much of what servers have granted before does not close.
func reach(ctx context.Context, path string) (*conn, error) {
	if err := aside.ready(); err != nil {
		return nil, fmt.Errorf("ipc: dial %s: %w: nothing was attached: end what keeps them, or this process", path, err)
	}
	return connectWithin(ctx, path)
}

// ask says hello and returns what the server answers.
func (c *client) ask(path string) (packet, []int, error) {
	if err := c.conn.setDeadline(c.e.options.handshakeTimeout()); err != nil {
		return packet{}, nil, fmt.Errorf("ipc: set the deadline of the handshake: %w: nothing was attached: try again", err)
	}
	// A server that is gone before it reads the hello has still told why.
	hello := newPacket(packetHello)
	hello.Reason = intervalOf(c.e.heartbeatInterval)
	sendErr := c.conn.send(hello)
	if sendErr != nil && !errors.Is(sendErr, unix.EPIPE) && !errors.Is(sendErr, unix.ECONNRESET) {
		return packet{}, nil, fmt.Errorf("ipc: say hello at %s: %w: nothing was attached: try again", path, sendErr)
	}
	c.e.hook(step.HelloSent, 0)
	p, files, err := c.conn.receive(3)
	if errors.Is(err, unix.ECONNRESET) {
		p, files, err = c.conn.receive(3) // the reset comes first, and the reason stands in the queue
	}
	var corrupt *CorruptError
	switch {
	case timedOut(err):
		err = fmt.Errorf("%w: it accepts connections and does not answer%s", errNoServer, c.deserted())
	case errors.Is(err, unix.EMFILE):
		err = fmt.Errorf("ipc: attach to %s: %w: nothing was attached", path, err)
	case errors.As(err, &corrupt):
	case errors.Is(err, errNotOurs):
		err = fmt.Errorf("%w: the answer from %s is %w", ErrForeign, path, err)
	case isDenial(err):
		err = fmt.Errorf("ipc: receive the answer from %s: %w: nothing was attached: dial again", path, err)
	case err != nil:
		err = fmt.Errorf("%w: it ended the handshake (%w)", errNoServer, errors.Join(err, sendErr))
	}
	return p, files, err
}

// attach is the client's part of the handshake.
func (c *client) attach(path string) error {
	e := c.e
	p, files, err := c.ask(path)
	if err != nil {
		return err
	}
	if err := c.grant(p, path, len(files)); err != nil {
		closeAside(files...)
		return err
	}
	refuseRights(c.conn.fd)
	c.token, c.granted = files[2], files[:2]
	c.prompt = isMemory(c.token)
	e.hook(step.GrantReceived, p.Attachment)
	c.granted = nil
	own, peer, err := openPair(p, files[0], files[1])
	for _, file := range files[:2] { // the mappings keep the memory
		if isMemory(file) {
			_ = unix.Close(file)
		} else {
			closeAside(file)
		}
	}
	if err != nil {
		return err
	}
	e.generation = p.Generation
	e.attachment.Store(p.Attachment)
	e.peerPID, e.peerUID = c.conn.peer.who.pid, c.conn.peer.uid // not what it says of itself
	e.peerInterval = intervalFrom(p)
	e.sharesProcessor.Store(sharesProcessor(e.peerPID))
	if err := e.join(own, peer); err != nil {
		return err
	}
	e.hook(step.SegmentsMapped, 0)

	// The predecessor waits no more. Nothing else is stored before it is used,
	// so that a death here changes nothing.
	own.control.dataWaitFor.Store(0)
	e.hook(step.DataWaitCleared, 0)
	own.control.spaceWaitFor.Store(0)
	e.hook(step.SpaceWaitCleared, 0)
	own.control.attachment.Store(p.Attachment) // pairs: attachment
	e.hook(step.AttachmentStored, p.Attachment)
	if err := c.conn.send(newPacket(packetReady)); err != nil {
		return fmt.Errorf("%w: it went away during the handshake (%w)", errNoServer, err)
	}
	e.hook(step.ReadySent, 0)
	_ = c.conn.setDeadline(lookEvery)
	return nil
}

// grant checks the server's answer.
func (c *client) grant(p packet, path string, files int) error {
	version := p.compatible()
	switch {
	case p.Type == packetGrant && version == nil && files == 3:
		return nil
	case version != nil:
		return version
	case p.Type != packetRefuse:
		return fmt.Errorf("%w: the answer from %s is packet %d with %d descriptors", ErrForeign, path, p.Type, files)
	}
	switch p.Reason {
	case reasonUser:
		return fmt.Errorf("%w: uid %d on %s%s", ErrRefused, unix.Geteuid(), path, whyNobody(uint32(unix.Geteuid())))
	case reasonClientRunning:
		return &RunningError{Path: path, PID: int(p.PID), Err: ErrClientRunning}
	case reasonCopy:
		return &RunningError{Path: path, PID: int(p.PID), Err: fmt.Errorf("%w: the client itself has ended: what runs has a copy of its token, by a fork without exec or by its descriptor: end that process", ErrClientRunning)}
	case reasonClosing:
		return fmt.Errorf("%w: it is closing", errNoServer)
	case reasonFailed:
		return errNotNow
	}
	return fmt.Errorf("ipc: the server on %s could not serve this client (reason %d): see its own log", path, p.Reason)
}

// openPair maps both memories and checks that they fit each other.
func openPair(p packet, serverFile, clientFile int) (own, peer *segment, err error) {
	for _, size := range []uint64{p.ToServerSize, p.ToClientSize} {
		if size < uint64(controlSize()) || size > MaxRingSize || size&(size-1) != 0 {
			return nil, nil, &CorruptError{"I0", fmt.Sprintf("the grant names a ring of %d bytes", size)}
		}
	}
	if peer, err = openSegment(serverFile, RoleServer, p.Generation, p.ToClientSize); err != nil {
		return nil, nil, err
	}
	if own, err = openSegment(clientFile, RoleClient, p.Generation, p.ToServerSize); err != nil {
		peer.release()
		return nil, nil, err
	}
	return own, peer, nil
}

// leave undoes a Dial that is attached, too late. The server hears a goodbye.
func (c *client) leave() {
	c.e.leaving.Store(true)
	_ = c.close()
	c.release()
	c.e.caught.Load().resume()
}

// abandon undoes a Dial that is not attached.
func (c *client) abandon() {
	closeAside(c.granted...)
	if c.e.own != nil {
		_ = c.e.own.detach(nil)
		c.release()
	}
	c.letTokenGo()
	c.conn.hangUp()
	c.conn.peer.forget()
}

// release gives up memory that was joined and never used.
func (c *client) release() {
	c.e.out.peer.release()
	c.e.in.peer.release()
	c.e.peer.release()
	c.e.own.release()
}

// watch waits for the end of the server, and says what it was.
func (c *client) watch() {
	defer c.e.workers.Done()
	c.conn.awaitEnd(false)
	if c.e.closing.Load() {
		return
	}
	c.e.hookApart(step.EndSeen, 0)
	verdict, kind, state := ErrPeerClosed, EventClosed, PeerClosed
	var unseen error
	died := func() (died bool) {
		died, unseen = c.proveDeath()
		return died
	}
	switch {
	case c.wasDropped():
		verdict = fmt.Errorf("%w: the server found this client's memory corrupt and dropped it", ErrPeerClosed)
	case c.e.goodbyeFrom(c.e.generation):
	case died():
		verdict, kind, state = ErrPeerDied, EventDied, PeerDied
	case c.e.closing.Load(): // what it was is not known, and nobody asks
		return
	case unseen != nil: // L5
		verdict = fmt.Errorf("%w: the server ended the connection without a word, and whether it lives cannot be seen: %w", ErrPeerClosed, unseen)
	default:
		verdict = fmt.Errorf("%w: the server lives and ended the connection without a word", ErrPeerClosed)
	}
	c.e.hookApart(step.EndProven, 0)
	c.e.serverEnded(verdict, kind, state)
}

// wasDropped looks once whether a refusal is the server's last word.
func (c *client) wasDropped() bool {
	p, carries, err := c.conn.peekNow()
	return err == nil && !carries && p.Type == packetRefuse
}

// expel implements life: a client that finds its server corrupt only stops.
func (c *client) expel(error) {}

// kill implements life.
func (c *client) kill() error {
	return errors.New("ipc: a client does not kill its server: that is for whoever started it")
}

// pidfd implements life.
func (c *client) pidfd(uint64) (*os.File, error) {
	return nil, errors.New("ipc: a client has no pidfd of its server: that is for whoever started it")
}

// look implements life.
func (c *client) look() {}

// close implements life, in the order of C1: when the token is free the server
// may admit the next client, so this one must be unable to write by then.
func (c *client) close() error {
	e := c.e
	c.conn.wake()
	e.rest()
	e.workers.Wait()
	e.own.control.goodbye.Store(e.attachment.Load()) // pairs: goodbye
	e.hook(step.GoodbyeSaid, e.attachment.Load())
	err := e.own.detach(e.out.orphan())
	if err != nil {
		// Without it this process could still write: keep the token, and let
		// the end of the process free it.
		return err
	}
	e.hook(step.SegmentUnmapped, 0)
	c.letTokenGo()
	e.hook(step.TokenClosed, 0)
	c.conn.hangUp()
	c.conn.peer.forget()
	e.hook(step.ConnectionClosed, 0)
	return nil
}
