package ipc

import (
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// pathLookEvery is how many ticks pass between two looks at the path (C5).
const pathLookEvery = 20

// pulse proves that this process lives, and judges whether its peer does.
// It looks twice in a heartbeat, so that a hang is told within the timeout and
// one heartbeat (L6).
//
// The beat depends on the clock alone: nothing here waits for a lock or makes a
// system call that may take long. It goes on while Close does, which may take long
// too, up to the moment before the memory goes.
func (e *Endpoint) pulse() {
	defer e.workers.Done()
	ticker := time.NewTicker(e.heartbeatInterval / 2)
	defer ticker.Stop()
	last := time.Now()
	beat := e.own.control.beat.Load()
	var judge silence
	var stalled standstill
	for tick := 0; ; tick++ {
		if tick%2 == 0 {
			beat++
			e.own.control.beat.Store(beat) // pairs: heartbeat
			e.hookApart(step.Beaten, beat)
		}
		closing := e.closing.Load()
		if tick%pathLookEvery == pathLookEvery-1 && !closing {
			e.lookAside()
		}
		select {
		case <-e.resting:
			return
		case <-ticker.C:
		}
		now := time.Now()
		if !closing {
			tick := min(now.Sub(last), e.heartbeatInterval)
			e.judge(&judge, tick)
			e.judgeStall(&stalled, tick)
		}
		last = now
	}
}

// rest ends the beat.
//
// Preconditions: the peer is told that this side leaves, or is about to be.
func (e *Endpoint) rest() { close(e.resting) }

// lookAside looks at the path. A file system that stalls holds up nothing but this
// goroutine: not the beat, not Close, which waits for no look, and of looks there is
// only one at a time.
func (e *Endpoint) lookAside() {
	if e.looking.CompareAndSwap(false, true) {
		go func() {
			defer e.looking.Store(false)
			e.life.look()
		}()
	}
}

// A silence is how long the attached peer has not beaten, on the observer's own
// monotonic clock. A time in which the observer itself did not run counts as one
// tick: it proves nothing about the peer.
type silence struct {
	attachment uint64
	beat       uint64
	spent      time.Duration
	owed       time.Duration // ticks that could not be judged yet
}

// judge adds a tick to the silence, and tells when it has become a hang, and
// when it ends. Silence alone makes nobody dead (L5).
func (e *Endpoint) judge(s *silence, tick time.Duration) {
	tick += s.owed
	if !e.mu.TryLock() { // whoever has it may take long: the beat does not wait
		s.owed = tick
		return
	}
	defer e.mu.Unlock()
	s.owed = 0
	number, pid := e.attachment.Load(), e.peerPID
	if e.pending != 0 {
		number, pid = e.pending, e.granted.PID // it holds the token, and may freeze before it is ready
	} else if e.state != PeerAttached {
		return
	}
	beat := e.peer.control.beat.Load() // pairs: heartbeat
	if number != s.attachment || beat != s.beat {
		*s = silence{attachment: number, beat: beat}
		if e.hung.Load() {
			e.hung.Store(false)
			e.emit(Event{Kind: EventRecovered, Attachment: number, PID: pid})
		}
		return
	}
	if e.anew {
		e.anew, s.spent = false, 0
	}
	s.spent += tick
	if s.spent >= e.patience() && !e.hung.Load() {
		e.hung.Store(true)
		e.tally.hangs++
		e.emit(Event{Kind: EventHung, Err: ErrPeerHung, Attachment: number, PID: pid})
		e.bell.interrupt()
	}
}

// patience is the silence after which the peer is called hung. One that says that it
// beats less often is given three of its own beats, and the tick by which this side
// may look too early.
//
// Preconditions: e.mu is held.
func (e *Endpoint) patience() time.Duration {
	if slow := 3 * e.peerInterval; slow > e.hangTimeout {
		return slow + e.heartbeatInterval/2
	}
	return e.hangTimeout
}
