//go:build linux && (amd64 || arm64)

package ipc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A footprint is what a process and a directory hold: descriptors by what they
// name, mappings of shared memory, goroutines, and files.
type footprint map[string]int

// footprintOf looks. The directory of path is looked at too, if path is not
// empty; the lock file and the token file, which stay, do not count.
func footprintOf(path string) footprint {
	found := footprint{"goroutines": runtime.NumGoroutine()}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		// The descriptor of ReadDir itself is gone by now.
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil {
			kind, _, _ := strings.Cut(target, ":[") // sockets and pipes by kind
			if target == os.DevNull && emulated() {
				continue // what tests send where nobody wants it: see cutOffLeaks
			}
			found["descriptor of "+kind]++
		}
	}
	content, _ := os.ReadFile("/proc/self/maps")
	for line := range strings.SplitSeq(string(content), "\n") {
		if fields := strings.Fields(line); len(fields) > 5 && strings.Contains(line, "tandem-") {
			found["mapping of "+fields[5]]++
		}
	}
	if path != "" {
		files, _ := os.ReadDir(filepath.Dir(path))
		for _, file := range files {
			if name := filepath.Join(filepath.Dir(path), file.Name()); name != path+".lock" && name != path+tokenSuffix {
				found["file "+file.Name()]++
			}
		}
	}
	return found
}

// difference lists what is there now and was not before, or the other way round.
func (f footprint) difference(now footprint) string {
	var lines []string
	for _, what := range slices.Sorted(maps.Keys(now)) {
		if now[what] > f[what] {
			lines = append(lines, fmt.Sprintf("%s: %d before, %d now", what, f[what], now[what]))
		}
	}
	return strings.Join(lines, "; ")
}

// A failer is a test, or a process that plays a part.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// nothingLeft waits until no more is there than before.
func nothingLeft(t failer, path string, before footprint) {
	t.Helper()
	for deadline := time.Now().Add(watchdog); ; runtime.Gosched() {
		left := before.difference(footprintOf(path))
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("L8 NoLeak: %s\n%s", left, stacks())
		}
	}
}

// warmUp makes the test process open what the runtime keeps open for good.
func warmUp(t *testing.T, path string) {
	t.Helper()
	server := listenHere(t, path, nil)
	child := start(t, "busy", path)
	child.expect("attached")
	child.kill()
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
}

// busy sends and receives as fast as it can until it is killed.
var _ = part("busy", func(p *player) {
	var path string
	p.arg(&path)
	client, err := Dial(p.ctx, path, nil)
	if err != nil {
		p.fail("dial: %v", err)
	}
	go p.untilStdinEnds()
	p.say("attached")
	go func() {
		for client.Send(p.ctx, 1, make([]byte, 100)) == nil {
		}
	}()
	for m, err := range client.Messages(p.ctx) {
		if err != nil {
			return
		}
		_ = m.Release()
	}
})

func TestL8NoLeakIn200KilledClients(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	warmUp(t, path)
	server := listenHere(t, path, nil)
	nothing := footprintOf(path)
	sending, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for server.Send(sending, 1, make([]byte, 100)) == nil {
		}
	}()
	received := make(chan error, 1)
	var count atomic.Uint64
	go func() {
		buffer := make([]byte, 100)
		for {
			_, err := server.ReceiveInto(sending, buffer)
			if err != nil && !errors.Is(err, ErrPeerDied) {
				received <- err
				return
			}
			count.Add(1)
		}
	}()
	const rounds = 200
	for i := range rounds {
		name := "idle"
		if i%2 == 0 {
			name = "busy"
		}
		child := start(t, name, path)
		child.expect("attached")
		nextEvent(t, server, EventAttached)
		if before := count.Load(); i%4 == 0 { // in the middle of traffic, and at its beginning
			eventually(t, "messages come", func() bool { return count.Load() >= before+100 })
		}
		_ = child.cmd.Process.Kill()
		nextEvent(t, server, EventDied)
		child.kill()
	}
	stop()
	<-stopped
	if err := <-received; !errors.Is(err, context.Canceled) {
		t.Fatalf("Receive ended with %v, want only the end of its context and of the clients", err)
	}
	if got := server.Stats(); got.Deaths != rounds || got.Attachments != rounds {
		t.Fatalf("%d attachments and %d deaths counted, want %d of each", got.Attachments, got.Deaths, rounds)
	}
	nothingLeft(t, path, nothing)
}

