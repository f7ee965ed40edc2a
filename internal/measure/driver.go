//go:build linux

package measure

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Drive is a driver: it plays one side of one of the transports, and returns its exit
// status. See bench/DRIVERS.md.
func Drive(args []string, transports []*Transport) int {
	s, err := ParseSetup(args)
	if err == nil {
		err = drive(s, transports)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%v: %v\n", args, err)
		return 1
	}
	return 0
}

// endWithStdin ends this process when the harness is gone: nobody else holds the other
// end of its standard input.
func endWithStdin() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(3)
}

func drive(s *Setup, transports []*Transport) error {
	switch s.Name {
	case FloorName:
		return playFloor(s)
	case BurnName:
		return burn()
	}
	t := named(s.Name, transports)
	if t == nil {
		return fmt.Errorf("%w as %q", errNoTransport, s.Name)
	}
	if s.Work != Lose || s.Role != "server" {
		go endWithStdin()
	}
	report := Report{Unsupported: t.refuses(s)}
	if report.Unsupported == "" {
		var err error
		if report, err = play(s, t); err != nil {
			return err
		}
	}
	if t.Version != nil {
		report.Version, report.Settings = t.Version(s), t.Settings(s)
	}
	line, err := json.Marshal(report)
	if err == nil {
		say("%s", line)
	}
	return err
}

func named(name string, transports []*Transport) *Transport {
	for _, t := range transports {
		if t.Name == name {
			return t
		}
	}
	return nil
}

func play(s *Setup, t *Transport) (Report, error) {
	switch {
	case s.Work == Scale:
		return playScale(s, t)
	case t.Native != nil:
		if s.Role == "server" {
			say("ready")
			return Report{}, nil
		}
		m := &Meter{setup: s}
		err := t.Native(s, m)
		return m.Report, errors.Join(err, m.finish())
	case t.Call != nil:
		return playCalls(s, t)
	case s.Role == "server":
		return playServer(s, t)
	}
	return playClient(s, t)
}

func playServer(s *Setup, t *Transport) (Report, error) {
	listener, err := t.Listen(s)
	if err != nil {
		return Report{}, err
	}
	say("ready")
	switch s.Work {
	case Survive:
		return Report{}, surviveServer(s, listener)
	case Lose:
		return Report{}, errors.Join(loseSender(s, listener), listener.Close())
	}
	link, err := listener.Accept()
	if err != nil {
		return Report{}, err
	}
	p := newSide(s, link)
	err = p.work()
	return p.meter.Report, errors.Join(err, p.meter.finish(), link.Close(), listener.Close())
}

func playClient(s *Setup, t *Transport) (Report, error) {
	if s.Work == Survive {
		return Report{}, surviveClient(s, t)
	}
	link, err := t.Dial(s)
	if err != nil {
		return Report{}, err
	}
	if s.Work == Lose {
		return Report{}, errors.Join(loseReceiver(s, link), link.Close())
	}
	p := newSide(s, link)
	err = p.work()
	return p.meter.Report, errors.Join(err, p.meter.finish(), link.Close())
}

// playCalls counts the server's whole time: it does not know which part is measured.
func playCalls(s *Setup, t *Transport) (Report, error) {
	if s.Role == "client" && s.Work == Survive {
		return Report{}, surviveCaller(s, t)
	}
	if s.Role == "client" {
		caller, err := t.Call(s)
		if err != nil {
			return Report{}, err
		}
		m, err := callSide(s, caller)
		return m.Report, errors.Join(err, m.finish(), caller.Close())
	}
	m := &Meter{setup: s}
	err := t.Serve(s, func() {
		m.begin()
		say("ready")
	})
	m.end(echoed.Load())
	return m.Report, errors.Join(err, m.finish())
}

var errNoTransport = errors.New("there is no such contender")
