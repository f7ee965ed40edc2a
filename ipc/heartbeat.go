package ipc

import (
	"time"

	"github.com/tandem-ipc/tandem/ipc/step"
)

// pathLookEvery is how many ticks pass between two looks at the path (C5).
const pathLookEvery = 20

// pulse proves that this process lives, and judges whether its peer does (D6).
// It looks twice in a heartbeat, so that a hang is told within the timeout and
// one heartbeat (L6).
func (e *Endpoint) pulse() {
	defer e.workers.Done()
	ticker := time.NewTicker(e.heartbeatInterval / 2)
	defer ticker.Stop()
	last := time.Now()
	var judge silence
	for tick := 0; ; tick++ {
		if tick%2 == 0 {
			beat := e.own.control.beat.Load() + 1
			e.own.control.beat.Store(beat) // pairs: heartbeat
			e.hook(step.Beaten, beat)
		}
		if tick%pathLookEvery == pathLookEvery-1 {
			e.life.look()
		}
		select {
		case <-e.closed:
			return
		case <-ticker.C:
		}
		now := time.Now()
		e.judge(&judge, min(now.Sub(last), e.heartbeatInterval))
		last = now
	}
}

// A silence is how long the attached peer has not beaten, on the observer's own
// monotonic clock. A time in which the observer itself did not run counts as one
// tick: it proves nothing about the peer.
type silence struct {
	attachment uint64
	beat       uint64
	spent      time.Duration
}

// judge adds a tick to the silence, and tells when it has become a hang, and
// when it ends. Silence alone makes nobody dead (L5).
func (e *Endpoint) judge(s *silence, tick time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	number, pid := e.attachment.Load(), e.peerPID
	if e.pending != 0 {
		number, pid = e.pending, e.pendingPID // it holds the token, and may freeze before it is ready
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
	s.spent += tick
	if s.spent >= e.hangTimeout && !e.hung.Load() {
		e.hung.Store(true)
		e.tally.hangs++
		e.emit(Event{Kind: EventHung, Err: ErrPeerHung, Attachment: number, PID: pid})
		e.bell.interrupt()
	}
}
