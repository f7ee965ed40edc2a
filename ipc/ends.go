package ipc

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// An endMark is the end of one attachment in the stream of received messages.
type endMark struct {
	pos  uint64   // end of what that peer committed
	err  error    // nil if it was told before
	peer *segment // the memory to go on with, if it was replaced

	renewal uint32 // the number of that memory
	sender  Peer   // the client that has committed what lies between the end before and this one
}

// attendProducer is the producer's look at what happened besides the ring.
func (e *Endpoint) attendProducer() (*segment, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing.Load() {
		return nil, ErrClosed
	}
	if e.role == RoleClient && e.err != nil {
		return nil, e.err
	}
	peer := e.fresh
	if peer != nil {
		e.fresh, e.out.renewal = nil, e.renewals.Load()
	}
	if e.corrupt == nil { // else what the peer of now says of its releases is not believed either
		e.out.readPos.thaw()
		e.out.attention.Store(false)
	}
	return peer, nil
}

// A notice is what the consumer finds besides the ring.
type notice struct {
	err     error
	peer    *segment // to go on with
	renewal uint32   // its number
	again   bool     // an end is behind us: look again
	limit   uint64   // if limited, nothing behind it may be taken yet
	limited bool
}

// attendConsumer is the consumer's look at what happened besides the ring.
func (e *Endpoint) attendConsumer(cursor uint64) notice {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing.Load() {
		return notice{err: ErrClosed}
	}
	if len(e.ends) == 0 {
		if e.corrupt == nil {
			e.in.attention.Store(false)
		}
		return notice{}
	}
	mark := e.ends[0]
	if mark.pos != cursor {
		return notice{limit: mark.pos, limited: true}
	}
	if e.role == RoleClient {
		return notice{err: mark.err}
	}
	e.ends = e.ends[1:]
	e.nextEnd.Store(0)
	switch {
	case len(e.ends) > 0:
		e.in.writePos.set(e.ends[0].pos | frozenBit) // up to the next end
		e.nextEnd.Store(e.ends[0].sender.Attachment)
	case e.corrupt == nil:
		e.in.writePos.thaw() // the next attachment's messages may be taken
	}
	return notice{err: mark.err, peer: mark.peer, renewal: mark.renewal, again: true}
}

// stayOf is the Attachment of the message at pos, which Receive finds next, and says
// whether it is that of the following ones too, up to the next end.
//
// At a server it is the client whose end comes next, or the one that is there. It does
// not wait for e.mu, which is held while an end is settled. The newest is looked at
// first: it was granted only when the end of its predecessor was recorded.
func (e *Endpoint) stayOf(pos uint64) (number uint64, lasts bool) {
	if e.role == RoleClient {
		if int64(pos-e.in.joined) < 0 {
			return 0, false
		}
		return e.attachment.Load(), true
	}
	newest := e.newest.Load()
	if next := e.nextEnd.Load(); next != 0 {
		return next, true
	}
	return newest, true
}

// newestWritePos is the last of the peer's writePos that was believed: that of the
// last recorded end, or, if no end waits to be told, the one that Receive acts upon.
//
// Preconditions: e.mu is held.
func (e *Endpoint) newestWritePos() uint64 {
	if n := len(e.ends); n > 0 {
		return e.ends[n-1].pos
	}
	pos, _ := e.in.writePos.get()
	return pos
}

// markEnd records the end of an attachment for Receive. The ends are in order, and
// none lies outside of the ring: whoever finds a position has checked that, and an
// end for which it does not hold is recorded as a corrupt one, behind the last.
//
// Preconditions: e.mu is held.
func (e *Endpoint) markEnd(mark endMark) {
	newest := e.newestWritePos()
	if err := e.peer.ring.checkWritePos(mark.pos, newest, e.in.views.readPos.load()); err != nil {
		mark.pos, mark.err = newest, err
	}
	if n := len(e.ends); n > 0 && e.ends[n-1].pos == mark.pos {
		e.markSilent(&e.ends[n-1], mark)
	} else {
		mark.sender = e.granted
		e.ends = append(e.ends, mark)
	}
	e.nextEnd.Store(e.ends[0].sender.Attachment)
	e.in.attention.Store(true)
}

// maxEnds is how many ends wait for Receive one by one: beyond them, those with nothing
// committed in between share a mark, so that clients that only come and go cannot make a
// server grow (T1).
const maxEnds = 1024

