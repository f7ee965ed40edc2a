//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"testing"
)

// write is one turn of a hostile side: own is its segment, other that of the
// honest side.
func (p *program) write(own, other *segment) {
	c := own.control
	places := []uint64{
		c.writePos.Load(), c.readPos.Load(), c.deliveredPos.Load(), own.ring.size,
		other.control.writePos.Load(), other.control.readPos.Load(), other.control.deliveredPos.Load(),
	}
	switch p.below(8) {
	case 0, 1, 2, 3: // a sound record, committed
		pos := c.writePos.Load() &^ (recordAlign - 1)
		size := p.below(256)
		next := own.ring.putHeader(pos, uint32(p.next()), size)
		copy(own.ring.payload(pos, size), p.bytes(min(size, 8)))
		c.writePos.Store(next)
	case 4: // a release, perhaps beyond what there is
		c.deliveredPos.Store(p.near(places...))
		c.readPos.Store(c.deliveredPos.Load())
	case 5: // a header, near what was committed
		own.ring.header(p.near(places[0], places[5]) &^ (recordAlign - 1)).Store(p.word())
	case 6: // any word
		words := []uint64{0x080, 0x100, 0x180, 0x200, 0x280, 0x300, 0x380, 0x400, 0x000, 0x008, 0x010, 0x018, 0x020}
		stored(wordAt(own.mem, words[p.below(len(words))]), p.near(places...))
	case 7: // a position alone
		stored(wordAt(own.mem, []uint64{0x080, 0x100, 0x180}[p.below(3)]), p.near(places...))
	}
}

// A hostileClients plays one hostile client behind the other.
type hostileClients struct {
	t      testing.TB
	server bareServer
	now    *rawClient
	tries  int
}

// attach makes the next client, if the server has room for one.
func (h *hostileClients) attach(ready bool) {
	if h.now == nil && h.tries < 8 {
		h.tries++
		h.now = h.server.attach(h.t)
	}
	if h.now != nil && ready {
		h.server.ready()
	}
}

// leave is the death of the client.
func (h *hostileClients) leave() {
	if h.now != nil {
		h.server.left(h.t, h.now)
		h.now = nil
	}
}

// An application is how the honest server's application behaves.
type application int

const (
	eager  application = iota // it receives what there is behind each write
	lazy                      // it does what the program says
	absent                    // it receives nothing until the hostile ones are gone
)

// playClients plays a program of hostile clients against a server, and then an
// honest client, which must be served.
func playClients(t testing.TB, lock *lockFile, code []byte, clients int, app application) {
	defer withinTime()()
	around := lookAround()
	server := newBareServer(t, lock)
	p := &program{code}
	h := newHonest(t, server.e)
	hostile := &hostileClients{t: t, server: server}
	for turn := 0; turn < maxTurns && !p.ended(); turn++ {
		switch what := p.below(16); {
		case what < 6 && app == lazy:
			h.turn(p)
		case what < 2 && app == absent:
			h.checkError(h.send(p))
		case what == 15 && hostile.tries < clients:
			hostile.leave()
			h.written() // what it had committed and nobody had looked at
		default:
			if hostile.attach(what < 14); hostile.now != nil {
				p.write(hostile.now.own, hostile.now.peer)
				h.written()
			}
		}
		if app == eager {
			h.receiveAll()
		}
	}
	hostile.leave()
	h.finish(server)
	around.check(t)
}

// receiveAll receives until there is nothing, and returns how often it was told an
// error instead. A corrupt client that is still there is told again and again.
func (h *honest) receiveAll() (told int) {
	for told < 32 {
		m, err := h.e.TryReceiveInto(h.buffer)
		h.checkError(err)
		switch {
		case errors.Is(err, ErrEmpty):
			return told
		case err == nil:
			h.came([]Message{m}, false)
		default:
			told++
		}
	}
	return told
}

