//go:build linux && (amd64 || arm64)

package ipc

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkGuard is what ci/guard compares two commits by. It builds this benchmark, as
// one of them has it, with the code of both.
//
// Each case has a floor of its own, which the same two processes measure right before
// and right after ours: a cache line bounced between them, a round trip through a Unix
// socket, or a copy. Each is measured many times for a short while, and the best counts:
// what else runs on the machine only ever adds. ns/op is a message, or a round trip.
//
//	x-floor   ours / floor; smaller is better
//	floor-ns  the floor
//	line-ns   a cache line bounced, in all cases. It tells two states of a machine apart,
//	          as where the two processors of a virtual one lie.
func BenchmarkGuard(b *testing.B) {
	const while = 500 * time.Microsecond
	line := func(s *stage) float64 { return s.floor(while) }
	socket := func(s *stage) float64 { return s.measure(s.socket(s.raw, "raw-echo", 16), while).perOp() }
	copying := func(s *stage) float64 { return s.copying(while) }
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
				before := least(5, func() float64 { return c.floor(s) })
				own := least(12, func() float64 { return s.measure(ours, while).perOp() })
				floor := min(before, least(5, func() float64 { return c.floor(s) }))
				t.add("line-ns", least(4, func() float64 { return line(s) }))
				t.add("ns/op", own)
				t.add("x-floor", own/floor)
				t.add("floor-ns", floor)
			}
			t.report(b)
			b.ReportMetric(slices.Min(t.figures["line-ns"]), "line-ns")
		})
	}
}

// least is the least of some figures.
func least(count int, figure func() float64) float64 {
	best := figure()
	for range count - 1 {
		best = min(best, figure())
	}
	return best
}
