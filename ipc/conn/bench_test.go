//go:build linux && (amd64 || arm64)

package conn

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// What a connection is asked to do: the first byte, and then a size.
const (
	benchEcho = 'e' // answer each message of the size
	benchSink = 's' // read the size, and then answer one byte, again and again
)

// It listens on a pair and on a Unix socket.
var _ = part("bench server", func(path string) {
	pair, err := Listen(context.Background(), path, nil)
	check(err)
	unix, err := net.Listen("unix", path+".unix")
	check(err)
	say("listening")
	go benchServe(unix)
	benchServe(pair)
})

func benchServe(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var ask [9]byte
			if _, err := io.ReadFull(c, ask[:]); err != nil {
				return
			}
			size := int64(binary.LittleEndian.Uint64(ask[1:]))
			buffer := make([]byte, 64<<10)
			for {
				if ask[0] == benchEcho {
					if _, err := io.ReadFull(c, buffer[:size]); err != nil {
						return
					}
					_, _ = c.Write(buffer[:size])
					continue
				}
				for left := size; left > 0; {
					n, err := c.Read(buffer[:min(left, int64(len(buffer)))])
					if err != nil {
						return
					}
					left -= int64(n)
				}
				_, _ = c.Write([]byte{1})
			}
		}()
	}
}

// benchAsk opens a connection that does what is asked.
func benchAsk(b *testing.B, c net.Conn, err error, ask byte, size int) net.Conn {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	if _, err := c.Write(binary.LittleEndian.AppendUint64([]byte{ask}, uint64(size))); err != nil {
		b.Fatal(err)
	}
	return c
}

// compare measures one operation over a pair and over a Unix socket in turn, and
// reports medians over the rounds: the time of the operation, and how many times
// longer it takes over the socket in the same round.
func compare(b *testing.B, ask byte, size int, operation func(c net.Conn) error) {
	path := testPath(b)
	start(b, "bench server", path).expect("listening")
	dialer := NewDialer(path, nil)
	b.Cleanup(func() { _ = dialer.Close() })
	c, err := dialer.Dial(testContext(b))
	overPair := benchAsk(b, c, err, ask, size)
	s, err := net.Dial("unix", path+".unix")
	overUnix := benchAsk(b, s, err, ask, size)

	measure := func(c net.Conn) float64 {
		began, count := time.Now(), 0
		for ; time.Since(began) < 20*time.Millisecond; count++ {
			if err := operation(c); err != nil {
				b.Fatal(err)
			}
		}
		return float64(time.Since(began).Nanoseconds()) / float64(count)
	}
	var pairs, units, ratios []float64
	for b.Loop() {
		overPairTime, overUnixTime := measure(overPair), measure(overUnix)
		pairs, units = append(pairs, overPairTime), append(units, overUnixTime)
		ratios = append(ratios, overUnixTime/overPairTime)
	}
	b.ReportMetric(median(pairs), "ns/pair-op")
	b.ReportMetric(median(units), "ns/unix-op")
	b.ReportMetric(median(ratios), "unix/pair")
	b.ReportMetric(0, "ns/op")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func BenchmarkRequest64B(b *testing.B) {
	buffer := make([]byte, 64)
	compare(b, benchEcho, len(buffer), func(c net.Conn) error {
		if _, err := c.Write(buffer); err != nil {
			return err
		}
		_, err := io.ReadFull(c, buffer)
		return err
	})
}

func BenchmarkStream64KiBWrites(b *testing.B) {
	buffer := make([]byte, 64<<10)
	const writes = 64
	compare(b, benchSink, writes*len(buffer), func(c net.Conn) error {
		for range writes {
			if _, err := c.Write(buffer); err != nil {
				return err
			}
		}
		_, err := io.ReadFull(c, buffer[:1])
		return err
	})
}
