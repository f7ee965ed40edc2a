//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// maxHandshakes bounds the goroutines that unfinished handshakes occupy.
const maxHandshakes = 32

// accept takes connections until the listener is shut down.
func (s *server) accept() {
	defer s.e.workers.Done()
	defer close(s.accepted)
	_ = (&conn{fd: s.listener}).setDeadline(lookEvery)
	for {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_CLOEXEC)
		if s.e.closing.Load() {
			if err == nil {
				s.turnAway(&conn{fd: fd})
			}
			return
		}
		if err == nil {
			fd, err = aboveStdio(fd)
		}
		if err != nil {
			s.cannotAccept(err)
			continue
		}
		s.e.hookApart(step.ConnectionAccepted, uint64(fd))
		c := &conn{fd: fd}
		if !s.knows(c) {
			continue
		}
		if !s.takeSlot(c) {
			s.turnAway(c)
			return
		}
		s.e.workers.Add(1)
		go s.handshake(c)
	}
}

// knows reports whether the connection may become a client's. It asks the kernel who
// is there, before anything is read: who is excluded takes no slot, and leaves
// nothing here that could block (T2).
func (s *server) knows(c *conn) bool {
	user, err := credentialsOf(c.fd)
	if err == nil && !s.e.options.allows(user.Uid) {
		s.refuse(c, reasonUser, 0)
		return false
	}
	if err == nil {
		c.peer, err = remoteOf(c.fd)
	}
	switch {
	case errors.Is(err, errGone):
		c.hangUp() // there is nobody to be told
	case err != nil:
		s.refuse(c, s.failedAt(err), 0)
	}
	return err == nil
}

// refuse tells why, and ends the connection. It waits for nothing. A hello that is
// there is taken out of the queue: for what is left in it the kernel resets the
// connection, which reaches the client before the reason does. What cannot be told
// the client does not learn, and tries again: the server's own user is to know.
func (s *server) refuse(c *conn, reason uint32, pid int) {
	if _, carries, err := c.peekNow(); err == nil && !carries {
		_, _ = c.take(0)
	}
	refusal := newPacket(packetRefuse)
	refusal.Reason, refusal.PID = reason, uint64(pid)
	if err := c.send(refusal); err != nil {
		s.failedAt(fmt.Errorf("ipc: tell a client that it is not admitted: %w: it tries again, and does not learn why", err))
	}
	c.hangUp()
	c.peer.forget()
}

// turnAway drops a connection to a server that closes, as if it had never been
// accepted: whoever sees the end of one finds nobody to connect to again.
func (s *server) turnAway(c *conn) {
	<-s.shut
	c.hangUp()
	c.peer.forget()
}

// takeSlot waits for a slot for one more handshake, or until Close. The newcomer
// evicts the connection that has been silent longest, of the user that has most of
// them: so silent connections keep nobody out, however many they are, and drive
// out none of another user (C7).
func (s *server) takeSlot(c *conn) bool {
	select {
	case s.slots <- struct{}{}:
		s.enter(c)
		return true
	default:
	}
	s.e.mu.Lock()
	if silent := s.toEvict(c.peer.uid); silent != nil {
		silent.wake()
	}
	s.e.mu.Unlock()
	select {
	case s.slots <- struct{}{}:
		s.enter(c)
		return true
	case <-s.e.closed:
		return false
	}
}

// enter counts a connection among those under way.
func (s *server) enter(c *conn) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	s.connections++
	s.handshakes[c] = s.connections
}

// toEvict chooses the connection that makes room for a newcomer of the given user,
// nil if all have spoken.
//
// Preconditions: e.mu is held.
func (s *server) toEvict(newcomer uint32) (silent *conn) {
	count := map[uint32]int{newcomer: 1}
	for c, number := range s.handshakes {
		if number != spoken {
			count[c.peer.uid]++
		}
	}
	for c, number := range s.handshakes {
		if number == spoken {
			continue
		}
		more := 1
		if silent != nil {
			more = count[c.peer.uid] - count[silent.peer.uid]
		}
		if more > 0 || more == 0 && number < s.handshakes[silent] {
			silent = c
		}
	}
	return silent
}

