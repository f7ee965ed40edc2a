//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// The crash tables: a process dies at a step, and the row says what must hold.
// A step that is never reached fails its row, and a step in no row fails
// TestEveryStepHasARow.

// A ringCrash is a death while messages are sent or received. The survivor has
// sent messages 1 to 4 before, if the victim receives.
type ringCrash struct {
	at  step.ID
	nth int
	do  string // what the victim is told, line by line

	committed string // if the victim sends: what the survivor receives of it
	account   string // if it receives: what is not released, d for delivered
	next      string // and what the next client is given, r for redelivered
}

var producerCrashes = []ringCrash{
	{at: step.Claimed, nth: 3, do: "send 1 2 3 4", committed: "1 2"},
	{at: step.Filled, nth: 3, do: "send 1 2 3 4", committed: "1 2"},
	{at: step.Sealed, nth: 3, do: "send 1 2 3 4", committed: "1 2"},
	{at: step.Published, nth: 3, do: "send 1 2 3 4", committed: "1 2 3"},
	{at: step.Notified, nth: 3, do: "send 1 2 3 4", committed: "1 2 3"},
	{at: step.Claimed, nth: 1, do: "batch 1 2 3", committed: ""},
	{at: step.Claimed, nth: 3, do: "batch 1 2 3", committed: ""},
	{at: step.Filled, nth: 2, do: "batch 1 2 3", committed: ""},
	{at: step.Sealed, nth: 3, do: "batch 1 2 3", committed: ""},
	{at: step.Published, nth: 1, do: "batch 1 2 3", committed: "1 2 3"},
	{at: step.Filled, nth: 2, do: "reserve 1 2", committed: "1"},
	{at: step.Sealed, nth: 2, do: "reserve 1 2", committed: "1"},
	{at: step.Published, nth: 2, do: "reserve 1 2", committed: "1 2"},
	{at: step.Aborted, nth: 1, do: "send 1\nabort 2", committed: "1"},
	{at: step.DataArmed, nth: 1, do: "send 1\nreceive", committed: "1"},
	{at: step.Sleeping, nth: 1, do: "send 1\nreceive", committed: "1"},
	{at: step.Disarmed, nth: 1, do: "send 1\ngiveup", committed: "1"},
	{at: step.Beaten, nth: 2, do: "send 1", committed: "1"},
}

var consumerCrashes = []ringCrash{
	{at: step.Peeked, nth: 2, do: "receive\nrelease\nreceive", account: "2 3 4", next: "2 3 4"},
	{at: step.Delivered, nth: 2, do: "receive\nrelease\nreceive", account: "2d 3 4", next: "2r 3 4"},
	{at: step.Released, nth: 2, do: "receive\nrelease\nreceive\nrelease", account: "3 4", next: "3 4"},
	{at: step.ReleaseNotified, nth: 2, do: "receive\nrelease\nreceive\nrelease", account: "3 4", next: "3 4"},
	{at: step.Peeked, nth: 2, do: "receivebatch 3", account: "1 2 3 4", next: "1 2 3 4"},
	{at: step.Delivered, nth: 1, do: "receivebatch 3", account: "1d 2d 3d 4", next: "1r 2r 3r 4"},
	{at: step.Released, nth: 2, do: "receivebatch 3\nrelease\nrelease", account: "3d 4", next: "3r 4"},
	{at: step.Peeked, nth: 2, do: "receiveinto 2", account: "2 3 4", next: "2 3 4"},
	{at: step.Delivered, nth: 2, do: "receiveinto 2", account: "2d 3 4", next: "2r 3 4"},
	{at: step.Released, nth: 2, do: "receiveinto 2", account: "3 4", next: "3 4"},
	{at: step.Delivered, nth: 1, do: "receivebatchinto 3", account: "1d 2d 3d 4", next: "1r 2r 3r 4"},
	{at: step.Released, nth: 1, do: "receivebatchinto 3", account: "4", next: "4"},
	{at: step.Delivered, nth: 4, do: "receive 4", account: "1d 2d 3d 4d", next: "1r 2r 3r 4r"},
}

