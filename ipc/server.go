//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A server is what the server's endpoint has besides the shared memory: the lock
// file, the socket, and the client of the moment.
type server struct {
	e         *Endpoint
	lock      *lockFile
	listener  int
	parted    atomic.Bool // nobody waits for the start any more
	socket    unix.Stat_t // what the path names while it is ours
	shown     tokenName   // what the token file's path names while it is ours
	lost      bool        // the path no longer does; the look's own, as is the next
	lostFiles bool        // nor does that of the lock file, or of the token file

	// admission lets one handshake at a time take the token. It guards token, which
	// is that of the latest attachment until it was found free.
	admission   sync.Mutex
	token       *tokenFile
	slots       chan struct{} // bounds the handshakes under way
	shut        chan struct{} // closed when nobody can connect any more
	accepted    chan struct{} // closed when the accept loop has ended
	counting    sync.Mutex    // held while an end is settled; before e.mu
	connections uint64        // so far; the accept loop's own

	// Guarded by e.mu:
	current    *attachment
	unended    *attachment           // what its watcher has left to Close
	latest     *attachment           // current, or the one before
	failing    bool                  // the last admission failed by the server's own fault
	granted    uint64                // attachments so far, counted at the grant
	user       uint32                // whose client had the memory of now, if one was granted
	memories   map[uint32][]*segment // by user, the one that was used last at the end
	handshakes map[*conn]uint64      // by number of connection, or spoken
}

// An attachment is one client's stay, from the grant to the proof of its end.
type attachment struct {
	number uint64
	conn   *conn
	token  *tokenFile
	who    owner
	ready  bool        // it has mapped the memory
	read   atomic.Bool // the grant was read, or its queue is gone
	socket uint32      // the inode of its end of the connection, where the grant waits at Close
	over   bool        // its end is proven and its account is taken
	from   positions   // where its words stood at the grant, but for what was handed out
}

// serve starts the server's goroutines.
func (s *server) serve() {
	s.handshakes = make(map[*conn]uint64)
	s.slots = make(chan struct{}, maxHandshakes)
	s.shut, s.accepted = make(chan struct{}), make(chan struct{})
	s.e.workers.Add(2)
	go s.e.pulse()
	go s.accept()
}

// watch stays with a client until its end is proven. Behind the ready packet
// nothing is read from the connection: what else stands in its queue may carry
// descriptors of the client's choice (T1).
func (s *server) watch(a *attachment) {
	ended := a.conn.awaitEnd(true)
	p, carries, err := a.conn.peekNow() // also of a client that has left since
	if err == nil && !carries && p.Type == packetReady {
		_, _ = a.conn.take(0)
		s.attached(a)
	}
	if !ended {
		a.conn.awaitEnd(false)
	}
	s.e.hookApart(step.EndSeen, a.number)
	for wait := 20 * time.Microsecond; !s.e.closing.Load() && !s.proven(a); wait = min(2*wait, 5*time.Millisecond) {
		s.sleep(wait)
	}
	s.e.mu.Lock()
	over := a.over
	if !over {
		s.unended = a
	}
	s.e.mu.Unlock()
	if over { // else Close goes on from here, also if an admission settles it now
		_ = unix.Shutdown(a.conn.fd, unix.SHUT_RDWR)
		for wait := 20 * time.Microsecond; !s.retire(a); wait = min(2*wait, 100*time.Millisecond) {
			s.sleep(wait) // a copy of the token lives on
		}
		a.conn.hangUp() // until then it shows whether the grant waits
		a.conn.peer.forget()
	}
}

// retire retires the token of an attachment that is over, and reports whether there
// is nothing left to do: a copy of it may live on.
func (s *server) retire(a *attachment) (done bool) {
	s.admission.Lock()
	defer s.admission.Unlock()
	if s.token != a.token || s.e.closing.Load() {
		return true
	}
	if held, err := a.held(); err != nil || held {
		return false
	}
	_ = s.retireToken() // else the next admission does
	return true
}

