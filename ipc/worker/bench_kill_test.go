//go:build linux && (amd64 || arm64)

package worker

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	testHandlers["tried"] = func(_ context.Context, r *Request) ([]byte, error) {
		r.Data[0] = byte(r.Attempt)
		return r.Data, nil
	}
}

// callCounts counts the calls of one second after the other.
type callCounts struct {
	calls, retried, failed atomic.Int64
}

// second makes calls of 64 bytes, 64 at a time, for a second.
func (c *callCounts) second(p *Pool) {
	end := time.Now().Add(time.Second)
	var callers sync.WaitGroup
	for range 64 {
		callers.Add(1)
		go func() {
			defer callers.Done()
			request := make([]byte, 64)
			for time.Now().Before(end) {
				switch answer, err := p.Call(context.Background(), "tried", request); {
				case err != nil:
					c.failed.Add(1)
				case answer[0] > 1:
					c.retried.Add(1)
				}
				c.calls.Add(1)
			}
		}()
	}
	callers.Wait()
}

// BenchmarkCallsUnderKills is calls per second while one worker is killed in each second, and
// while none is: the seconds take turns, so that both meet the same machine. One op is a second of each.
func BenchmarkCallsUnderKills(b *testing.B) {
	for _, size := range []int{2, 4} {
		b.Run(fmt.Sprintf("%d workers", size), func(b *testing.B) {
			p, j := startPool(b, patient(Config{Size: size, Concurrency: 64 / size}))
			for start := range uint64(size) {
				j.await(b, "all serve", func(e Event) bool { return e.Kind == EventReady && e.Start == start+1 })
			}
			var calm, killed callCounts
			victim := 0
			for b.Loop() {
				calm.second(p)
				kill := time.AfterFunc(100*time.Millisecond, func() {
					p.mu.Lock()
					y := p.slots[victim%size].current
					p.mu.Unlock()
					if y != nil {
						y.process.kill() // as somebody else would
					}
				})
				killed.second(p)
				kill.Stop()
				victim++
			}
			seconds := float64(b.N)
			b.ReportMetric(float64(calm.calls.Load())/seconds, "calls/s")
			b.ReportMetric(float64(killed.calls.Load())/seconds, "calls-under-kills/s")
			b.ReportMetric(float64(killed.calls.Load())/float64(calm.calls.Load()), "ratio")
			b.ReportMetric(float64(len(j.deaths())), "kills")
			b.ReportMetric(float64(killed.retried.Load()), "retried")
			b.ReportMetric(float64(calm.failed.Load()+killed.failed.Load()), "failed")
			b.ReportMetric(0, "ns/op") // it is two seconds
		})
	}
}

// A service of four workers says which processes they are, and waits for its end.
var _ = part("service of four", func() {
	ready := make(chan int, 4)
	outlive := os.Getenv("TANDEM_TEST_WORKER") != ""
	_, err := Start(context.Background(), Config{
		Size: 4, Outlive: outlive, Dir: os.Getenv("TANDEM_TEST_DIR"),
		Command: func() *exec.Cmd {
			cmd := Self()()
			cmd.Env = append(os.Environ(), partVariable+"=serve")
			return cmd
		},
		OnEvent: func(e Event) {
			if e.Kind == EventReady {
				ready <- e.PID
			}
		},
	})
	leave(err)
	fmt.Println(<-ready, <-ready, <-ready, <-ready)
	select {}
})

// BenchmarkServiceDeathToWorkerExit kills a service that has four workers, again and again. It
// measures from just before the kill is sent until the process of the last worker has ended. ns/op
// is the mean of that, with the start of the service.
func BenchmarkServiceDeathToWorkerExit(b *testing.B) {
	for name, outlive := range map[string]string{"the kernel kills them": "", "they leave by themselves (Outlive)": "outlive"} {
		b.Run(name, func(b *testing.B) {
			var times []time.Duration
			for b.Loop() {
				times = append(times, deathToExit(b, outlive))
			}
			slices.Sort(times)
			millis := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
			b.ReportMetric(millis(times[len(times)/2]), "median-ms")
			b.ReportMetric(millis(times[len(times)*99/100]), "p99-ms")
			b.ReportMetric(millis(times[len(times)-1]), "max-ms")
			b.ReportMetric(float64(len(times)), "kills")
		})
	}
}

// deathToExit is how long the last of the workers lives on when their service is killed.
func deathToExit(b *testing.B, outlive string) time.Duration {
	dir, err := os.MkdirTemp("", "tandem-death-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cmd := command(b, "service of four")()
	cmd.Env = append(cmd.Env, "TANDEM_TEST_WORKER="+outlive, "TANDEM_TEST_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	pids := strings.Fields(line)
	if err != nil || len(pids) != 4 {
		b.Fatalf("%q, %v", line, err)
	}
	var workers []int
	for _, text := range pids {
		pid, _ := strconv.Atoi(text)
		handle, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			b.Fatal(err)
		}
		defer unix.Close(handle)
		workers = append(workers, handle)
	}
	killed := time.Now()
	_ = cmd.Process.Kill()
	for _, handle := range workers {
		awaitExit(b, handle)
	}
	return time.Since(killed)
}

// awaitExit waits until a process has ended, whose handle this is.
func awaitExit(b *testing.B, handle int) {
	deadline := time.Now().Add(watchdog)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(handle), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		switch {
		case n > 0:
			return
		case err != nil && err != unix.EINTR || time.Now().After(deadline):
			b.Fatalf("the worker lives: %v", err)
		}
	}
}