func (c ringCrash) String() string {
	return fmt.Sprintf("%v-%d/%s", c.at, c.nth, strings.ReplaceAll(c.do, "\n", ","))
}

// perform tells the victim what to do, without waiting for its answers.
func (c ringCrash) perform(victim *process) {
	for line := range strings.Lines(c.do) {
		victim.tell("%s", strings.TrimSpace(line))
	}
}

func TestM1M2M4M5W6WhatADeadClientCommittedArrivesAndNothingElse(t *testing.T) {
	for _, row := range producerCrashes {
		t.Run(row.String(), func(t *testing.T) {
			path := testPath(t)
			server := listenHere(t, path, nil)
			victim := startActor(t, actorArgument{Path: path, DieAt: row.at.String(), DieNth: row.nth})
			victim.ask("attached", "dial")
			row.perform(victim)
			victim.awaitDeath()
			got, end := receiveAll(t, server)
			if got != row.committed || !errors.Is(end, ErrPeerDied) {
				t.Errorf("received %q, then %v; want %q, then %v", got, end, row.committed, ErrPeerDied)
			}
			checkNextClient(t, server, path)
		})
	}
}

func TestM1M2M4M5C9WhatADeadServerCommittedArrivesAndNothingElse(t *testing.T) {
	for _, row := range producerCrashes {
		t.Run(row.String(), func(t *testing.T) {
			path := testPath(t)
			victim := startActor(t, actorArgument{Path: path})
			victim.ask("listening", "listen")
			client := dialHere(t, path, nil)
			victim.ask("event attached", "event")
			victim.ask("armed", fmt.Sprintf("arm %v %d 9", row.at, row.nth))
			row.perform(victim)
			victim.awaitDeath()
			got, end := receiveAll(t, client)
			if got != row.committed || !errors.Is(end, ErrPeerDied) {
				t.Errorf("received %q, then %v; want %q, then %v", got, end, row.committed, ErrPeerDied)
			}
			if err := client.Send(testContext(t), 1, nil); !errors.Is(err, ErrPeerDied) {
				t.Errorf("Send to a dead server: %v", err)
			}
			checkNextServer(t, client, path)
		})
	}
}

func TestM3M6ADeadClientsAccountIsExactAndTheNextOneContinues(t *testing.T) {
	for _, row := range consumerCrashes {
		t.Run(row.String(), func(t *testing.T) {
			path := testPath(t)
			server := listenHere(t, path, nil)
			sendAll(t, server, 1, 2, 3, 4)
			victim := startActor(t, actorArgument{Path: path, DieAt: row.at.String(), DieNth: row.nth})
			victim.ask("attached", "dial")
			row.perform(victim)
			victim.awaitDeath()
			nextEvent(t, server, EventAttached)
			end := nextEvent(t, server, EventDied)
			if got := unreleased(t, server); got != row.account {
				t.Errorf("M6 Account: unreleased %q, want %q", got, row.account)
			}
			if want := len(strings.Fields(row.account)); end.Unreleased != want || end.Redeliverable != strings.Count(row.account, "d") {
				t.Errorf("M6 Account: the event says %d unreleased, %d of them redeliverable; want %q", end.Unreleased, end.Redeliverable, row.account)
			}
			next := startActor(t, actorArgument{Path: path})
			next.ask("attached", "dial")
			if got := next.ask("got", fmt.Sprintf("receive %d", len(strings.Fields(row.next)))); got != row.next {
				t.Errorf("M3 AtLeastOnce: the next client gets %q, want %q", got, row.next)
			}
		})
	}
}

