package plant

import (
	"runtime"
	"sync"
	"testing"
)

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
	got := Pace()
	close(stop)
	busy.Wait()
	if got < 2 {
		t.Errorf("with eight goroutines for each processor the pace is %.1f, want 2 at least", got)
	}
	t.Logf("pace %.1f", got)
}
