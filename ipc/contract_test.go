//go:build linux && (amd64 || arm64)

package ipc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// The contract's names, one test or more for each, beside the crash tables.

// quick has a short heartbeat, for tests of silence.
var quick = actorOptions{HeartbeatInterval: 5 * time.Millisecond, HangTimeout: 50 * time.Millisecond}

func quickOptions() *Options { return quick.options(nil) }

func TestL1SingleServerAndItIsNamed(t *testing.T) {
	path := testPath(t)
	first := startActor(t, actorArgument{Path: path})
	first.ask("listening 1", "listen")
	_, err := Listen(testContext(t), path, nil)
	var running *RunningError
	if !errors.Is(err, ErrServerRunning) || !errors.As(err, &running) || running.PID != first.cmd.Process.Pid {
		t.Fatalf("a second Listen: %v; want %v naming process %d", err, ErrServerRunning, first.cmd.Process.Pid)
	}
	checkNextClientOf(t, first, path) // and the first is none the worse for it
	first.kill()
	listenHere(t, path, nil)
}

// checkNextClientOf sees that a server in another process still serves.
func checkNextClientOf(t *testing.T, server *process, path string) {
	t.Helper()
	client := dialHere(t, path, nil)
	sendAll(t, client, 1)
	server.ask("got 1", "receive")
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestL1OfManyServersAtOnceExactlyOneStarts(t *testing.T) {
	for range 10 {
		path := testPath(t)
		var group sync.WaitGroup
		var started atomic.Int32
		endpoints := make([]*Endpoint, 8)
		for i := range endpoints {
			group.Add(1)
			go func() {
				defer group.Done()
				e, err := Listen(testContext(t), path, nil)
				if err == nil {
					started.Add(1)
				} else if !errors.Is(err, ErrServerRunning) {
					t.Errorf("Listen: %v", err)
				}
				endpoints[i] = e
			}()
		}
		group.Wait()
		if started.Load() != 1 {
			t.Fatalf("L1 SingleServer: %d servers started at once", started.Load())
		}
		for _, e := range endpoints {
			if e != nil {
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestL2SingleClientAndItIsNamed(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, nil)
	first := startActor(t, actorArgument{Path: path})
	first.ask("attached 1 1", "dial")
	_, err := Dial(testContext(t), path, nil)
	var running *RunningError
	if !errors.Is(err, ErrClientRunning) || !errors.As(err, &running) || running.PID != first.cmd.Process.Pid {
		t.Fatalf("a second Dial: %v; want %v naming process %d", err, ErrClientRunning, first.cmd.Process.Pid)
	}
	first.ask("sent 1", "send 1")
	m, err := server.Receive(testContext(t))
	if err != nil || m.Kind != 1 {
		t.Fatalf("from the first client: %+v, %v", m, err)
	}
}

func TestL2AWaitingClientFollowsTheFirst(t *testing.T) {
	path := testPath(t)
	listenHere(t, path, nil)
	first := startActor(t, actorArgument{Path: path})
	first.ask("attached 1 1", "dial")
	second := startActor(t, actorArgument{Path: path, Options: actorOptions{Wait: true}})
	second.tell("dial")
	first.kill()
	second.expect("attached 1 2")
}

func TestL3C6NoServerStartsWhileAClientOutlivesItsServer(t *testing.T) {
	path := testPath(t)
	server := startActor(t, actorArgument{Path: path})
	server.ask("listening 1", "listen")
	orphan := startActor(t, actorArgument{Path: path})
	orphan.ask("attached", "dial")
	orphan.signal(syscall.SIGSTOP)
	server.kill()

	_, err := Listen(testContext(t), path, nil)
	var running *RunningError
	if !errors.Is(err, ErrClientRunning) || !errors.As(err, &running) || running.PID != orphan.cmd.Process.Pid {
		t.Fatalf("L3 BothRestart: Listen beside a frozen orphan: %v; want %v naming process %d", err, ErrClientRunning, orphan.cmd.Process.Pid)
	}
	short, cancel := context.WithTimeout(testContext(t), time.Millisecond)
	defer cancel()
	if _, err := Listen(short, path, &Options{Wait: true}); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrClientRunning) {
		t.Fatalf("Listen that waits: %v; want both the deadline and its cause", err)
	}
	// Told to, Listen kills the orphan, and only then starts.
	next := listenHere(t, path, &Options{KillOrphan: true, CloseTimeout: time.Millisecond})
	if signal := orphan.wait(); signal != syscall.SIGKILL {
		t.Errorf("the orphan ended with signal %v", signal)
	}
	checkNextClient(t, next, path)
}

func TestL3AServerWaitsForTheOldClientToDrain(t *testing.T) {
	path := testPath(t)
	old := startActor(t, actorArgument{Path: path})
	old.ask("listening 1", "listen")
	client := dialHere(t, path, nil)
	old.ask("sent 3", "send 1 2 3")
	old.kill()
	next := startActor(t, actorArgument{Path: path, Options: actorOptions{Wait: true}})
	next.tell("listen")
	if got, end := receiveAll(t, client); got != "1 2 3" || !errors.Is(end, ErrPeerDied) {
		t.Fatalf("M5 Drain: received %q, then %v", got, end)
	}
	select {
	case line := <-next.lines:
		t.Fatalf("L3 BothRestart: a server started while the old client lives: %s", line)
	default:
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	next.expect("listening 2")
}

func TestL4NothingOfAnOlderGenerationIsSeen(t *testing.T) {
	path := testPath(t)
	for generation := uint64(1); generation <= 5; generation++ {
		server := startActor(t, actorArgument{Path: path})
		server.ask(fmt.Sprintf("listening %d", generation), "listen")
		client := startActor(t, actorArgument{Path: path})
		client.ask("attached", "dial")
		// Each leaves messages behind that nobody has received.
		kind := int(generation) * 10
		server.ask("sent 2", fmt.Sprintf("send %d %d", kind, kind+1))
		client.ask("sent 2", fmt.Sprintf("send %d %d", kind+2, kind+3))
		client.ask(fmt.Sprintf("got %d", kind), "receive")
		server.ask(fmt.Sprintf("got %d", kind+2), "receive")
		server.kill()
		client.kill()
	}
}

func TestL4NothingIsSeenOfAGenerationThatDiedAtAnyStep(t *testing.T) {
	for _, row := range []struct {
		at step.ID
		do string // what the victim dies of
	}{
		{step.Filled, "send 7"}, {step.Sealed, "send 7"}, {step.Published, "send 7"},
		{step.Delivered, "receive"}, {step.Released, "receive\nrelease"},
	} {
		for _, victim := range []Role{RoleServer, RoleClient} {
			t.Run(fmt.Sprintf("%v of the %v", row.at, victim), func(t *testing.T) {
				path := testPath(t)
				server := startActor(t, actorArgument{Path: path})
				server.ask("listening 1", "listen")
				client := startActor(t, actorArgument{Path: path})
				client.ask("attached 1 1", "dial")
				server.ask("sent 2", "send 1 2")
				client.ask("sent 2", "send 3 4")
				dies, lives := server, client
				if victim == RoleClient {
					dies, lives = client, server
				}
				dies.ask("armed", fmt.Sprintf("arm %v 1 9", row.at))
				ringCrash{do: row.do}.perform(dies)
				dies.awaitDeath()
				lives.kill()
				checkNothingIsSeen(t, path)
			})
		}
	}
}

// checkNothingIsSeen starts the next generation, which begins empty in both
// directions and then exchanges its own messages only.
func checkNothingIsSeen(t *testing.T, path string) {
	t.Helper()
	server := listenHere(t, path, nil)
	client := dialHere(t, path, nil)
	nextEvent(t, server, EventAttached)
	ends := []*Endpoint{server, client}
	for i, e := range ends {
		if e.Generation() != 2 || e.Attachment() != 1 {
			t.Errorf("generation %d, attachment %d; want 2, 1", e.Generation(), e.Attachment())
		}
		if m, err := e.TryReceive(); !errors.Is(err, ErrEmpty) {
			t.Errorf("L4 NoGhost: the new %v receives %+v, %v", e.Role(), m, err)
		}
		if got := unreleased(t, e); got != "" {
			t.Errorf("L4 NoGhost: the new %v has %q to account for", e.Role(), got)
		}
		sendAll(t, ends[1-i], uint32(70+i))
		if m, err := e.Receive(testContext(t)); err != nil || m.Kind != uint32(70+i) || m.Redelivered || m.Release() != nil {
			t.Errorf("L4 NoGhost: the new %v receives %+v, %v; want %d", e.Role(), m, err, 70+i)
		}
		if m, err := e.TryReceive(); !errors.Is(err, ErrEmpty) {
			t.Errorf("L4 NoGhost: then the new %v receives %+v, %v", e.Role(), m, err)
		}
	}
}

func TestL5L6AStoppedPeerIsHungAndNotDead(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, quickOptions())
	client := startActor(t, actorArgument{Path: path, Options: quick})
	client.ask("attached", "dial")
	nextEvent(t, server, EventAttached)
	awaitState(t, server, PeerAttached) // a starved one may be hung before it is ready
	for range 3 {
		client.signal(syscall.SIGSTOP)
		client.awaitStopped()
		awaitState(t, server, PeerHung)
		nextEvent(t, server, EventHung)
		if _, err := Dial(testContext(t), path, nil); !errors.Is(err, ErrClientRunning) {
			t.Errorf("L2 SingleClient: Dial beside a stopped client: %v", err)
		}
		client.signal(syscall.SIGCONT)
		awaitState(t, server, PeerAttached)
		nextEvent(t, server, EventRecovered)
	}
	sendAll(t, server, 1)
	client.ask("got 1", "receive")
	// A client sees the same of its server.
	client.ask("event attached", "event")
}

// hear judges a tick, however often another goroutine has the lock just then: the
// endpoint itself would make it up at its next tick.
func (s *silence) hear(e *Endpoint, tick time.Duration) {
	for e.judge(s, tick); s.owed != 0; e.judge(s, 0) {
		runtime.Gosched()
	}
}

func TestL6SilenceBecomesAHangAtItsTimeoutAndNotBefore(t *testing.T) {
	server, client := pair(t, patientOptions(), patientOptions()) // nobody else judges
	nextEvent(t, server, EventAttached)
	// Each beats once when it begins, and not again.
	eventually(t, "the client's first beat", func() bool { return client.own.control.beat.Load() == 1 })
	var s silence
	tick := server.hangTimeout / 10
	s.hear(server, tick) // sees the beat
	for range 9 {
		s.hear(server, tick)
	}
	if server.Peer().State != PeerAttached {
		t.Errorf("called hung after nine tenths of the timeout")
	}
	s.hear(server, tick)
	if server.Peer().State != PeerHung {
		t.Errorf("not called hung after the timeout")
	}
	nextEvent(t, server, EventHung)
	client.own.control.beat.Add(1)
	s.hear(server, tick)
	if server.Peer().State != PeerAttached {
		t.Errorf("still called hung after a beat")
	}
	nextEvent(t, server, EventRecovered)
}

func TestL5L6AStoppedServerIsHungAndNotDead(t *testing.T) {
	path := testPath(t)
	server := startActor(t, actorArgument{Path: path, Options: quick})
	server.ask("listening", "listen")
	client := dialHere(t, path, quickOptions())
	nextEvent(t, client, EventAttached)
	server.signal(syscall.SIGSTOP)
	server.awaitStopped()
	awaitState(t, client, PeerHung)
	nextEvent(t, client, EventHung)
	if err := client.Err(); err != nil {
		t.Errorf("L5 TrueVerdict: silence ended the endpoint: %v", err)
	}
	server.signal(syscall.SIGCONT)
	awaitState(t, client, PeerAttached)
	nextEvent(t, client, EventRecovered)
	server.ask("sent 1", "send 1")
	if m, err := client.Receive(testContext(t)); err != nil || m.Kind != 1 {
		t.Errorf("from the resumed server: %+v, %v", m, err)
	}
}

func TestL5AWaitForAHungPeerEndsOnlyIfAskedTo(t *testing.T) {
	path := testPath(t)
	options := quickOptions()
	options.FailOnHang = true
	server := listenHere(t, path, options)
	client := startActor(t, actorArgument{Path: path, Options: quick})
	client.ask("attached", "dial")
	client.signal(syscall.SIGSTOP)
	if _, err := server.Receive(testContext(t)); !errors.Is(err, ErrPeerHung) {
		t.Fatalf("Receive from a hung client: %v", err)
	}
	if err := server.KillPeer(); err != nil {
		t.Fatal(err)
	}
	if signal := client.wait(); signal != syscall.SIGKILL {
		t.Errorf("the client ended with %v", signal)
	}
	_, err := server.Receive(testContext(t))
	for errors.Is(err, ErrPeerHung) { // until the kernel's word is here
		_, err = server.Receive(testContext(t))
	}
	if !errors.Is(err, ErrPeerDied) {
		t.Errorf("after the kill: %v", err)
	}
	if err := server.KillPeer(); err == nil {
		t.Error("KillPeer with nobody attached succeeds")
	}
}

// Whoever was killed is not called hung any more: its end comes, and whoever waits for
// it need not try again and again.
func TestL5AKilledPeerIsNotHung(t *testing.T) {
	path := testPath(t)
	options := patientOptions() // nobody else judges
	options.FailOnHang = true
	asked := make(chan struct{})
	ask := sync.OnceFunc(func() { close(asked) })
	defer ask()
	options.hook = func(at step.ID, _ uint64) {
		if at == step.EndSeen {
			<-asked // the end is not told before
		}
	}
	server := listenHere(t, path, options)
	client := startActor(t, actorArgument{Path: path, Options: quick})
	client.ask("attached", "dial")
	nextEvent(t, server, EventAttached)
	client.signal(syscall.SIGSTOP)
	client.awaitStopped()
	var s silence
	s.hear(server, time.Nanosecond) // sees the last beat
	s.hear(server, 2*server.patience())
	if _, err := server.Receive(testContext(t)); !errors.Is(err, ErrPeerHung) {
		t.Fatalf("Receive from a hung client: %v", err)
	}
	if err := server.KillPeer(); err != nil {
		t.Fatal(err)
	}
	s.hear(server, server.patience()/2)
	if _, err := server.TryReceive(); !errors.Is(err, ErrEmpty) {
		t.Errorf("TryReceive from a killed client whose end is not seen yet: %v, want %v", err, ErrEmpty)
	}
	ask()
	if _, err := server.Receive(testContext(t)); !errors.Is(err, ErrPeerDied) {
		t.Errorf("Receive from a killed client: %v, want %v", err, ErrPeerDied)
	}
	client.wait()
}

// A zombie is frozen at each step of sending and receiving, found hung, and
// resumed: everything goes on as if nothing had been.
func TestL5M2AFrozenProcessResumesAtEveryStep(t *testing.T) {
	for _, row := range append(append([]ringCrash{}, producerCrashes...), consumerCrashes...) {
		if row.at == step.Beaten || row.at == step.DataArmed || row.at == step.Sleeping || row.at == step.Disarmed {
			continue // these rows wait, and here is something to receive
		}
		t.Run(row.String(), func(t *testing.T) {
			path := testPath(t)
			server := listenHere(t, path, quickOptions())
			sendAll(t, server, 1, 2, 3, 4)
			zombie := startActor(t, actorArgument{Path: path, Options: quick, DieAt: row.at.String(), DieNth: row.nth, Signal: syscall.SIGSTOP})
			zombie.ask("attached", "dial")
			nextEvent(t, server, EventAttached)
			row.perform(zombie)
			zombie.awaitStopped()
			awaitState(t, server, PeerHung)
			zombie.signal(syscall.SIGCONT)
			awaitState(t, server, PeerAttached)
			for range strings.Count(row.do, "\n") + 1 {
				if line := <-zombie.lines; strings.HasPrefix(line, "error") {
					t.Errorf("the resumed client: %s", line)
				}
			}
			zombie.ask("closed", "close")
			sent := ""
			for _, verb := range strings.Split(row.do, "\n") {
				words := strings.Fields(verb)
				if words[0] == "send" || words[0] == "batch" || words[0] == "reserve" {
					sent = strings.TrimSpace(sent + " " + strings.Join(words[1:], " "))
				}
			}
			got, end := receiveAll(t, server)
			if got != sent || !errors.Is(end, ErrPeerClosed) {
				t.Errorf("received %q, then %v; want %q, then %v", got, end, sent, ErrPeerClosed)
			}
		})
	}
}

func TestL7AServerSendsWithNobodyAttached(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, &Options{ToClientSize: os.Getpagesize()})
	var kinds []string
	for kind := uint32(1); ; kind++ {
		err := server.TrySend(kind, pattern(kind))
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, fmt.Sprint(kind))
	}
	next := uint32(len(kinds) + 1) // does not fit
	short, cancel := context.WithTimeout(testContext(t), time.Millisecond)
	defer cancel()
	if err := server.Send(short, next, pattern(next)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("M8 Bounded: Send into a full ring: %v", err)
	}
	blocked := make(chan error)
	go func() { blocked <- server.Send(testContext(t), next, pattern(next)) }()
	client := startActor(t, actorArgument{Path: path})
	client.ask("attached", "dial")
	for _, kind := range kinds {
		client.ask("got "+kind, "receive")
		client.ask("released", "release")
	}
	client.ask(fmt.Sprint("got ", next), "receive")
	if err := <-blocked; err != nil {
		t.Error(err)
	}
}

func TestL7TheServerTellsOfEachClientInTheStream(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, nil)
	for i, kind := range []EventKind{EventDied, EventClosed, EventDied} {
		client := startActor(t, actorArgument{Path: path})
		client.ask(fmt.Sprintf("attached 1 %d", i+1), "dial")
		client.ask("sent 1", fmt.Sprintf("send %d", i))
		if kind == EventClosed {
			client.ask("closed", "close")
		}
		client.kill()
		nextEvent(t, server, EventAttached)
		nextEvent(t, server, kind)
	}
	for i, want := range []error{ErrPeerDied, ErrPeerClosed, ErrPeerDied} {
		if got, end := receiveAll(t, server); got != fmt.Sprint(i) || !errors.Is(end, want) {
			t.Errorf("of client %d: %q, then %v; want %v", i, got, end, want)
		}
	}
	if _, err := server.TryReceive(); !errors.Is(err, ErrEmpty) {
		t.Errorf("then: %v", err)
	}
}