// idle attaches and does nothing.
var _ = part("idle", func(p *player) {
	var path string
	p.arg(&path)
	if _, err := Dial(p.ctx, path, nil); err != nil {
		p.fail("dial: %v", err)
	}
	p.say("attached")
	p.untilStdinEnds()
})

// A server that sends and receives as fast as it can until it is killed.
var _ = part("busy server", func(p *player) {
	var path string
	p.arg(&path)
	server, err := Listen(p.ctx, path, &Options{Wait: true})
	if err != nil {
		p.fail("listen: %v", err)
	}
	p.say("listening")
	go p.untilStdinEnds()
	go func() {
		for server.Send(p.ctx, 1, make([]byte, 100)) == nil {
		}
	}()
	for m, err := range server.Messages(p.ctx) {
		if err != nil {
			return
		}
		_ = m.Release()
	}
})

func TestL8NoLeakIn200KilledServers(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	warmUp(t, path)
	nothing, space := footprintOf(path), addressSpace(t)
	var client *Endpoint
	const rounds = 200
	for i := range rounds {
		server := start(t, "busy server", path)
		var err error
		if client == nil {
			server.expect("listening")
			client, err = Dial(ctx, path, nil)
		} else {
			client, err = client.Redial(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 { // in the middle of traffic, both ways
			for range 10 {
				if err := client.Send(ctx, 1, make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
				if _, err := client.ReceiveInto(ctx, make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = server.cmd.Process.Kill()
		buffer := make([]byte, 100)
		for err == nil {
			_, err = client.ReceiveInto(ctx, buffer)
		}
		if !errors.Is(err, ErrPeerDied) {
			t.Fatalf("round %d: %v, want the end of a server that died", i, err)
		}
		server.kill()
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(path) // the last server's, stale: the next Listen would remove it
	nothingLeft(t, path, nothing)
	if grown := addressSpace(t) - space; grown > rounds<<20 { // both memories take more than four times that
		t.Errorf("L8 NoLeak: %d MiB of address space after %d servers", grown>>20, rounds)
	}
}

// addressSpace is how much of it this process has taken, in bytes: what is detached
// and not unmapped has no name among the mappings.
func addressSpace(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

func TestL8NoLeakIn50ServersAndTheirClients(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	warmUp(t, path)
	nothing := footprintOf(path)
	for i := range 50 {
		server, err := Listen(ctx, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		client, err := Dial(ctx, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Send(ctx, 1, []byte("one")); err != nil {
			t.Fatal(err)
		}
		if _, err := server.ReceiveInto(ctx, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		first, second := client, server
		if i%2 == 0 {
			first, second = server, client
		}
		go func() { _ = first.Close() }() // a server waits for its client
		if first == server {
			<-client.Done()
		}
		if err := second.Close(); err != nil {
			t.Fatalf("round %d: close: %v", i, err)
		}
		if err := first.Close(); err != nil {
			t.Fatalf("round %d: close: %v", i, err)
		}
	}
	nothingLeft(t, path, nothing)
}

func TestL8NoLeakInListenAndDialThatFail(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	warmUp(t, path)
	nothing := footprintOf(path)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for range 50 {
		if _, err := Dial(ended, path, nil); !errors.Is(err, context.Canceled) {
			t.Fatalf("dial without a server: %v", err)
		}
	}
	nothingLeft(t, path, nothing)
	server := listenHere(t, path, nil)
	client := dialHere(t, path, nil)
	nextEvent(t, server, EventAttached)
	both := footprintOf(path)
	for range 50 {
		if _, err := Listen(ctx, path, nil); !errors.Is(err, ErrServerRunning) {
			t.Fatalf("second server: %v", err)
		}
		if _, err := Dial(ctx, path, nil); !errors.Is(err, ErrClientRunning) {
			t.Fatalf("second client: %v", err)
		}
		if _, err := Dial(ended, path, &Options{Wait: true}); !errors.Is(err, context.Canceled) {
			t.Fatalf("second client whose context has ended: %v", err)
		}
	}
	nothingLeft(t, path, both)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, path, nothing)
}

func TestL8NoLeakOfViewsAndReservationsHeldAcrossClose(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	warmUp(t, path)
	nothing := footprintOf(path)
	for round := range 20 {
		server, client := listenHere(t, path, nil), dialHere(t, path, nil)
		ends := [2]*Endpoint{server, client}
		var views [2][]Message
		var claims [2]Reservation
		for i, e := range ends {
			for kind := range uint32(3) {
				if err := e.Send(ctx, kind, pattern(kind)); err != nil {
					t.Fatal(err)
				}
			}
			reservation, err := e.Reserve(ctx, 64)
			if err != nil {
				t.Fatal(err)
			}
			claims[i] = reservation
		}
		for i, e := range ends {
			for range 3 {
				m, err := e.Receive(ctx)
				if err != nil {
					t.Fatal(err)
				}
				views[i] = append(views[i], m)
			}
		}
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range ends {
			copy(claims[i].Data, "goes nowhere")
			end := claims[i].Abort
			if round%2 == 0 {
				end = func() error { return claims[i].Commit(1, 12) }
			}
			if err := end(); !errors.Is(err, ErrClosed) {
				t.Fatalf("the end of a reservation behind Close: %v, want ErrClosed", err)
			}
			if err := end(); !errors.Is(err, ErrReleased) {
				t.Fatalf("the second end of a reservation: %v, want ErrReleased", err)
			}
			for _, k := range []int{1, 2, 0} { // in any order
				if err := checkPattern(views[i][k]); err != nil {
					t.Fatalf("a view held across Close: %v", err)
				}
				if err := views[i][k].Release(); !errors.Is(err, ErrClosed) {
					t.Fatalf("release behind Close: %v, want ErrClosed", err)
				}
				if err := views[i][k].Release(); !errors.Is(err, ErrReleased) {
					t.Fatalf("second release behind Close: %v, want ErrReleased", err)
				}
			}
		}
	}
	nothingLeft(t, path, nothing)
}

// frozenVariable tells the next test that it is run by itself, to be killed, and
// has a path for its process to wait at.
const frozenVariable = "TANDEM_TEST_FROZEN"

func TestNoStoppedProcessOutlivesItsTest(t *testing.T) {
	const said = "stopped: "
	if path := os.Getenv(frozenVariable); path != "" {
		p := start(t, "idle", path)
		p.signal(syscall.SIGSTOP)
		p.awaitStopped()
		fmt.Println(said + strconv.Itoa(p.cmd.Process.Pid))
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	test := exec.CommandContext(testContext(t), "/proc/self/exe", "-test.run=^"+t.Name()+"$")
	test.Env = append(os.Environ(), frozenVariable+"="+testPath(t))
	stdin, err := test.StdinPipe() // its end ends the test, should this one be killed
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := test.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := test.Start(); err != nil {
		t.Fatal(err)
	}
	pid, lines := 0, bufio.NewScanner(stdout)
	for pid == 0 && lines.Scan() {
		if number, found := strings.CutPrefix(lines.Text(), said); found {
			pid, _ = strconv.Atoi(number)
		}
	}
	child, err := unix.PidfdOpen(pid, 0)
	_ = test.Process.Kill()
	_ = test.Wait()
	if err != nil {
		t.Fatalf("the process %d of the test: %v", pid, err)
	}
	defer unix.Close(child)
	defer unix.PidfdSendSignal(child, unix.SIGKILL, nil, 0)
	eventually(t, "a stopped process ends with its test", func() bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(child), Events: unix.POLLIN}}, 1)
		return n == 1 && err == nil
	})
}
