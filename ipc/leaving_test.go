//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// Who leaves touches nothing that is no longer its own, kills nobody but whom it
// means, and says nothing of another.

// With one processor, what the end of a context sets off in a goroutine has its
// turn when somebody waits or yields: hardly ever before Dial has closed its socket,
// and always in the yields behind it.
func TestACancelledDialShutsDownNobodyElsesSocket(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	parent, path := testContext(t), testPath(t)
	listenHere(t, path, nil)
	for round := range 200 {
		ctx, cancel := context.WithCancel(parent)
		_, err := Dial(ctx, path, &Options{hook: cancelAt(step.ReadySent, cancel)})
		var sockets [8]int // one of them gets the number that Dial's had
		for i := 0; i < len(sockets); i += 2 {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			sockets[i], sockets[i+1] = pair[0], pair[1]
		}
		for range 10 {
			runtime.Gosched()
		}
		for _, fd := range sockets {
			if (&conn{fd: fd}).ended() {
				t.Errorf("round %d: another's socket, number %d, was shut down", round, fd)
			}
		}
		closeAll(sockets[:])
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("round %d: Dial gave %v, want %v", round, err, context.Canceled)
		}
		if t.Failed() {
			return
		}
	}
}

func TestKillPeerBehindACloseKillsNobody(t *testing.T) {
	path := testPath(t)
	client := startActor(t, actorArgument{Path: path})
	server := listenHere(t, path, &Options{CloseTimeout: watchdog, hook: func(at step.ID, _ uint64) {
		if at == step.ConnectionClosed {
			client.tell("close") // so late that nobody but Close sees it leave
		}
	}})
	client.ask("attached", "dial")
	if err := server.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	client.expect("closed")
	if err := server.KillPeer(); !errors.Is(err, ErrClosed) {
		t.Errorf("KillPeer behind Close: %v, want %v", err, ErrClosed)
	}
	client.ask("pid", "lock") // it lives, and has other things to do
}

var _ = sceneOf("be told to kill oneself", func(s *scene) {
	o := &Options{CloseTimeout: time.Millisecond, KillOnClose: true, KillOrphan: true}
	server, client := s.pair(o)
	const says = "in this process"
	s.must("KillPeer", server.KillPeer(), errOwnProcess, says)
	err := server.Close()
	s.must("Close", err, errOwnProcess, says)
	s.must("Close", err, ErrClientRunning)
	_, err = Listen(s.ctx, s.path, o) // beside the client that is an orphan now
	s.must("Listen", err, errOwnProcess, says)
	s.must("Listen", err, ErrClientRunning)
	if err := client.Close(); err != nil {
		s.fail("close of the client: %v", err)
	}
	s.closeBoth(s.pair(o))
})

func TestNobodyKillsItsOwnProcess(t *testing.T) {
	playScene(t, "be told to kill oneself", testPath(t))
}

// The accept loop is held with a connection that it has just accepted, and that
// will say nothing. Its handshake has an hour: if Close does not end it, nobody does.
func TestCloseWaitsForItsAcceptLoop(t *testing.T) {
	path := testPath(t)
	accepted, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	var listenerClosed atomic.Bool
	server := listenHere(t, path, &Options{HandshakeTimeout: time.Hour, hook: func(at step.ID, _ uint64) {
		switch at {
		case step.ConnectionAccepted:
			close(accepted)
			<-goOn
		case step.ListenerClosed:
			listenerClosed.Store(true)
		}
	}})
	rawConnect(t, path)
	<-accepted
	t.Cleanup(release)
	closed := make(chan error, 1)
	go func() { closed <- server.Close() }()
	awaitBlocked(t, "(*server).end(")
	if listenerClosed.Load() {
		t.Error("Close closed the listener while its accept loop uses the descriptor")
	}
	release()
	select {
	case err := <-closed:
		if err != nil {
			t.Errorf("Close: %v", err)
		}
	case <-time.After(watchdog):
		t.Fatalf("Close waits for a connection that says nothing\n%s", stacks())
	}
}

// awaitBlocked waits until the goroutine that is in a function waits for others.
func awaitBlocked(t testing.TB, function string) {
	t.Helper()
	eventually(t, function+" waits", func() bool {
		for goroutine := range strings.SplitSeq(stacks(), "\n\n") {
			state, frames, _ := strings.Cut(goroutine, "\n")
			if strings.Contains(frames, function) {
				return strings.Contains(state, "[chan receive") || strings.Contains(state, "[sync.WaitGroup.Wait")
			}
		}
		return false
	})
}