func TestM7EveryWaitEndsWithItsContextAndWithClose(t *testing.T) {
	page := os.Getpagesize()
	for _, spin := range []time.Duration{0, NoSpin, time.Hour} {
		var server, client *Endpoint
		server, client = pair(t, &Options{ToClientSize: page, Spin: spin, hook: func(at step.ID, _ uint64) {
			if at == step.PathUnlinked { // no sooner: that the client has closed would be told too
				go client.Close()
			}
		}}, &Options{Spin: spin})
		full := make([]byte, page-headerSize)
		if err := server.Send(testContext(t), 0, full); err != nil {
			t.Fatal(err)
		}
		waits := map[string]func(context.Context) error{
			"Send": func(ctx context.Context) error { return server.Send(ctx, 0, full) },
			"SendBatch": func(ctx context.Context) error {
				_, err := server.SendBatch(ctx, []Message{{Data: full}})
				return err
			},
			"Reserve":      func(ctx context.Context) error { _, err := server.Reserve(ctx, 1); return err },
			"Receive":      func(ctx context.Context) error { _, err := server.Receive(ctx); return err },
			"ReceiveInto":  func(ctx context.Context) error { _, err := server.ReceiveInto(ctx, full); return err },
			"ReceiveBatch": func(ctx context.Context) error { _, err := server.ReceiveBatch(ctx, make([]Message, 1)); return err },
			"ReceiveBatchInto": func(ctx context.Context) error {
				_, err := server.ReceiveBatchInto(ctx, full, make([]Message, 1))
				return err
			},
		}
		var group, cancelled sync.WaitGroup
		for name, wait := range waits {
			for range 3 { // W9: several goroutines on one end
				group.Add(1)
				cancelled.Add(1)
				go func() {
					defer group.Done()
					ctx, cancel := context.WithCancel(testContext(t))
					time.AfterFunc(time.Millisecond, cancel)
					if err := wait(ctx); !errors.Is(err, context.Canceled) {
						t.Errorf("%s, cancelled: %v", name, err)
					}
					cancelled.Done()
					if err := wait(testContext(t)); !errors.Is(err, ErrClosed) {
						t.Errorf("%s, closed: %v", name, err)
					}
				}()
			}
		}
		cancelled.Wait()
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		group.Wait()
	}
}

