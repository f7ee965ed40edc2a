//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Rows of docs/FAILURES.md that no other file shows, and the times that it names.

// A client beats and takes nothing. That is not silence: nobody is called hung, also
// with FailOnHang. The ring fills, and what waits for space ends with its context.
func TestM8APeerThatBeatsAndTakesNothingIsNotHung(t *testing.T) {
	path, page := testPath(t), os.Getpagesize()
	server := listenHere(t, path, &Options{ToClientSize: page, HangTimeout: 10 * watchdog, FailOnHang: true})
	client := startActor(t, actorArgument{Path: path, Options: quick})
	client.ask("attached", "dial")
	nextEvent(t, server, EventAttached)
	sent := uint32(0)
	for {
		err := server.TrySend(sent+1, pattern(sent+1))
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sent++
	}
	beat := server.peer.control.beat.Load()
	eventually(t, "the client beats", func() bool { return server.peer.control.beat.Load() > beat })
	short, cancel := context.WithTimeout(testContext(t), 20*time.Millisecond)
	defer cancel()
	if err := server.Send(short, sent+1, pattern(sent+1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Send into a full ring: %v, want the end of its context", err)
	}
	if state := server.Peer().State; state != PeerAttached {
		t.Errorf("the client is %v", state)
	}
	if got := unreleased(t, server); strings.Contains(got, "d") || len(strings.Fields(got)) != int(sent) {
		t.Errorf("M6 Account: %q, want all of %d messages and none delivered", got, sent)
	}
	client.ask("got 1", "receive") // and it goes on
	client.ask("released", "release")
	sendAll(t, server, 1) // as large as what was released
}

// The kernel writes a core dump before it takes a process down: its end is told when
// the file is whole, and not when the signal came.
func TestL5ADeathIsToldBehindItsCoreDump(t *testing.T) {
	needsRealKernel(t, "the dump is of the machine below")
	if where := strings.TrimSpace(readFile(t, "/proc/sys/kernel/core_pattern")); where != "core" {
		notRun(t, "core dumps go elsewhere: "+where)
	}
	path := testPath(t)
	server := listenHere(t, path, nil)
	client := start(t, "dumps its core", path)
	if line := client.expect("attached"); line != "" {
		notRun(t, "no core dump may be written: "+line)
	}
	nextEvent(t, server, EventAttached)
	begun := time.Now()
	client.tell("abort")
	if _, err := server.Receive(testContext(t)); !errors.Is(err, ErrPeerDied) {
		t.Fatalf("Receive: %v", err)
	}
	told := time.Since(begun)
	dumps, err := filepath.Glob(filepath.Join(filepath.Dir(path), "core*"))
	if err != nil || len(dumps) != 1 {
		t.Fatalf("core dumps %v, %v", dumps, err)
	}
	if info, err := os.Stat(dumps[0]); err != nil || info.Size() < dumpedSize {
		t.Errorf("the death is told when %d bytes of more than %d are written, %v", info.Size(), dumpedSize, err)
	} else {
		t.Logf("the death is told %v after the abort, behind a dump of %d MiB", told, info.Size()>>20)
	}
	if signal := client.wait(); signal != syscall.SIGABRT {
		t.Errorf("the client ended with %v", signal)
	}
}

const dumpedSize = 64 << 20

var _ = part("dumps its core", func(p *player) {
	var path string
	p.arg(&path)
	limit := unix.Rlimit{}
	err := unix.Getrlimit(unix.RLIMIT_CORE, &limit)
	if err == nil && limit.Max < 4*dumpedSize {
		p.say("attached with a limit of %d", limit.Max)
		p.untilStdinEnds()
	}
	limit.Cur = limit.Max
	memory := make([]byte, dumpedSize)
	for i := range memory {
		memory[i] = byte(i>>12) | 1
	}
	if err := errors.Join(err, unix.Setrlimit(unix.RLIMIT_CORE, &limit), os.Chdir(filepath.Dir(path))); err != nil {
		p.fail("%v", err)
	}
	if _, err := Dial(p.ctx, path, nil); err != nil {
		p.fail("dial: %v", err)
	}
	p.say("attached")
	p.next()
	debug.SetTraceback("crash")
	panic(memory[0])
})

// A program that reads no events misses the oldest, and is told how many.
func TestEventsThatNobodyReadsAreCounted(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, nil)
	const clients = 50 // each with two events: more than there is room for
	for range clients {
		client, err := Dial(testContext(t), path, &Options{Wait: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the last one has left", func() bool { return server.Stats().Closes == clients })
	room, missed, read := len(server.Events()), 0, 0
	for range room {
		event := <-server.Events()
		missed += event.Missed
		read++
	}
	if missed == 0 || missed+read < 2*clients-1 { // the last may be on its way
		t.Errorf("%d events read, %d missed; there were %d", read, missed, 2*clients)
	}
}

// A client that comes first waits, and attaches when the server has come.
func TestAClientThatComesFirstWaitsForItsServer(t *testing.T) {
	path := testPath(t)
	short, cancel := context.WithTimeout(testContext(t), 20*time.Millisecond)
	defer cancel()
	if _, err := Dial(short, path, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial where no server is: %v, want the end of its context", err)
	}
	client := startActor(t, actorArgument{Path: path})
	client.tell("dial")
	server := listenHere(t, path, nil)
	client.expect("attached 1 1")
	sendAll(t, server, 1)
	client.ask("got 1", "receive")
	client.kill()
}

// The limit of L2 and L3: the server has died, its client lives, and somebody removes
// the files. A new pair starts beside the old client. The two share nothing (L4).
func TestL4APairBesideAnOldClientWhoseFilesWereRemovedSharesNothing(t *testing.T) {
	path := testPath(t)
	former := startActor(t, actorArgument{Path: path})
	former.ask("listening 1", "listen")
	old := dialHere(t, path, nil)
	former.ask("sent 2", "send 1 2")
	former.kill()
	if _, err := Listen(testContext(t), path, nil); !errors.Is(err, ErrClientRunning) {
		t.Errorf("Listen beside the old client: %v", err)
	}
	remove(t, path+lockSuffix)
	remove(t, path+tokenSuffix)
	server := listenHere(t, path, nil)
	client := startActor(t, actorArgument{Path: path})
	client.ask("attached 1 1", "dial")
	client.ask("sent 1", "send 3")
	sendAll(t, server, 4)
	client.ask("got 4", "receive")
	if got, end := receiveAll(t, old); got != "1 2" || !errors.Is(end, ErrPeerDied) {
		t.Errorf("the old client receives %q, then %v", got, end)
	}
	if err := old.Send(testContext(t), 5, nil); !errors.Is(err, ErrPeerDied) {
		t.Errorf("the old client sends: %v", err)
	}
	if m, err := server.Receive(testContext(t)); err != nil || m.Kind != 3 {
		t.Errorf("the new server receives %+v, %v", m, err)
	}
	client.kill()
}

// The file system of the path fills up beside a server. The pair that is there goes on;
// the next client waits until there is room for its token file.
var _ = sceneOf("a file system that fills up", func(s *scene) {
	s.ownMounts()
	directory := filepath.Dir(s.path)
	s.mountAt("tmpfs", directory, "mode=0700,size=1m,nr_inodes=8")
	server, client := s.pair(nil)
	file := 0
	for ; os.WriteFile(filepath.Join(directory, fmt.Sprint("full", file)), nil, 0o600) == nil; file++ {
	}
	s.exchange(server, client)
	if err := client.Close(); err != nil {
		s.fail("close: %v", err)
	}
	if _, err := server.Receive(s.ctx); !errors.Is(err, ErrPeerClosed) {
		s.fail("behind the first client: %v", err)
	}
	attached := make(chan error, 1)
	go func() {
		next, err := Dial(s.ctx, s.path, nil)
		if err == nil {
			s.exchange(server, next)
			err = next.Close()
		}
		attached <- err
	}()
	for event := range server.Events() {
		if event.Kind == EventAdmissionFailed {
			s.must("the event", event.Err, unix.ENOSPC)
			break
		}
	}
	if err := os.Remove(filepath.Join(directory, fmt.Sprint("full", file-1))); err != nil {
		s.fail("%v", err)
	}
	if err := errors.Join(<-attached, server.Close()); err != nil {
		s.fail("%v", err)
	}
})

func TestL7AServerWhoseFileSystemFillsUpKeepsItsClientAndSaysSo(t *testing.T) {
	playSceneIn(t, ownMountsOnly, "a file system that fills up", testPath(t))
}

// What docs/FAILURES.md says of times is printed here; none of it is asserted.
func TestL6TheTimesOfAnEndArePrinted(t *testing.T) {
	show := func(what string, times []time.Duration) {
		slices.Sort(times)
		t.Logf("%s: least %v, median %v, most %v of %d", what, times[0], times[len(times)/2], times[len(times)-1], len(times))
	}
	show("SIGKILL of a client to Receive's ErrPeerDied at the server", killClients(t, 20))
	show("SIGKILL of a server to Receive's ErrPeerDied at the client", killServers(t, 20))
	show("SIGKILL of a server to the client attached to the next", killAndFollow(t, 10))
	if !testing.Short() {
		show("SIGSTOP of a client to EventHung, with the defaults", stopClients(t, 3))
	}
}

// killAndFollow kills servers, for each of which another waits, and returns how long
// the client takes to come over.
func killAndFollow(t *testing.T, count int) (times []time.Duration) {
	path := testPath(t)
	server := startActor(t, actorArgument{Path: path})
	server.ask("listening", "listen")
	client, err := Dial(testContext(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range count {
		next := startActor(t, actorArgument{Path: path, Options: actorOptions{Wait: true}})
		next.tell("listen")
		killed := time.Now()
		server.kill()
		if _, err := client.Receive(testContext(t)); !errors.Is(err, ErrPeerDied) {
			t.Fatal(err)
		}
		if client, err = client.Redial(testContext(t)); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(killed))
		next.expect("listening")
		server = next
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	return times
}

func stopClients(t *testing.T, count int) (times []time.Duration) {
	path := testPath(t)
	server := listenHere(t, path, nil)
	client := startActor(t, actorArgument{Path: path})
	client.ask("attached", "dial")
	nextEvent(t, server, EventAttached)
	for range count {
		awaitState(t, server, PeerAttached)
		stopped := time.Now()
		client.signal(syscall.SIGSTOP)
		awaitState(t, server, PeerHung)
		times = append(times, time.Since(stopped))
		client.signal(syscall.SIGCONT)
	}
	return times
}