// The numbers of attachments are known beforehand, and the words that hold them
// stay when a client goes.
func TestL5I4AHostileClientDoesNotSpeakForItsSuccessor(t *testing.T) {
	expelled := func(t *testing.T, write func(c *control, next uint64)) (server *Endpoint) {
		server = listenHere(t, testPath(t), hostileOptions())
		client := rawAttach(t, server.Path())
		nextEvent(t, server, EventAttached)
		write(client.own.control, client.grant.Attachment+1)
		client.leave()
		checkEndOfHostile(t, nextEvent(t, server, EventDied).Err, "I4")
		checkEndOfHostile(t, receiveUntilEnd(t, server), "I4")
		return server
	}
	t.Run("goodbye", func(t *testing.T) {
		server := expelled(t, func(c *control, next uint64) { c.goodbye.Store(next) })
		next := startActor(t, actorArgument{Path: server.Path()})
		next.ask("attached 1 2", "dial")
		nextEvent(t, server, EventAttached)
		next.kill()
		nextEvent(t, server, EventDied)
		if err := receiveUntilEnd(t, server); !errors.Is(err, ErrPeerDied) {
			t.Errorf("the successor was killed, and its end is told as %v", err)
		}
	})
	t.Run("attachment", func(t *testing.T) {
		server := expelled(t, func(c *control, next uint64) { c.attachment.Store(next) })
		next := startActor(t, actorArgument{Path: server.Path(), DieAt: step.SegmentsMapped.String()})
		next.tell("dial")
		next.awaitDeath()
		dialHere(t, server.Path(), hostileOptions())
		if event := nextEvent(t, server, EventAttached); event.Attachment != 3 {
			t.Errorf("client %d is announced, which died before it had attached", event.Attachment)
		}
	})
}

// A memory is replaced for each corrupt client, and each holds what a client before
// it has sent, so that Receive cannot pass any of them over.
func TestT1MemoriesThatNobodyReceivesAreBounded(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	memories := func() int { return footprintOf("")["descriptor of /memfd:tandem-client (deleted)"] }
	before := memories()
	server := listenHere(t, path, hostileOptions())
	const rounds = maxReplaced + 1
	for range rounds {
		sender := rawAttach(t, path)
		eventually(t, "the sender is known", func() bool { return server.Attachment() == sender.grant.Attachment })
		pos := sender.own.control.writePos.Load()
		sender.own.control.writePos.Store(sender.record(pos, 1, 0))
		sender.leave()
		corrupt := rawAttach(t, path)
		corrupt.own.control.readPos.Store(5)
		corrupt.leave()
	}
	checkNotNow(t, path)
	if n := memories() - before; n < 2 || n > 1+maxReplaced {
		t.Errorf("the server holds %d memories of clients, want the first and up to %d that replaced it", n, maxReplaced)
	}
	for round := range rounds {
		m, err := server.Receive(ctx)
		if err != nil || m.Kind != 1 || m.Release() != nil {
			t.Fatalf("the message of round %d: %+v, %v", round, m, err)
		}
		for _, wants := range []string{"", "I1"} { // also of the last one, for which there was no memory
			_, err = server.Receive(ctx)
			checkEndOfHostile(t, err, wants)
		}
	}
	client := dialHere(t, path, hostileOptions())
	for _, d := range [][2]*Endpoint{{client, server}, {server, client}} {
		sendAll(t, d[0], 7)
		if m, err := d[1].Receive(ctx); err != nil || checkPattern(m) != nil || m.Release() != nil {
			t.Errorf("a message with the next client: %+v, %v", m, err)
		}
	}
	if n := memories() - before; n > maxMemories {
		t.Errorf("the server holds %d memories of clients when all is received, want %d at most", n, maxMemories)
	}
}

// checkNotNow sees that Dial waits because the server can admit nobody. A context
// that ends before the server has answered says nothing of it.
func checkNotNow(t *testing.T, path string) {
	t.Helper()
	for limit := time.Millisecond; ; limit *= 2 {
		ctx, cancel := context.WithTimeout(testContext(t), limit)
		client, err := Dial(ctx, path, nil)
		cancel()
		if err == nil {
			_ = client.Close()
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Dial gave %v, want it to wait", err)
			return
		}
		if errors.Is(err, errNotNow) {
			return
		}
	}
}