// spoken stands for the number of a connection that has said hello.
const spoken = 0

// handshake decides about one connection, and stays with it if it is admitted.
// It has a deadline, and no handshake waits for another's hello (C7).
func (s *server) handshake(c *conn) {
	defer s.e.workers.Done()
	reason, pid := s.hello(c)
	var admitted *attachment
	if reason == reasonNone {
		admitted, reason, pid = s.admit(c)
	}
	s.e.mu.Lock()
	delete(s.handshakes, c)
	s.e.mu.Unlock()
	<-s.slots
	switch {
	case admitted != nil:
		s.watch(admitted)
	case reason == reasonSilent:
		c.hangUp()
		c.peer.forget()
	default:
		s.refuse(c, reason, pid)
	}
}

// reasonSilent ends a handshake without an answer.
const reasonSilent = ^uint32(0)

// hello reads and checks what the client says of itself.
func (s *server) hello(c *conn) (reason uint32, pid int) {
	if err := c.setDeadline(s.e.options.handshakeTimeout()); err != nil {
		return s.failedAt(fmt.Errorf("ipc: set the deadline of a handshake: %w: no client is admitted", err)), 0
	}
	p, _, err := c.receive(0)
	if err != nil {
		return s.failedAt(fmt.Errorf("ipc: receive a client's hello: %w: no client is admitted", err)), 0
	}
	if p.Type != packetHello {
		return reasonSilent, 0
	}
	if p.compatible() != nil {
		return reasonVersion, 0
	}
	c.interval = intervalFrom(p)
	s.e.mu.Lock()
	s.handshakes[c] = spoken
	s.e.mu.Unlock()
	s.e.hookApart(step.HelloReceived, 0)
	return reasonNone, 0
}

// admit is the one place where the token is tested (C3), and where memory is
// granted.
func (s *server) admit(c *conn) (a *attachment, reason uint32, holder int) {
	s.admission.Lock()
	defer s.admission.Unlock()
	own, token, reason, holder := s.takeToken(c)
	if reason != reasonNone {
		return nil, reason, holder
	}
	defer func() {
		if a == nil {
			letGo(token) // nobody else ever had it
			own.close()
		} else {
			_ = unix.Close(token) // the client has a copy by now, or on its way
		}
		s.e.hookApart(step.TokenHandedOver, 0)
	}()
	s.e.hookApart(step.TokenTaken, 0)
	who := c.peer.who
	if err := s.recordClient(who); err != nil {
		return nil, s.failedAt(err), 0
	}
	s.e.hookApart(step.ClientRecorded, uint64(who.pid))
	s.awaitCount()
	err := s.handOn(c.peer.uid)

	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	switch {
	case s.e.closing.Load():
		return nil, reasonClosing, 0
	case err != nil:
		return nil, s.cannotAdmit(err), 0
	case s.e.corrupt != nil: // Unreleased has found what a former client wrote meanwhile
		return nil, reasonFailed, 0
	}
	a = &attachment{number: s.granted + 1, conn: c, token: own, who: who}
	a.from.writePos, a.from.readPos = s.e.newestWritePos(), s.e.out.readPos.pos()
	s.e.newest.Store(a.number) // before it can send
	grant := newPacket(packetGrant)
	grant.Generation, grant.Attachment = s.e.generation, a.number
	grant.ToServerSize, grant.ToClientSize = s.e.peer.ring.size, s.e.own.ring.size
	grant.PID = uint64(unix.Getpid())
	grant.Reason = intervalOf(s.e.heartbeatInterval)
	if err := c.send(grant, s.e.own.file, s.e.peer.file, token); err != nil {
		if byPeer(err) {
			return nil, reasonSilent, 0
		}
		return nil, s.cannotAdmit(fmt.Errorf("ipc: send a client the memory and its token: %w: no client is admitted", err)), 0
	}
	s.e.hookApart(step.GrantSent, a.number)
	s.token = own
	s.granted, s.current, s.latest, s.failing = a.number, a, a, false
	s.e.pending, s.e.granted = a.number, Peer{PID: who.pid, UID: c.peer.uid, Attachment: a.number}
	s.e.peerInterval = c.interval
	return a, reasonNone, 0
}

