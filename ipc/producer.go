package ipc

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A producer is this process's end of the direction that it sends on. Its ring
// lies in this process's own segment.
type producer struct {
	// outlived is where this side's writePos stood when a corrupt client ended: what was
	// sent later it has not seen. Both are guarded by e.mu.
	outlived    uint64
	hasOutlived bool

	e    *Endpoint
	gate gate // guards all fields below but claim
	ring ring
	own  *control // writePos, spaceWaitFor
	peer *segment // readPos, dataWaitFor

	writePos ownPos
	filled   uint64 // end of the records filled behind writePos (a batch)
	records  int    // how many of those
	need     uint64 // bytes that the waiting call wants
	wait     waiter
	sent     counter
	renewal  uint32 // the number of the peer's memory
	starts   starts // of the records in the ring

	readPos seenPos  // the peer's; moved with e.mu held
	freePos uint64   // how far the peer has released, and nobody copies; never ahead of readPos
	keeps   []uint64 // where the accounts begin that are being copied; guarded by e.mu
	heldUp  bool     // they have kept freePos behind readPos; guarded by e.mu

	// attention is set when something but the peer's position must be looked
	// at: the end of the peer, or its memory replaced.
	attention atomic.Bool

	flushes  gate        // one at a time sleeps
	flushing atomic.Bool // one does, or is about to
	waits    atomic.Bool // the holder of the gate, for space

	claim struct {
		sync.Mutex // held while a reservation ends, or Close takes it over
		active     bool
		orphaned   bool // Close came before Commit or Abort
		serial     uint64
		data       []byte // its space
	}
}

// lock takes the gate and looks at what has happened meanwhile.
func (p *producer) lock(ctx context.Context) error {
	if !p.e.isOpened() {
		return ErrClosed
	}
	if ctx == nil {
		return errNoContext
	}
	if err := p.gate.lock(ctx, p.e.closed); err != nil {
		return err
	}
	if p.attention.Load() {
		if err := p.attend(); err != nil {
			p.gate.unlock()
			return err
		}
	}
	return nil
}

// tryLock is lock for the calls that do not wait.
func (p *producer) tryLock() error {
	if !p.gate.tryEnter() {
		if !p.e.isOpened() || p.e.closing.Load() {
			return ErrClosed
		}
		return ErrFull
	}
	if p.attention.Load() {
		if err := p.attend(); err != nil {
			p.gate.unlock()
			return err
		}
	}
	return nil
}

// attend takes over a new peer segment, or returns why nothing can be sent.
func (p *producer) attend() error {
	peer, err := p.e.attendProducer()
	if peer != nil {
		p.peer.release()
		p.peer = peer
	}
	return err
}

// renewed reports whether a client may be there whose memory is not p.peer.
func (p *producer) renewed() bool { return p.e.renewals.Load() != p.renewal }

// fitsNow is fits as far as no look at the peer is needed.
func (p *producer) fitsNow(need uint64) bool {
	return p.filled+need-p.freePos <= p.ring.size
}

// fits reports whether need bytes are free behind the records filled so far.
func (p *producer) fits(need uint64) (bool, error) {
	if p.fitsNow(need) {
		return true, nil
	}
	seen, err := p.lookAtReadPos()
	if err != nil {
		return false, p.e.expel(false, func() error { // not for what a former client left
			return p.checkReadPos(p.e.peer.control.readPos.Load(), seen, p.writePos.load()) // pairs: message-released
		})
	}
	return p.fitsNow(need), nil
}

// lookAtReadPos brings readPos up to date, unless it is frozen, and freePos. The end
// of a client is not settled in between: what a client showed and took back before
// it died must not be acted upon once its account is taken.
func (p *producer) lookAtReadPos() (seen uint64, err error) {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	seen, frozen := p.readPos.get()
	p.free(seen)
	if frozen {
		return seen, nil
	}
	readPos := p.peer.control.readPos.Load() // pairs: message-released
	if err := p.checkReadPos(readPos, seen, p.writePos.load()); err != nil {
		return seen, err
	}
	p.readPos.set(readPos)
	p.free(readPos)
	return seen, nil
}

