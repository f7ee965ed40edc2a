package chaos

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// pace is how much longer work takes now than it must: 1 on a quiet machine, and about
// the number of processes that want each processor on a busy one. Slices of work are
// so short that some run undisturbed; the shortest tells how long each must take.
func pace() float64 {
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

func TestPaceSeesABusyMachine(t *testing.T) {
	var busy sync.WaitGroup
	stop := make(chan struct{})
	for range 8 * runtime.GOMAXPROCS(0) {
		busy.Add(1)
		go func() {
			defer busy.Done()
			for stopped := false; !stopped; {
				select {
				case <-stop:
					stopped = true
				default: // busy is what it is for
				}
			}
		}()
	}
	got := pace()
	close(stop)
	busy.Wait()
	if got < 2 {
		t.Errorf("with eight goroutines for each processor the pace is %.1f, want 2 at least", got)
	}
	t.Logf("pace %.1f", got)
}