// attached records that the client has mapped the memory.
func (s *server) attached(a *attachment) {
	s.e.hookApart(step.ReadyReceived, a.number)
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if !a.over {
		s.announce(a)
	}
}

// announce makes the attachment known, once.
//
// Preconditions: e.mu is held.
func (s *server) announce(a *attachment) {
	if a.ready {
		return
	}
	a.ready, s.e.pending = true, 0
	s.e.attachment.Store(a.number)
	s.e.state, s.e.peerPID, s.e.peerUID = PeerAttached, a.who.pid, a.conn.peer.uid
	s.e.sharesProcessor.Store(sharesProcessor(a.who.pid))
	s.e.tally.attachments++
	s.e.emit(Event{Kind: EventAttached})
}

// sleep waits, or until Close.
func (s *server) sleep(wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.e.closed:
	}
}

// expel implements life: it tells the corrupt client and ends its connection.
func (s *server) expel(error) {
	if a := s.current; a != nil {
		a.grantWaits() // what waits behind this is a refusal
		refusal := newPacket(packetRefuse)
		refusal.Reason = reasonCorrupt
		_ = a.conn.send(refusal)
		_ = unix.Shutdown(a.conn.fd, unix.SHUT_RDWR)
	}
}

// kill implements life. The descriptors of the client are looked at before e.mu is
// taken: there may be many.
func (s *server) kill() error {
	s.e.mu.Lock()
	a, latest := s.current, s.latest
	s.e.mu.Unlock()
	if a == nil && latest != nil {
		if held, err := latest.held(); err == nil && held {
			return fmt.Errorf("%w: a kill has no effect: the client has ended, and %w", errNoClient, holding("token", latest.holders()))
		}
	}
	var found proof
	if a != nil {
		found = a.prove()
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	switch {
	case s.e.closing.Load():
		return ErrClosed // it may have left meanwhile
	case a == nil || s.current != a:
		return errNoClient
	}
	err := a.kill(found)
	if err == nil {
		s.e.hung.Store(false) // its end comes, and if it does not: see judge
		s.e.anew = true
	}
	return err
}

var errNoClient = errors.New("ipc: no client is attached: there is nobody to kill")

// look implements life: it notices when the path no longer names this server's
// socket, so that no client can come (C5), and when a file beside it was deleted or
// replaced, so that another server may start beside this one or its client.
func (s *server) look() {
	if named, err := names(s.e.path, &s.socket); err == nil {
		s.lose(&s.lost, !named, EventPathLost, fmt.Errorf("ipc: %s no longer names this server's socket: no client can come: close, and listen again", s.e.path))
	}
	if lost := s.lostFile(); lost != "" {
		s.lose(&s.lostFiles, true, EventLockFileLost, fmt.Errorf("ipc: %s was deleted or replaced: another server may start beside this one, or beside its client when this one has gone: close, and listen again", lost))
	} else {
		s.lostFiles = false
	}
}

// lostFile returns the file beside the path that is no longer this server's, as far
// as that is known.
func (s *server) lostFile() string {
	if named, err := names(s.lock.path, &s.lock.stat); err != nil || named {
		return s.shown.lost(s.e.path + tokenSuffix)
	}
	return s.lock.path
}

// lose tells of a loss, once for each.
func (s *server) lose(was *bool, lost bool, kind EventKind, err error) {
	told := *was
	*was = lost
	if !lost || told {
		return
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if !s.e.closing.Load() { // else it is Close that has removed it
		s.e.emit(Event{Kind: kind, Err: err})
	}
}

// unlinkPath removes the socket's name, if it is still this server's (C5).
func (s *server) unlinkPath() error {
	named, err := names(s.e.path, &s.socket)
	if err == nil && named {
		err = retry(func() error { return unix.Unlink(s.e.path) })
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nameSandbox(fmt.Errorf("ipc: remove %s: %w: nobody listens on it, and the next server replaces it", s.e.path, err))
	}
	return nil
}

// close implements life. It is not done in the caller's thread, see within.
func (s *server) close() error {
	_, err := callWithin(context.Background(), s.end, func() {})
	return err
}

// end is close, in the order of C2.
func (s *server) end() error {
	e := s.e
	_ = unix.Shutdown(s.listener, unix.SHUT_RDWR) // ends accept
	close(s.shut)
	<-s.accepted // it uses the listener's descriptor, and adds handshakes
	unlinkErr := s.unlinkPath()
	e.hook(step.PathUnlinked, 0)
	closeListener(s.listener)
	e.hook(step.ListenerClosed, 0)

	e.own.control.goodbye.Store(e.generation) // pairs: goodbye
	e.hook(step.GoodbyeSaid, e.generation)
	e.mu.Lock()
	current := s.current
	for c := range s.handshakes {
		c.wake()
	}
	if current != nil {
		current.conn.wake()
	}
	e.mu.Unlock()
	e.rest()
	e.workers.Wait()
	unended := s.unended // no watcher is left to change it
	if unended != nil {
		if e.options.KillOnClose && unended.grantWaits() {
			unended.socket, _ = otherEnd(unended.conn.fd)
		}
		unended.read.Store(true) // its descriptor is not asked any more
		unended.conn.hangUp()
	}
	e.hook(step.ConnectionClosed, 0)

	err := s.awaitLeave(current)
	s.forgetMemories()
	_ = e.own.detach(e.out.orphan())
	e.hook(step.SegmentUnmapped, 0)
	if unended != nil {
		unended.conn.peer.forget()
	}
	if s.token != nil {
		s.token.close()
	}
	s.lock.close() // frees byte 0, last
	e.hook(step.ServerUnlocked, 0)
	return errors.Join(err, unlinkErr)
}

// awaitLeave waits until no client is left, and kills it if that is wanted. The
// end of the connection is not enough: a client may freeze before it lets the
// token go.
func (s *server) awaitLeave(current *attachment) error {
	left, unseen := s.awaitToken(current, s.e.options.closeTimeout())
	s.e.hook(step.TokenAwaited, 0)
	if left {
		return nil
	}
	if current == nil {
		return s.stillThere(0)
	}
	err := s.stillThere(current.who.pid)
	if unseen != nil { // L5
		err = nameSandbox(fmt.Errorf("ipc: this server is closed, and whether its client, process %d, has left is not known, for its token cannot be tested: %w: if it lives, no other server starts before it has left", current.who.pid, unseen))
	}
	if !s.e.options.KillOnClose {
		return err
	}
	if killErr := current.kill(current.prove()); killErr != nil {
		return errors.Join(err, killErr)
	}
	s.e.hook(step.ClientKilled, uint64(current.who.pid))
	if left, _ := s.awaitToken(current, max(s.e.options.closeTimeout(), time.Second)); !left {
		return err
	}
	return nil
}

// stillThere is what Close says of a client that has not left.
func (s *server) stillThere(pid int) error {
	return fmt.Errorf("ipc: this server is closed, and its client has not left: no other server starts before it has, unless Options.KillOrphan ends it: %w",
		&RunningError{Path: s.e.path, PID: pid, Err: ErrClientRunning})
}

// awaitToken waits until the token is free, up to limit. Where the kernel does not let
// it be tested, another proof of the client's end will do; else unseen says why.
func (s *server) awaitToken(current *attachment, limit time.Duration) (left bool, unseen error) {
	deadline := time.Now().Add(limit)
	for wait := 20 * time.Microsecond; ; wait = min(2*wait, 5*time.Millisecond) {
		if s.token == nil {
			return true, nil
		}
		taken, err := s.token.taken()
		switch {
		case err == nil && !taken:
			_ = s.retireToken() // else the next server tests the former one, which is free
			return true, nil
		case err != nil && (current == nil || current.conn.peer.died()):
			return true, nil // its end was proven otherwise
		case time.Now().After(deadline):
			return false, err
		}
		time.Sleep(wait)
	}
}