func TestL6AHangNamesTheClientThatHangs(t *testing.T) {
	path, options, told := testPath(t), quickOptions(), make(chan struct{})
	options.hook = func(at step.ID, number uint64) {
		if at == step.ReadyReceived && number == 2 {
			<-told // it beats again, and is not known to be ready yet
		}
	}
	server := listenHere(t, path, options)
	t.Cleanup(func() { close(told) })
	first := startActor(t, actorArgument{Path: path, Options: quick})
	first.ask("attached 1 1", "dial")
	nextEvent(t, server, EventAttached)
	first.kill()
	nextEvent(t, server, EventDied)
	second := startActor(t, actorArgument{Path: path, Options: quick, DieAt: step.SegmentsMapped.String(), Signal: syscall.SIGSTOP})
	second.tell("dial")
	names := func(want EventKind) {
		t.Helper()
		if event := nextEvent(t, server, want); event.Attachment != 2 || event.PID != second.cmd.Process.Pid {
			t.Errorf("event %+v, want attachment 2, process %d; client 1 was %d", event, second.cmd.Process.Pid, first.cmd.Process.Pid)
		}
	}
	names(EventHung)
	second.awaitStopped()
	second.signal(syscall.SIGCONT)
	names(EventRecovered)
}

// Unreleased judges its client in a second step. What it found in the first may be
// in memory that is gone by then.
func TestUnreleasedBesideCloseReadsNoMemoryThatIsGone(t *testing.T) {
	options := hostileOptions()
	options.CloseTimeout = time.Millisecond
	for range 20 {
		server := listenHere(t, testPath(t), options)
		client := rawAttach(t, server.Path())
		client.own.control.readPos.Store(80)
		var group sync.WaitGroup
		for range 4 {
			group.Add(1)
			go func() {
				defer group.Done()
				debug.SetPanicOnFault(true) // a fault fails this test, and not the process
				defer func() {
					if fault := recover(); fault != nil {
						t.Errorf("Unreleased beside Close: %v", fault)
					}
				}()
				for {
					_, err := server.Unreleased()
					var corrupt *CorruptError
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil && !errors.As(err, &corrupt) {
						t.Errorf("Unreleased beside Close: %v", err)
						return
					}
				}
			}()
		}
		_ = server.Close()
		group.Wait()
		client.leave()
		// The same with all of Close between the two steps.
		err := server.expel(false, func() error { t.Error("a client was judged by memory that is gone"); return nil })
		if !errors.Is(err, ErrClosed) {
			t.Errorf("the second step behind Close: %v, want %v", err, ErrClosed)
		}
		if t.Failed() {
			return
		}
	}
}

