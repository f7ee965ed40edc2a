//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// A row is several hostile clients, one after the other, at one server, whose
// application may be lazy, eager or absent; and what an honest side must still find.
type row struct {
	t        *rapid.T
	server   *Endpoint
	appetite int // 0: the application is absent, 1: lazy, 2: eager
	held     []Message
	sent     uint32 // kinds 1 to sent were sent to the clients
	former   []*rawClient
	top      uint64 // no client has committed anything behind it
	first    uint64 // where the ring to the server began
	clients  uint64
}

// honestKind marks the honest client's messages; the hostile ones' are smaller.
const honestKind = 1 << 30

// TestT1AnyRowOfHostileClientsLeavesTheHonestServed is T1 for several clients in a
// row, each with the words of its memory under its hand: no panic, no message that
// nobody sent, no count that is not one, and the honest client that comes last finds
// what was sent to it and is served.
func TestT1AnyRowOfHostileClientsLeavesTheHonestServed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		path := testPath(t)
		options := hostileOptions()
		options.HangTimeout = watchdog
		if rapid.Bool().Draw(rt, "near the wrap") {
			startAt(options, nearWrap(rt, "at toClient"), nearWrap(rt, "at toServer"))
		}
		server, err := Listen(testContext(t), path, options)
		if err != nil {
			rt.Fatal(err)
		}
		r := &row{t: rt, server: server, appetite: rapid.IntRange(0, 2).Draw(rt, "appetite")}
		r.first = server.in.cursor
		r.top = r.first
		defer r.end()
		for range rapid.IntRange(1, 6).Draw(rt, "clients") {
			r.send(rapid.IntRange(0, 3).Draw(rt, "sent before"))
			client, err := tryRawAttach(path)
			if errors.Is(err, errNotNow) && r.appetite == 0 {
				break // memory for memory waits to be received
			}
			if err != nil {
				rt.Fatalf("a hostile client is not admitted: %v", err)
			}
			r.clients++
			r.play(client)
			r.checkStats()
		}
		r.checkHonest(testContext(t), path)
		r.checkStats()
	})
}

func (r *row) end() {
	for _, m := range r.held {
		_ = m.Release()
	}
	for _, c := range r.former {
		c.own.release()
		c.peer.release()
	}
	if err := r.server.Close(); err != nil {
		r.t.Errorf("close: %v", err)
	}
}

// tryRawAttach is rawAttach for a client that may be turned away. Its death leaves
// the mappings.
func tryRawAttach(path string) (*rawClient, error) {
	c, err := connect(path)
	if err != nil {
		return nil, err
	}
	_ = c.setDeadline(watchdog)
	r := &rawClient{conn: c}
	if err = c.send(newPacket(packetHello)); err == nil {
		r.grant, r.files, err = c.receive(3)
	}
	switch {
	case err == nil && r.grant.Type == packetRefuse:
		err = fmt.Errorf("refused, reason %d", r.grant.Reason)
		if r.grant.Reason == reasonFailed {
			err = errNotNow
		}
	case err == nil:
		r.own, r.peer, err = openPair(r.grant, r.files[0], r.files[1])
	}
	if err == nil {
		if _, _, err = checkPair(r.own, r.peer); err != nil {
			r.own.release()
			r.peer.release()
		}
	}
	if err != nil {
		closeAll(r.files)
		c.hangUp()
		return nil, err
	}
	return r, nil
}

// play is one hostile client's stay.
func (r *row) play(c *rawClient) {
	t := r.t
	r.former = append(r.former, c)
	leave := sync.OnceFunc(func() {
		closeAll(c.files)
		c.conn.hangUp()
	})
	defer leave()
	said := rapid.IntRange(0, 2).Draw(t, "says") // 0: nothing, 1: ready, 2: that it attached
	if said > 0 {
		c.own.control.attachment.Store(c.grant.Attachment)
	}
	if said == 1 {
		_ = c.conn.send(newPacket(packetReady))
	}
	// Most rows of deeds break something at once; what breaks only behind somebody
	// else's sound messages needs clients that do one thing.
	deeds := rapid.SampledFrom([][]func(*rawClient){
		{r.commit, r.takeBack, r.release, r.unrelease, r.spoil, r.scribble},
		{r.commit, r.scribble},
		{r.takeBack, r.unrelease},
		{r.commit, r.release},
	}).Draw(t, "deeds")
	for range rapid.IntRange(0, 4).Draw(t, "number of deeds") {
		rapid.SampledFrom(deeds).Draw(t, "deed")(c)
		if pos := c.own.control.writePos.Load(); pos-c.peer.control.readPos.Load() <= c.own.ring.size && int64(pos-r.top) > 0 {
			r.top = pos
		}
		r.serve()
	}
	if rapid.Bool().Draw(t, "says goodbye") {
		c.own.control.goodbye.Store(c.grant.Attachment)
	}
	leave()
}

