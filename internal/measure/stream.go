//go:build linux

package measure

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// collected is how much is collected for one write, in batches, and read at a time.
const collected = 64 << 10

// redialPause is between two tries to reach a server that is not there.
const redialPause = time.Millisecond

// A stream is a link over bytes in order.
type stream struct {
	r, w   io.ReadWriteCloser
	reader *bufio.Reader // batches
	out    []byte        // one message, or as many as are collected
	in     []byte
	size   int
}

func newStream(r, w io.ReadWriteCloser, s *Setup) *stream {
	l := &stream{r: r, w: w, in: make([]byte, s.Size), out: make([]byte, s.Size), size: s.Size}
	if s.Form == Batch {
		l.out = make([]byte, max(collected/s.Size, 1)*s.Size)
		l.reader = bufio.NewReaderSize(r, collected)
	}
	return l
}

func (l *stream) Send(s *Source, n int) error {
	filled := 0
	for ; n > 0; n-- {
		s.Fill(l.out[filled : filled+l.size])
		if filled += l.size; filled == len(l.out) || n == 1 {
			if _, err := l.w.Write(l.out[:filled]); err != nil {
				return err
			}
			filled = 0
		}
	}
	return nil
}

func (l *stream) Receive(s *Sink, n int) error {
	for ; n > 0 && !s.Ended; n-- {
		var err error
		if l.reader != nil && l.size <= collected {
			var m []byte
			if m, err = l.reader.Peek(l.size); err == nil {
				s.Take(m)
				_, err = l.reader.Discard(l.size)
			}
		} else if l.reader != nil {
			if _, err = io.ReadFull(l.reader, l.in); err == nil {
				s.Take(l.in)
			}
		} else if _, err = io.ReadFull(l.r, l.in); err == nil {
			s.Take(l.in)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *stream) Close() error {
	if l.r == l.w {
		return l.w.Close()
	}
	return errors.Join(l.r.Close(), l.w.Close())
}

// A netListener gives streams over what package net accepts.
type netListener struct {
	net.Listener
	s    *Setup
	wrap func(net.Conn) (io.ReadWriteCloser, error)
}

func (l netListener) Accept() (Link, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return wrapped(c, l.s, l.wrap)
}

func wrapped(c net.Conn, s *Setup, wrap func(net.Conn) (io.ReadWriteCloser, error)) (Link, error) {
	if wrap == nil {
		return newStream(c, c, s), nil
	}
	own, err := wrap(c)
	return newStream(own, own, s), err
}

func streamRefuses(s *Setup) string {
	if s.Form == View {
		return "it copies"
	}
	return onlyWaits(s, Default, Block)
}

func goVersion(*Setup) string { return runtime.Version() }

func writes(s *Setup) string {
	if s.Form == Batch {
		return "writes and reads of 64 KiB"
	}
	return "a write a message"
}

func socketPath(s *Setup) string { return filepath.Join(s.Dir, "s") }

// listenUnix takes the place of a server that has died.
func listenUnix(s *Setup) (net.Listener, error) {
	if err := os.Remove(socketPath(s)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", socketPath(s))
}

func unixStream() *Transport { return unixBy("unix", nil, "package net") }

// unixRaw blocks in the kernel, without the runtime's poller.
func unixRaw() *Transport { return unixBy("unix-raw", rawSocketOf, "blocking system calls") }

func unixBy(name string, wrap func(net.Conn) (io.ReadWriteCloser, error), how string) *Transport {
	return &Transport{
		Name: name, Unsupported: streamRefuses, Version: goVersion,
		Settings: func(s *Setup) string { return how + ", " + writes(s) },
		Listen: func(s *Setup) (Listener, error) {
			l, err := listenUnix(s)
			return netListener{l, s, wrap}, err
		},
		Dial: func(s *Setup) (Link, error) {
			c, err := net.Dial("unix", socketPath(s))
			if err != nil {
				return nil, err
			}
			return wrapped(c, s, wrap)
		},
	}
}

func tcp() *Transport {
	return &Transport{
		Name: "tcp", Unsupported: streamRefuses, Version: goVersion,
		Settings: func(s *Setup) string { return "loopback, no delay, " + writes(s) },
		Listen: func(s *Setup) (Listener, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err == nil {
				err = writeWhole(filepath.Join(s.Dir, "port"), l.Addr().String())
			}
			return netListener{l, s, nil}, err
		},
		Dial: func(s *Setup) (Link, error) {
			address, err := os.ReadFile(filepath.Join(s.Dir, "port"))
			if err != nil {
				return nil, err
			}
			c, err := net.Dial("tcp", string(address))
			if err != nil {
				return nil, err
			}
			return newStream(c, c, s), nil
		},
	}
}

// pipe is two named pipes.
func pipe() *Transport {
	open := func(s *Setup, server bool) (Link, error) {
		names := []string{filepath.Join(s.Dir, "to-client"), filepath.Join(s.Dir, "to-server")}
		w, err := os.OpenFile(names[0], os.O_RDWR, 0) // both ends: so opening waits for nobody
		if err != nil {
			return nil, err
		}
		r, err := os.OpenFile(names[1], os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		if !server {
			r, w = w, r
		}
		if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 1<<20); err != nil {
			return nil, fmt.Errorf("the size of a pipe: %w", err)
		}
		in := rawSocket(r.Fd())
		return newStream(in, keep{w, r}, s), meet(in, w)
	}
	return &Transport{
		Name: "pipe", Version: goVersion,
		Unsupported: func(s *Setup) string {
			if s.Work == Survive || s.Work == Lose {
				return "who has both ends of a named pipe is not told that the peer has died"
			}
			return streamRefuses(s)
		},
		Settings: func(s *Setup) string { return "two named pipes of 1 MiB, blocking system calls, " + writes(s) },
		Listen: func(s *Setup) (Listener, error) {
			for _, name := range []string{"to-client", "to-server"} {
				if err := unix.Mkfifo(filepath.Join(s.Dir, name), 0o600); err != nil {
					return nil, err
				}
			}
			return pipeListener{s, open}, nil
		},
		Dial: func(s *Setup) (Link, error) { return open(s, false) },
	}
}

// meet returns when both sides have opened both pipes: what is in one is lost when all who have
// opened it are gone.
func meet(r io.Reader, w io.Writer) error {
	_, err := w.Write([]byte{0})
	if err == nil {
		_, err = io.ReadFull(r, make([]byte, 1))
	}
	return err
}

// keep writes to one file, and keeps another one from being collected.
type keep struct {
	*os.File
	other *os.File
}

type pipeListener struct {
	s    *Setup
	open func(*Setup, bool) (Link, error)
}

func (l pipeListener) Accept() (Link, error) { return l.open(l.s, true) }
func (l pipeListener) Close() error          { return nil }
