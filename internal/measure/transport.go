//go:build linux

package measure

import "io"

// A Transport is a contender: one way for two processes to exchange messages.
type Transport struct {
	Name string

	// Unsupported says why a setup is not for this contender, "" if it is.
	Unsupported func(*Setup) string

	// Listen and Dial are for one that carries messages.
	Listen func(*Setup) (Listener, error)
	Dial   func(*Setup) (Link, error)

	// Serve and Call are for one that has calls only. Serve returns when the client has
	// said that it is done, or the client is gone.
	Serve func(*Setup, func()) error
	Call  func(*Setup) (Caller, error)

	// Native measures within one process, and has no server.
	Native func(*Setup, *Meter) error

	Version, Settings func(*Setup) string
}

// A Listener is the server's side, before a client has come.
type Listener interface {
	// Accept waits for the next client.
	Accept() (Link, error)
	io.Closer
}

// A Link is one side of a connection. One goroutine sends, one receives.
type Link interface {
	// Send sends n messages of the source.
	Send(s *Source, n int) error
	// Receive gives n messages to the sink, fewer if the last one of the run comes.
	Receive(s *Sink, n int) error
	io.Closer
}

// A Caller makes calls, one after the other.
type Caller interface {
	// Call sends a request and returns its answer, which may lie in the given buffer.
	Call(request, buffer []byte) ([]byte, error)
	io.Closer
}

// Transports are the contenders of this package.
func Transports() []*Transport {
	all := []*Transport{tandem(), unixStream(), unixRaw(), seqpacket(), tcp(), pipe(), netRPC(), httpUnix()}
	return append(all, natives()...)
}

func (t *Transport) refuses(s *Setup) string {
	if t.Unsupported != nil {
		if why := t.Unsupported(s); why != "" {
			return why
		}
	}
	switch {
	case t.Native != nil:
		if s.Work != RoundTrip && s.Work != OneWay {
			return "it is in one process"
		}
	case t.Call != nil:
		if s.Work == OneWay || s.Work == Both || s.Work == Lose || s.Work == Scale {
			return "it has calls only"
		}
		if s.Form != Copy {
			return "it copies"
		}
	}
	return ""
}

// onlyWaits says that a contender can wait in some ways only.
func onlyWaits(s *Setup, ways ...string) string {
	for _, way := range ways {
		if s.Wait == way {
			return ""
		}
	}
	return "it cannot wait so"
}
