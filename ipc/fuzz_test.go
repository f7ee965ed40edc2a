//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// What a fuzz target plays is a program, decoded from bytes: both sides take their
// turns in one goroutine, so that an input does the same each time. The peers live
// in this process and speak the protocol by hand.

// A program is the bytes of an input. Behind its end it says 0.
type program struct{ code []byte }

func (p *program) ended() bool { return len(p.code) == 0 }

func (p *program) next() byte {
	if p.ended() {
		return 0
	}
	b := p.code[0]
	p.code = p.code[1:]
	return b
}

// below returns a number below n, which is at most 256.
func (p *program) below(n int) int { return int(p.next()) % n }

// bytes returns the next n bytes, or as many as there are.
func (p *program) bytes(n int) []byte {
	n = min(n, len(p.code))
	b := p.code[:n]
	p.code = p.code[n:]
	return b
}

// word returns 8 bytes as a number.
func (p *program) word() uint64 {
	var b [8]byte
	copy(b[:], p.bytes(8))
	return binary.LittleEndian.Uint64(b[:])
}

// near returns a position: one of those given, or anything, and a few bytes away
// from it, mostly a multiple of recordAlign.
func (p *program) near(places ...uint64) uint64 {
	at := uint64(0)
	if choice := p.below(len(places) + 1); choice < len(places) {
		at = places[choice]
	} else {
		at = p.word()
	}
	step := int64(int8(p.next()))
	if step%5 != 0 {
		step *= recordAlign
	}
	return at + uint64(step)
}

// maxTurns bounds a program, so that a long input is not a slow one.
const maxTurns = 200

// withinTime ends a target that does not come back, with all goroutines: in a file too,
// for a fuzzing worker's standard error goes nowhere. It returns what ends the watch.
func withinTime() (done func()) {
	timer := time.AfterFunc(watchdog, func() {
		text := stacks()
		_ = os.WriteFile(filepath.Join(os.TempDir(), "tandem-fuzz-stacks"), []byte(text), 0o600)
		panic("a call does not come back\n" + text)
	})
	return func() { timer.Stop() }
}

// A traceless execution leaves nothing: look before it, and call check behind it.
type traceless struct{ descriptors, mappings, goroutines int }

func lookAround() traceless {
	return traceless{countDescriptors(), countMappings(), runtime.NumGoroutine()}
}

// check waits until the process holds no more than before.
func (l traceless) check(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(watchdog / 2); ; runtime.Gosched() {
		now := lookAround()
		if now.descriptors <= l.descriptors && now.mappings <= l.mappings && now.goroutines <= l.goroutines {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("L8 NoLeak: %+v before, %+v now\n%v\n%s", l, now, footprintOf(""), stacks())
		}
	}
}

func countDescriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// mapsBuffer is as large as the list of mappings of a test process ever gets.
var mapsBuffer = make([]byte, 1<<18)

// countMappings counts the mappings of segments.
func countMappings() (count int) {
	file, err := os.Open("/proc/self/maps")
	if err != nil {
		return 0
	}
	defer file.Close()
	for {
		n, err := file.Read(mapsBuffer)
		for i := 0; i+len("memfd:tandem-") < n; i++ {
			if mapsBuffer[i] == 'm' && string(mapsBuffer[i:i+len("memfd:tandem-")]) == "memfd:tandem-" {
				count++
			}
		}
		if n == 0 || err != nil {
			return count
		}
	}
}

// over is a context that has ended: the calls that wait do not.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// An honest is the side that keeps the rules, and what it must be able to rely on
// whatever the other does (T1).
type honest struct {
	t      testing.TB
	e      *Endpoint
	held   []Message
	views  int    // bytes of the records held
	budget int    // messages that may still come before the other side writes again
	sent   uint32 // number of the next message
	buffer []byte
	batch  []Message
}

func newHonest(t testing.TB, e *Endpoint) *honest {
	h := &honest{t: t, e: e, buffer: make([]byte, 2*os.Getpagesize()), batch: make([]Message, 5)}
	h.written()
	return h
}

// written says that the other side has written: so many messages fit into its ring.
func (h *honest) written() { h.budget = os.Getpagesize() / headerSize }

// came checks what was received.
func (h *honest) came(messages []Message, view bool) {
	for _, m := range messages {
		size := recordSize(len(m.Data))
		sum := byte(0)
		for _, b := range m.Data { // it can be read
			sum += b
		}
		_ = sum
		if h.budget--; h.budget < 0 {
			h.t.Fatalf("T1: more messages than the ring can hold, and the other side has not written")
		}
		if size > uint64(os.Getpagesize()) {
			h.t.Fatalf("T1: a message of %d bytes, in a ring of %d", len(m.Data), os.Getpagesize())
		}
		if view {
			h.held = append(h.held, m)
			h.views += int(size)
		}
	}
	if h.views > os.Getpagesize() {
		h.t.Fatalf("T1: %d views take %d bytes of a ring of %d", len(h.held), h.views, os.Getpagesize())
	}
}