func TestM7ADeathEndsEveryWaitOfTheClient(t *testing.T) {
	path := testPath(t)
	page := os.Getpagesize()
	server := startActor(t, actorArgument{Path: path, Options: actorOptions{ToServerSize: page}})
	server.ask("listening", "listen")
	client := dialHere(t, path, nil)
	ctx := testContext(t)
	full := make([]byte, page-headerSize)
	if err := client.Send(ctx, 0, full); err != nil {
		t.Fatal(err)
	}
	ends := make(chan error, 20)
	for range 10 {
		go func() { ends <- client.Send(ctx, 0, full) }()
		go func() { _, err := client.Receive(ctx); ends <- err }()
	}
	eventually(t, "both directions wait", func() bool {
		return client.own.control.dataWaitFor.Load() != 0 && client.own.control.spaceWaitFor.Load() != 0
	})
	server.kill()
	for range 20 {
		if err := <-ends; !errors.Is(err, ErrPeerDied) {
			t.Errorf("a wait ended with %v", err)
		}
	}
}

func TestM8AMessageMayBeAsLargeAsTheRing(t *testing.T) {
	page := os.Getpagesize()
	for _, size := range []int{page, 1 << 20} {
		server, client := pair(t, &Options{ToServerSize: size, ToClientSize: size}, nil)
		ctx := testContext(t)
		for i := range 5 { // at every offset of the ring
			largest := []byte(strings.Repeat(string(rune('a'+i)), size-headerSize))
			sendAll(t, server, uint32(i))
			if m, err := client.Receive(ctx); err != nil || m.Release() != nil {
				t.Fatal(err)
			}
			if err := server.Send(ctx, 7, largest); err != nil {
				t.Fatal(err)
			}
			if err := server.TrySend(8, nil); !errors.Is(err, ErrFull) {
				t.Errorf("behind the largest message: %v", err)
			}
			m, err := client.Receive(ctx)
			if err != nil || string(m.Data) != string(largest) {
				t.Fatalf("the largest message: %d bytes, %v", len(m.Data), err)
			}
			if err := m.Release(); err != nil {
				t.Fatal(err)
			}
		}
		if err := server.Send(ctx, 0, make([]byte, size-headerSize+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("one byte more: %v", err)
		}
		if _, err := server.Reserve(ctx, size); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a reservation of more: %v", err)
		}
		if n, err := server.SendBatch(ctx, []Message{{Kind: 1}, {Data: make([]byte, size)}}); n != 1 || !errors.Is(err, ErrTooLarge) {
			t.Errorf("a batch with more: %d, %v", n, err)
		}
		if m, err := client.Receive(ctx); err != nil || m.Kind != 1 || len(m.Data) != 0 {
			t.Errorf("what the batch committed: %+v, %v", m, err)
		}
	}
}

