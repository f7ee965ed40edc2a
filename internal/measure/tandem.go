//go:build linux

package measure

import (
	"context"
	"fmt"
	"math/bits"
	"path/filepath"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

const (
	batchMost  = 64        // messages in a batch
	batchBytes = 256 << 10 // and bytes
)

func tandem() *Transport {
	return &Transport{
		Name: "tandem",
		Listen: func(s *Setup) (Listener, error) {
			e, err := ipc.Listen(context.Background(), filepath.Join(s.Dir, "t"), options(s))
			return tandemListener{e, s}, err
		},
		Dial: func(s *Setup) (Link, error) {
			e, err := ipc.Dial(context.Background(), filepath.Join(s.Dir, "t"), options(s))
			return newTandemLink(e, s, true), err
		},
		Version: func(*Setup) string { return "this repository" },
		Settings: func(s *Setup) string {
			text := fmt.Sprintf("rings of %d KiB", ringSize(s)>>10)
			if s.Form == Batch {
				text += fmt.Sprintf(", batches of %d", batchOf(s.Size))
			}
			return text
		},
	}
}

func options(s *Setup) *ipc.Options {
	o := &ipc.Options{ToServerSize: ringSize(s), ToClientSize: ringSize(s)}
	switch s.Wait {
	case Spin:
		o.Spin = time.Hour
	case Block:
		o.Spin = ipc.NoSpin
	}
	return o
}

// ringSize is room for eight messages, and the default at least.
func ringSize(s *Setup) int {
	if s.Ring > 0 {
		return s.Ring
	}
	return max(ipc.DefaultRingSize, 1<<bits.Len(uint(8*s.Size-1)))
}

func batchOf(size int) int { return min(max(batchBytes/size, 1), batchMost) }

type tandemListener struct {
	e *ipc.Endpoint
	s *Setup
}

// Accept waits until a client has attached.
func (l tandemListener) Accept() (Link, error) {
	for event := range l.e.Events() {
		if event.Kind == ipc.EventAttached {
			return newTandemLink(l.e, l.s, false), nil
		}
	}
	return nil, ipc.ErrClosed
}

func (l tandemListener) Close() error { return l.e.Close() }

// A tandemLink is in the form that its setup names.
type tandemLink struct {
	e    *ipc.Endpoint
	ctx  context.Context
	form string
	own  bool // the endpoint ends with the link

	out, in  []byte
	batch    []ipc.Message // to send
	received []ipc.Message
}

func newTandemLink(e *ipc.Endpoint, s *Setup, own bool) Link {
	l := &tandemLink{e: e, ctx: context.Background(), form: s.Form, own: own, out: make([]byte, s.Size), in: make([]byte, s.Size)}
	if s.Form == Batch {
		n := batchOf(s.Size)
		l.out, l.in = make([]byte, n*s.Size), make([]byte, n*s.Size)
		l.batch, l.received = make([]ipc.Message, n), make([]ipc.Message, n)
		for i := range l.batch {
			l.batch[i].Data = l.out[i*s.Size : (i+1)*s.Size]
		}
	}
	return l
}

// Close closes a client. The server's endpoint is its listener's: it stays for the next one.
func (l *tandemLink) Close() error {
	if l.own {
		return l.e.Close()
	}
	return nil
}

func (l *tandemLink) Send(s *Source, n int) error {
	switch l.form {
	case View:
		for range n {
			r, err := l.e.Reserve(l.ctx, len(l.out))
			if err != nil {
				return err
			}
			s.Fill(r.Data)
			if err := r.Commit(0, len(l.out)); err != nil {
				return err
			}
		}
	case Batch:
		for n > 0 {
			batch := l.batch[:min(n, len(l.batch))]
			for i := range batch {
				s.Fill(batch[i].Data)
			}
			if _, err := l.e.SendBatch(l.ctx, batch); err != nil {
				return err
			}
			n -= len(batch)
		}
	default:
		for range n {
			s.Fill(l.out)
			if err := l.e.Send(l.ctx, 0, l.out); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *tandemLink) Receive(s *Sink, n int) error {
	switch l.form {
	case View:
		for ; n > 0 && !s.Ended; n-- {
			m, err := l.e.Receive(l.ctx)
			if err != nil {
				return err
			}
			s.Take(m.Data)
			if err := m.Release(); err != nil {
				return err
			}
		}
	case Batch:
		for n > 0 && !s.Ended {
			into := l.received[:min(n, len(l.received))]
			got, err := l.e.ReceiveBatchInto(l.ctx, l.in, into)
			if err != nil {
				return err
			}
			for _, m := range into[:got] {
				s.Take(m.Data)
			}
			n -= got
		}
	default:
		for ; n > 0 && !s.Ended; n-- {
			m, err := l.e.ReceiveInto(l.ctx, l.in)
			if err != nil {
				return err
			}
			s.Take(m.Data)
		}
	}
	return nil
}