// free moves freePos to readPos, or to the first account that is being copied.
//
// Preconditions: the gate and e.mu are held.
func (p *producer) free(readPos uint64) {
	p.freePos = readPos
	for _, kept := range p.keeps {
		if int64(p.freePos-kept) > 0 {
			p.freePos, p.heldUp = kept, true
		}
	}
}

// keep keeps what is committed behind pos from being written over, until unkeep. To
// the sender it is as if the peer had released nothing behind pos.
//
// Preconditions: e.mu is held, and readPos is not behind pos.
func (p *producer) keep(pos uint64) { p.keeps = append(p.keeps, pos) }

// unkeep ends a keep. A sender that was held up by it looks again (W3).
func (p *producer) unkeep(pos uint64) {
	p.e.mu.Lock()
	i := slices.Index(p.keeps, pos)
	p.keeps = slices.Delete(p.keeps, i, i+1)
	heldUp := p.heldUp
	p.heldUp = false
	p.e.mu.Unlock()
	if heldUp {
		p.e.bell.interrupt()
	}
}

// checkReadPos refuses a peer's readPos that breaks I1, went back, or does not
// stand between two records.
func (p *producer) checkReadPos(readPos, seen, writePos uint64) error {
	if err := p.ring.checkReadPos(readPos, seen, writePos); err != nil {
		return err
	}
	if !p.starts.standBetween(p.ring, seen, readPos) {
		return &CorruptError{"I1", fmt.Sprintf("readPos %d lies inside of a record, seen %d, writePos %d", readPos, seen, writePos)}
	}
	return nil
}

// look implements end.
func (p *producer) look() (bool, error) {
	if p.attention.Load() {
		if err := p.attend(); err != nil {
			return false, err
		}
	}
	return p.fits(p.need)
}

// watching implements end.
func (p *producer) watching() (word *atomic.Uint64, value uint64, waitFor *atomic.Uint64, target uint64) {
	seen, frozen := p.readPos.get()
	target = p.filled + p.need - p.ring.size
	if frozen {
		return &p.e.never, 0, &p.own.spaceWaitFor, target
	}
	return &p.peer.control.readPos, seen, &p.own.spaceWaitFor, target
}

// settle implements end.
func (p *producer) settle() { p.sent.settle() }

// begin takes the gate and finds space for a payload.
func (p *producer) begin(ctx context.Context, size int) error {
	if size > p.ring.maxPayload() && p.e.isOpened() {
		return p.e.tooLarge(size)
	}
	if err := p.lock(ctx); err != nil {
		return err
	}
	claimed := false
	defer p.unlockUnless(&claimed)
	need := recordSize(size)
	ok, err := p.fits(need)
	if err == nil && !ok {
		err = p.awaitRoom(ctx, need)
	}
	if err != nil {
		return err
	}
	p.e.hook(step.Claimed, p.filled)
	claimed = true
	return nil
}

// unlockUnless gives the gate back if nothing was claimed, also when a context or a
// hook panics.
func (p *producer) unlockUnless(claimed *bool) {
	if !*claimed {
		p.gate.unlock()
	}
}

// leave gives the gate back. What was filled and not published, because a payload
// faulted or a hook panicked, is undone (T4), with the marks of its records.
func (p *producer) leave() {
	if committed := p.writePos.load(); p.filled != committed {
		p.starts.unmark(committed, p.filled)
		p.filled, p.records = committed, 0
	}
	p.gate.unlock()
}