// commit sends a sound message, or several.
func (r *row) commit(c *rawClient) {
	for range rapid.IntRange(1, 3).Draw(r.t, "messages") {
		pos := c.own.control.writePos.Load() &^ 7
		size := rapid.SampledFrom([]int{0, 1, 8, 100, 1000, int(c.own.ring.size) - headerSize}).Draw(r.t, "size")
		next := pos + recordSize(size)
		if next-c.peer.control.readPos.Load() <= c.own.ring.size {
			c.own.ring.putHeader(pos, uint32(size), size)
			c.own.control.writePos.Store(next)
		}
	}
}

func (r *row) takeBack(c *rawClient) {
	c.own.control.writePos.Add(^(8*rapid.Uint64Range(1, 4).Draw(r.t, "taken back") - 1))
}

// release releases messages as an honest client would.
func (r *row) release(c *rawClient) {
	pos, limit := c.own.control.readPos.Load(), c.peer.control.writePos.Load()
	for range rapid.IntRange(1, 3).Draw(r.t, "releases") {
		if rec, err := c.peer.ring.peek(pos&^7, limit); err == nil && pos != limit {
			pos = rec.next
		}
	}
	if int64(c.own.control.deliveredPos.Load()-pos) < 0 {
		c.own.control.deliveredPos.Store(pos)
	}
	c.own.control.readPos.Store(pos)
}

func (r *row) unrelease(c *rawClient) {
	back := ^(8*rapid.Uint64Range(1, 10).Draw(r.t, "unreleased") - 1)
	c.own.control.readPos.Add(back)
	if rapid.Bool().Draw(r.t, "undelivered too") {
		c.own.control.deliveredPos.Add(back)
	}
}

func (r *row) spoil(c *rawClient) {
	w := c.own.control
	words := []*atomic.Uint64{&w.writePos, &w.readPos, &w.deliveredPos, &w.spaceWaitFor, &w.dataWaitFor,
		&w.attachment, &w.goodbye, &w.beat, &w.magic, &w.version, &w.fingerprint, &w.generation, &w.ringSize}
	word := rapid.SampledFrom(words).Draw(r.t, "word")
	near := rapid.SampledFrom(words[:5]).Draw(r.t, "near").Load()
	word.Store(rapid.SampledFrom([]uint64{0, ^uint64(0), 1 << 63, near, near + 8, near - 8, near + 1, near + c.own.ring.size,
		near - c.own.ring.size, near + 1<<32, c.peer.control.writePos.Load(), c.peer.control.readPos.Load()}).Draw(r.t, "value"))
}

// scribble writes a header, true or false, near the end of what was committed.
func (r *row) scribble(c *rawClient) {
	pos := c.own.control.writePos.Load()&^7 + 8*rapid.Uint64Range(0, 4).Draw(r.t, "behind") - 16
	c.own.ring.header(pos).Store(rapid.SampledFrom([]uint64{0, 8, 1<<32 - 1, 1<<32 - 16, 1 << 31, c.own.ring.size, 24}).Draw(r.t, "header"))
}

// send sends to the clients what fits. A sender who looks for space may be the first to
// see that a client has taken back what it released.
func (r *row) send(n int) {
	var corrupt *CorruptError
	for range n {
		switch err := r.server.TrySend(r.sent+1, pattern(r.sent+1)); {
		case err == nil:
			r.sent++
		case !errors.Is(err, ErrFull) && !errors.As(err, &corrupt):
			r.t.Fatalf("send: %v", err)
		}
	}
}

// serve lets the application do something, if it has an appetite.
func (r *row) serve() {
	for range 3 * r.appetite {
		r.serveOnce()
	}
}

func (r *row) serveOnce() {
	t, into := r.t, make([]Message, 3)
	buf := make([]byte, r.server.in.ring.size)
	var n int
	var err error
	switch rapid.IntRange(0, 6).Draw(t, "call") {
	case 0:
		if into[0], err = r.server.TryReceive(); err == nil {
			r.held = append(r.held, into[0])
		}
	case 1:
		_, err = r.server.TryReceiveInto(buf[:rapid.SampledFrom([]int{8, len(buf)}).Draw(t, "room")])
	case 2:
		n, err = r.server.TryReceiveBatch(into)
		r.held = append(r.held, into[:n]...)
	case 3:
		_, err = r.server.TryReceiveBatchInto(buf, into)
	case 4:
		if n := len(r.held); n > 0 {
			i := rapid.IntRange(0, n-1).Draw(t, "view")
			if err := r.held[i].Release(); err != nil {
				t.Fatalf("release: %v", err)
			}
			r.held = append(r.held[:i], r.held[i+1:]...)
		}
	case 5:
		r.send(1)
	case 6:
		r.account()
	}
	if err != nil && !ended(err) && !errors.Is(err, ErrEmpty) && !errors.Is(err, ErrShortBuffer) {
		t.Fatalf("the application is told %v", err)
	}
}

// account checks that what is unreleased is the last of what was sent.
func (r *row) account() []Unreleased {
	list, err := r.server.Unreleased()
	if err != nil && !ended(err) {
		r.t.Fatalf("Unreleased: %v", err)
	}
	for i, u := range list {
		if want := r.sent - uint32(len(list)-1-i); u.Kind != want || string(u.Data) != string(pattern(want)) {
			r.t.Fatalf("M6 Account: %d of %d unreleased is message %d, want %d", i, len(list), u.Kind, want)
		}
	}
	return list
}