// checkError refuses an error that tells nothing to who may act.
func (h *honest) checkError(err error) {
	var corrupt *CorruptError
	switch {
	case err == nil, ended(err), errors.As(err, &corrupt):
	case errors.Is(err, ErrEmpty), errors.Is(err, ErrFull), errors.Is(err, ErrViewsHeld), errors.Is(err, ErrShortBuffer),
		errors.Is(err, ErrPeerHung), errors.Is(err, context.Canceled), errors.Is(err, ErrTooLarge):
	default:
		h.t.Fatalf("T1: the honest side is told %v", err)
	}
}

// message is the next message: its bytes are its number.
func (h *honest) message(size int) (uint32, []byte) {
	data := h.buffer[:size]
	for i := range data {
		data[i] = byte(h.sent)
	}
	return h.sent, data
}

// checkOwn checks that a message which the honest side sent is one of those.
func checkOwn(kind uint32, data []byte) error {
	for _, b := range data {
		if b != byte(kind) {
			return fmt.Errorf("message %d of %d bytes has other bytes than were sent", kind, len(data))
		}
	}
	return nil
}

// turn is one call of the honest side.
func (h *honest) turn(p *program) {
	var m Message
	var n int
	var err error
	switch p.below(12) {
	case 0:
		if m, err = h.e.TryReceive(); err == nil {
			h.came([]Message{m}, true)
		}
	case 1:
		if m, err = h.e.Receive(over); err == nil {
			h.came([]Message{m}, true)
		}
	case 2:
		if m, err = h.e.TryReceiveInto(h.buffer[:32*p.below(256)]); err == nil {
			h.came([]Message{m}, false)
		}
	case 3:
		if m, err = h.e.ReceiveInto(over, h.buffer); err == nil {
			h.came([]Message{m}, false)
		}
	case 4:
		if n, err = h.e.TryReceiveBatch(h.batch); err == nil {
			h.came(h.batch[:n], true)
		}
	case 5:
		if n, err = h.e.ReceiveBatchInto(over, h.buffer, h.batch); err == nil {
			h.came(h.batch[:n], false)
		}
	case 6:
		h.release(p.next())
	case 7:
		err = h.send(p)
	case 8:
		err = h.sendReserved(p)
	case 9:
		err = h.sendBatch(p)
	case 10:
		err = h.checkUnreleased()
	case 11:
		h.checkStats()
	}
	h.checkError(err)
}

// release releases one of the views held, or all.
func (h *honest) release(which byte) {
	if len(h.held) == 0 {
		return
	}
	if which == 255 {
		if err := ReleaseBatch(h.held); err != nil {
			h.t.Fatalf("release: %v", err)
		}
		h.held, h.views = nil, 0
		return
	}
	i := int(which) % len(h.held)
	h.views -= int(recordSize(len(h.held[i].Data)))
	if err := h.held[i].Release(); err != nil {
		h.t.Fatalf("release: %v", err)
	}
	h.held = append(h.held[:i], h.held[i+1:]...)
}

func (h *honest) send(p *program) error {
	kind, data := h.message(p.below(256))
	var err error
	if p.below(2) == 0 {
		err = h.e.TrySend(kind, data)
	} else {
		err = h.e.Send(over, kind, data)
	}
	if err == nil {
		h.sent++
	}
	return err
}

func (h *honest) sendReserved(p *program) error {
	kind, data := h.message(p.below(256))
	r, err := h.e.TryReserve(len(data))
	if err != nil {
		return err
	}
	if p.below(4) == 0 {
		return r.Abort()
	}
	copy(r.Data, data)
	if err = r.Commit(kind, len(data)); err == nil {
		h.sent++
	}
	return err
}

func (h *honest) sendBatch(p *program) error {
	var batch []Message
	for range p.below(4) {
		kind, data := h.message(p.below(64))
		batch = append(batch, Message{Kind: kind, Data: append([]byte(nil), data...)})
		h.sent++
	}
	n, err := h.e.TrySendBatch(batch)
	h.sent -= uint32(len(batch) - n)
	return err
}

// checkUnreleased checks the account: the last of what was sent, each whole.
func (h *honest) checkUnreleased() error {
	list, err := h.e.Unreleased()
	if len(list) > os.Getpagesize()/headerSize {
		h.t.Fatalf("T1: %d messages unreleased in a ring of %d", len(list), os.Getpagesize())
	}
	if err != nil || h.e.role == RoleClient { // which cannot tell where the records of its ring begin
		return err
	}
	if len(list) > int(h.sent) {
		h.t.Fatalf("M6: %d messages unreleased, and %d were sent", len(list), h.sent)
	}
	for i, u := range list {
		kind := h.sent - uint32(len(list)-i)
		if u.Kind != kind || checkOwn(kind, u.Data) != nil {
			h.t.Fatalf("M6: unreleased message %d of %d is %d, want %d", i, len(list), u.Kind, kind)
		}
	}
	return nil
}

func (h *honest) checkStats() {
	stats, _ := h.e.Stats(), h.e.Peer()
	if stats.UnreleasedBytes > uint64(os.Getpagesize()) || stats.HeldViews < 0 || stats.Sent != uint64(h.sent) {
		h.t.Fatalf("T1: %d messages sent, and the counts are %+v", h.sent, stats)
	}
}

// stored is what a hostile side does to a word.
func stored(word *atomic.Uint64, value uint64) { word.Store(value) }
