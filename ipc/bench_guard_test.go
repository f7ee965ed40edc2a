//go:build linux && (amd64 || arm64)

package ipc

import (
	"testing"
	"time"
)

// BenchmarkGuard is what ci/guard compares two commits by. It builds this benchmark, as
// one of them has it, with the code of both.
//
// Each case has a floor of its own, which the same two processes measure right before
// and right after ours: a cache line bounced between them, a round trip through a Unix
// socket, or a copy. ns/op is a message, or a round trip.
//
//	x-floor   ours / floor; smaller is better
//	floor-ns  the floor
func BenchmarkGuard(b *testing.B) {
	const part = 3 * time.Millisecond
	line := func(s *stage) float64 { return s.floor(part) }
	socket := func(s *stage) float64 { return s.measure(s.socket(s.raw, "raw-echo", 16), part).perOp() }
	copying := func(s *stage) float64 { return s.copying(part) }
	for _, c := range []struct {
		name, form  string
		spin        time.Duration
		size, chunk int
		floor       func(*stage) float64
	}{
		{"RoundTrip/spinning", "echo", time.Hour, 64, 16, line},
		{"RoundTrip/blocking", "echo", NoSpin, 64, 16, socket},
		{"OneWay/64B/into", "into", 0, 64, 1024, line},
		{"OneWay/64B/view", "view", 0, 64, 1024, line},
		{"OneWay/64B/batch", "batch", 0, 64, 1024, line},
		{"OneWay/64KiB/into", "into", 0, 64 << 10, 4, copying},
		{"OneWay/64KiB/view", "view", 0, 64 << 10, 4, copying},
	} {
		b.Run(c.name, func(b *testing.B) {
			setup := benchSetup{Spin: c.spin, Size: c.size, Batch: 64, Apart: true}
			if c.form != "batch" {
				setup.Batch = 0
			}
			s := setStage(b, setup)
			ours := s.channel(c.form, c.chunk)
			var t table
			for b.Loop() {
				before := c.floor(s)
				own := s.measure(ours, 3*part)
				floor := (before + c.floor(s)) / 2
				t.add("ns/op", own.perOp())
				t.add("x-floor", own.perOp()/floor)
				t.add("floor-ns", floor)
			}
			t.report(b)
		})
	}
}
