//go:build linux

package peers

import (
	"context"
	"path/filepath"

	"github.com/go-zeromq/zmq4"

	"github.com/tandem-ipc/tandem/internal/measure"
)

const zeromqVersion = "github.com/go-zeromq/zmq4 v0.17.0"

// zeromq is the pure Go implementation of ZeroMQ, with a pair of sockets.
func zeromq() *measure.Transport {
	address := func(s *measure.Setup) string { return "ipc://" + filepath.Join(s.Dir, "z") }
	return &measure.Transport{
		Name: "zeromq",
		Unsupported: func(s *measure.Setup) string {
			if s.Work == measure.Survive || s.Work == measure.Lose {
				return "a socket of ZeroMQ does not tell of its peer's death: it connects again by itself"
			}
			return onlyDefault(s)
		},
		Version:  func(*measure.Setup) string { return zeromqVersion },
		Settings: func(*measure.Setup) string { return "pure Go, PAIR sockets over ipc:" },
		Listen: func(s *measure.Setup) (measure.Listener, error) {
			socket := zmq4.NewPair(context.Background())
			return zeromqServer{socket, s}, socket.Listen(address(s))
		},
		Dial: func(s *measure.Setup) (measure.Link, error) {
			socket := zmq4.NewPair(context.Background())
			if err := socket.Dial(address(s)); err != nil {
				return nil, err
			}
			return zeromqLink{socket, s.Size}, socket.Send(zmq4.NewMsgString("hello"))
		},
	}
}

type zeromqServer struct {
	zmq4.Socket
	s *measure.Setup
}

// Accept waits for the first word of a client: a socket does not say when one has come.
func (l zeromqServer) Accept() (measure.Link, error) {
	_, err := l.Recv()
	return zeromqLink{l.Socket, l.s.Size}, err
}

func (l zeromqServer) Close() error { return nil }

type zeromqLink struct {
	zmq4.Socket
	size int
}

// Send gives each message memory of its own: the socket keeps it until it is written.
func (l zeromqLink) Send(s *measure.Source, n int) error {
	for range n {
		m := make([]byte, l.size)
		s.Fill(m)
		if err := l.Socket.Send(zmq4.NewMsg(m)); err != nil {
			return err
		}
	}
	return nil
}

func (l zeromqLink) Receive(s *measure.Sink, n int) error {
	for ; n > 0 && !s.Ended; n-- {
		m, err := l.Recv()
		if err != nil {
			return err
		}
		s.Take(m.Bytes())
	}
	return nil
}

// Close leaves the socket to the end of the process: it drops what is not yet written.
func (l zeromqLink) Close() error { return nil }