func TestM6ADeadServersAccountIsExact(t *testing.T) {
	for _, row := range consumerCrashes {
		t.Run(row.String(), func(t *testing.T) {
			path := testPath(t)
			victim := startActor(t, actorArgument{Path: path})
			victim.ask("listening", "listen")
			client := dialHere(t, path, nil)
			sendAll(t, client, 1, 2, 3, 4)
			victim.ask("armed", fmt.Sprintf("arm %v %d 9", row.at, row.nth))
			row.perform(victim)
			victim.awaitDeath()
			<-client.Done()
			if got := unreleased(t, client); got != row.account {
				t.Errorf("M6 Account: unreleased %q, want %q", got, row.account)
			}
		})
	}
}

func TestM3W7ASecondDeathDoesNotUnmarkWhatTheFirstSaw(t *testing.T) { // W7
	path := testPath(t)
	server := listenHere(t, path, nil)
	sendAll(t, server, 1, 2, 3)
	for _, victim := range []struct{ do, got string }{{"receivebatch 2", "1 2"}, {"receive", "1r"}} {
		client := startActor(t, actorArgument{Path: path})
		client.ask("attached", "dial")
		if got := client.ask("got", victim.do); got != victim.got {
			t.Errorf("M3 AtLeastOnce: a client gets %q, want %q", got, victim.got)
		}
		client.kill()
		nextEvent(t, server, EventAttached)
		if end := nextEvent(t, server, EventDied); !errors.Is(end.Err, ErrPeerDied) || end.Redeliverable != 2 {
			t.Errorf("after %q the end is told as %+v, want a death and 2 redeliverable", victim.do, end)
		}
		if got := unreleased(t, server); got != "1d 2d 3" {
			t.Errorf("M6 Account: after %q unreleased %q, want %q", victim.do, got, "1d 2d 3")
		}
	}
	next := startActor(t, actorArgument{Path: path})
	next.ask("attached", "dial")
	if got := next.ask("got", "receive 3"); got != "1r 2r 3" {
		t.Errorf("M3 AtLeastOnce: the next client gets %q, want %q", got, "1r 2r 3")
	}
}

// A receiver that sleeps while its peer commits and dies sees both at once when it
// wakes: the messages come first.
func TestM5WhoSleepsWhileItsPeerCommitsAndDiesDrainsFirst(t *testing.T) {
	for _, role := range []Role{RoleServer, RoleClient} {
		t.Run(role.String(), func(t *testing.T) {
			path := testPath(t)
			victim := startActor(t, actorArgument{Path: path})
			var survivor *Endpoint
			slept := false
			options := &Options{hook: func(at step.ID, _ uint64) {
				if at == step.Sleeping && !slept { // only this goroutine receives
					slept = true
					victim.ask("sent 3", "send 1 2 3")
					victim.kill()
					nextEvent(t, survivor, EventDied)
				}
			}}
			if role == RoleServer {
				survivor = listenHere(t, path, options)
				victim.ask("attached", "dial")
			} else {
				victim.ask("listening", "listen")
				survivor = dialHere(t, path, options)
			}
			nextEvent(t, survivor, EventAttached)
			if got, end := receiveAll(t, survivor); !slept || got != "1 2 3" || !errors.Is(end, ErrPeerDied) {
				t.Errorf("M5: slept %t, then received %q, then %v; want %q, then %v", slept, got, end, "1 2 3", ErrPeerDied)
			}
		})
	}
}

// checkNextClient sees that the pair works again with a new client, in both
// directions (L7).
func checkNextClient(t *testing.T, server *Endpoint, path string) {
	t.Helper()
	next := startActor(t, actorArgument{Path: path})
	next.ask("attached", "dial")
	next.ask("sent 2", "send 50 51")
	for _, want := range []uint32{50, 51} {
		m, err := server.Receive(testContext(t))
		if err != nil || m.Kind != want || m.Redelivered {
			t.Fatalf("L7 ClientRestart: from the next client: %+v, %v; want %d", m, err, want)
		}
		if err := m.Release(); err != nil {
			t.Fatal(err)
		}
	}
	sendAll(t, server, 60)
	next.ask("got 60", "receive")
	next.ask("released", "release")
	next.ask("closed", "close")
}

