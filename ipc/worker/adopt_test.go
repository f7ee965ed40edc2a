//go:build linux && (amd64 || arm64)

package worker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// The former service of these tests is a process that is killed while its workers are at
// work. They and it write to one pipe, whose end is the end of all of them.
var (
	_ = part("former service", func() {
		size, _ := strconv.Atoi(os.Getenv("TANDEM_TEST_SIZE"))
		adopt, _ := time.ParseDuration(os.Getenv("TANDEM_TEST_ADOPT"))
		p, err := Start(context.Background(), Config{
			Outlive: true, Dir: os.Getenv("TANDEM_TEST_DIR"), Size: size, Output: io.Discard, Adopt: adopt,
			StartTimeout: watchdog, HangTimeout: watchdog, Command: func() *exec.Cmd {
				cmd := Self()()
				cmd.Env = append(os.Environ(), partVariable+"="+os.Getenv("TANDEM_TEST_WORKER"))
				cmd.Stdout = os.Stdout // the test's
				return cmd
			},
			OnEvent: func(e Event) { fmt.Printf("%v %d\n", e.Kind, e.PID) },
		})
		if errors.Is(err, ipc.ErrClientRunning) { // the machine is so busy that a worker has not left yet
			leave(syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
		}
		leave(err)
		if os.Getenv("TANDEM_TEST_REPLACE") != "" {
			leave(p.Replace(context.Background()))
			fmt.Println("all replaced")
		}
		call := func(method string) {
			_, err := p.Call(context.Background(), method, []byte(os.Getenv("TANDEM_TEST_DIR")))
			leave(err)
		}
		go call("gate")
		if !strings.HasPrefix(os.Getenv("TANDEM_TEST_WORKER"), "drains") {
			for range size {
				go call("old")
			}
		}
		for n := 0; ; n++ {
			var callers sync.WaitGroup
			for range 3 * size {
				callers.Add(1)
				go func() {
					defer callers.Done()
					call("warm")
				}()
			}
			callers.Wait()
			if n%5 == 4 {
				fmt.Println("under load")
			}
		}
	})
	_ = part("waits", func() { warm(Await(10 * watchdog)) })
	_ = part("waits a little", func() { warm(Await(5 * time.Second)) })
	_ = part("waits briefly", func() { warm(Await(20 * time.Millisecond)) })
	_ = part("drains and waits", func() { warm(Drain(watchdog), Await(watchdog)) })
)

// warm serves with a memory.
func warm(options ...ServeOption) {
	var calls, old atomic.Int64
	handlers := Handlers{
		"warm": func(context.Context, *Request) ([]byte, error) {
			return fmt.Appendf(nil, "%d %d %d", os.Getpid(), calls.Add(1), old.Load()), nil
		},
		// old goes on a little after its end, and answers what no caller of the next service wants.
		"old": func(ctx context.Context, _ *Request) ([]byte, error) {
			old.Add(1)
			defer old.Add(-1)
			<-ctx.Done()
			linger, _ := time.ParseDuration(os.Getenv("TANDEM_TEST_LINGER"))
			<-time.After(linger) // sleep: so that the next service may have come
			return []byte("old"), nil
		},
		"gate": func(ctx context.Context, r *Request) ([]byte, error) {
			fmt.Println("at the gate")
			if err := untilFile(ctx, filepath.Join(string(r.Data), "gate")); err != nil {
				return nil, err
			}
			return nil, os.WriteFile(filepath.Join(string(r.Data), "finished"), nil, 0o600)
		},
	}
	for name, handler := range testHandlers {
		if handlers[name] == nil {
			handlers[name] = handler
		}
	}
	err := Serve(context.Background(), handlers, options...)
	fmt.Println("left", errors.Is(err, ipc.ErrPeerDied), err)
}

// A former is a service that has been killed, or will be.
type former struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	lines  *bufio.Reader
	reader *os.File
}

func startFormer(t *testing.T, dir, worker string, size int, environment ...string) *former {
	t.Helper()
	cmd := command(t, "former service")()
	cmd.Env = append(cmd.Env, "TANDEM_TEST_WORKER="+worker, "TANDEM_TEST_DIR="+dir, fmt.Sprintf("TANDEM_TEST_SIZE=%d", size))
	cmd.Env = append(cmd.Env, environment...)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = writer, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	_ = reader.SetReadDeadline(time.Now().Add(watchdog))
	return &former{t, dir, cmd, bufio.NewReader(reader), reader}
}

// atWork returns the lines until all places serve and are under load, and others are there.
func (f *former) atWork(size int, others ...string) (lines []string) {
	f.t.Helper()
	missing := func(line string) bool { return !slices.Contains(lines, line) }
	for len(pidsOf(lines, "ready")) < size || lines[len(lines)-1] != "under load" || slices.ContainsFunc(others, missing) {
		line, err := f.lines.ReadString('\n')
		if err != nil {
			f.t.Fatalf("%v, after %q", err, lines)
		}
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

func (f *former) kill() {
	_ = f.cmd.Process.Kill()
	_ = f.cmd.Wait()
}

// end returns what is written until nobody is left who can.
func (f *former) end() string {
	f.t.Helper()
	_ = f.reader.SetReadDeadline(time.Now().Add(watchdog))
	rest, err := io.ReadAll(f.lines)
	if err != nil {
		f.t.Errorf("a worker lives: %q, %v", rest, err)
	}
	return string(rest)
}

// pidsOf are the processes of lines such as "ready 12", of each the last that its place had.
func pidsOf(lines []string, kind string) (pids []int) {
	for _, line := range lines {
		if number, found := strings.CutPrefix(line, kind+" "); found {
			pid, _ := strconv.Atoi(number)
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// orphans starts a service, has its workers at work, kills it, and returns the workers' processes.
func orphans(t *testing.T, worker string, size int, environment ...string) (f *former, pids []int) {
	t.Helper()
	f = startFormer(t, t.TempDir(), worker, size, environment...)
	lines := f.atWork(size, "at the gate")
	f.kill()
	pids = pidsOf(lines, "ready")
	if slices.Contains(lines, "all replaced") {
		ended := pidsOf(lines, "ended")
		pids = slices.DeleteFunc(pids, func(pid int) bool { return slices.Contains(ended, pid) })
	}
	t.Cleanup(func() { // whatever has failed, they end
		for _, pid := range pids {
			if t.Failed() {
				endOrphan(pid)
			}
		}
		_ = f.reader.Close()
	})
	return f, pids
}

// endOrphan kills a worker of a test that has failed, if the process is one.
func endOrphan(pid int) {
	environment, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if process, err := os.FindProcess(pid); err == nil && strings.Contains(string(environment), partVariable+"=") {
		_ = process.Kill()
	}
}

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
	wantErrors(t, err, []error{ipc.ErrClientRunning, context.DeadlineExceeded})
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
