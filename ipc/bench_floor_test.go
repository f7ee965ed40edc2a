//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What ours is compared with: a cache line, a Unix stream socket, and copying.

// floorWords are two words on two cache lines, in memory that both processes
// have mapped.
type floorWords struct {
	ping, pong *atomic.Uint64
	round      *uint64 // of the test's side
}

const floorSize = 4096

func mapFloorWords(file int) (floorWords, error) {
	memory, err := unix.Mmap(file, 0, floorSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return floorWords{}, err
	}
	return floorWords{wordAt(memory, 0), wordAt(memory, group), new(uint64)}, nil
}

// newFloorWords also returns the path by which the player opens them.
func newFloorWords(b testing.TB) (floorWords, string) {
	b.Helper()
	file, err := unix.MemfdCreate("tandem-bench", unix.MFD_CLOEXEC)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = unix.Close(file) })
	if err := unix.Ftruncate(file, floorSize); err != nil {
		b.Fatal(err)
	}
	words, err := mapFloorWords(file)
	if err != nil {
		b.Fatal(err)
	}
	return words, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file)
}

func openFloorWords(p *player, path string) floorWords {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		p.fail("%v", err)
	}
	defer file.Close()
	words, err := mapFloorWords(int(file.Fd()))
	if err != nil {
		p.fail("%v", err)
	}
	return words
}

// The rounds count up; this one ends the game.
const floorOver = ^uint64(0)

// watch spins until the word differs from old. With one processor for both, it
// has to let the other side run. It gives floorOver when the other side is gone.
func watch(word *atomic.Uint64, old uint64, gone func() bool) uint64 {
	for {
		for range 5000 {
			if now := word.Load(); now != old {
				return now
			}
		}
		if gone() {
			return floorOver
		}
		yieldProcessor()
	}
}

// answer is the player's side: it sends back what it sees.
func (w floorWords) answer() {
	parent := os.Getppid()
	gone := func() bool { return os.Getppid() != parent }
	for now := w.pong.Load(); ; {
		if now = watch(w.ping, now, gone); now == floorOver {
			w.ping.Store(w.pong.Load()) // the test waits for this, and stores no more
			return
		}
		w.pong.Store(now)
	}
}

// floor returns the nanoseconds of one bare round trip.
func (s *stage) floor(d time.Duration) float64 {
	s.player.tell("floor")
	gone := func() bool { return s.ctx.Err() != nil }
	w := s.ping
	trip := func() {
		*w.round++
		w.ping.Store(*w.round)
		watch(w.pong, *w.round-1, gone)
	}
	trip() // the player is there
	trips, begun := 0, time.Now()
	for ; time.Since(begun) < d; trips += 16 {
		for range 16 {
			trip()
		}
	}
	took := time.Since(begun)
	w.ping.Store(floorOver)
	watch(w.ping, floorOver, gone)
	if gone() {
		s.must(s.ctx.Err())
	}
	return float64(took.Nanoseconds()) / float64(trips)
}

// copying returns the nanoseconds that it takes to copy a message into a buffer
// of its size and out of it again.
func (s *stage) copying(d time.Duration) float64 {
	between := make([]byte, s.setup.Size)
	copies, begun := 0, time.Now()
	for ; time.Since(begun) < d; copies++ {
		copy(between, s.message)
		copy(s.answer, between)
	}
	return float64(time.Since(begun).Nanoseconds()) / float64(copies)
}

// A socket is one end of a Unix stream.
type socket interface {
	io.Reader
	io.Writer
}

// A rawSocket blocks in the kernel, without the runtime's poller.
type rawSocket int

func newRawSocket(connection *net.UnixConn) (rawSocket, error) {
	file, err := connection.File()
	if err != nil {
		return -1, err
	}
	defer file.Close()
	defer connection.Close()
	own, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return rawSocket(own), unix.SetNonblock(own, false)
}

func (s rawSocket) Read(p []byte) (n int, err error) {
	err = retry(func() (err error) { n, err = unix.Read(int(s), p); return err })
	if err == nil && n == 0 && len(p) > 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

func (s rawSocket) Write(p []byte) (written int, err error) {
	for written < len(p) && err == nil {
		n := 0
		err = retry(func() (err error) { n, err = unix.Write(int(s), p[written:]); return err })
		written += max(n, 0)
	}
	return written, err
}

func dialSockets(p *player, path string) map[string]socket {
	dial := func() *net.UnixConn {
		connection, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			p.fail("%v", err)
		}
		return connection
	}
	first := dial()
	second, err := newRawSocket(dial())
	if err != nil {
		p.fail("%v", err)
	}
	return map[string]socket{"net": first, "raw": second}
}

// collectSize is how much a sender collects for one write, and how much a
// receiver reads at most.
const collectSize = 64 << 10

// socket is a task done through one of the sockets, with a write a message.
func (s *stage) socket(index int, name string, chunk int) task {
	connection := s.sockets[index]
	write := func() {
		_, err := connection.Write(s.message)
		s.must(err)
	}
	do := func(n int, mark byte) {
		for range n - 1 {
			write()
		}
		s.mark(mark)
		write()
		s.mark(benchMore)
		s.socketWait(connection, mark)
	}
	if name[4:] == "echo" {
		do = func(n int, mark byte) {
			for i := range n {
				if i == n-1 {
					s.mark(mark)
				}
				write()
				_, err := io.ReadFull(connection, s.answer)
				s.must(err)
			}
			s.mark(benchMore)
		}
	}
	return task{name, chunk, do}
}

// collected is a task done through a socket, with many messages a write.
func (s *stage) collected(chunk int) task {
	connection := s.sockets[s.net]
	buffer := make([]byte, 0, collectSize)
	do := func(n int, mark byte) {
		for i := range n {
			if i == n-1 {
				s.mark(mark)
			}
			buffer = append(buffer, s.message...)
			if len(buffer)+len(s.message) > cap(buffer) || i == n-1 && mark != benchMore {
				_, err := connection.Write(buffer)
				s.must(err)
				buffer = buffer[:0]
			}
		}
		s.mark(benchMore)
		s.socketWait(connection, mark)
	}
	return task{"net-take", chunk, do}
}

func (s *stage) socketWait(connection socket, mark byte) {
	if mark != benchMore {
		_, err := io.ReadFull(connection, s.answer[:1])
		s.must(err)
	}
}

func (a *benchActor) socketEcho(connection socket) {
	message := a.buffer[:a.setup.Size]
	for mark := byte(benchMore); mark != benchLast; {
		_, err := io.ReadFull(connection, message)
		a.must(err)
		mark = markOf(message)
		_, err = connection.Write(message)
		a.must(err)
	}
}

// socketTake looks at the last byte of each message, which may lie anywhere in
// what was read.
func (a *benchActor) socketTake(connection socket) {
	for next, mark := a.setup.Size-1, byte(benchMore); mark != benchLast; {
		n, err := connection.Read(a.buffer)
		if n == 0 && errors.Is(err, io.EOF) {
			a.p.fail("the test is gone")
		}
		a.must(err)
		for ; next < n; next += a.setup.Size {
			if mark = a.buffer[next]; mark != benchMore {
				_, err := connection.Write(a.buffer[:1])
				a.must(err)
			}
		}
		next -= n
	}
}