// checkNextServer sees that a new server starts once the client has let go, that
// it has a new generation, and that nothing of the old one is left (L3, L4).
func checkNextServer(t *testing.T, client *Endpoint, path string) {
	t.Helper()
	if _, err := Listen(testContext(t), path, nil); !errors.Is(err, ErrClientRunning) {
		t.Fatalf("L3 BothRestart: Listen beside the old client: %v", err)
	}
	next := startActor(t, actorArgument{Path: path, Options: actorOptions{Wait: true}})
	next.tell("listen")
	again, err := client.Redial(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	next.expect("listening")
	if again.Generation() <= client.Generation() {
		t.Errorf("generation %d after %d", again.Generation(), client.Generation())
	}
	next.ask("sent 1", "send 70")
	m, err := again.Receive(testContext(t))
	if err != nil || m.Kind != 70 || m.Redelivered {
		t.Fatalf("L4 NoGhost: first message of the new generation: %+v, %v; want 70", m, err)
	}
	sendAll(t, again, 71)
	next.ask("got 71", "receive")
}

// listenSteps are the steps of Listen, in order.
var listenSteps = []step.ID{
	step.ListenBegun, step.LockFileOpened, step.ServerLocked, step.TokenLocked, step.StaleProbed,
	step.GenerationRecorded, step.ServerSegmentMade, step.ClientSegmentMade, step.SocketBound,
	step.SocketListening, step.LockFileRechecked, step.TokenReturned,
}

func TestL1L3L8AServerThatDiesInListenLeavesNothingInTheWay(t *testing.T) {
	for _, at := range listenSteps {
		t.Run(at.String(), func(t *testing.T) {
			path := testPath(t)
			victim := startActor(t, actorArgument{Path: path, DieAt: at.String()})
			victim.tell("listen")
			victim.awaitDeath()
			checkFiles(t, path)
			server := listenHere(t, path, nil)
			checkNextClient(t, server, path)
		})
	}
}

// checkFiles sees that nothing is left of a dead pair but the lock file and a
// stale socket path (L8).
func checkFiles(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		switch filepath.Join(filepath.Dir(path), entry.Name()) {
		case path, path + ".lock", path + tokenSuffix, path + newTokenSuffix:
		default:
			t.Errorf("L8 NoLeak: %s is left", entry.Name())
		}
	}
}

// admissionSteps are the server's steps from a connection to an attached client.
var admissionSteps = []step.ID{
	step.ConnectionAccepted, step.HelloReceived, step.TokenTaken, step.ClientRecorded,
	step.GrantSent, step.TokenHandedOver, step.ReadyReceived,
}

func TestL3AServerThatDiesInAdmissionIsReplacedAndItsClientComesOver(t *testing.T) {
	for _, at := range admissionSteps {
		t.Run(at.String(), func(t *testing.T) {
			path := testPath(t)
			victim := startActor(t, actorArgument{Path: path, DieAt: at.String()})
			victim.ask("listening 1", "listen")
			attached := make(chan *Endpoint)
			go func() { // a client that follows its servers
				e, err := Dial(testContext(t), path, nil)
				for err == nil && e.Generation() == 1 {
					_, _ = e.Receive(testContext(t)) // the end of the first server
					e, err = e.Redial(testContext(t))
				}
				if err != nil {
					t.Errorf("the client: %v", err)
				}
				attached <- e
			}()
			victim.awaitDeath()
			server := listenHere(t, path, &Options{Wait: true})
			client := <-attached
			if client == nil {
				return
			}
			defer client.Close()
			sendAll(t, server, 1)
			m, err := client.Receive(testContext(t))
			if err != nil || m.Kind != 1 {
				t.Errorf("from the new server: %+v, %v", m, err)
			}
		})
	}
}

// endSteps are the survivor's steps when its peer has ended.
var endSteps = []step.ID{step.EndSeen, step.EndProven, step.AccountTaken}

