//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// deathCount is how many processes are killed for one figure. It does not grow
// with the benchmark's time.
const deathCount = 200

// deathTimes are measured once a process, however often the benchmark is called.
var deathTimes = map[string][]time.Duration{}

// BenchmarkDeathToError kills the peer of an endpoint that sleeps in Receive,
// deathCount times for each side. It measures from just before the kill is sent
// until Receive has returned ErrPeerDied: the kernel tears the process down,
// the watcher sees the end of the socket and then the freed lock, and wakes the
// receiver. ns/op is the median; how often the benchmark is called has no
// bearing on it.
func BenchmarkDeathToError(b *testing.B) {
	for _, survivor := range []struct {
		name string
		kill func(testing.TB, int) []time.Duration
	}{{"server", killClients}, {"client", killServers}} {
		b.Run(survivor.name, func(b *testing.B) {
			if deathTimes[survivor.name] == nil {
				times := survivor.kill(b, deathCount)
				slices.Sort(times)
				deathTimes[survivor.name] = times
			}
			b.ResetTimer()
			for range b.N {
				// the work is done
			}
			times := deathTimes[survivor.name]
			micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
			b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "ns/op")
			b.ReportMetric(micros(times[len(times)/2]), "median-µs")
			b.ReportMetric(micros(times[len(times)*99/100]), "p99-µs")
			b.ReportMetric(micros(times[len(times)-1]), "max-µs")
			b.ReportMetric(float64(len(times)), "kills")
		})
	}
}

// deathToError kills the player while e sleeps in Receive, and returns the time
// until Receive knows.
func deathToError(t testing.TB, ctx context.Context, e *Endpoint, player *process) time.Duration {
	t.Helper()
	type end struct {
		at  time.Time
		err error
	}
	ended := make(chan end, 1)
	sleeps := e.bell.sleeps.Load()
	go func() {
		_, err := e.Receive(ctx)
		ended <- end{time.Now(), err}
	}()
	eventually(t, "Receive sleeps", func() bool { return e.bell.sleeps.Load() > sleeps })
	killed := time.Now()
	_ = player.cmd.Process.Kill()
	select {
	case got := <-ended:
		if !errors.Is(got.err, ErrPeerDied) {
			t.Fatalf("after the death: %v", got.err)
		}
		return got.at.Sub(killed)
	case <-time.After(watchdog):
		t.Fatalf("the death is not told\n%s", stacks())
	}
	return 0
}

func killClients(t testing.TB, count int) (times []time.Duration) {
	ctx, path := context.Background(), testPath(t)
	server, err := Listen(ctx, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for range count {
		client := start(t, "victim client", path)
		client.expect("attached")
		nextEvent(t, server, EventAttached)
		times = append(times, deathToError(t, ctx, server, client))
		nextEvent(t, server, EventDied)
		client.wait()
	}
	return times
}

func killServers(t testing.TB, count int) (times []time.Duration) {
	ctx, path := context.Background(), testPath(t)
	for i := range count {
		server := start(t, "victim server", path)
		server.expect("listening")
		client, err := Dial(ctx, path, nil)
		if err != nil {
			t.Fatal(fmt.Errorf("server %d: %w", i, err))
		}
		times = append(times, deathToError(t, ctx, client, server))
		server.wait()
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return times
}

var (
	_ = part("victim client", func(p *player) {
		var path string
		p.arg(&path)
		client, err := Dial(p.ctx, path, nil)
		if err != nil {
			p.fail("dial: %v", err)
		}
		defer client.Close()
		p.say("attached")
		p.untilStdinEnds()
	})
	_ = part("victim server", func(p *player) {
		var path string
		p.arg(&path)
		server, err := Listen(p.ctx, path, nil)
		if err != nil {
			p.fail("listen: %v", err)
		}
		defer server.Close()
		p.say("listening")
		p.untilStdinEnds()
	})
)
