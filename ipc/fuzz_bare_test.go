//go:build linux && (amd64 || arm64)

package ipc

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A bareServer is a server without the parts that run by themselves: no listener,
// no heartbeat, nobody who watches a connection. What they do is called here, in an
// order that the program decides; the admission of a client (C3) and the settling
// of its end are those of the server. So an input does the same each time, and an
// execution costs a tenth of a millisecond and not more.
type bareServer struct{ *server }

// close leaves out what a listening server does besides.
func (s bareServer) close() error {
	if s.token != nil {
		s.token.close()
	}
	s.forgetMemories()
	return s.e.own.detach(nil)
}

// bareLock is the lock file that the bare servers of a target share: that of a server
// which holds it as long as the target runs.
func bareLock(t testing.TB) *lockFile {
	t.Helper()
	return listenHere(t, testPath(t), hostileOptions()).life.(*server).lock
}

// newBareServer makes a server of a fresh generation.
func newBareServer(t testing.TB, lock *lockFile) bareServer {
	t.Helper()
	e := newEndpoint(RoleServer, strings.TrimSuffix(lock.path, ".lock"), hostileOptions())
	s := bareServer{&server{e: e, listener: -1, lock: lock}}
	e.life, e.generation = s, 1
	if err := s.makeMemory(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// admitted has the server decide about a connection, and returns the client's end
// of it.
func (s bareServer) admitted(t testing.TB) *conn {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := &conn{fd: ends[0]}, &conn{fd: ends[1]}
	if a, _, _ := s.admit(ours); a == nil {
		ours.hangUp()
	}
	_ = theirs.setDeadline(watchdog)
	return theirs
}

// attach makes a client that has the server's word, or returns nil if it is refused.
func (s bareServer) attach(t testing.TB) *rawClient {
	t.Helper()
	r := &rawClient{conn: s.admitted(t)}
	var err error
	if r.grant, r.files, err = r.conn.receive(3); err != nil {
		r.conn.hangUp()
		return nil
	}
	if r.own, r.peer, err = openPair(r.grant, r.files[0], r.files[1]); err != nil {
		t.Fatalf("the granted memory: %v", err)
	}
	return r
}

// ready is what the server does with the client's word that it has mapped the
// memory.
func (s bareServer) ready() {
	if s.current != nil {
		s.attached(s.current)
	}
}

// left is the death of a client: what its watcher does.
func (s bareServer) left(t testing.TB, r *rawClient) {
	t.Helper()
	r.leave()
	if a := s.current; a != nil {
		for !s.proven(a) { // what was received may be closed aside
			runtime.Gosched()
		}
		s.retire(a)
		a.conn.hangUp()
		a.conn.peer.forget()
	}
}

// An honestClient is a client's endpoint without what runs by itself.
type honestClient struct {
	e   *Endpoint
	raw *rawClient
}

type bareClient struct{ e *Endpoint }

func (c bareClient) expel(error)                    {}
func (c bareClient) kill() error                    { return nil }
func (c bareClient) look()                          {}
func (c bareClient) pidfd(uint64) (*os.File, error) { return nil, nil }
func (c bareClient) close() error                   { return c.e.own.detach(nil) }

// attachHonest makes a client that keeps the rules.
func (s bareServer) attachHonest(t testing.TB) honestClient {
	t.Helper()
	r := s.attach(t)
	if r == nil {
		t.Fatal("T1: the honest client is refused")
	}
	e := newEndpoint(RoleClient, "bare", hostileOptions())
	e.life, e.generation = bareClient{e}, 1
	e.attachment.Store(r.grant.Attachment)
	r.own.refs.Add(1)
	r.peer.refs.Add(1)
	if err := e.join(r.own, r.peer); err != nil {
		t.Fatalf("T1: the honest client does not attach: %v", err)
	}
	r.own.control.dataWaitFor.Store(0)
	r.own.control.spaceWaitFor.Store(0)
	r.own.control.attachment.Store(r.grant.Attachment)
	e.attachedTo()
	s.ready()
	return honestClient{e, r}
}

// leave closes it.
func (c honestClient) leave(t testing.TB, s bareServer) {
	t.Helper()
	c.raw.own.control.goodbye.Store(c.raw.grant.Attachment)
	if err := c.e.Close(); err != nil {
		t.Fatalf("close of the client: %v", err)
	}
	s.left(t, c.raw)
}