func TestStatsAreExactBehindClose(t *testing.T) {
	server, client := pair(t, nil, nil)
	sendAll(t, server, 1, 2, 3)
	sendAll(t, client, 4, 5)
	for _, r := range []struct {
		e     *Endpoint
		count int
	}{{client, 3}, {server, 2}} {
		for range r.count {
			if _, err := r.e.ReceiveInto(testContext(t), make([]byte, 512)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, e := range []*Endpoint{client, server} {
		before := e.Stats()
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		after := e.Stats()
		if after.SentBytes != before.SentBytes || after.ReceivedBytes != before.ReceivedBytes || before.SentBytes == 0 {
			t.Errorf("the %v's bytes: %+v before Close, %+v behind it", e.Role(), before, after)
		}
		if state := e.Peer().State; state == PeerAttached || state == PeerHung {
			t.Errorf("the %v has left, and says of its peer that it is %v", e.Role(), state)
		}
	}
	if s := server.Stats(); s.Sent != 3 || s.Received != 2 {
		t.Errorf("the server's: %d sent, %d received; want 3 and 2", s.Sent, s.Received)
	}
	if s := client.Stats(); s.Sent != 2 || s.Received != 3 {
		t.Errorf("the client's: %d sent, %d received; want 2 and 3", s.Sent, s.Received)
	}
}

var _ = sceneOf("listen as another user", func(s *scene) {
	if os.Geteuid() == 0 {
		s.become(nobody)
	}
	server, err := Listen(s.ctx, s.path, &Options{AllowUIDs: []uint32{0, uint32(os.Geteuid())}})
	if err != nil {
		s.fail("listen: %v", err)
	}
	s.say("listening")
	s.next()
	if err := server.Close(); err != nil {
		s.fail("close: %v", err)
	}
})

func TestPeerOfAClientIsWhatTheKernelSays(t *testing.T) {
	path, user := testPath(t), os.Geteuid()
	if user == 0 {
		user = nobody
		if err := os.Chown(filepath.Dir(path), nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	server := start(t, "scene", sceneArgument{"listen as another user", path})
	server.expect("listening")
	client := dialHere(t, path, &Options{ServerUIDs: []uint32{uint32(user)}})
	if got := client.Peer(); got.PID != server.cmd.Process.Pid || got.UID != uint32(user) {
		t.Errorf("the peer is %+v, want process %d of user %d", got, server.cmd.Process.Pid, user)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	// The same memory, granted by one who says that it is somebody else.
	raw := rawAttach(t, path)
	raw.grant.PID = 1
	rawServe(t, path+".liar", func(c *conn) {
		_, _, _ = c.receive(0) // hello
		_ = c.send(raw.grant, raw.files...)
		_, _, _ = c.receive(0) // ready
	})
	if got := dialHere(t, path+".liar", nil).Peer(); got.PID != os.Getpid() {
		t.Errorf("the peer is %+v, want process %d", got, os.Getpid())
	}
}

var _ = sceneOf("hand on the token", func(s *scene) {
	e, err := Dial(s.ctx, s.path, nil)
	if err != nil {
		s.fail("dial: %v", err)
	}
	c, err := connect(s.path + ".third")
	if err == nil {
		err = c.send(newPacket(packetGrant), e.life.(*client).token)
	}
	if err != nil {
		s.fail("hand on the token: %v", err)
	}
	s.untilStdinEnds()
})

// The death of an orphan frees its token only if nobody has a copy.
func TestKillOrphanDoesNotWaitForEverForACopyOfTheToken(t *testing.T) {
	path := testPath(t)
	server := startActor(t, actorArgument{Path: path})
	server.ask("listening", "listen")
	third := make(chan []int, 1)
	rawServe(t, path+".third", func(c *conn) {
		_, files, _ := c.receive(1)
		third <- files
	})
	orphan := start(t, "scene", sceneArgument{"hand on the token", path})
	files := <-third
	t.Cleanup(func() { closeAll(files) })
	server.kill()
	ended := make(chan error, 1)
	go func() {
		next, err := Listen(context.Background(), path, &Options{KillOrphan: true, CloseTimeout: time.Millisecond})
		if err == nil {
			err = next.Close()
		}
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrClientRunning) {
			t.Errorf("Listen: %v, want %v", err, ErrClientRunning)
		}
	case <-time.After(watchdog):
		t.Fatalf("Listen waits for a third process\n%s", stacks())
	}
	if signal := orphan.wait(); signal != syscall.SIGKILL {
		t.Errorf("the orphan ended with signal %v", signal)
	}
}

// An admission that was under way may settle the former client between its watcher's
// last look, which leaves it to Close, and Close's: somebody hangs up all the same.
func TestL8CloseBesideAnAdmissionLeavesNoConnection(t *testing.T) {
	path := testPath(t)
	around := lookAround()
	for range 100 {
		server := listenHere(t, path, hostileOptions())
		first := rawAttach(t, path)
		var both sync.WaitGroup
		for range 3 {
			second := rawConnect(t, path)
			if err := second.send(newPacket(packetHello)); err != nil {
				t.Fatal(err)
			}
			spawn(&both, second.hangUp)
		}
		spawn(&both, first.leave)
		spawn(&both, func() { _ = server.Close() })
		both.Wait()
	}
	around.check(t)
}

// What was sent after a corrupt client has ended was seen by nobody, and is not marked.
func TestM3WhatIsSentAfterACorruptClientHasEndedIsNotMarked(t *testing.T) {
	ctx := testContext(t)
	server := listenHere(t, testPath(t), hostileOptions())
	client := rawAttach(t, server.Path())
	nextEvent(t, server, EventAttached)
	sendAll(t, server, 1)
	client.own.control.readPos.Store(4)
	client.leave()
	nextEvent(t, server, EventDied)
	sendAll(t, server, 2)
	next := dialHere(t, server.Path(), hostileOptions())
	for kind, again := range []bool{1: true, 2: false} {
		if kind == 0 {
			continue
		}
		m, err := next.Receive(ctx)
		if err != nil || m.Kind != uint32(kind) || m.Redelivered != again || m.Release() != nil {
			t.Errorf("message %d: %+v, %v; want it marked: %t", kind, m, err, again)
		}
	}
}

// The end of a corrupt client is told at once. It does not wait for the memory that the
// next client gets, which may not be had.
func TestM7TheEndOfACorruptClientIsToldThoughThereIsNoMemory(t *testing.T) {
	server := listenHere(t, testPath(t), hostileOptions())
	client := rawAttach(t, server.Path())
	nextEvent(t, server, EventAttached)
	client.own.control.readPos.Store(4) // found at its end
	client.leave()
	event := nextEvent(t, server, EventDied)
	checkEndOfHostile(t, event.Err, "I1")
	_, err := server.TryReceive()
	checkEndOfHostile(t, err, "I1")
	if _, err := server.TryReceive(); !errors.Is(err, ErrEmpty) {
		t.Errorf("behind the end: %v, want %v", err, ErrEmpty)
	}
	checkSuccessor(t, server, 0, 10)
}
