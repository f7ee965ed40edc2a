//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// heir is a configuration that adopts.
func heir(t *testing.T, f *former, size int) Config {
	return patient(Config{Command: command(t, "waits"), Dir: f.dir, Size: size, Outlive: true, Adopt: watchdog})
}

func (j *journal) pids(kind EventKind) (pids []int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, event := range j.events {
		if event.Kind == kind {
			pids = append(pids, event.PID)
		}
	}
	slices.Sort(pids)
	return pids
}

// adopted waits until all places have adopted a worker that serves, and compares the processes.
func (j *journal) adopted(t *testing.T, want []int) {
	t.Helper()
	eventually(t, "all serve", func() bool { return len(j.pids(EventReady)) == len(want) })
	if got := j.pids(EventAdopted); !slices.Equal(got, want) || len(j.pids(EventStarted)) > 0 {
		t.Fatalf("adopted %v, started %v; want %v", got, j.pids(EventStarted), want)
	}
}

func TestTheNextServiceAdoptsTheWorkersOfADeadOne(t *testing.T) {
	const size = 3
	for name, environment := range map[string]string{"as they were started": "NOTHING=", "after Replace, under the second name": "TANDEM_TEST_REPLACE=1"} {
		t.Run(name, func(t *testing.T) {
			f, pids := orphans(t, "waits", size, environment, "TANDEM_TEST_LINGER=500ms")
			p, j := startPool(t, heir(t, f, size))
			j.adopted(t, pids)
			var callers sync.WaitGroup
			seen := sync.Map{}
			for range 10 * size {
				callers.Add(1)
				go func() {
					defer callers.Done()
					var pid, calls, old int
					answer, err := p.Call(testContext(t), "warm", nil)
					if n, _ := fmt.Sscan(string(answer), &pid, &calls, &old); n != 3 || err != nil || old != 0 {
						t.Errorf("answer %q, %v: no handler of the former service may run", answer, err)
					}
					seen.Store(pid, calls)
				}()
			}
			callers.Wait()
			for _, pid := range pids {
				if calls, found := seen.Load(pid); !found || calls.(int) < 2 {
					t.Errorf("process %d says that it has had %v calls", pid, calls)
				}
			}
			if stats := p.Stats(); stats.Unasked != 0 || stats.Stale != 0 || stats.Starts != size {
				t.Errorf("counts %+v", stats)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if said := f.end(); strings.Count(said, "left false <nil>\n") != size {
				t.Errorf("the workers say %q", said)
			}
			for _, death := range j.deaths() {
				if death.Reason != ReasonStopped || death.ExitCode != -1 || death.Signal != 0 {
					t.Errorf("death %+v", death)
				}
			}
		})
	}
}

func TestAWorkerWaitsOnlySoLongForTheNextService(t *testing.T) {
	f, _ := orphans(t, "waits briefly", 2)
	if said := f.end(); strings.Count(said, "left true ") != 2 {
		t.Errorf("the workers say %q", said)
	}
}

// Who waits holds nothing, and is no burden to a pool that does not adopt.
func TestAPoolThatDoesNotAdoptSendsWaitingWorkersAway(t *testing.T) {
	f, pids := orphans(t, "waits", 2)
	var p *Pool
	j := newJournal()
	eventually(t, "the channels are free", func() bool {
		var err error
		p, err = Start(context.Background(), patient(Config{Command: command(t, "serve"), Dir: f.dir, Size: 2, Output: io.Discard, OnEvent: j.add}))
		if err != nil && !errors.Is(err, ipc.ErrClientRunning) {
			t.Fatal(err)
		}
		return err == nil
	})
	defer p.Close()
	if said := f.end(); strings.Count(said, "left true ") != 2 {
		t.Errorf("the workers say %q", said)
	}
	mustCall(t, p, "echo", "")
	eventually(t, "fresh ones serve", func() bool { return len(j.pids(EventReady)) == 2 })
	for _, pid := range j.pids(EventReady) {
		if slices.Contains(pids, pid) {
			t.Errorf("process %d of the former service serves", pid)
		}
	}
}

func TestAWorkerWithOtherTermsIsTurnedAway(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"MaxMessage": func(c *Config) { c.MaxMessage = 1000 },
		"MaxAsks":    func(c *Config) { c.MaxAsks = 3 },
		"Command": func(c *Config) {
			plain := c.Command
			c.Command = func() *exec.Cmd { cmd := plain(); cmd.Args = append(cmd.Args, "another"); return cmd }
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := orphans(t, "waits", 1)
			c := heir(t, f, 1)
			change(&c)
			p, j := startPool(t, c)
			if said := f.end(); !strings.Contains(said, "left true ") || !strings.Contains(said, errTurnedAway.Error()) {
				t.Errorf("the worker says %q", said)
			}
			mustCall(t, p, "echo", "")
			if len(j.pids(EventAdopted)) > 0 || len(j.pids(EventStarted)) != 1 {
				t.Errorf("events %+v", j.events)
			}
		})
	}
}

