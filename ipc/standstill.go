package ipc

import "time"

// A standstill is how long the attached peer has taken and released nothing, while
// messages wait that nobody was ever handed, or somebody here waits for releases, by the
// observer's clock as in silence. What the peer says of itself makes an event and
// nothing else.
type standstill struct {
	attachment     uint64
	taken, readPos uint64
	spent, owed    time.Duration
	told           bool
}

// judgeStall adds a tick, and tells when it has become a stall, and when that ends. A
// peer that hangs, or has ended, is not judged: that is told otherwise.
func (e *Endpoint) judgeStall(s *standstill, tick time.Duration) {
	limit := e.options.StallTimeout
	if limit == 0 {
		return
	}
	tick += s.owed
	if !e.mu.TryLock() {
		s.owed = tick
		return
	}
	defer e.mu.Unlock()
	s.owed = 0
	number := e.attachment.Load()
	if e.state != PeerAttached || number != s.attachment {
		*s = standstill{attachment: number}
		return
	}
	if e.hung.Load() || e.corrupt != nil {
		return
	}
	peer := e.peer.control
	taken, readPos := peer.deliveredPos.Load(), peer.readPos.Load() // a guess that nobody acts upon
	waits := int64(e.out.writePos.load()-taken) > 0 || e.out.awaitsRelease()
	if !waits || taken != s.taken || readPos != s.readPos {
		if s.told {
			e.emit(Event{Kind: EventResumed})
		}
		*s = standstill{attachment: number, taken: taken, readPos: readPos}
		return
	}
	if s.spent += tick; s.spent >= limit && !s.told {
		s.told = true
		e.emit(Event{Kind: EventStalled})
	}
}

// awaitsRelease reports whether a sender waits for space, or a flush for all. The peer
// may have been handed everything, and be stuck with it.
func (p *producer) awaitsRelease() bool { return p.waits.Load() || p.flushing.Load() }
