package plant

import (
	"runtime"
	"sync"
	"time"
)

var measuring sync.Mutex

// Pace is how much longer work takes now than it must: 1 on a quiet machine, and about
// the number of processes that want each processor on a busy one. Slices of work are
// so short that some run undisturbed; the shortest tells how long each must take.
// A hunt for a bug stretches its watchdogs by it. One caller measures at a time: else they
// would measure each other.
func Pace() float64 {
	measuring.Lock()
	defer measuring.Unlock()
	const slices = 400
	begun, least := time.Now(), time.Hour
	sum := uint64(0)
	for range slices {
		slice := time.Now()
		for i := range uint64(200_000) {
			sum = sum*31 + i
		}
		least = min(least, time.Since(slice))
	}
	runtime.KeepAlive(sum)
	return max(1, float64(time.Since(begun))/float64(slices*least))
}
