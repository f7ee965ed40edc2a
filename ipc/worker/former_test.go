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