func TestL3AServerThatDiesWhileItsClientEndsIsReplaced(t *testing.T) {
	for _, at := range endSteps {
		t.Run(at.String(), func(t *testing.T) {
			path := testPath(t)
			victim := startActor(t, actorArgument{Path: path, DieAt: at.String()})
			victim.ask("listening 1", "listen")
			client := startActor(t, actorArgument{Path: path})
			client.ask("attached 1", "dial")
			client.kill()
			victim.awaitDeath()
			checkNewPair(t, path)
		})
	}
}

func TestL3AClientThatDiesWhileItsServerEndsKeepsNobodyOut(t *testing.T) {
	for _, at := range endSteps {
		t.Run(at.String(), func(t *testing.T) {
			path := testPath(t)
			server := startActor(t, actorArgument{Path: path})
			server.ask("listening 1", "listen")
			victim := startActor(t, actorArgument{Path: path, DieAt: at.String()})
			victim.ask("attached 1", "dial")
			server.ask("sent 1", "send 1")
			server.kill()
			victim.awaitDeath()
			checkFiles(t, path)
			checkNewPair(t, path)
		})
	}
}

// checkNewPair sees that a second generation works where both have died.
func checkNewPair(t *testing.T, path string) {
	t.Helper()
	server := listenHere(t, path, nil)
	if server.Generation() != 2 {
		t.Errorf("generation %d, want 2", server.Generation())
	}
	checkNextClient(t, server, path)
}

// dialSteps are the steps of Dial, in order.
var dialSteps = []step.ID{
	step.DialBegun, step.Connected, step.HelloSent, step.GrantReceived, step.SegmentsMapped,
	step.DataWaitCleared, step.SpaceWaitCleared, step.AttachmentStored, step.ReadySent,
}

func TestL2L7AClientThatDiesInDialChangesNothing(t *testing.T) {
	for _, at := range dialSteps {
		t.Run(at.String(), func(t *testing.T) {
			path := testPath(t)
			server := listenHere(t, path, nil)
			sendAll(t, server, 1, 2)
			victim := startActor(t, actorArgument{Path: path, DieAt: at.String()})
			victim.tell("dial")
			victim.awaitDeath()
			next := startActor(t, actorArgument{Path: path})
			next.ask("attached", "dial")
			next.ask("got 1 2", "receive 2")
			next.ask("sent 1", "send 3")
			ctx := testContext(t)
			m, err := server.Receive(ctx)
			if errors.Is(err, ErrPeerDied) { // told once, if the victim had attached
				m, err = server.Receive(ctx)
			}
			if err != nil || m.Kind != 3 {
				t.Errorf("from the next client: %+v, %v", m, err)
			}
		})
	}
}

// clientCloseSteps are the steps of a client's Close; from GoodbyeSaid on it is
// a clean end.
var clientCloseSteps = []step.ID{
	step.CloseBegun, step.GoodbyeSaid, step.SegmentUnmapped, step.TokenClosed, step.ConnectionClosed,
}

func TestL5L7AClientThatDiesInCloseIsToldApart(t *testing.T) {
	want := EventDied
	for _, at := range clientCloseSteps {
		if at == step.GoodbyeSaid {
			want = EventClosed
		}
		t.Run(at.String(), func(t *testing.T) {
			path := testPath(t)
			server := listenHere(t, path, nil)
			sendAll(t, server, 1, 2)
			victim := startActor(t, actorArgument{Path: path, DieAt: at.String()})
			victim.ask("attached", "dial")
			victim.ask("got 1", "receive")
			victim.tell("close")
			victim.awaitDeath()
			nextEvent(t, server, EventAttached)
			nextEvent(t, server, want)
			next := startActor(t, actorArgument{Path: path})
			next.ask("attached", "dial")
			next.ask("got 1r 2", "receive 2")
		})
	}
}