// tryBegin is begin for the calls that do not wait.
func (p *producer) tryBegin(size int) error {
	if size > p.ring.maxPayload() && p.e.isOpened() {
		return p.e.tooLarge(size)
	}
	if err := p.tryLock(); err != nil {
		return err
	}
	claimed := false
	defer p.unlockUnless(&claimed)
	ok, err := p.fits(recordSize(size))
	if err == nil && !ok {
		err = ErrFull
	}
	if err != nil {
		return err
	}
	p.e.hook(step.Claimed, p.filled)
	claimed = true
	return nil
}

// fill writes one record behind those filled before.
//
// Preconditions: the space was found.
func (p *producer) fill(kind uint32, data []byte) {
	copy(p.ring.payload(p.filled, len(data)), data)
	p.e.hook(step.Filled, p.filled)
	p.seal(kind, len(data))
}

// seal writes the header of a record whose payload is in place.
func (p *producer) seal(kind uint32, size int) {
	next := p.ring.putHeader(p.filled, kind, size)
	p.starts.mark(p.filled, next)
	p.filled = next
	p.records++
	p.e.hook(step.Sealed, p.filled)
}

// publish commits what was filled, in one store.
func (p *producer) publish() {
	old := p.writePos.load()
	if p.filled == old {
		return
	}
	p.sent.count(p.records) // no account finds more than were sent
	p.writePos.begin(p.filled)
	storeFenced(&p.own.writePos, p.filled) // pairs: message-committed
	p.writePos.set(p.filled)
	p.records = 0
	if p.e.hookFunc != nil {
		p.published(old, p.filled)
	}
	p.e.bell.notify(&p.own.writePos, old, p.filled, p.peer.control.dataWaitFor.Load()) // pairs: waiting
	if p.renewed() {
		p.e.bell.wake(&p.own.writePos)
	}
	p.e.hook(step.Notified, p.filled)
}

// published reports that step. If the hook panics the peer is woken all the same:
// what is committed is told (M7).
func (p *producer) published(old, new uint64) {
	told := false
	defer func() {
		if !told {
			p.e.bell.notify(&p.own.writePos, old, new, p.peer.control.dataWaitFor.Load())
		}
	}()
	p.e.hook(step.Published, new)
	told = true
}

// warm stores to cache lines of the free space that the next record will lie in,
// so that they come over while the peer is busy and not while it waits. Not to the
// line that the last record ends in, which the peer may be about to read.
func (p *producer) warm() {
	at := (p.filled + 2*cacheLine - 1) &^ (cacheLine - 1)
	if at+2*cacheLine-p.freePos <= p.ring.size {
		putWord(p.ring.mem, p.ring.index(at), 0)
		putWord(p.ring.mem, p.ring.index(at)+cacheLine, 0)
	}
}

// room returns the space that a payload needs, and errNoRoom if it is not free.
func (p *producer) room(size int) (uint64, error) {
	if size > p.ring.maxPayload() {
		return 0, p.e.tooLarge(size)
	}
	need := recordSize(size)
	ok, err := p.fits(need)
	if err == nil && !ok {
		err = errNoRoom
	}
	return need, err
}

// orphan is the space of a reservation that is still open behind retire.
func (p *producer) orphan() []byte {
	p.claim.Lock()
	defer p.claim.Unlock()
	if p.claim.active && p.claim.orphaned {
		return p.claim.data
	}
	return nil
}

// retire ends sending for good: it returns when no goroutine uses the ring or
// the peer's memory any more. A reservation that is still open keeps its bytes,
// which are private by then, until it ends.
//
// Preconditions: closing is set, and waiters were interrupted.
func (p *producer) retire() {
	for !p.gate.tryLock() {
		p.claim.Lock()
		if p.claim.active {
			p.claim.orphaned = true
			p.e.own.refs.Add(1)
			p.claim.Unlock()
			break
		}
		p.claim.Unlock()
		runtime.Gosched() // to a waiter that needs this goroutine's processor to leave
	}
	p.sent.settle()
	p.e.shield(p.wait.forget)
	p.peer.release()
}