// checkStats checks that no count is more than what can have been.
func (r *row) checkStats() {
	s := r.server.Stats()
	committed := r.top - r.first
	r.server.mu.Lock()
	cursor := r.server.in.cursor
	r.server.mu.Unlock()
	if int64(cursor-r.top) > 0 {
		r.t.Fatalf("T1: Receive stands at %d, and nobody has committed more than %d", cursor, r.top)
	}
	if s.ReceivedBytes > committed || s.Received > committed/recordAlign {
		r.t.Fatalf("T1: %d messages, %d bytes released of %d committed", s.Received, s.ReceivedBytes, committed)
	}
	if s.Sent != uint64(r.sent) || s.UnreleasedBytes > r.server.own.ring.size || s.UnreleasedBytes > s.SentBytes || s.HeldViews < len(r.held) || uint64(s.HeldViews) > s.Received+r.clients {
		r.t.Fatalf("counts %+v; want %d sent, %d views", s, r.sent, len(r.held))
	}
	if s.Attachments > r.clients || s.Closes+s.Deaths > s.Attachments || s.Corruptions > 2*r.clients+1 {
		r.t.Fatalf("counts %+v of %d clients", s, r.clients)
	}
}

// checkHonest attaches an honest client, which receives what is unreleased and is
// served.
func (r *row) checkHonest(ctx context.Context, path string) {
	t := r.t
	type dialled struct {
		client *Endpoint
		err    error
	}
	attached := make(chan dialled, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		o := hostileOptions()
		o.HangTimeout = watchdog
		client, err := Dial(ctx, path, o)
		if err == nil {
			err = client.Send(ctx, honestKind, pattern(honestKind))
		}
		attached <- dialled{client, err}
		if err != nil {
			cancel()
		}
	}()
	// What the hostile ones have committed comes first.
	for limit := r.server.in.ring.size; ; limit-- {
		m, err := r.server.Receive(ctx)
		if errors.Is(err, context.Canceled) {
			t.Fatalf("an honest client is told %v", (<-attached).err)
		}
		if err != nil && !ended(err) && !errors.Is(err, ErrViewsHeld) || limit == 0 {
			t.Fatalf("before the honest client's message: %v (%d)", err, limit)
		}
		if err == nil {
			_ = m.Release()
		}
		if errors.Is(err, ErrViewsHeld) || err == nil {
			for _, v := range r.held {
				_ = v.Release()
			}
			r.held = nil
		}
		if err == nil && m.Kind == honestKind {
			break
		}
	}
	d := <-attached
	if d.client != nil {
		defer d.client.Close()
	}
	if d.err != nil {
		t.Fatalf("an honest client is told %v", d.err)
	}
	r.clients++
	r.top = d.client.own.control.writePos.Load()
	list := r.account()
	for _, u := range list {
		m, err := d.client.Receive(ctx)
		if err != nil || m.Kind != u.Kind || checkPattern(m) != nil {
			t.Fatalf("the honest client receives %+v, %v; want message %d", m, err, u.Kind)
		}
		_ = m.Release()
	}
	if _, err := d.client.TryReceive(); !errors.Is(err, ErrEmpty) {
		t.Fatalf("the honest client receives what nobody sent: %v", err)
	}
	r.sent++
	if err := r.server.Send(ctx, r.sent, pattern(r.sent)); err != nil {
		t.Fatal(err)
	}
	if m, err := d.client.Receive(ctx); err != nil || m.Kind != r.sent || m.Release() != nil {
		t.Fatalf("the honest client receives %+v, %v; want message %d", m, err, r.sent)
	}
}

// A former client has kept its mapping. What it writes while nobody is attached is not
// its successor's.
func TestT1WhatAFormerClientWritesLaterIsNotItsSuccessors(t *testing.T) {
	for name, write := range map[string]func(*control){
		"nothing":      func(*control) {},
		"readPos":      func(c *control) { c.readPos.Add(8) },
		"writePos":     func(c *control) { c.writePos.Add(16) },
		"deliveredPos": func(c *control) { c.deliveredPos.Add(8) },
		"goodbye":      func(c *control) { c.goodbye.Store(2) },
		"magic":        func(c *control) { c.magic.Store(0) },
	} {
		t.Run(name, func(t *testing.T) {
			server := listenHere(t, testPath(t), hostileOptions())
			for kind := range uint32(hostileMessages) {
				if err := server.Send(testContext(t), kind, make([]byte, 16)); err != nil {
					t.Fatal(err)
				}
			}
			former := rawAttach(t, server.Path())
			nextEvent(t, server, EventAttached)
			kept := former.own
			kept.refs.Add(1)
			defer kept.release()
			former.leave()
			checkEndOfHostile(t, receiveUntilEnd(t, server), "")
			nextEvent(t, server, EventDied)
			write(kept.control)
			checkSuccessor(t, server, hostileMessages, 30)
		})
	}
}