// recordClient has the lock file name the client (C6).
func (s *server) recordClient(who owner) error {
	record, err := s.lock.read()
	if err != nil {
		return err
	}
	record.client = who
	return s.lock.write(record)
}

// cannotAdmit tells why the server itself cannot admit anybody now: once, for the
// client goes on trying. It returns what the client is told.
//
// Preconditions: e.mu is held.
func (s *server) cannotAdmit(err error) (reason uint32) {
	if !s.failing {
		s.failing = true
		s.e.emit(Event{Kind: EventAdmissionFailed, Err: advise(err)})
	}
	return reasonFailed
}

// byPeer reports whether a call on a connection has failed by the peer's doing: by its
// end, its silence, or what it sent. Any other error is the server's own lack.
func byPeer(err error) bool {
	return errors.Is(err, errEnd) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || timedOut(err) || errors.Is(err, errNotOurs)
}

// failedAt is what a client is told of an error in its handshake: nothing, if that is
// its own doing; else cannotAdmit says it.
func (s *server) failedAt(err error) (reason uint32) {
	if byPeer(err) {
		return reasonSilent
	}
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	return s.cannotAdmit(err)
}

// tokenIsTaken reports whether somebody holds the token of the latest attachment.
//
// Preconditions: s.admission is held.
func (s *server) tokenIsTaken() (bool, error) {
	if s.token == nil {
		return false, nil // it was found free before
	}
	s.e.mu.Lock()
	latest := s.latest
	s.e.mu.Unlock()
	return latest.held()
}

// tokenHolders lists who keeps the token of a client that has ended.
//
// Preconditions: s.admission is held, and there was such a client.
func (s *server) tokenHolders() []int {
	s.e.mu.Lock()
	latest := s.latest
	s.e.mu.Unlock()
	return latest.holders()
}

// copyGrace is how long a newcomer waits for the token of a client that has ended, and
// Listen for the lock of a process that has ended: a child has a copy between its fork
// and its exec.
const copyGrace = 100 * time.Millisecond

// takeToken takes the token for the newcomer. While the former client shows no
// end it is refused; while that one ends, the newcomer waits for the proof.
func (s *server) takeToken(c *conn) (own *tokenFile, token int, reason uint32, holder int) {
	begun := time.Now()
	deadline := begun.Add(s.e.options.handshakeTimeout())
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 5*time.Millisecond) {
		if s.e.closing.Load() {
			return nil, -1, reasonClosing, 0
		}
		s.e.mu.Lock()
		former := s.current
		s.e.mu.Unlock()
		showsEnd := former != nil && former.conn.ended()
		taken, err := s.tokenIsTaken()
		if err == nil && !taken {
			if former != nil {
				s.settle(former) // its account and its end first
			}
			own, token, err = s.newToken()
		}
		switch {
		case err != nil:
			return nil, -1, s.failedAt(err), 0
		case !taken:
			if s.token != nil {
				s.token.close()
				s.token = nil
			}
			return own, token, reasonNone, 0
		case former != nil && !showsEnd:
			return nil, -1, reasonClientRunning, former.who.pid
		case former == nil && time.Since(begun) > copyGrace:
			return nil, -1, reasonCopy, first(s.tokenHolders())
		case time.Now().After(deadline), c.ended():
			_, client := s.lock.holders()
			return nil, -1, reasonClientRunning, client.pid
		}
		s.sleep(wait)
	}
}