// markSilent records the end of a client that has committed nothing since the last end.
//
// Preconditions: e.mu is held, and last is the last of e.ends.
func (e *Endpoint) markSilent(last *endMark, mark endMark) {
	if mark.peer == nil {
		mark.peer, mark.renewal = last.peer, last.renewal
	} else if last.peer != nil {
		last.peer.release()
	}
	if last.err != nil && mark.err != nil && len(e.ends) < maxEnds {
		last.peer = nil // no message lies in between: Receive goes over to it behind the later end
		mark.sender = e.granted
		e.ends = append(e.ends, mark)
		return
	}
	mark.err = merge(last.err, mark.err)
	mark.sender = last.sender // the later one has committed nothing
	*last = mark
}

// gravity orders the ends that one mark tells: a death is not hidden by the clean end
// of a client that came later and sent nothing.
func gravity(end error) int {
	switch {
	case end == nil:
		return 0
	case errors.Is(end, ErrPeerClosed):
		return 1
	case errors.Is(end, ErrPeerDied):
		return 2
	}
	return 3 // its memory was corrupt
}

// blameDeparted takes it that err, found behind the cursor, is the work of a
// client that is gone, if its end is not told yet: err then tells it, and nobody
// else is dropped for it (T1). It returns where that client's messages end.
//
// Preconditions: e.mu is held.
func (e *Endpoint) blameDeparted() (end uint64, departed bool) {
	if e.role != RoleServer || len(e.ends) == 0 {
		return 0, false
	}
	e.ends[0].err = nil
	e.tally.corruptions++
	return e.ends[0].pos, true
}

// suspectFormer looks whether the client's memory still says what was believed at the
// end of the former client, whose number is given. One that has kept its mapping may
// have written there since, and its successor would be blamed for it (T1). If it does
// not, the memory is corrupt, and the next client gets another; nobody is told, for
// the former's end was.
//
// Preconditions: e.mu is held, and no client is attached.
func (e *Endpoint) suspectFormer(number uint64) {
	at, readPos := e.peer.positions(), e.out.readPos.pos()
	err := cmp.Or(e.peer.check(RoleClient, e.generation), e.peer.checkNumbers(number))
	if believed := (positions{e.newestWritePos(), readPos, e.deliveredSeen}); err == nil && at != believed {
		err = &CorruptError{"I1", fmt.Sprintf("positions %+v after the end of client %d, believed %+v", at, number, believed)}
	}
	if err == nil {
		err = e.own.ring.checkDeliveredPos(at.deliveredPos, at.readPos, e.out.writePos.settled())
	}
	if err != nil {
		e.tally.corruptions++
		e.distrust(err)
	}
}

// distrust has the next client get other memory, and nobody is told why.
//
// Preconditions: e.mu is held, and no client is attached.
func (e *Endpoint) distrust(err error) {
	e.corrupt, e.told = err, true
	e.in.writePos.freeze()
	e.out.readPos.freeze()
	e.in.attention.Store(true)
	e.out.attention.Store(true)
}

// expel drops a peer that breaks an invariant, and returns the error, which told
// says is on its way to a caller of Receive. It does not wait. judge says, with
// e.mu held, whether the peer of this moment is to blame: what the caller saw may
// be the work of a client that has gone since, and another may be there. If it
// is not, expel returns nil, and the caller looks again.
func (e *Endpoint) expel(told bool, judge func() error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing.Load() {
		return ErrClosed // the memory may be gone
	}
	if e.corrupt != nil {
		if n := len(e.ends); told && e.role == RoleServer && n > 0 && e.ends[n-1].err == e.corrupt {
			e.ends[n-1].err = nil // it has ended since, and this tells it, once
		}
		e.told = e.told || told
		return e.corrupt
	}
	err := judge()
	if err == nil {
		return nil
	}
	e.corrupt = err
	e.out.readPos.freeze()
	limit := e.in.writePos.freeze()
	e.in.attention.Store(true)
	e.out.attention.Store(true)
	e.life.expel(err)
	if e.role == RoleClient {
		e.tally.corruptions++ // a server counts it when the client has gone
		e.finish(err)
		e.markEnd(endMark{pos: limit, err: err})
	}
	e.told = told
	go e.bell.interrupt() // the caller may be the one who waits
	return err
}