func TestTheLargestRingHoldsAMessageAsLargeAsItself(t *testing.T) {
	needsMemory(t, 4<<30)
	server, client := pair(t, &Options{ToClientSize: MaxRingSize}, nil)
	ctx := testContext(t)
	const largest = MaxRingSize - headerSize
	r, err := server.Reserve(ctx, largest)
	if err != nil || len(r.Data) != largest {
		t.Fatalf("the largest reservation: %d bytes, %v", len(r.Data), err)
	}
	r.Data[0], r.Data[largest-1] = 'a', 'z'
	if err := r.Commit(7, largest); err != nil {
		t.Fatal(err)
	}
	if err := server.TrySend(8, nil); !errors.Is(err, ErrFull) {
		t.Errorf("behind the largest message: %v", err)
	}
	m, err := client.Receive(ctx)
	if err != nil || m.Kind != 7 || len(m.Data) != largest {
		t.Fatalf("the largest message: kind %d, %d bytes, %v", m.Kind, len(m.Data), err)
	}
	if first, last := m.Data[0], m.Data[largest-1]; first != 'a' || last != 'z' {
		t.Errorf("M4 NoTear: it begins with %q and ends with %q", first, last)
	}
	if err := m.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := server.TryReserve(largest + 1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one byte more: %v", err)
	}
	sendAll(t, server, 1) // now at another offset, and the largest no longer fits beside it
	if _, err := server.TryReserve(largest); !errors.Is(err, ErrFull) {
		t.Errorf("the largest beside another: %v", err)
	}
	if m, err := client.Receive(ctx); err != nil || checkPattern(m) != nil || m.Release() != nil {
		t.Errorf("behind the largest message: %+v, %v", m, err)
	}
	if r, err := server.TryReserve(largest); err != nil || r.Abort() != nil {
		t.Errorf("the largest across the end of the ring: %v", err)
	}
}

