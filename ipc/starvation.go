package ipc

import (
	"context"
	"time"
)

// A starvation is when callers of Receive are told that their views leave the peer no
// space (W8). A peer can lie about its waiting, so that in one state of this end, in
// which nothing is received and nothing released, they are told at once, then after a
// heartbeat, then after twice as long, and so on (T1). They are told again because the
// one that was told may not be the one that has something to release. A release begins
// another state also if an older view keeps readPos where it is: the caller did what it
// was told, and must be told that it was not enough.
//
// Who holds a view cannot be known. But what is released while the caller waits, another
// goroutine has released. From then on nobody is told at once: only after a heartbeat in
// which nothing was released. Nor are callers of TryReceive: they come again, and have
// perhaps released by then.
type starvation struct {
	shared    bool // another goroutine than the caller has released
	state     struct{ readPos, released, cursor, attachment uint64 }
	since     time.Time // when this state was seen first
	tellAgain time.Time
	pause     time.Duration // until the next time after that
}

// While nobody is told the position is looked at again and again: nothing is armed,
// for a peer that waits for space sends nothing.
const (
	firstLook = 50 * time.Microsecond
	lastLook  = 5 * time.Millisecond
	maxPause  = time.Hour
)

// pace returns ErrViewsHeld if it is time to tell it. It returns nil if there is another
// state before that, and why the wait must end if it must.
//
// Preconditions: the caller holds the gate of c, and look has just said ErrViewsHeld.
func (s *starvation) pace(ctx context.Context, c *consumer) error {
	s.note(c)
	for look := firstLook; ; look = min(2*look, lastLook) {
		left := time.Until(s.tellAgain)
		if left <= 0 {
			break
		}
		if err := c.e.stopped(ctx); err != nil {
			return err
		}
		if err := pause(ctx, min(look, left)); err != nil {
			return err
		}
		if c.views.readPosOf(c) != s.state.readPos || c.views.marked.Load() != s.state.released {
			s.shared = true
			return nil
		}
		if ready, err := c.look(); ready || err != ErrViewsHeld {
			return err
		}
	}
	s.told()
	return ErrViewsHeld
}

// isDue is pace for the calls that do not wait: it reports whether it is time to tell.
//
// Preconditions: as for pace.
func (s *starvation) isDue(c *consumer) bool {
	s.note(c)
	if now := time.Now(); now.Before(s.tellAgain) || now.Sub(s.since) < c.e.heartbeatInterval {
		return false
	}
	s.told()
	return true
}

// note begins anew if the state is another.
func (s *starvation) note(c *consumer) {
	state := s.state
	state.readPos, state.released = c.views.readPosOf(c), c.views.marked.Load()
	state.cursor, state.attachment = c.cursor, c.e.attachment.Load()
	if s.state == state {
		return
	}
	*s = starvation{state: state, since: time.Now(), pause: c.e.heartbeatInterval, shared: s.shared}
	if s.shared {
		s.tellAgain = s.since.Add(s.pause)
	}
}

// told sets when it is told again.
func (s *starvation) told() {
	s.tellAgain = time.Now().Add(s.pause)
	s.pause = min(2*s.pause, maxPause)
}

// pause waits, or returns the error of ctx.
func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return whyEnded(ctx)
	}
}
