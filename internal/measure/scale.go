//go:build linux

package measure

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Scale is the work of many pairs between the same two processes: each sends one message
// there and back, and then waits. Setup.InFlight is their number.
const Scale = "scale"

// raiseFiles lets this process have as many descriptors as the machine allows.
func raiseFiles() {
	for _, most := range []uint64{1 << 20, 1 << 18, 1 << 16} {
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: most}) == nil {
			return
		}
	}
}

func playScale(s *Setup, t *Transport) (Report, error) {
	raiseFiles()
	setups := make([]*Setup, s.InFlight)
	for i := range setups {
		one := *s
		one.Dir = filepath.Join(s.Dir, strconv.Itoa(i))
		setups[i] = &one
	}
	meter := &Meter{setup: s}
	began := time.Now()
	links, err := scaleLinks(s, t, setups)
	if err != nil {
		return Report{}, err
	}
	opened := time.Since(began)
	waiting := make(chan error, len(links))
	for i, link := range links {
		p := newSide(setups[i], link)
		first := p.trip
		if s.Role == "server" {
			first = func() error { return errors.Join(link.Receive(&p.in, 1), link.Send(&p.out, 1)) }
		}
		if err := first(); err != nil {
			return Report{}, fmt.Errorf("pair %d: %w", i, err)
		}
		go func() { waiting <- link.Receive(&p.in, 1) }()
	}
	err = scaleIdle(meter, s.Time)
	meter.Report.Opened = uint64(opened)
	if s.Role == "server" {
		select { // it stays until the client has measured, and gone
		case <-waiting:
		case <-time.After(longest):
		}
	}
	return meter.Report, err
}

func scaleLinks(s *Setup, t *Transport, setups []*Setup) ([]Link, error) {
	links := make([]Link, len(setups))
	if s.Role == "client" {
		for i, one := range setups {
			var err error
			if links[i], err = t.Dial(one); err != nil {
				return nil, fmt.Errorf("pair %d: %w", i, err)
			}
		}
		return links, nil
	}
	listeners := make([]Listener, len(setups))
	for i, one := range setups {
		err := os.Mkdir(one.Dir, 0o700)
		if err == nil {
			listeners[i], err = t.Listen(one)
		}
		if err != nil {
			return nil, fmt.Errorf("pair %d: %w", i, err)
		}
	}
	say("ready")
	for i, listener := range listeners {
		var err error
		if links[i], err = listener.Accept(); err != nil {
			return nil, fmt.Errorf("pair %d: %w", i, err)
		}
	}
	return links, nil
}

// scaleIdle lets everything rest, and measures what that costs.
func scaleIdle(m *Meter, d time.Duration) error {
	time.Sleep(d / 4)
	m.begin()
	time.Sleep(d)
	m.end(0)
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	m.Report.Descriptors, m.Report.Threads = len(descriptors), len(threads)
	m.Report.Proportional, err = statusBytes("/proc/self/smaps_rollup", "Pss:")
	return err
}