// needsMemory skips a test where so many bytes may not be there, or where it
// would take too long.
func needsMemory(t *testing.T, bytes int) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes a ring of 1 GiB")
	}
	build, _ := debug.ReadBuildInfo()
	if build != nil && slices.Contains(build.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector's shadow of a ring of 1 GiB is too large")
	}
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(content), "MemAvailable:")
	available := 0
	if _, err := fmt.Sscanf(rest, "%d kB", &available); err != nil {
		t.Fatalf("MemAvailable in /proc/meminfo: %v", err)
	}
	if available < bytes>>10 {
		t.Skipf("%d MiB of memory are available, and this test wants %d", available>>10, bytes>>20)
	}
}

func TestCloseIsToldApartFromDeathOnBothSides(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, nil)
	client := dialHere(t, path, nil)
	sendAll(t, client, 1)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if got, end := receiveAll(t, server); got != "1" || !errors.Is(end, ErrPeerClosed) {
		t.Errorf("server: %q, then %v", got, end)
	}
	client = dialHere(t, path, nil)
	sendAll(t, server, 2)
	closed := make(chan error)
	go func() { closed <- server.Close() }()
	if got, end := receiveAll(t, client); got != "2" || !errors.Is(end, ErrPeerClosed) {
		t.Errorf("client: %q, then %v", got, end)
	}
	if err := client.Err(); !errors.Is(err, ErrPeerClosed) {
		t.Errorf("Err of the client: %v", err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close of the server: %v", err)
	}
}

