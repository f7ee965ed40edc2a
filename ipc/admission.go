//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/ipc/step"
)

// maxHandshakes bounds the goroutines that unfinished handshakes occupy.
const maxHandshakes = 32

// accept takes connections until the listener is shut down.
func (s *server) accept() {
	defer s.e.workers.Done()
	defer close(s.accepted)
	for {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_CLOEXEC)
		if s.e.closing.Load() {
			if err == nil {
				s.turnAway(fd)
			}
			return
		}
		if err != nil {
			if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNABORTED) {
				s.sleep(10 * time.Millisecond) // out of descriptors or memory: the backlog keeps the client
			}
			continue
		}
		if !s.takeSlot() {
			s.turnAway(fd)
			return
		}
		s.e.hook(step.ConnectionAccepted, uint64(fd))
		c := &conn{fd: fd}
		s.e.mu.Lock()
		s.connections++
		s.handshakes[c] = s.connections
		s.e.mu.Unlock()
		s.e.workers.Add(1)
		go s.handshake(c)
	}
}

// turnAway drops a connection to a server that closes, as if it had never been
// accepted: whoever sees the end of one finds nobody to connect to again.
func (s *server) turnAway(fd int) {
	<-s.shut
	_ = unix.Close(fd)
}

// takeSlot waits for a slot for one more handshake, or until Close. Who comes
// drives out who has said nothing for the longest, so that silent connections keep
// nobody out, however many they are (C7).
func (s *server) takeSlot() bool {
	select {
	case s.slots <- struct{}{}:
		return true
	default:
	}
	s.e.mu.Lock()
	var silent *conn
	for c, number := range s.handshakes {
		if number != spoken && (silent == nil || number < s.handshakes[silent]) {
			silent = c
		}
	}
	if silent != nil {
		silent.wake()
	}
	s.e.mu.Unlock()
	select {
	case s.slots <- struct{}{}:
		return true
	case <-s.e.closed:
		return false
	}
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
	if admitted == nil {
		if reason != reasonSilent {
			refusal := newPacket(packetRefuse)
			refusal.Reason, refusal.PID = reason, uint64(pid)
			_ = c.send(refusal) // if it cannot be told it sees the end of the connection
		}
		c.hangUp()
		return
	}
	s.watch(admitted)
}

// reasonSilent ends a handshake without an answer.
const reasonSilent = ^uint32(0)

// hello reads and checks who is there.
func (s *server) hello(c *conn) (reason uint32, pid int) {
	if c.setDeadline(s.e.options.handshakeTimeout()) != nil {
		return reasonFailed, 0
	}
	user, err := unix.GetsockoptUcred(c.fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return reasonFailed, 0
	}
	if !s.e.options.allows(user.Uid) {
		return reasonUser, 0
	}
	p, _, err := c.receive(0)
	if err != nil || p.Type != packetHello {
		return reasonSilent, 0
	}
	if p.compatible() != nil {
		return reasonVersion, 0
	}
	s.e.mu.Lock()
	s.handshakes[c] = spoken
	s.e.mu.Unlock()
	s.e.hook(step.HelloReceived, 0)
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
		s.e.hook(step.TokenHandedOver, 0)
	}()
	s.e.hook(step.TokenTaken, 0)
	user, err := unix.GetsockoptUcred(c.fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, reasonFailed, 0
	}
	who := owner{pid: int(user.Pid), start: startTime(int(user.Pid))}
	if err := s.recordClient(who); err != nil {
		s.e.mu.Lock()
		defer s.e.mu.Unlock()
		return nil, s.cannotAdmit(err), 0
	}
	s.e.hook(step.ClientRecorded, uint64(who.pid))
	s.awaitCount()

	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.e.closing.Load() {
		return nil, reasonClosing, 0
	}
	if s.e.corrupt != nil {
		if err := s.renew(); err != nil {
			return nil, s.cannotAdmit(err), 0
		}
		s.e.bell.interrupt() // who waits for the former memory goes over to this one
	}
	a = &attachment{number: s.granted + 1, conn: c, token: own, who: who, uid: user.Uid, pidfd: pidfdOf(c.fd, who)}
	grant := newPacket(packetGrant)
	grant.Generation, grant.Attachment = s.e.generation, a.number
	grant.ToServerSize, grant.ToClientSize = s.e.peer.ring.size, s.e.own.ring.size
	grant.PID = uint64(unix.Getpid())
	if err := c.send(grant, s.e.own.file, s.e.peer.file, token); err != nil {
		a.closePidfd()
		return nil, reasonSilent, 0
	}
	s.e.hook(step.GrantSent, a.number)
	s.token = own
	s.granted, s.current, s.failing = a.number, a, false
	s.e.pending, s.e.pendingPID = a.number, who.pid
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

// tokenIsTaken reports whether somebody holds the token of the latest attachment.
//
// Preconditions: s.admission is held.
func (s *server) tokenIsTaken() (bool, error) {
	if s.token == nil {
		return false, nil // it was found free before
	}
	return s.token.taken()
}

// takeToken takes the token for the newcomer. While the former client shows no
// end it is refused; while that one ends, the newcomer waits for the proof.
func (s *server) takeToken(c *conn) (own *tokenFile, token int, reason uint32, holder int) {
	deadline := time.Now().Add(s.e.options.handshakeTimeout())
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
			s.e.mu.Lock()
			defer s.e.mu.Unlock()
			return nil, -1, s.cannotAdmit(err), 0
		case !taken:
			if s.token != nil {
				s.token.close()
				s.token = nil
			}
			return own, token, reasonNone, 0
		case former != nil && !showsEnd:
			return nil, -1, reasonClientRunning, former.who.pid
		case time.Now().After(deadline), c.ended():
			_, client := s.lock.holders()
			return nil, -1, reasonClientRunning, client.pid
		}
		s.sleep(wait)
	}
}
