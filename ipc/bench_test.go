//go:build linux && (amd64 || arm64)

package ipc

import (
	"fmt"
	"testing"
	"time"
)

// What is measured here, and how
//
// Every benchmark runs two processes: this one, the server, and a player, the
// client. Both are started by the benchmark and end with it. Run them with
//
//	go test -run '^$' -bench . ./ipc
//
// The cost of moving a cache line between two processors can change several
// times over from one minute to the next on a virtual machine, so a figure by
// itself says little. A benchmark therefore runs in rounds of some 20 to 60 ms,
// and each round measures ours and everything that it is compared with, one
// after the other, with the same two processes. One iteration of the benchmark
// is one round; every figure is the median over the rounds, and every ratio is
// the median of the ratios within the rounds. ns/op and allocs/op are per round
// trip or per message, not per round.
//
// Round trip: 64 bytes there and back. "spinning" spins without end, "blocking"
// sleeps in the kernel at once, "default" adapts. "apart" binds each process to
// a processor of its own, "anywhere" leaves that to the kernel, which often puts
// both on one. Under taskset -c 0 both mean one processor, and the floor is that
// of yielding it to each other.
//
//	x-floor       ours / floor; smaller is better. The floor is a bare
//	              cache-line ping-pong of the same two processes: each side
//	              stores to a word of its own and spins on loads of the other's.
//	              It is measured right before and right after ours, and the mean
//	              of the two is the floor of the round.
//	floor-ns      the floor
//	floor-spread  the largest floor of all rounds / the smallest: what the
//	              machine did meanwhile. Distrust a run with much more than 2.
//	x-unix        Unix stream socket through package net / ours; larger is better
//	x-unix-raw    Unix stream socket by blocking system calls / ours; likewise
//
// One way: from the first Send until the receiver has taken the last message
// and said so. "into" is Send and ReceiveInto, "view" is Send, Receive and
// Release, "batch" is SendBatch, ReceiveBatch and ReleaseBatch, all with each
// process on its own processor. Whoever takes a
// view reads one byte of each of its cache lines, so that the data has to come
// over.
//
//	Mmsg/s, MB/s  ours, in millions of each
//	x-unix        as above, with one write a message, and reads into a large buffer
//	x-unix-batch  as x-unix, with messages collected into writes of 64 KiB
//	x-copy        ours / copying as many bytes into a buffer and out of it in one
//	              process; smaller is better. Below 1 is possible: two processors
//	              copy at the same time.
//
// Death to error: from SIGKILL being sent until Receive, which sleeps in the
// survivor, returns ErrPeerDied; see BenchmarkDeathToError.

func BenchmarkRoundTrip(b *testing.B) {
	for _, mode := range []struct {
		name  string
		spin  time.Duration
		apart bool
	}{
		{"spinning/apart", time.Hour, true},
		{"blocking/apart", NoSpin, true}, {"blocking/anywhere", NoSpin, false},
		{"default/apart", 0, true}, {"default/anywhere", 0, false},
	} {
		b.Run(mode.name, func(b *testing.B) {
			s := setStage(b, benchSetup{Spin: mode.spin, Size: 64, Apart: mode.apart})
			ours := s.channel("echo", 16)
			net, raw := s.socket(s.net, "net-echo", 16), s.socket(s.raw, "raw-echo", 16)
			var t table
			for b.Loop() {
				before := s.floor(3 * time.Millisecond)
				own := s.measure(ours, 12*time.Millisecond)
				after := s.floor(3 * time.Millisecond)
				floor := (before + after) / 2
				t.add("ns/op", own.perOp())
				t.add("allocs/op", own.allocsPerOp())
				t.add("floor-ns", floor)
				t.add("x-floor", own.perOp()/floor)
				t.add("x-unix", s.measure(net, 6*time.Millisecond).perOp()/own.perOp())
				t.add("x-unix-raw", s.measure(raw, 6*time.Millisecond).perOp()/own.perOp())
			}
			t.report(b)
			b.ReportMetric(t.spread("floor-ns"), "floor-spread")
		})
	}
}

// BenchmarkUnixRoundTrip is what a round trip is compared with, on its own.
func BenchmarkUnixRoundTrip(b *testing.B) {
	for _, place := range []string{"apart", "anywhere"} {
		for _, by := range []string{"net", "raw"} {
			b.Run(by+"/"+place, func(b *testing.B) {
				s := setStage(b, benchSetup{Size: 64, Apart: place == "apart"})
				connection := map[string]int{"net": s.net, "raw": s.raw}[by]
				task := s.socket(connection, by+"-echo", 16)
				var t table
				for b.Loop() {
					t.add("ns/op", s.measure(task, 20*time.Millisecond).perOp())
				}
				t.report(b)
			})
		}
	}
}

func BenchmarkOneWay(b *testing.B) {
	for _, load := range []struct {
		size, ring, batch, chunk int
		name                     string
	}{
		{8, DefaultRingSize, 64, 1024, "8B"},
		{64, DefaultRingSize, 64, 1024, "64B"},
		{1 << 10, DefaultRingSize, 64, 128, "1KiB"},
		{64 << 10, DefaultRingSize, 4, 4, "64KiB"},
		{1 << 20, 8 << 20, 2, 2, "1MiB"},
	} {
		for _, form := range []string{"into", "view", "batch"} {
			b.Run(fmt.Sprintf("%s/%s", load.name, form), func(b *testing.B) {
				s := setStage(b, benchSetup{Size: load.size, Ring: load.ring, Batch: load.batch, Apart: true})
				ours := s.channel(form, load.chunk)
				unix, collected := s.socket(s.net, "net-take", load.chunk), s.collected(load.chunk)
				large := load.size >= 64<<10
				var t table
				for b.Loop() {
					own := s.measure(ours, 15*time.Millisecond)
					t.add("ns/op", own.perOp())
					t.add("allocs/op", own.allocsPerOp())
					t.add("Mmsg/s", 1e3/own.perOp())
					t.add("MB/s", 1e3/own.perOp()*float64(load.size))
					t.add("x-unix", s.measure(unix, 10*time.Millisecond).perOp()/own.perOp())
					if large {
						t.add("x-copy", own.perOp()/s.copying(5*time.Millisecond))
					} else {
						t.add("x-unix-batch", s.measure(collected, 10*time.Millisecond).perOp()/own.perOp())
					}
				}
				t.report(b)
			})
		}
	}
}