// serverCloseSteps are the steps of a server's Close with an attached client
// that leaves when it is told.
var serverCloseSteps = []struct {
	at   step.ID
	want error
}{
	{step.CloseBegun, ErrPeerDied}, {step.PathUnlinked, ErrPeerDied}, {step.ListenerClosed, ErrPeerDied},
	{step.GoodbyeSaid, ErrPeerClosed}, {step.ConnectionClosed, ErrPeerClosed}, {step.TokenAwaited, ErrPeerClosed},
	{step.SegmentUnmapped, ErrPeerClosed}, {step.ServerUnlocked, ErrPeerClosed},
}

func TestL3L5AServerThatDiesInCloseIsToldApartAndReplaced(t *testing.T) {
	for _, row := range serverCloseSteps {
		t.Run(row.at.String(), func(t *testing.T) {
			path := testPath(t)
			victim := startActor(t, actorArgument{Path: path, DieAt: row.at.String(), Options: actorOptions{CloseTimeout: watchdog}})
			victim.ask("listening 1", "listen")
			client := dialHere(t, path, nil)
			victim.ask("sent 1", "send 1")
			victim.tell("close")
			got, end := receiveAll(t, client)
			if got != "1" || !errors.Is(end, row.want) {
				t.Errorf("received %q, then %v; want 1, then %v", got, end, row.want)
			}
			if err := client.Close(); err != nil {
				t.Error(err)
			}
			victim.awaitDeath()
			checkFiles(t, path)
			server := listenHere(t, path, nil)
			checkNextClient(t, server, path)
		})
	}
}

func TestL3AServerThatDiesAfterItKilledItsClientIsReplaced(t *testing.T) {
	path := testPath(t)
	server := startActor(t, actorArgument{Path: path, DieAt: step.ClientKilled.String(),
		Options: actorOptions{KillOnClose: true, CloseTimeout: time.Millisecond}})
	server.ask("listening 1", "listen")
	client := startActor(t, actorArgument{Path: path})
	client.ask("attached 1", "dial")
	client.signal(syscall.SIGSTOP)
	server.tell("close")
	server.awaitDeath()
	if signal := client.wait(); signal != syscall.SIGKILL {
		t.Errorf("the client ended with signal %v, want SIGKILL by its server", signal)
	}
	checkNextClient(t, listenHere(t, path, nil), path)
}

// spaceWaitSteps are the steps of a wait for space. Who dies there leaves a ring that
// is full, and stays so.
var spaceWaitSteps = []step.ID{step.SpaceArmed, step.Sleeping, step.Woken}

func TestM7M8AProcessThatDiesWaitingForSpaceLeavesTheRingWhole(t *testing.T) {
	small := actorOptions{ToServerSize: os.Getpagesize(), ToClientSize: os.Getpagesize()}
	for _, role := range []Role{RoleClient, RoleServer} {
		for _, at := range spaceWaitSteps {
			t.Run(role.String()+"/"+at.String(), func(t *testing.T) {
				path := testPath(t)
				victim, survivor := startPair(t, path, role, small)
				victim.ask("armed", fmt.Sprintf("arm %v 1 9", at))
				var kinds []string
				for kind := range 60 * os.Getpagesize() / 4096 { // more than a page
					kinds = append(kinds, fmt.Sprint(kind+1))
				}
				victim.tell("send %s", strings.Join(kinds, " "))
				if at == step.Woken {
					eventually(t, "the victim sleeps", func() bool {
						return survivor.peer.control.spaceWaitFor.Load() != 0
					})
					m, err := survivor.Receive(testContext(t))
					if err != nil || m.Release() != nil {
						t.Fatal(err)
					}
					kinds = kinds[1:]
				}
				victim.awaitDeath()
				got, end := receiveAll(t, survivor)
				if !errors.Is(end, ErrPeerDied) || !strings.HasPrefix(strings.Join(kinds, " ")+" ", got+" ") || len(got) < 10 {
					t.Errorf("received %q, then %v", got, end)
				}
				checkTheNext(t, survivor, path)
			})
		}
	}
}

