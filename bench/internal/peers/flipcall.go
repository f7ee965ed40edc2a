//go:build linux

package peers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gvisor.dev/gvisor/pkg/flipcall"

	"github.com/tandem-ipc/tandem/internal/measure"
)

const flipcallVersion = "gvisor.dev/gvisor v0.0.0-20250503011706-39ed1f5ac29c"

// flip is gVisor's flipcall: one window, which belongs to one side at a time.
func flip() *measure.Transport {
	return &measure.Transport{
		Name: "flipcall",
		Unsupported: func(s *measure.Setup) string {
			switch {
			case s.Work == measure.Survive:
				return "it is not told of its peer's death: that is left to who uses it"
			case s.Work != measure.RoundTrip || s.InFlight > 1:
				return "its window is one side's at a time, so there is one message under way"
			case s.Form == measure.Batch:
				return "a window is a message"
			case s.Wait == measure.Spin:
				return "it waits in the kernel"
			}
			return ""
		},
		Version:  func(*measure.Setup) string { return flipcallVersion },
		Settings: func(*measure.Setup) string { return "SendRecvFast, a window for one message" },
		Listen: func(s *measure.Setup) (measure.Listener, error) {
			return flipServer{s}, nil
		},
		Dial: dialFlip,
	}
}

type flipServer struct{ s *measure.Setup }

// Accept offers a window by its descriptor, which the client opens by way of /proc.
func (f flipServer) Accept() (measure.Link, error) {
	allocator, err := flipcall.NewPacketWindowAllocator()
	if err != nil {
		return nil, err
	}
	window, err := allocator.Allocate(flipcall.PacketWindowLengthForDataCap(uint32(f.s.Size)))
	if err != nil {
		return nil, err
	}
	ep, err := flipcall.NewEndpoint(flipcall.ServerSide, window)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("/proc/%d/fd/%d %d %d", os.Getpid(), window.FD, window.Offset, window.Length)
	path := filepath.Join(f.s.Dir, "window")
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, err
	}
	return &flipLink{ep: ep, keep: allocator, server: true, size: f.s.Size, view: f.s.Form == measure.View, in: make([]byte, f.s.Size), out: make([]byte, f.s.Size)}, nil
}

func (f flipServer) Close() error { return nil }

func dialFlip(s *measure.Setup) (measure.Link, error) {
	var text []byte
	err := os.ErrNotExist
	for try := 0; err != nil && try < 1000; try++ {
		if text, err = os.ReadFile(filepath.Join(s.Dir, "window")); err != nil {
			time.Sleep(time.Millisecond)
		}
	}
	if err != nil {
		return nil, err
	}
	var name string
	var window flipcall.PacketWindowDescriptor
	if _, err := fmt.Sscanf(string(text), "%s %d %d", &name, &window.Offset, &window.Length); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	window.FD = int(file.Fd())
	ep, err := flipcall.NewEndpoint(flipcall.ClientSide, window)
	if err != nil {
		return nil, err
	}
	return &flipLink{ep: ep, keep: file, size: s.Size, view: s.Form == measure.View, in: make([]byte, s.Size), out: make([]byte, s.Size)}, ep.Connect()
}

// A flipLink gives the window away by Send, and waits for it to come back: what it
// carries then is what Receive gives next.
type flipLink struct {
	ep      *flipcall.Endpoint
	keep    any // what the window's descriptor belongs to
	server  bool
	view    bool
	size    int
	came    int // bytes of the message that has come back, -1 if there is none
	begun   bool
	in, out []byte
}

var errTurn = errors.New("the window is the other side's")

func (l *flipLink) Send(s *measure.Source, n int) error {
	if n != 1 {
		return errTurn
	}
	if l.view {
		s.Fill(l.ep.Data()[:l.size])
	} else {
		s.Fill(l.out)
		copy(l.ep.Data(), l.out)
	}
	if s.Last() {
		return l.ep.SendLast(uint32(l.size))
	}
	came, err := l.ep.SendRecvFast(uint32(l.size))
	l.came, l.begun = int(came), true
	return err
}

func (l *flipLink) Receive(s *measure.Sink, n int) error {
	if n != 1 {
		return errTurn
	}
	if !l.begun && l.server {
		came, err := l.ep.RecvFirst()
		if err != nil {
			return err
		}
		l.came, l.begun = int(came), true
	}
	if l.came < 0 {
		return errTurn
	}
	m := l.ep.Data()[:l.came]
	l.came = -1
	if !l.view {
		copy(l.in, m)
		m = l.in[:len(m)]
	}
	s.Take(m)
	return nil
}

func (l *flipLink) Close() error { return nil }
