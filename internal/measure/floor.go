//go:build linux

package measure

import (
	"bufio"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"
)

// FloorName is the contender that is no contender: a cache line that goes from one
// process to the other and back, which is what a message cannot be faster than. Its two
// processes sleep until their standard input says "go"; the client then says how many
// nanoseconds a round trip took.
const FloorName = "floor"

// floorTime is how long one floor is measured.
const floorTime = 10 * time.Millisecond

// floorOver ends one game.
const floorOver = ^uint64(0)

func playFloor(s *Setup) error {
	words, err := sharedWords(filepath.Join(s.Dir, "floor"), 2)
	if err != nil {
		return err
	}
	ping, pong := words[0], words[1]
	if s.Role == "server" {
		say("ready")
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if s.Role == "server" {
			floorAnswer(ping, pong)
		} else {
			say("%.2f", floorAsk(ping, pong))
		}
	}
	return nil
}

// changed spins until a word is no longer what it was.
func changed(word *atomic.Uint64, old uint64) uint64 {
	for {
		for range 5000 {
			if now := word.Load(); now != old {
				return now
			}
		}
		runtime.Gosched()
	}
}

func floorAnswer(ping, pong *atomic.Uint64) {
	for seen := uint64(0); seen != floorOver; {
		seen = changed(ping, seen)
		pong.Store(seen)
	}
	changed(ping, floorOver) // the client has set both back
}

func floorAsk(ping, pong *atomic.Uint64) float64 {
	trips := uint64(0)
	trip := func() {
		trips++
		ping.Store(trips)
		for changed(pong, trips-1) != trips {
		}
	}
	trip() // the server is there
	began := time.Now()
	for time.Since(began) < floorTime {
		for range 16 {
			trip()
		}
	}
	took := float64(time.Since(began).Nanoseconds()) / float64(trips-1)
	ping.Store(floorOver)
	for changed(pong, trips) != floorOver {
	}
	pong.Store(0)
	ping.Store(0)
	return took
}
