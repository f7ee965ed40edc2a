//go:build linux

package measure

import (
	"runtime"
	"sync/atomic"
	"time"
)

// What a program pays that has no second process: these are within one.
func natives() []*Transport {
	return []*Transport{
		native("channel", "chan []byte of 256 between two goroutines; the message is copied in and out", channelLink),
		native("goroutine-ring", "single producer, single consumer, 1 MiB at most, between two goroutines; copied in and out", ringLink),
		callNative("call", "a function that copies its argument and returns the copy", callCopy),
		callNative("memcpy", "a message copied into a buffer", copyOnce),
	}
}

func native(name, settings string, pair func(*Setup) (client, server Link)) *Transport {
	return &Transport{
		Name: name, Version: goVersion,
		Settings: func(*Setup) string { return settings },
		Native: func(s *Setup, m *Meter) error {
			client, server := pair(s)
			other := *s
			other.Role = "server"
			there, here := newSide(&other, server), newSide(s, client)
			here.meter = m
			ended := make(chan error, 1)
			go func() { ended <- there.work() }()
			err := here.work()
			if err == nil {
				err = <-ended
			}
			m.Report.Wrong += there.in.Wrong
			m.Report.Missing += there.in.Missing
			return err
		},
	}
}

// A channelHalf sends in one channel and receives from another. The buffers of messages
// go back through a second one.
type channelHalf struct {
	out, in         chan []byte
	outFree, inFree chan []byte
	buffer          []byte
}

const channelDepth = 256

func channelLink(s *Setup) (Link, Link) {
	depth := max(2, min(channelDepth, 4<<20/s.Size))
	half := func() (messages, free chan []byte) {
		messages, free = make(chan []byte, depth), make(chan []byte, depth)
		for range depth {
			free <- make([]byte, s.Size)
		}
		return messages, free
	}
	a, freeA := half()
	b, freeB := half()
	return &channelHalf{a, b, freeA, freeB, make([]byte, s.Size)}, &channelHalf{b, a, freeB, freeA, make([]byte, s.Size)}
}

func (h *channelHalf) Send(s *Source, n int) error {
	for range n {
		m := <-h.outFree
		s.Fill(m)
		h.out <- m
	}
	return nil
}

func (h *channelHalf) Receive(s *Sink, n int) error {
	for ; n > 0 && !s.Ended; n-- {
		m := <-h.in
		copy(h.buffer, m)
		h.inFree <- m
		s.Take(h.buffer)
	}
	return nil
}

func (h *channelHalf) Close() error { return nil }

// A goroutineRing has slots of one size.
type goroutineRing struct {
	_       [cacheLine]byte
	written atomic.Uint64
	_       [cacheLine]byte
	read    atomic.Uint64
	_       [cacheLine]byte
	slots   []byte
	size    int
	mask    uint64
}

func newGoroutineRing(size int) *goroutineRing {
	n := 2
	for n*size < 1<<20 && n < 4096 {
		n *= 2
	}
	return &goroutineRing{slots: make([]byte, n*size), size: size, mask: uint64(n - 1)}
}

func (r *goroutineRing) slot(n uint64) []byte {
	at := int(n&r.mask) * r.size
	return r.slots[at : at+r.size]
}

type ringHalf struct {
	out, in     *goroutineRing
	readSeen    uint64
	writtenSeen uint64
	buffer      []byte
	outAt, inAt uint64
}

func ringLink(s *Setup) (Link, Link) {
	a, b := newGoroutineRing(s.Size), newGoroutineRing(s.Size)
	return &ringHalf{out: a, in: b, buffer: make([]byte, s.Size)}, &ringHalf{out: b, in: a, buffer: make([]byte, s.Size)}
}

// spinUntil spins, and lets others run now and then.
func spinUntil(word *atomic.Uint64, enough func(uint64) bool) uint64 {
	for {
		for range 1000 {
			if now := word.Load(); enough(now) {
				return now
			}
		}
		runtime.Gosched()
	}
}

func (h *ringHalf) Send(s *Source, n int) error {
	for range n {
		if h.outAt-h.readSeen > h.out.mask {
			h.readSeen = spinUntil(&h.out.read, func(read uint64) bool { return h.outAt-read <= h.out.mask })
		}
		s.Fill(h.out.slot(h.outAt))
		h.outAt++
		h.out.written.Store(h.outAt)
	}
	return nil
}

func (h *ringHalf) Receive(s *Sink, n int) error {
	for ; n > 0 && !s.Ended; n-- {
		if h.inAt == h.writtenSeen {
			h.writtenSeen = spinUntil(&h.in.written, func(written uint64) bool { return written != h.inAt })
		}
		copy(h.buffer, h.in.slot(h.inAt))
		h.inAt++
		h.in.read.Store(h.inAt)
		s.Take(h.buffer)
	}
	return nil
}

func (h *ringHalf) Close() error { return nil }

// callNative measures something that one goroutine does.
func callNative(name, settings string, do func(to, from []byte) []byte) *Transport {
	return &Transport{
		Name: name, Version: goVersion,
		Settings: func(*Setup) string { return settings },
		Native: func(s *Setup, m *Meter) error {
			out, in := Source{every: s.Check}, Sink{every: s.Check, size: s.Size}
			from, to := make([]byte, s.Size), make([]byte, s.Size)
			once := func() {
				out.Fill(from)
				in.Take(do(to, from))
			}
			repeat := func(d time.Duration) (n uint64) {
				for end := time.Now().Add(d); time.Now().Before(end); n += 64 {
					for range 64 {
						once()
					}
				}
				return n
			}
			repeat(s.Warm)
			m.begin()
			m.end(repeat(s.Time))
			m.Report.Wrong, m.Report.Missing = in.Wrong, in.Missing
			return nil
		},
	}
}

//go:noinline
func callCopy(to, from []byte) []byte {
	copy(to, from)
	return to
}

func copyOnce(to, from []byte) []byte {
	copy(to, from)
	return to
}
