//go:build linux && (amd64 || arm64)

// Package bench compares calls over a pair with what else there is for two processes
// on one machine. It is a module of its own: what it compares with, nobody has to take.
//
//	go test -run '^$' -bench . -benchtime 40x
package bench

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// turn is how long each peer is measured in a round.
const turn = 50 * time.Millisecond

// BenchmarkUnaryCall has all peers call in turn, each in every round, a 64-byte echo: so
// whatever else the machine does meanwhile meets all of them. An operation is a round.
// It prints a table of medians, and of how many times longer or shorter a call takes
// than over gRPC and a Unix socket in the same round: the least, the median, the most.
func BenchmarkUnaryCall(b *testing.B) {
	for _, atATime := range []int{1, 64} {
		b.Run(fmt.Sprintf("%d at a time", atATime), func(b *testing.B) {
			calls := make([]caller, len(peers))
			for i, peer := range peers {
				calls[i] = peer.open(b)
				measure(b, calls[i], atATime) // they get used to it
			}
			times := make([][]float64, len(peers)) // by peer, of each round
			for round := 0; b.Loop(); round++ {
				for i := range peers {
					i = (i + round) % len(peers) // nobody is always behind the same one
					times[i] = append(times[i], measure(b, calls[i], atATime))
				}
			}
			b.ReportMetric(0, "ns/op")
			table(b, atATime, times)
		})
	}
}

// measure returns the time of one call in microseconds: with several at a time, how much
// of the whole time each of them takes.
func measure(b *testing.B, call caller, atATime int) float64 {
	b.Helper()
	request := make([]byte, 64)
	var count atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for range atATime {
		all.Add(1)
		go func() {
			defer all.Done()
			for time.Since(began) < turn {
				if err := mustEcho(call, request); err != nil {
					b.Error(err)
					return
				}
				count.Add(1)
			}
		}()
	}
	all.Wait()
	return float64(time.Since(began).Nanoseconds()) / 1e3 / float64(max(1, count.Load()))
}

// table prints what was measured, as rows of a document, and reports the ratios.
func table(b *testing.B, atATime int, times [][]float64) {
	var text strings.Builder
	fmt.Fprintf(&text, "\n| 64 B, %d at a time | us a call | gRPC over a Unix socket takes |\n|---|---|---|\n", atATime)
	for i, peer := range peers {
		ratios := make([]float64, len(times[i]))
		for round := range ratios {
			ratios[round] = times[0][round] / times[i][round]
		}
		slices.Sort(ratios)
		fmt.Fprintf(&text, "| %s | %.1f | %.2f to %.2f to %.2f x |\n", peer.name, median(times[i]), ratios[0], median(ratios), ratios[len(ratios)-1])
		b.ReportMetric(median(ratios), "unix/"+strings.NewReplacer(" ", "", ",", "-").Replace(peer.name))
	}
	fmt.Print(text.String())
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}