// Whatever ends a worker ends an adopted one, and a fresh process takes its place.
func TestAnAdoptedWorkerEndsAsAnyOther(t *testing.T) {
	kill := func(t *testing.T, p *Pool, pid int) {
		process, err := os.FindProcess(pid)
		if err != nil || process.Signal(syscall.SIGKILL) != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		reason Reason
		change func(*Config)
		end    func(t *testing.T, p *Pool, pid int)
	}{
		{ReasonExited, func(*Config) {}, kill},
		{ReasonStuck, func(c *Config) { c.Grace = time.Millisecond }, func(t *testing.T, p *Pool, _ int) {
			_, err := p.Call(testContext(t), "hang", nil, Timeout(time.Millisecond))
			wantErrors(t, err, []error{context.DeadlineExceeded})
		}},
		{ReasonHung, func(c *Config) { c.HangTimeout = 2 * time.Second }, func(t *testing.T, p *Pool, _ int) {
			_, err := p.Call(testContext(t), "freeze", nil, AtMostOnce())
			wantErrors(t, err, []error{ErrOutcomeUnknown})
		}},
		{ReasonRetired, func(c *Config) { c.MaxCalls = 3 }, func(t *testing.T, p *Pool, _ int) {
			for range 3 {
				mustCall(t, p, "echo", "")
			}
		}},
		{ReasonReplaced, func(*Config) {}, func(t *testing.T, p *Pool, _ int) {
			if err := p.Replace(testContext(t)); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(c.reason.String(), func(t *testing.T) {
			f, pids := orphans(t, "waits", 1)
			config := heir(t, f, 1)
			c.change(&config)
			p, j := startPool(t, config)
			j.adopted(t, pids)
			c.end(t, p, pids[0])
			death := j.await(t, "its end", func(e Event) bool { return e.Kind == EventEnded }).Death
			if death.Reason != c.reason || death.PID != pids[0] || death.ExitCode != -1 {
				t.Errorf("death %+v", death)
			}
			f.end()
			mustCall(t, p, "echo", "")
			if started := j.pids(EventStarted); len(started) != 1 || started[0] == pids[0] {
				t.Errorf("events %+v", j.events)
			}
		})
	}
}

// What may not be broken off ends first; Start waits for it.
func TestAWorkerThatDrainsComesBackAfterwards(t *testing.T) {
	f, pids := orphans(t, "drains and waits", 1)
	_, err := Start(context.Background(), Config{Command: command(t, "waits"), Dir: f.dir})
	wantErrors(t, err, []error{ipc.ErrClientRunning})
	brief := heir(t, f, 1)
	brief.Adopt = 20 * time.Millisecond
	_, err = Start(context.Background(), brief)
	wantErrors(t, err, []error{ipc.ErrClientRunning})
	time.AfterFunc(20*time.Millisecond, func() { open(t, f.dir) })
	p, j := startPool(t, heir(t, f, 1))
	if _, err := os.Stat(filepath.Join(f.dir, "finished")); err != nil {
		t.Errorf("Start has not waited: %v", err)
	}
	j.adopted(t, pids)
	mustCall(t, p, "warm", "")
}

// A worker that ends what it has begun keeps the next service out, also under the second
// name of its place.
func TestAWorkerUnderTheSecondNameKeepsTheNextServiceOut(t *testing.T) {
	f, pids := orphans(t, "drains and waits", 1, "TANDEM_TEST_REPLACE=1")
	_, err := Start(context.Background(), Config{Command: command(t, "waits"), Dir: f.dir})
	wantErrors(t, err, []error{ipc.ErrClientRunning})
	open(t, f.dir)
	_, j := startPool(t, heir(t, f, 1))
	j.adopted(t, pids)
}

// One service after the other is killed. The workers are the same at the end.
func TestWorkersOutliveManyServices(t *testing.T) {
	const size, services = 2, 20
	first, pids := orphans(t, "waits", size)
	for range services {
		early := startFormer(t, first.dir, "waits", size, "TANDEM_TEST_ADOPT="+watchdog.String())
		_, err := early.lines.ReadString('\n')
		early.kill() // when it has adopted one of them, and that one does not know it yet
		next := startFormer(t, first.dir, "waits", size, "TANDEM_TEST_ADOPT="+watchdog.String())
		lines := next.atWork(size)
		next.kill()
		if got := pidsOf(lines, "adopted"); !slices.Equal(got, pids) || len(pidsOf(lines, "started")) > 0 {
			t.Errorf("adopted %v, want %v: %q", got, pids, lines)
		}
		if early.end(); err != nil {
			t.Error(err)
		}
		if next.end(); t.Failed() { // it has started nobody
			return
		}
	}
	p, j := startPool(t, heir(t, first, size))
	j.adopted(t, pids)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if said := first.end(); strings.Count(said, "left false <nil>\n") != size {
		t.Errorf("the workers say %q", said)
	}
}

// A service and one of its workers are killed at once, again and again. The next one adopts who
// is left, if that comes back in time, and starts the others. Nobody stays.
func TestServicesAndWorkersThatAreKilledLeaveNobody(t *testing.T) {
	const size, services = 2, 20
	dir, adopted := t.TempDir(), 0
	var all []*former
	for len(all) < services {
		f := startFormer(t, dir, "waits a little", size, "TANDEM_TEST_ADOPT=250ms")
		t.Cleanup(func() { _ = f.reader.Close() })
		lines := f.atWork(size)
		adopted += len(pidsOf(lines, "adopted"))
		endOrphan(pidsOf(lines, "ready")[len(all)%size])
		f.kill()
		all = append(all, f)
	}
	config := heir(t, all[0], size)
	config.Adopt = 5 * time.Second
	p, _ := startPool(t, config)
	mustCall(t, p, "echo", "")
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for _, f := range all {
		f.end()
	}
	if t.Logf("%d were adopted by %d services", adopted, services); adopted == 0 {
		t.Error("nobody was adopted")
	}
}