// finish attaches an honest client behind the hostile ones, which must find the
// last of what the server has sent, and be served.
func (h *honest) finish(server bareServer) {
	h.release(255)
	for told := -1; told != 0; { // each end that is told may let the next client's messages through
		h.written()
		if told = h.receiveAll(); told >= 32 {
			h.t.Fatalf("T1: the end of clients that are gone is told for ever")
		}
	}
	client := server.attachHonest(h.t)
	list, err := h.e.Unreleased()
	if err != nil || len(list) > int(h.sent) {
		h.t.Fatalf("M6: %d messages unreleased of %d sent, %v", len(list), h.sent, err)
	}
	for kind := h.sent - uint32(len(list)); kind != h.sent; kind++ {
		m, err := client.e.TryReceive()
		if err != nil || m.Kind != kind || checkOwn(kind, m.Data) != nil {
			h.t.Fatalf("T1: the honest client received message %d, %v; want %d of %d", m.Kind, err, kind, h.sent)
		}
		_ = m.Release()
	}
	h.exchange(client.e)
	client.leave(h.t, server)
	if _, err := h.e.TryReceive(); !errors.Is(err, ErrPeerClosed) {
		h.t.Fatalf("the end of the honest client is told as %v", err)
	}
	if err := h.e.Close(); err != nil {
		h.t.Fatalf("close of the server: %v", err)
	}
}

// exchange sends a message each way, twice.
func (h *honest) exchange(client *Endpoint) {
	for kind := range uint32(2) {
		for _, d := range [][2]*Endpoint{{client, h.e}, {h.e, client}} {
			if err := d[0].Send(h.t.Context(), kind, pattern(kind)); err != nil {
				h.t.Fatalf("T1: the honest client cannot exchange: %v", err)
			}
			m, err := d[1].Receive(h.t.Context())
			for d[1] == h.e && isEnd(err) { // of strangers who had attached before
				m, err = d[1].Receive(h.t.Context())
			}
			if err != nil || m.Kind != kind || checkPattern(m) != nil {
				h.t.Fatalf("T1: the honest client's message %d: %+v, %v", kind, m, err)
			}
			_ = m.Release()
		}
	}
}

// isEnd reports whether an error of a server's Receive tells the end of a client.
func isEnd(err error) bool {
	var corrupt *CorruptError
	return errors.Is(err, ErrPeerDied) || errors.Is(err, ErrPeerClosed) || errors.As(err, &corrupt)
}

func FuzzRingFromClient(f *testing.F) {
	f.Add([]byte{6, 0, 16, 1, 0, 0, 0, 6, 7, 1, 2, 0, 0})
	f.Add([]byte{0, 7, 8, 3, 4, 0, 1, 0, 6, 0, 200, 9, 1, 2, 1, 5, 0, 8, 30, 1, 2})
	f.Add([]byte{0, 7, 40, 2, 14, 5, 0, 1, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 4, 6, 0, 0, 1})
	lock := bareLock(f)
	f.Fuzz(func(t *testing.T, code []byte) { playClients(t, lock, code, 1, lazy) })
}

// endsThatGoBack is three clients, of which the third takes back what the second has
// committed, while nobody receives.
var endsThatGoBack = []byte("\x06\x00\x08\x0100000000\x0f" +
	"\x06\x00\x08\x0200000000\x06\x00\x08\x0300000000\x06\x05\x00\x00\xf0\xff\xff\xff\x00\x00\x00\x00\x0f" +
	"\x06\x07\x00\x00\xfe")

func FuzzHostileClients(f *testing.F) {
	for app := range byte(3) {
		f.Add(app, []byte{6, 0, 16, 1, 15, 6, 0, 24, 2, 15, 6, 0, 200, 3})
		f.Add(app, []byte{6, 6, 0, 0, 5, 15, 6, 0, 24, 2, 15, 6, 0, 24, 1})
		f.Add(app, []byte{1, 20, 1, 20, 6, 4, 4, 0, 15, 6, 0, 24, 2, 15, 6, 4, 0})
	}
	f.Add(byte(absent), endsThatGoBack)
	lock := bareLock(f)
	f.Fuzz(func(t *testing.T, app byte, code []byte) {
		playClients(t, lock, code, 6, application(app%3))
	})
}
