//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// The rules C1-C10 and W1-W9 of docs/DESIGN.md, where no test of the contract
// shows them already. chaos/mutants_test.go leaves each rule out and sees a test
// fail.

// patient never looks again by itself, so that a lost wake-up is for ever.
var patient = actorOptions{HeartbeatInterval: time.Hour, HangTimeout: 3 * time.Hour, Spin: NoSpin}

func patientOptions() *Options { return patient.options(nil) }

func TestC1AClientCannotWriteAnyMoreWhenItsTokenIsFree(t *testing.T) {
	path := testPath(t)
	listenHere(t, path, nil)
	client := startActor(t, actorArgument{Path: path, DieAt: step.TokenClosed.String(), Signal: syscall.SIGSTOP})
	client.ask("attached", "dial")
	maps := fmt.Sprintf("/proc/%d/maps", client.cmd.Process.Pid)
	if !strings.Contains(readFile(t, maps), "tandem-client") {
		t.Fatal("an attached client has no mapping of its memory: the check is blind")
	}
	client.tell("close")
	eventually(t, "the client stops behind its token", func() bool {
		return strings.Contains(readFile(t, fmt.Sprintf("/proc/%d/status", client.cmd.Process.Pid)), "State:\tT")
	})
	for line := range strings.Lines(readFile(t, maps)) {
		if strings.Contains(line, "tandem-client") {
			t.Errorf("the token is free, and the client still maps %s", line)
		}
	}
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestC2AClosingServerHoldsItsLockUntilTheClientIsGone(t *testing.T) {
	path := testPath(t)
	waiting := make(chan struct{})
	server := listenHere(t, path, &Options{CloseTimeout: watchdog, hook: func(at step.ID, _ uint64) {
		if at == step.ConnectionClosed {
			close(waiting)
		}
	}})
	client := startActor(t, actorArgument{Path: path})
	client.ask("attached", "dial")
	client.signal(syscall.SIGSTOP)
	closed := make(chan error)
	go func() { closed <- server.Close() }()
	<-waiting
	if _, err := Listen(testContext(t), path, nil); !errors.Is(err, ErrServerRunning) {
		t.Errorf("Listen beside a closing server: %v", err)
	}
	client.kill()
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestC3ANewcomerWaitsWhileTheFormerClientEnds(t *testing.T) {
	path := testPath(t)
	var beats atomic.Uint64
	listening := listenHere(t, path, &Options{HeartbeatInterval: quick.HeartbeatInterval, hook: func(at step.ID, _ uint64) {
		if at == step.Beaten {
			beats.Add(1)
		}
	}})
	former := dialHere(t, path, nil)
	nextEvent(t, listening, EventAttached)
	// The kernel closes socket and token of a dying process in either order;
	// here the socket comes first.
	former.closing.Store(true) // it is to notice nothing itself
	if err := unix.Shutdown(former.life.(*client).conn.fd, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	newcomer := make(chan error, 1)
	go func() {
		e, err := Dial(testContext(t), path, nil)
		if err == nil {
			err = e.Close()
		}
		newcomer <- err
	}()
	// Its hello is read while the token is taken. Then the token goes.
	current := listening.life.(*server)
	eventually(t, "the newcomer waits for the token", func() bool {
		if current.admission.TryLock() {
			current.admission.Unlock()
			return false
		}
		return true
	})
	// It goes on waiting: a refusal would come at once.
	enough := beats.Load() + 10
	eventually(t, "ten beats", func() bool { return beats.Load() >= enough })
	select {
	case err := <-newcomer:
		t.Fatalf("the newcomer did not wait: %v", err)
	default:
	}
	former.closing.Store(false)
	if err := former.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-newcomer; err != nil {
		t.Errorf("the newcomer: %v", err)
	}
}

func TestC4ADeletedLockFileAdmitsNoSecondClient(t *testing.T) {
	for _, before := range []bool{true, false} { // the first client, or after it
		path := testPath(t)
		listenHere(t, path, nil)
		if before {
			remove(t, path+".lock")
			remove(t, path+tokenSuffix)
		}
		dialHere(t, path, nil)
		if !before {
			remove(t, path+".lock")
			remove(t, path+tokenSuffix)
		}
		if _, err := Dial(testContext(t), path, nil); !errors.Is(err, ErrClientRunning) {
			t.Errorf("a second client after the lock file was deleted: %v", err)
		}
	}
}

func remove(t testing.TB, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func TestC5ADeletedLockFileIsNoticed(t *testing.T) {
	path := testPath(t)
	_, err := Listen(testContext(t), path, &Options{hook: func(at step.ID, _ uint64) {
		if at == step.SocketListening {
			_ = os.Remove(path + ".lock")
		}
	}})
	if err == nil {
		t.Error("Listen succeeds on a lock file that is no longer there")
	}
	server := listenHere(t, path, nil)
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(testContext(t), path, nil); !errors.Is(err, ErrServerRunning) {
		t.Errorf("Listen over a live server's socket: %v", err)
	}
	dialHere(t, path, nil) // the first server's path is untouched
	nextEvent(t, server, EventAttached)
}

func TestC5AServerNoticesThatItsPathIsLost(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, quickOptions())
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	nextEvent(t, server, EventPathLost)
	if err := os.WriteFile(path, []byte("somebody else's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, path); got != "somebody else's" {
		t.Errorf("Close removed what it did not make: %q", got)
	}
}

func TestC10NothingIsInherited(t *testing.T) {
	leaked := map[string]string{} // by other tests, under an emulator: see cutOffLeaks
	if entries, _ := os.ReadDir("/proc/self/fd"); emulated() {
		for _, entry := range entries {
			leaked[entry.Name()], _ = os.Readlink("/proc/self/fd/" + entry.Name())
		}
	}
	server, _ := pair(t, nil, nil)
	_ = server
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, entry := range entries {
		target, _ := os.Readlink("/proc/self/fd/" + entry.Name())
		if target == leaked[entry.Name()] || !strings.Contains(target, "memfd:tandem") && !strings.HasSuffix(target, ".lock") && !strings.Contains(target, tokenSuffix) && !strings.HasPrefix(target, "socket:") {
			continue
		}
		seen++
		var fd int
		fmt.Sscan(entry.Name(), &fd)
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d (%s) would be inherited", fd, target)
		}
	}
	if seen < 6 { // two memories, lock file, token, sockets
		t.Errorf("only %d descriptors are ours: the check is blind", seen)
	}
	mappings := 0
	ours := false
	for line := range strings.Lines(readFile(t, "/proc/self/smaps")) {
		if strings.Contains(line, "-") && strings.Contains(strings.Fields(line)[0], "-") {
			ours = strings.Contains(line, "memfd:tandem")
		}
		if flags, found := strings.CutPrefix(line, "VmFlags:"); found && ours {
			mappings++
			if !strings.Contains(flags, " dc") && !emulated() { // qemu-user passes on no MADV_DONTFORK
				t.Errorf("a mapping of shared memory would be copied by fork: %s", flags)
			}
		}
	}
	if mappings < 8 { // two segments, two views, two sides
		t.Errorf("only %d mappings are ours: the check is blind", mappings)
	}
}

func TestW1W2NoWakeUpIsLostBetweenTwoProcesses(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	options := patientOptions()
	options.ToServerSize, options.ToClientSize = os.Getpagesize(), os.Getpagesize()
	server := listenHere(t, path, options)
	echo := start(t, "patient echo", path)
	echo.expect("attached")
	buffer := make([]byte, 512)
	for i := range uint32(3000) { // one at a time: both sleep all the time
		if err := server.Send(ctx, i, pattern(i)); err != nil {
			t.Fatal(err)
		}
		if m, err := server.ReceiveInto(ctx, buffer); err != nil || m.Kind != i {
			t.Fatalf("answer %d: %+v, %v", i, m, err)
		}
	}
	var group sync.WaitGroup
	group.Add(1)
	go func() { // a stream: both rings fill and drain
		defer group.Done()
		for i := range uint32(20000) {
			if err := server.Send(ctx, i, pattern(i)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i := range uint32(20000) {
		if m, err := server.ReceiveInto(ctx, buffer); err != nil || m.Kind != i {
			t.Fatalf("streamed answer %d: %+v, %v", i, m, err)
		}
	}
	group.Wait()
	sleptThrough(t, ctx)
}

// sleptThrough fails a test in which only the watchdog has ended a sleep.
func sleptThrough(t *testing.T, ctx context.Context) {
	t.Helper()
	if ctx.Err() != nil {
		t.Error("M7 NoStuckWaiter: a wake-up was lost: the watchdog has ended the sleep")
	}
}

var _ = part("patient echo", func(p *player) {
	var path string
	p.arg(&path)
	client, err := Dial(p.ctx, path, patientOptions())
	if err != nil {
		p.fail("dial: %v", err)
	}
	go p.untilStdinEnds()
	p.say("attached")
	for m, err := range client.Messages(p.ctx) {
		if err != nil {
			return
		}
		if client.Send(p.ctx, m.Kind, m.Data) != nil || m.Release() != nil {
			return
		}
	}
})

// An interruptingContext interrupts the endpoint while its error is looked at,
// and is found cancelled by every later look.
type interruptingContext struct {
	context.Context
	interrupt func()
	cancelled bool
}

func (c *interruptingContext) Err() error {
	if c.cancelled {
		return context.Canceled
	}
	c.cancelled = true // the flag, and then the interrupt (W3)
	c.interrupt()
	return nil
}

func TestW2W3AnInterruptBetweenTheFlagsAndTheSleepIsNotSleptThrough(t *testing.T) {
	server, _ := pair(t, patientOptions(), patientOptions())
	watched := testContext(t)
	ctx := &interruptingContext{Context: watched, interrupt: server.bell.interrupt}
	if _, err := server.Receive(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Receive: %v", err)
	}
	sleptThrough(t, watched)
}

func TestW2APositionThatMovesBeforeTheSleepIsNotSleptThrough(t *testing.T) {
	path := testPath(t)
	var client *Endpoint
	var once sync.Once
	options := patientOptions()
	options.hook = func(at step.ID, _ uint64) {
		if at == step.Sleeping { // the look is over, the sleep has not begun
			once.Do(func() {
				// As a committer that has looked at the waiting word too early.
				client.own.control.dataWaitFor.Load()
				client.out.fill(1, pattern(1))
				client.out.writePos.set(client.out.filled)
				client.own.control.writePos.Store(client.out.filled)
			})
		}
	}
	server := listenHere(t, path, options)
	client = dialHere(t, path, patientOptions())
	ctx := testContext(t)
	if m, err := server.Receive(ctx); err != nil || m.Kind != 1 {
		t.Errorf("Receive: %+v, %v", m, err)
	}
	sleptThrough(t, ctx)
}

func TestW3ADeathInterruptsTheServersWaiters(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, patientOptions())
	client := startActor(t, actorArgument{Path: path, Options: patient})
	client.ask("attached", "dial")
	end, ctx := make(chan error), testContext(t)
	go func() { _, err := server.Receive(ctx); end <- err }()
	eventually(t, "the server sleeps", func() bool { return server.bell.sleeps.Load() > 0 })
	client.kill()
	if err := <-end; !errors.Is(err, ErrPeerDied) {
		t.Errorf("Receive: %v", err)
	}
	sleptThrough(t, ctx)
}

func TestW5AFreezeBetweenPublishAndWakeIsOutlived(t *testing.T) {
	for range 5 { // a signal of the run time can end a sleep as well
		freezeBetweenPublishAndWake(t)
	}
}

func freezeBetweenPublishAndWake(t *testing.T) {
	t.Helper()
	path := testPath(t)
	// A hang is far away: it would interrupt the sleep too.
	var beats atomic.Uint64
	server := listenHere(t, path, &Options{HeartbeatInterval: quick.HeartbeatInterval, HangTimeout: time.Hour, Spin: NoSpin,
		hook: func(at step.ID, _ uint64) {
			if at == step.Beaten {
				beats.Add(1)
			}
		}})
	client := startActor(t, actorArgument{Path: path, Options: quick})
	client.ask("attached", "dial")
	got, ctx := make(chan Message), testContext(t)
	go func() {
		m, err := server.Receive(ctx)
		if err != nil {
			t.Errorf("Receive: %v", err)
		}
		got <- m
	}()
	eventually(t, "the server sleeps", func() bool { return server.bell.sleeps.Load() > 0 })
	// It counts before it sleeps: let it come there.
	enough := beats.Load() + 10
	eventually(t, "ten beats", func() bool { return beats.Load() >= enough })
	client.ask("armed", fmt.Sprintf("arm %v 1 %d", step.Published, syscall.SIGSTOP))
	client.tell("send 1")
	if m := <-got; m.Kind != 1 {
		t.Errorf("message %+v", m)
	}
	sleptThrough(t, ctx)
}

func TestW8ABatchLargerThanTheRingIsPublishedBeforeItWaits(t *testing.T) {
	options := patientOptions()
	options.ToClientSize = os.Getpagesize()
	server, client := pair(t, options, patientOptions())
	const count = 2000
	sent, ctx := make(chan error), testContext(t)
	go func() {
		batch := make([]Message, count)
		for i := range batch {
			batch[i] = Message{Kind: uint32(i), Data: pattern(uint32(i))}
		}
		_, err := server.SendBatch(ctx, batch)
		sent <- err
	}()
	buffer := make([]byte, 512)
	for i := range uint32(count) {
		m, err := client.ReceiveInto(ctx, buffer)
		if err != nil || m.Kind != i || checkPattern(m) != nil {
			t.Fatalf("message %d: %+v, %v", i, m, err)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	sleptThrough(t, ctx)
}

func TestW8AReceiverThatHoldsAllTheSpaceIsTold(t *testing.T) {
	page := os.Getpagesize()
	server, client := pair(t, &Options{ToClientSize: page}, nil)
	ctx := testContext(t)
	if err := server.Send(ctx, 1, make([]byte, page/2)); err != nil {
		t.Fatal(err)
	}
	m, err := client.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error)
	go func() { sent <- server.Send(ctx, 2, make([]byte, page-headerSize)) }()
	if _, err := client.Receive(ctx); !errors.Is(err, ErrViewsHeld) {
		t.Errorf("Receive while its own view blocks the sender: %v", err)
	}
	if err := m.Release(); err != nil {
		t.Fatal(err)
	}
	if m, err := client.Receive(ctx); err != nil || m.Kind != 2 {
		t.Errorf("after the release: %+v, %v", m, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// The litmus test of two processors that each store, and then look at what the other
// has stored: one of them must see it. Without the fence neither does, in one round of
// a hundred to ten thousand.
func TestW4AStoreIsSeenBeforeTheLoadBehindIt(t *testing.T) {
	one, two, err := allowedProcessors()
	if err != nil {
		t.Fatal(err)
	}
	if one == two || runtime.GOMAXPROCS(0) == 1 {
		t.Skip("needs two processors at a time")
	}
	mem, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	const rounds, chunk = 500_000, 1000
	for started, round := time.Now(), uint64(0); round < rounds && time.Since(started) < 5*time.Second; round += chunk {
		if missed := storeAndLook(mem, one, two, round, chunk); missed > 0 {
			t.Fatalf("in %d of %d rounds neither saw the other's store", missed, chunk)
		}
	}
}

// storeAndLook plays rounds from first on, and returns in how many of them neither
// side saw the other's store.
func storeAndLook(mem []byte, processor, another int, first, rounds uint64) int {
	there := wordAt(mem, 16*cacheLine) // how often either has come to the start of a round
	play := func(processor int, own, other *atomic.Uint64, to chan<- []bool) {
		runtime.LockOSThread() // for good: the thread ends with its goroutine
		var on unix.CPUSet
		on.Set(processor)
		_ = unix.SchedSetaffinity(0, &on) // without, less is seen
		saw := make([]bool, rounds)
		for i := range rounds {
			there.Add(1)
			for there.Load() < 2*(first+i+1) {
			}
			storeFenced(own, first+i+1)
			saw[i] = other.Load() == first+i+1
		}
		to <- saw
	}
	one, two := wordAt(mem, 0), wordAt(mem, 8*cacheLine)
	mine, theirs := make(chan []bool), make(chan []bool)
	go play(processor, one, two, mine)
	go play(another, two, one, theirs)
	missed, others := 0, <-theirs
	for i, saw := range <-mine {
		if !saw && !others[i] {
			missed++
		}
	}
	return missed
}
