package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/tandem-ipc/tandem/ipc"
)

// receive takes what the workers of a slot send, until the pool is closed. What
// one process sent lies between its hello and the end that ipc tells for it:
// speaker is whose turn it is. So a process is never taken for its predecessor.
func (s *slot) receive() {
	var speaker *stay
	for m, err := range s.endpoint.Messages(context.Background()) {
		var corrupt *ipc.CorruptError
		switch {
		case err == nil:
			speaker, err = s.take(speaker, m)
			_ = m.Release()
			if err != nil {
				speaker.kill(ReasonBroken, err)
			}
			runtime.Gosched() // whoever waits for this runs now, not when the next wait has ceased to spin
		case errors.Is(err, ipc.ErrPeerDied), errors.Is(err, ipc.ErrPeerClosed), errors.As(err, &corrupt):
			if speaker != nil && corrupt != nil {
				speaker.kill(ReasonBroken, err)
			}
			if speaker != nil {
				close(speaker.drained)
			}
			speaker = nil
		}
	}
}

// take acts on one message. An error is the speaker's doing.
func (s *slot) take(speaker *stay, m ipc.Message) (*stay, error) {
	h, err := parseHeader(m.Kind, m.Data)
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if speaker == nil {
		if y := s.current; err == nil && m.Kind == kindHello && y != nil && y.start == h.start && !y.over && !y.heard {
			y.heard = true
			if h.id != wireVersion {
				return y, fmt.Errorf("it speaks version %d, not %d", h.id, wireVersion)
			}
			y.serving = true
			close(y.ready)
			p.schedule()
			return y, nil
		}
		if err == nil && m.Kind == kindReturn && h.start == comingBack|m.Attachment {
			s.returned(h, m)
			return nil, nil
		}
		p.stats.Stale++
		return nil, nil
	}
	switch {
	case err != nil:
		return speaker, err
	case h.start != speaker.start:
		return speaker, &malformedError{fmt.Sprintf("start %d, it is %d", h.start, speaker.start)}
	case m.Kind == kindStarted:
		p.started(speaker, h)
		return speaker, nil
	case m.Kind == kindAnswer:
		return speaker, p.answered(speaker, h, m.Data[headerSize:])
	case m.Kind == kindRequest:
		return speaker, s.asked(speaker, h, m.Data[headerSize:])
	case m.Kind == kindCancel:
		if a := speaker.asks[h.id]; a != nil {
			a.cancel()
		}
		return speaker, nil
	case m.Kind == kindNotice:
		return speaker, s.noticed(speaker, h, m.Data[headerSize:])
	case m.Kind == kindCredit && h.id == 0:
		return speaker, speaker.handled(h)
	case m.Kind == kindPart:
		return speaker, p.parted(speaker, h, m.Data[headerSize:])
	}
	return speaker, &malformedError{fmt.Sprintf("kind %d from a worker", m.Kind)}
}

// started records that a handler starts: of a call, whose numbers begin with 1, or
// of a notification.
//
// Preconditions: mu is held.
func (p *Pool) started(y *stay, h header) {
	if h.id == 0 && len(y.notified) > 0 && !y.noticing {
		y.noticing = true
		return
	}
	f := y.flights[h.id]
	if f == nil || f.started {
		p.stats.Unasked++
		return
	}
	f.started = true
	f.call.starts++
}

// answered ends a call with what its handler returned. payload lies in shared
// memory. mu is given up while it is copied: only this goroutine, and the supervisor
// after it has told the end, takes a committed flight away.
//
// Preconditions: mu is held.
func (p *Pool) answered(y *stay, h header, payload []byte) error {
	f := y.flights[h.id]
	if f == nil {
		p.stats.Unasked++
		return nil
	}
	if len(payload) > p.config.MaxMessage {
		return &malformedError{fmt.Sprintf("an answer of %d bytes, of %d", len(payload), p.config.MaxMessage)}
	}
	var answer []byte
	if !f.abandoned {
		p.mu.Unlock()
		answer = bytes.Clone(payload)
		p.mu.Lock()
		if y.flights[h.id] != f {
			return nil // it was answered before it was sent, and its caller has gone
		}
	}
	y.answered++
	y.slot.quick, y.slot.down = 0, false
	p.land(f)
	if f.abandoned {
		p.stats.Late++
	} else {
		p.stats.Answered++
		f.call.flight = nil
		f.call.finish(result(f.call.method, h.number, answer))
	}
	p.schedule()
	return nil
}

// parted hands a part of a stream to its reader. As in answered, mu is given up
// while it is copied.
//
// Preconditions: mu is held.
func (p *Pool) parted(y *stay, h header, payload []byte) error {
	f := y.flights[h.id]
	if f == nil {
		p.stats.Unasked++
		return nil
	}
	switch s := f.call.stream; {
	case s == nil || !f.started:
		return &malformedError{"a part of what is no stream, or has not started"}
	case len(payload) > p.config.MaxMessage:
		return &malformedError{fmt.Sprintf("a part of %d bytes, of %d", len(payload), p.config.MaxMessage)}
	case !f.intake.accept(costOf(payload)):
		return &malformedError{"a part that was not allowed: its reader is behind"}
	case f.abandoned:
		return nil
	}
	p.mu.Unlock()
	part := bytes.Clone(payload)
	p.mu.Lock()
	if !f.abandoned {
		f.call.stream.add(part)
	}
	return nil
}

// result is what a call returns for an answer.
func result(method string, status uint32, payload []byte) ([]byte, error) {
	switch status {
	case statusFailed:
		return nil, &RemoteError{method, string(payload), nil}
	case statusDeadline:
		return nil, &RemoteError{method, string(payload), context.DeadlineExceeded}
	case statusCanceled:
		return nil, &RemoteError{method, string(payload), context.Canceled}
	case statusUnknownMethod:
		return nil, fmt.Errorf("%w: %s", ErrUnknownMethod, method)
	case statusTooLarge:
		return nil, fmt.Errorf("%w: the answer of %s", ErrTooLarge, method)
	case statusEnd:
		return nil, nil
	}
	return payload, nil
}