// startPair makes a pair of an actor in a role, who is to die, and an endpoint here.
func startPair(t *testing.T, path string, role Role, options actorOptions) (victim *process, survivor *Endpoint) {
	t.Helper()
	victim = startActor(t, actorArgument{Path: path, Options: options})
	if role == RoleClient {
		survivor = listenHere(t, path, options.options(nil))
		victim.ask("attached", "dial")
		return victim, survivor
	}
	victim.ask("listening", "listen")
	survivor = dialHere(t, path, options.options(nil))
	victim.ask("event attached", "event")
	return victim, survivor
}

// checkTheNext sees that the survivor works again with a successor.
func checkTheNext(t *testing.T, survivor *Endpoint, path string) {
	t.Helper()
	if survivor.Role() == RoleServer {
		checkNextClient(t, survivor, path)
		return
	}
	checkNextServer(t, survivor, path)
}

// wakers are who dies as it wakes, with a message to receive.
var wakers = []Role{RoleClient, RoleServer}

func TestM7AReceiverThatDiesOnWakingLeavesTheMessage(t *testing.T) {
	for _, role := range wakers {
		t.Run(role.String(), func(t *testing.T) {
			path := testPath(t)
			victim, survivor := startPair(t, path, role, actorOptions{})
			waitFor, was := &survivor.peer.control.dataWaitFor, uint64(0)
			sleeps := func() bool { return waitFor.Load() != was && waitFor.Load() != 0 }
			victim.tell("receive") // the first sleep finds out how this kernel lets it sleep
			eventually(t, "the victim sleeps", sleeps)
			was = waitFor.Load()
			sendAll(t, survivor, 2)
			victim.expect("got 2")
			victim.ask("released", "release")
			victim.ask("armed", fmt.Sprintf("arm %v 1 9", step.Woken))
			victim.tell("receive")
			eventually(t, "the victim sleeps", sleeps)
			sendAll(t, survivor, 1)
			victim.awaitDeath()
			if role == RoleServer {
				<-survivor.Done()
				if got := unreleased(t, survivor); got != "1" {
					t.Errorf("M6 Account: unreleased %q, want 1", got)
				}
				checkNextServer(t, survivor, path)
				return
			}
			next := startActor(t, actorArgument{Path: path})
			next.ask("attached", "dial")
			next.ask("got 1", "receive")
		})
	}
}

// who is to die at a step, by the word of the document's step table.
func whoDies(who string) []Role {
	switch who {
	case "server":
		return []Role{RoleServer}
	case "client":
		return []Role{RoleClient}
	}
	return []Role{RoleServer, RoleClient} // whichever of the two sends, receives, waits or survives
}

func TestEveryStepHasARow(t *testing.T) {
	type row struct {
		at  step.ID
		who Role
	}
	rows := map[row]bool{{step.ClientKilled, RoleServer}: true} // TestL3AServerThatDiesAfterItKilledItsClientIsReplaced
	enter := func(who Role, steps ...step.ID) {
		for _, s := range steps {
			rows[row{s, who}] = true
		}
	}
	enter(RoleServer, listenSteps...)
	enter(RoleServer, admissionSteps...)
	enter(RoleClient, dialSteps...)
	enter(RoleClient, clientCloseSteps...)
	for _, c := range serverCloseSteps {
		enter(RoleServer, c.at)
	}
	for _, both := range []Role{RoleServer, RoleClient} {
		enter(both, spaceWaitSteps...)
		enter(both, endSteps...)
		for _, c := range append(producerCrashes, consumerCrashes...) {
			enter(both, c.at)
		}
	}
	for _, who := range wakers {
		enter(who, step.Woken)
	}
	for _, line := range section(t, protocolDocument(t), "Steps") {
		for _, who := range whoDies(line[1]) {
			if !rows[row{stepNamed(line[0]), who}] {
				t.Errorf("no crash test has a %v die at %v", who, line[0])
			}
		}
	}
}
