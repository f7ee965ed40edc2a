//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"testing"
)

// A hostileServer made the memory of its client, and keeps writable mappings of
// all of it.
type hostileServer struct {
	own   *segment // the server's
	other *segment // the client's
}

// newHostileServer makes the memory, and a client's endpoint over it, without what
// runs by itself.
func newHostileServer(t testing.TB) (s hostileServer, e *Endpoint) {
	t.Helper()
	e = newEndpoint(RoleClient, "bare", hostileOptions())
	size := uint64(e.options.toServerSize())
	var err error
	if s.own, err = newSegment(RoleServer, 1, size, positions{}, nil); err != nil {
		t.Fatal(err)
	}
	made, err := newSegment(RoleClient, 1, size, positions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer made.release()
	mapped := func(file int, writable bool) *segment {
		mapping, err := mapSegment(file, size, writable)
		if err != nil {
			t.Fatal(err)
		}
		return mapping
	}
	s.other = mapped(made.file, true)
	e.life, e.generation = bareClient{e}, 1
	e.attachment.Store(1)
	if err := e.join(mapped(made.file, true), mapped(s.own.file, false)); err != nil {
		t.Fatal(err)
	}
	e.attachedTo()
	return s, e
}

func (s hostileServer) gone() {
	s.own.release()
	s.other.release()
}

// playServer plays a hostile server against a client. The client's own words are
// hostile too: whoever made its memory can write it.
func playServer(t testing.TB, code []byte) {
	defer withinTime()()
	around := lookAround()
	server, e := newHostileServer(t)
	p := &program{code}
	h := newHonest(t, e)
	over := false
	for turn := 0; turn < maxTurns && !p.ended(); turn++ {
		switch what := p.below(16); {
		case what < 7:
			h.turn(p)
		case what == 7:
			p.write(server.other, server.own)
			h.written()
		case what == 8 && !over && p.below(4) == 0:
			over = true
			e.serverEnded(ErrPeerDied, EventDied, PeerDied)
			h.written()
		case !over || what > 12: // a server that is gone may have left its memory to somebody
			p.write(server.own, server.other)
			if !over {
				h.written()
			}
		}
	}
	if !over {
		e.serverEnded(ErrPeerDied, EventDied, PeerDied)
		h.written()
	}
	h.receiveAll()
	var corrupt *CorruptError
	if _, err := e.TryReceive(); !errors.Is(err, ErrPeerDied) && !errors.As(err, &corrupt) {
		t.Fatalf("M5: the client is told %v in the end, want the end of its server", err)
	}
	if err := e.Send(t.Context(), 1, nil); !errors.Is(err, ErrPeerDied) && !errors.As(err, &corrupt) {
		t.Fatalf("a send behind the end gave %v", err)
	}
	h.release(255)
	if err := e.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	server.gone()
	around.check(t)
}

func FuzzRingFromServer(f *testing.F) {
	f.Add([]byte{9, 0, 16, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0})
	f.Add([]byte{0, 7, 8, 0, 0, 8, 20, 1, 9, 4, 5, 3, 0, 10, 9, 6, 0, 0, 1})
	f.Add([]byte{9, 0, 200, 2, 9, 7, 0, 0, 5, 0, 4, 8, 0, 15, 0, 9, 9, 0, 3})
	f.Fuzz(func(t *testing.T, code []byte) { playServer(t, code) })
}

// FuzzAccount has a side send, sets the words of its peer to anything, and takes
// the account: it is of what was sent, or the peer is corrupt.
func FuzzAccount(f *testing.F) {
	f.Add([]byte{8, 16, 24}, uint64(0), uint64(0), uint64(0), uint64(0), []byte{})
	f.Add([]byte{8, 16, 24}, uint64(16), uint64(40), uint64(16), uint64(40), []byte{})
	f.Add([]byte{8, 16, 24}, uint64(8), uint64(8), uint64(24), uint64(16), []byte{1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{255, 255, 255, 255}, uint64(1<<63), uint64(1<<62), ^uint64(0), uint64(7), []byte{255, 255, 255, 255})
	lock := bareLock(f)
	f.Fuzz(func(t *testing.T, sizes []byte, readPos, deliveredPos, laterReadPos, laterDeliveredPos uint64, content []byte) {
		defer withinTime()()
		around := lookAround()
		server := newBareServer(t, lock)
		client := server.attach(t)
		server.ready()
		h := newHonest(t, server.e)
		copy(client.own.ring.mem, content)
		for _, size := range sizes {
			p := &program{[]byte{size, size & 1}}
			h.checkError(h.send(p))
		}
		for _, words := range [][2]uint64{{readPos, deliveredPos}, {laterReadPos, laterDeliveredPos}} {
			client.own.control.deliveredPos.Store(words[1])
			client.own.control.readPos.Store(words[0])
			h.account()
		}
		server.left(t, client)
		h.finish(server)
		around.check(t)
	})
}

// account takes the account by each of its ways, which must agree.
func (h *honest) account() {
	e := h.e
	e.mu.Lock()
	a, err := e.account()
	e.mu.Unlock()
	h.checkError(err)
	if err == nil && a.writePos-a.readPos > e.own.ring.size || a.deliveredPos-a.readPos > a.writePos-a.readPos {
		h.t.Fatalf("I1, I2: the account %+v does not fit a ring of %d", a, e.own.ring.size)
	}
	if err == nil {
		list, err := e.list(a)
		unreleased, redeliverable := e.count(a)
		if err == nil && (len(list) != unreleased || redeliverable > unreleased) {
			h.t.Fatalf("M6: %d messages listed, %d counted, of which %d may come again", len(list), unreleased, redeliverable)
		}
	}
	h.checkError(h.checkUnreleased())
	h.checkStats()
}