func TestCloseOfAServerSaysThatItsClientStays(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, &Options{CloseTimeout: time.Millisecond})
	client := startActor(t, actorArgument{Path: path})
	client.ask("attached", "dial")
	err := server.Close()
	var running *RunningError
	if !errors.Is(err, ErrClientRunning) || !errors.As(err, &running) || running.PID != client.cmd.Process.Pid {
		t.Errorf("Close: %v, want %v naming process %d", err, ErrClientRunning, client.cmd.Process.Pid)
	}
	if again := server.Close(); again != err {
		t.Errorf("Close again: %v", again)
	}
}

func TestNoOrderOfCallsFaults(t *testing.T) {
	server, client := pair(t, nil, nil)
	ctx := testContext(t)
	sendAll(t, server, 1, 2, 3)
	var views []Message
	for range 3 {
		m, err := client.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		views = append(views, m)
	}
	reservation, err := client.Reserve(ctx, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := views[1].Release(); err != nil { // out of order
		t.Error(err)
	}
	if err := views[1].Release(); !errors.Is(err, ErrReleased) {
		t.Errorf("a second release: %v", err)
	}
	for range 2 {
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range reservation.Data {
		reservation.Data[i] = 0xee // goes nowhere
	}
	if err := reservation.Commit(1, 1000); !errors.Is(err, ErrClosed) {
		t.Errorf("Commit after Close: %v", err)
	}
	if err := reservation.Abort(); !errors.Is(err, ErrReleased) {
		t.Errorf("a second end of the reservation: %v", err)
	}
	for _, m := range []Message{views[0], views[2]} {
		if err := checkPattern(m); err != nil {
			t.Errorf("a view held across Close: %v", err)
		}
		if err := m.Release(); !errors.Is(err, ErrClosed) {
			t.Errorf("Release after Close: %v", err)
		}
		if err := m.Release(); !errors.Is(err, ErrReleased) {
			t.Errorf("a second release after Close: %v", err)
		}
	}
	if err := (Message{}).Release(); !errors.Is(err, ErrReleased) {
		t.Errorf("Release of nothing: %v", err)
	}
	if err := (Reservation{}).Commit(0, 0); !errors.Is(err, ErrReleased) {
		t.Errorf("Commit of nothing: %v", err)
	}
	for name, call := range map[string]func() error{
		"Send":        func() error { return client.Send(ctx, 0, nil) },
		"TrySend":     func() error { return client.TrySend(0, nil) },
		"Receive":     func() error { _, err := client.Receive(ctx); return err },
		"TryReceive":  func() error { _, err := client.TryReceive(); return err },
		"Reserve":     func() error { _, err := client.Reserve(ctx, 1); return err },
		"Unreleased":  func() error { _, err := client.Unreleased(); return err },
		"SendBatch":   func() error { _, err := client.SendBatch(ctx, []Message{{}}); return err },
		"TrySendMany": func() error { _, err := client.TrySendBatch([]Message{{}}); return err },
	} {
		if err := call(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	_, _ = client.Stats(), client.Peer()
	if got, end := receiveAll(t, server); got != "" || !errors.Is(end, ErrPeerClosed) {
		t.Errorf("the server received %q, then %v", got, end)
	}
	if got := unreleased(t, server); got != "1d 2d 3d" {
		t.Errorf("M6 Account: %q: the first was not released, and the second only behind it", got)
	}
}

func TestManyGoroutinesShareOneEndpoint(t *testing.T) {
	server, client := pair(t, &Options{ToServerSize: os.Getpagesize(), ToClientSize: os.Getpagesize()}, nil)
	ctx := testContext(t)
	const senders, each = 8, 2000
	var group sync.WaitGroup
	for i := range senders {
		group.Add(1)
		go func() {
			defer group.Done()
			for n := range each {
				kind := uint32(i*each + n)
				if err := server.Send(ctx, kind, pattern(kind)); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	var seen [senders * each]atomic.Int32
	var left atomic.Int32
	left.Store(senders * each)
	for range 4 {
		group.Add(1)
		go func() {
			defer group.Done()
			for left.Add(-1) >= 0 {
				m, err := client.ReceiveInto(ctx, make([]byte, 512))
				if err == nil {
					err = checkPattern(m)
				}
				if err != nil {
					t.Error(err)
					return
				}
				seen[m.Kind].Add(1)
			}
		}()
	}
	group.Wait()
	for kind := range seen {
		if n := seen[kind].Load(); n != 1 {
			t.Fatalf("message %d arrived %d times", kind, n)
		}
	}
}

func TestStatsAddUp(t *testing.T) {
	server, client := pair(t, nil, nil)
	nextEvent(t, server, EventAttached)
	sendAll(t, server, 1, 2, 3)
	m, err := client.Receive(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	s, c := server.Stats(), client.Stats()
	bytes := recordSize(len(pattern(1))) + recordSize(len(pattern(2))) + recordSize(len(pattern(3)))
	if s.Sent != 3 || s.SentBytes != bytes || s.UnreleasedBytes != bytes || s.Attachments != 1 {
		t.Errorf("the server's: %+v", s)
	}
	if c.Received != 1 || c.HeldViews != 1 || c.ReceivedBytes != 0 {
		t.Errorf("the client's, before the release: %+v", c)
	}
	if err := m.Release(); err != nil {
		t.Fatal(err)
	}
	first := recordSize(len(pattern(1)))
	if c, s := client.Stats(), server.Stats(); c.HeldViews != 0 || c.ReceivedBytes != first || s.UnreleasedBytes != bytes-first {
		t.Errorf("after the release: %+v, %+v", c, s)
	}
}

// The sender takes all the space at the very moment at which it is released.
func TestM4ACopyIsMadeBeforeItsSpaceIsReleased(t *testing.T) {
	for name, receive := range map[string]func(*Endpoint, context.Context, []byte) (Message, error){
		"ReceiveInto":    (*Endpoint).ReceiveInto,
		"TryReceiveInto": func(e *Endpoint, _ context.Context, buf []byte) (Message, error) { return e.TryReceiveInto(buf) },
	} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			server := listenHere(t, path, &Options{ToClientSize: os.Getpagesize()})
			overwritten := 0
			armed := false
			client := dialHere(t, path, &Options{hook: func(at step.ID, _ uint64) {
				if at != step.Released || !armed {
					return
				}
				for server.TrySend(2, bytes.Repeat([]byte{2}, 1000)) == nil {
					overwritten++
				}
			}})
			// The first receive may look at more than the ring, and go another way.
			err := server.Send(testContext(t), 1, nil)
			if _, first := client.ReceiveInto(testContext(t), nil); err != nil || first != nil {
				t.Fatal(err, first)
			}
			armed = true
			if err := server.Send(testContext(t), 1, bytes.Repeat([]byte{1}, 1000)); err != nil {
				t.Fatal(err)
			}
			m, err := receive(client, testContext(t), make([]byte, 1000))
			if err != nil || !bytes.Equal(m.Data, bytes.Repeat([]byte{1}, 1000)) {
				t.Errorf("M4 NoTear: %v, %d bytes %.8x", err, len(m.Data), m.Data)
			}
			if overwritten*1000 < os.Getpagesize()-1024 {
				t.Errorf("only %d messages were sent: the space was not taken", overwritten)
			}
		})
	}
}

func TestL5L6AServerThatWaitsForThePathDoesNotHideADeath(t *testing.T) {
	path := testPath(t)
	first := startActor(t, actorArgument{Path: path})
	first.ask("listening 1", "listen")
	waits := make(chan struct{})
	client := dialHere(t, path, &Options{hook: func(at step.ID, _ uint64) {
		if at == step.EndSeen {
			<-waits // from here on it looks for the proof
		}
	}})
	proceed := sync.OnceFunc(func() { close(waits) })
	t.Cleanup(proceed)
	standby := startActor(t, actorArgument{Path: path, Options: actorOptions{Wait: true}, DieAt: step.ServerLocked.String(), Signal: syscall.SIGSTOP})
	standby.tell("listen")
	first.kill()
	standby.awaitStopped() // it has byte 0
	proceed()
	if _, err := client.Receive(testContext(t)); !errors.Is(err, ErrPeerDied) {
		t.Errorf("L5 TrueVerdict: the server was killed, and the client says %v", err)
	}
	standby.signal(syscall.SIGCONT)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	standby.expect("listening 2")
}

func TestL5L7AClientThatComesAndGoesUnnoticedIsStillTold(t *testing.T) {
	path := testPath(t)
	noticed := make(chan struct{})
	defer func() {
		select {
		case <-noticed:
		default:
			close(noticed)
		}
	}()
	server := listenHere(t, path, &Options{hook: func(at step.ID, number uint64) {
		if at == step.ReadyReceived && number == 1 {
			<-noticed // the server is late
		}
	}})
	first := startActor(t, actorArgument{Path: path})
	first.ask("attached 1 1", "dial")
	first.ask("sent 2", "send 1 2")
	first.ask("closed", "close")
	second := startActor(t, actorArgument{Path: path})
	second.ask("attached 1 2", "dial")
	if got, end := receiveAll(t, server); got != "1 2" || !errors.Is(end, ErrPeerClosed) {
		t.Errorf("of the first client: %q, then %v", got, end)
	}
	close(noticed)
	second.kill()
	if got, end := receiveAll(t, server); got != "" || !errors.Is(end, ErrPeerDied) {
		t.Errorf("L5 TrueVerdict: of the second client: %q, then %v", got, end)
	}
	for _, want := range []EventKind{EventAttached, EventClosed, EventAttached, EventDied} {
		nextEvent(t, server, want)
	}
}

func TestL6AClientThatFreezesBeforeItIsReadyIsHung(t *testing.T) { // C7
	path := testPath(t)
	server := listenHere(t, path, quickOptions())
	client := startActor(t, actorArgument{Path: path, Options: quick, DieAt: step.SegmentsMapped.String(), Signal: syscall.SIGSTOP})
	client.tell("dial")
	if event := nextEvent(t, server, EventHung); event.Attachment != 1 {
		t.Errorf("event %+v, want one about attachment 1", event)
	}
	if err := server.KillPeer(); err != nil {
		t.Fatal(err)
	}
	client.wait()
	checkNextClient(t, server, path)
}

func TestC2C3AClientFrozenBehindItsTokenHoldsUpNobody(t *testing.T) {
	path := testPath(t)
	listening := listenHere(t, path, quickOptions())
	former := startActor(t, actorArgument{Path: path, Options: quick, DieAt: step.TokenClosed.String(), Signal: syscall.SIGSTOP})
	former.ask("attached 1 1", "dial")
	former.tell("close")
	eventually(t, "the token is free", func() bool {
		return !tokenIsTaken(t, path)
	})
	next := startActor(t, actorArgument{Path: path, Options: quick})
	next.ask("attached 1 2", "dial")
	next.ask("sent 1", "send 1")
	if got, end := receiveAll(t, listening); got != "" || !errors.Is(end, ErrPeerClosed) {
		t.Errorf("of the frozen client: %q, then %v", got, end)
	}
	if m, err := listening.Receive(testContext(t)); err != nil || m.Kind != 1 {
		t.Errorf("of the next client: %+v, %v", m, err)
	}
	next.kill()
	if err := listening.Close(); err != nil {
		t.Error(err)
	}
}
