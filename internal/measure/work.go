//go:build linux

package measure

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// grace is how much longer a sender sends than its receiver measures.
const grace = 50 * time.Millisecond

// A side is one process at its work.
type side struct {
	*Setup
	meter *Meter
	link  Link
	out   Source
	in    Sink
}

func newSide(s *Setup, link Link) *side {
	return &side{
		Setup: s, meter: &Meter{setup: s}, link: link,
		out: Source{every: s.Check, bare: s.Bare},
		in:  Sink{every: s.Check, size: s.Size, touch: s.Form == View, bare: s.Bare},
	}
}

// work does what the setup names, over a link.
func (p *side) work() (err error) {
	server := p.Role == "server"
	switch p.Work {
	case RoundTrip, Requests:
		switch {
		case server:
			err = p.answer()
		case p.Work == RoundTrip:
			err = p.ask()
		default:
			err = p.keepAsking()
		}
	case OneWay:
		if server {
			err = p.send()
		} else {
			err = p.receive()
		}
	case Both:
		err = p.both()
	case Idle:
		err = p.idle(server)
	default:
		err = fmt.Errorf("there is no work %q", p.Work)
	}
	p.meter.Report.Wrong, p.meter.Report.Missing = p.in.Wrong, p.in.Missing
	return err
}

// chunk is how many messages of a window move at a time.
func (p *side) chunk() int {
	if p.Work == Requests && p.Form == Batch {
		return max(1, p.InFlight/4)
	}
	return 1
}

// answer is the server's side. What it counts is all of it, from the first message on.
func (p *side) answer() error {
	n := uint64(0)
	for chunk := p.chunk(); ; n += uint64(chunk) {
		if err := p.link.Receive(&p.in, chunk); err != nil {
			return err
		}
		if n == 0 {
			p.meter.begin()
		}
		if p.in.Ended {
			p.meter.end(n)
			return nil
		}
		if err := p.link.Send(&p.out, chunk); err != nil {
			return err
		}
	}
}

func (p *side) trip() error {
	if err := p.link.Send(&p.out, 1); err != nil {
		return err
	}
	return p.link.Receive(&p.in, 1)
}

func (p *side) ask() error {
	if err := p.meter.Trips(p.trip); err != nil {
		return err
	}
	return p.sendLast()
}

func (p *side) sendLast() error {
	p.out.last = true
	return p.link.Send(&p.out, 1)
}

// keepAsking keeps requests under way. An answer is to the oldest one.
func (p *side) keepAsking() error {
	chunk := p.chunk()
	sent := make([]time.Time, p.InFlight/chunk)
	clock := false // each request is clocked
	step := func(i int) error {
		if err := p.link.Receive(&p.in, chunk); err != nil {
			return err
		}
		if clock {
			now := time.Now()
			if !sent[i].IsZero() {
				p.meter.Record(now.Sub(sent[i]))
			}
			sent[i] = now
		}
		return p.link.Send(&p.out, chunk)
	}
	for range sent {
		if err := p.link.Send(&p.out, chunk); err != nil {
			return err
		}
	}
	repeat := func(d time.Duration) (n uint64, err error) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			for i := range sent {
				if err := step(i); err != nil {
					return n, err
				}
				n += uint64(chunk)
			}
		}
		return n, nil
	}
	warm, err := repeat(p.Warm)
	if err != nil {
		return err
	}
	p.meter.begin()
	n, err := repeat(p.Time)
	p.meter.end(n)
	if err != nil {
		return err
	}
	clock = true
	clocked, err := repeat(p.Time)
	if err != nil {
		return err
	}
	p.meter.Report.Total = 2 * (warm + n + clocked)
	for range sent {
		if err := p.link.Receive(&p.in, chunk); err != nil {
			return err
		}
	}
	return p.sendLast()
}

// send sends for longer than the receiver measures, and then the last message.
func (p *side) send() error {
	p.meter.begin()
	n, chunk := uint64(0), look(p.Setup)
	for end := time.Now().Add(p.Warm + p.Time + grace); time.Now().Before(end); n += uint64(chunk) {
		if err := p.link.Send(&p.out, chunk); err != nil {
			return err
		}
	}
	p.meter.end(n)
	p.meter.Report.Total = n
	return p.sendLast()
}

// receive measures, and then takes what is still on its way.
func (p *side) receive() error {
	chunk := look(p.Setup)
	repeat := func(d time.Duration) error {
		for end := time.Now().Add(d); !p.in.Ended && time.Now().Before(end); {
			if err := p.link.Receive(&p.in, chunk); err != nil {
				return err
			}
		}
		return nil
	}
	if err := errors.Join(p.link.Receive(&p.in, 1), repeat(p.Warm)); err != nil {
		return err
	}
	before := p.in.next
	p.meter.begin()
	err := repeat(p.Time)
	p.meter.end(p.in.next - before)
	for err == nil && !p.in.Ended {
		err = p.link.Receive(&p.in, chunk)
	}
	p.meter.Report.Total = p.in.next
	return err
}

func (p *side) both() error {
	var sending error
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		for end, chunk := time.Now().Add(p.Warm+p.Time+grace), look(p.Setup); sending == nil && time.Now().Before(end); {
			sending = p.link.Send(&p.out, chunk)
		}
		if sending == nil {
			sending = p.sendLast()
		}
	}()
	err := p.receive()
	if err == nil {
		done.Wait()
		err = sending
	}
	return err
}

// idle waits in Receive, as a process does that has nothing to do. One message there
// and back shows first that the two are connected. The server, which begins first, stays
// until the client has measured.
func (p *side) idle(server bool) error {
	first := p.trip
	if server {
		first = func() error { return errors.Join(p.link.Receive(&p.in, 1), p.link.Send(&p.out, 1)) }
	}
	if err := first(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- p.link.Receive(&p.in, 1) }()
	p.meter.begin()
	select {
	case err := <-ended:
		if !server {
			return fmt.Errorf("nothing was sent, and Receive returned: %v", err)
		}
		p.meter.end(0) // the client was faster
		return nil
	case <-time.After(p.Time):
	}
	p.meter.end(0)
	if server {
		select {
		case <-ended:
		case <-time.After(longest):
		}
	}
	return nil
}