// attachedTo records, at a client, that it is attached.
func (e *Endpoint) attachedTo() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state = PeerAttached
	e.tally.attachments++
	e.emit(Event{Kind: EventAttached})
}

// peerIsThere reports whether somebody may be waiting at the other end.
func (e *Endpoint) peerIsThere() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.role == RoleClient || e.state == PeerAttached || e.state == PeerHung || e.pending != 0
}

// goodbyeFrom reports whether the peer has said goodbye as the given number.
func (e *Endpoint) goodbyeFrom(number uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.peer.control.goodbye.Load() == number // pairs: goodbye
}

// serverEnded records, at a client, the end of its server: for Receive, which
// first returns what the server had committed (M5), for sending, and as an event.
func (e *Endpoint) serverEnded(verdict error, kind EventKind, state PeerState) {
	counts, verdict := e.concludeServer(verdict, state)
	e.bell.interrupt()
	e.emitCounted(Event{Kind: kind, Err: verdict}, counts)
}

// concludeServer is serverEnded without the counting and the event.
func (e *Endpoint) concludeServer(verdict error, state PeerState) (account, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	counts, err := e.account()
	if e.corrupt != nil { // that was the end of the stream
		verdict = e.corrupt
	} else {
		writePos, wrong := e.finalWritePos() // W6: after the end was seen
		if err = cmp.Or(err, wrong); err != nil {
			writePos, verdict = e.in.writePos.freeze(), err
			e.corrupt = err
			e.tally.corruptions++
			e.out.readPos.freeze()
			counts, _ = e.account()
		}
		e.hookApart(step.AccountTaken, counts.readPos)
		if e.corrupt == nil {
			verdict = e.newPeerError(verdict, e.attachment.Load(), e.peerPID, counts)
		}
		e.markEnd(endMark{pos: writePos, err: verdict})
		e.finish(verdict)
		e.out.attention.Store(true)
	}
	e.noteEnd(state, verdict)
	e.state = state
	e.hung.Store(false)
	return counts, verdict
}

// noteEnd counts an end, and keeps it for Flush.
//
// Preconditions: e.mu is held.
func (e *Endpoint) noteEnd(state PeerState, err error) {
	e.lastEnd = err
	if state == PeerDied {
		e.tally.deaths++
	} else {
		e.tally.closes++
	}
}

// emitCounted counts what the peer has left, and emits its end.
//
// Preconditions: no peer is there to move readPos, and none comes meanwhile; e.mu
// is not held, for counting takes as long as there are many messages.
func (e *Endpoint) emitCounted(end Event, counts account) {
	end.Unreleased, end.Redeliverable = e.count(counts)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.emit(end)
}

// finalWritePos reads and checks what a peer that has ended had committed (W6).
// It is judged by the last one that was believed, which may still wait to be told.
// From then on Receive takes nothing behind it until it has told the end: a
// position that the peer showed before and took back, or shows later, because it
// lives and has only ended the connection, is not acted upon any more. Receive is
// stopped first: one that takes and releases meanwhile would make a position that was
// read before look as if it had gone back.
//
// Preconditions: e.mu is held.
func (e *Endpoint) finalWritePos() (uint64, error) {
	_, frozen := e.in.writePos.get()
	e.in.writePos.freeze()
	writePos := e.peer.control.writePos.Load() // pairs: message-committed
	err := e.peer.ring.checkWritePos(writePos, e.newestWritePos(), e.in.views.readPos.load())
	if err == nil && !frozen {
		e.in.writePos.raise(writePos) // it was checked that it is not behind
	}
	return writePos, err
}

// finish records why the endpoint is of no more use.
//
// Preconditions: e.mu is held.
func (e *Endpoint) finish(err error) {
	if e.err == nil {
		e.err = err
		close(e.done)
	}
}

// emit delivers an event, or drops the oldest if nobody takes them.
//
// Preconditions: e.mu is held.
func (e *Endpoint) emit(event Event) {
	event.Time, event.Generation = time.Now(), e.generation
	if event.Attachment == 0 { // else it is of another client, and its PID may be unknown
		event.Attachment, event.PID = e.attachment.Load(), e.peerPID
	}
	for {
		event.Missed = e.missed
		select {
		case e.events <- event:
			e.missed = 0
			return
		default:
		}
		select {
		case old := <-e.events:
			e.missed += 1 + old.Missed
		default:
		}
	}
}
