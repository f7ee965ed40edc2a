//go:build linux && (amd64 || arm64)

package conn

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/internal/plant"
)

var (
	huntPlanted = flag.Bool("mutants", false, "plant each bug, and see that its tests fail")
	huntOnly    = flag.String("only", "", "with -mutants: hunt only those whose name matches")
)

// A planted bug is an edit of a text that stands once in a file of this package.
// Some of its tests must fail.
type planted struct{ name, tests, file, old, new string }

var plantedBugs = []planted{
	// Deadlines.
	{"no deadline ends a Read", "ConnIsANetConn", "conn.go", "case c.readDeadline.expired:", "case false:"},
	{"no deadline ends a Write", "ADeadlineEndsAWrite", "conn.go", "case c.writeDeadline.expired:", "case false:"},
	{"a Write that waits for the ring is not woken", "ADeadlineEndsAWrite", "conn.go", "		c.cancelWrite()\n		c.writeCtx", "		c.writeCtx"},
	{"a deadline in the past wakes nobody", "ConnIsANetConn", "deadline.go", "		d.expired = true\n		wake()\n		return", "		d.expired = true\n		return"},
	{"a deadline that was taken back expires", "ADeadlineThatWasTakenBack", "deadline.go", "if d.timer == timer {", "if timer != nil {"},
	{"a deadline stays expired", "ADeadlineEndsAWrite", "deadline.go", "	d.expired = false\n", ""},
	{"a closed connection takes deadlines", "CloseLetsThePeer", "deadline.go", "	if c.closed {\n", "	if false {\n"},
	{"a Read at its deadline keeps a view", "NoViewOutlasts", "conn.go", "			c.received.dropView(c.a.own.windowSize)\n			return", "			return"},

	// Ends.
	{"Close wakes no Read", "CloseWakes", "conn.go", "	c.readable.Broadcast()\n	c.stopWriting()\n	c.mu.Unlock()\n	c.sayLast(&c.owesClose)", "	c.stopWriting()\n	c.mu.Unlock()\n	c.sayLast(&c.owesClose)"},
	{"Close wakes no Write", "CloseWakes", "conn.go", "	c.stopWriting()\n	c.mu.Unlock()\n	c.sayLast(&c.owesClose)", "	c.mu.Unlock()\n	c.sayLast(&c.owesClose)"},
	{"a second Close is none", "CloseLetsThePeer", "conn.go", `return c.fault("close", net.ErrClosed)`, "return nil"},
	{"a half-close ends both directions", "HalfClose", "conn.go", "	c.peerEnded = true\n	c.readable.Broadcast()\n	if gone {", "	c.peerEnded = true\n	c.readable.Broadcast()\n	if true {"},
	{"a close is a half-close", "CloseLetsThePeer", "attachment.go", "c.peerEnds(true)", "c.peerEnds(false)"},
	{"a Write goes on after a half-close", "HalfClose", "conn.go", "case c.closed || c.finished:", "case c.closed:"},
	{"what was not read is dropped at the peer's close", "CloseLetsThePeer", "conn.go", "		c.peerGone = true\n		c.stopWriting()", "		c.peerGone = true\n		c.received.clear()\n		c.stopWriting()"},
	{"a close overtakes what is written", "ACloseBesideAWrite", "conn.go", "	c.writing.Lock()\n	defer c.writing.Unlock()\n	c.mu.Lock()", "	c.mu.Lock()"},
	{"a Write that waits is not told of a close", "AWriteToAPeerThatCloses", "conn.go", "		c.peerGone = true\n		c.stopWriting()", "		c.peerGone = true"},
	{"Close keeps a view", "NoViewOutlasts", "store.go", "	if len(s.rest) > 0 {\n		s.release()\n	}\n	*s = store{}", "	*s = store{}"},

	// The streams.
	{"two Writes are mixed", "WritesAreNotMixed", "conn.go", "	c.writing.Lock()\n	defer c.writing.Unlock()\n	written := 0", "	written := 0"},
	{"bytes are lost where the store wraps", "AStoreIsAQueue", "store.go", "n += copy(b[n:], s.ring[:s.size-len(first)])", "n += len(b[n:min(len(b), n+s.size-len(first))])"},
	{"the store grows in another order", "AStoreIsAQueue", "store.go", "		s.size = s.readRing(ring)\n", "		copy(ring, s.ring)\n"},
	{"a view is read twice", "KilledClients|ADialerGoesOn", "store.go", "s.rest = s.rest[n:]; len(s.rest) == 0", "len(s.rest) == n"},
	{"a view is taken where bytes wait", "AViewIsOnlyTaken", "store.go", "if s.count() > 0 || len(body) < worthAView {", "if len(body) < worthAView {"},
	{"a Read of nothing waits", "NothingIsReadAndWritten", "conn.go", "		case len(b) == 0:\n			return 0, nil\n", ""},
	{"a Write of nothing waits for credit", "NothingIsReadAndWritten", "conn.go", "case c.credit > 0 || size == 0:", "case c.credit > 0:"},
	{"a part is never as small as the ring wants", "ADeadlineEndsAWrite", "conn.go", "c.a.chunkSize.Store(int64(size+1) / 2)", "c.a.chunkSize.Store(int64(size))"},

	// Flow control and fairness.
	{"credit is not given", "AReaderThatDoesNotRead", "conn.go", "				c.taken = 0\n				c.pay()\n", "				c.taken = 0\n"},
	{"credit that was owed is forgotten", "CreditIsOwedUntil", "conn.go", "c.owedCredit += c.taken", "c.owedCredit = c.taken"},
	{"a window is more than it is", "AReaderThatDoesNotRead", "conn.go", "credit: a.peer.windowSize}", "credit: a.peer.windowSize + 1}"},
	{"the window is each frame's", "ABreakOfTheProtocol", "conn.go", "	c.allowance -= len(body)\n", ""},
	{"credit is taken without end", "ABreakOfTheProtocol", "conn.go", "if n != len(copied) || more > uint64(max(0, c.a.peer.windowSize-c.credit)) {", "if n != len(copied) {"},
	{"what is not sent costs credit", "AFaultInWrite", "conn.go", "	c.credit += size\n", ""},
	{"a part is as large as the ring takes", "NoPartIsLarger", "conn.go", "size = min(size, c.credit, int(c.a.chunkSize.Load()))", "size = min(size, c.credit)"},
	{"the store is larger than the window", "TheStoreIsNoLarger", "store.go", "make([]byte, min(limit, max(need, 2*len(s.ring))))", "make([]byte, max(need, 2*len(s.ring)))"},
	{"what the clerk is to send is not sent", "FindsNoRoom", "attachment.go", "	a.owing = append(a.owing, c)\n	select", "	select"},

	// Faults in the caller's memory.
	{"a fault in Write costs credit", "AFaultInWrite", "conn.go", "		if !sent {\n			c.unclaim(len(b))", "		if !sent {\n			c.unclaim(0)"},
	{"a fault in Write keeps the ring", "AFaultInWrite", "attachment.go", "	defer r.Abort() //", "	_ = r.Abort //"},
	{"a fault in Read keeps a view", "AFaultInRead", "store.go", "		} else {\n			s.dropView(limit)\n		}", "		}"},

	// Deaths.
	{"a stream that a death has cut looks complete", "KilledClients", "conn.go", `return 0, c.fault("read", c.reason)`, "return 0, io.EOF"},
	{"what the dead wrote is dropped", "WhatADeadClientWrote", "conn.go", "	c.reason = reason\n	c.readable", "	c.reason = reason\n	c.received.clear()\n	c.readable"},
	{"a death wakes no Write", "ADeathWakes", "conn.go", "	c.readable.Broadcast()\n	c.stopWriting()\n}", "	c.readable.Broadcast()\n}"},
	{"a death wakes no Read", "ADeathWakes", "conn.go", "	c.reason = reason\n	c.readable.Broadcast()\n", "	c.reason = reason\n"},
	{"a death is a close of this side", "KilledClients", "words.go", "case errors.Is(err, ipc.ErrClosed):", "case err != nil:"},
	{"a frozen peer is an end", "AFrozenPeer", "options.go", "	options.FailOnHang = false\n", ""},
	{"frames for a former client are taken", "AServersBreak", "dialer.go", "parse(m); ok && f.stamp == a.stamp {", "parse(m); ok {"},
	{"the answer to a former client's hello counts", "AnAnswerToADeadClients", "dialer.go", "!ok || f.stamp != a.stamp || f.kind", "!ok || f.kind"},
	{"a connection is of who is there now", "KnowsWhoMadeIt", "conn.go", "who := c.a.who", "who := c.a.endpoint.Peer()"},
	{"the first death ends the Listener", "KilledClients", "listener.go", "		if errors.Is(err, ipc.ErrClosed) {\n			return", "		if err != nil {\n			return"},

	// Dials and Listeners.
	{"a closed connection keeps its place", "DialWaits", "attachment.go", "	if a.accept == nil {\n		<-a.slots\n	}", ""},
	{"a Dial that gives up keeps its place", "ADialThatGivesUp", "attachment.go", "			if take == a.opening {\n				<-a.slots\n			}\n", ""},
	{"opens come in any order", "ManyDials", "attachment.go", "	defer func() { <-a.opening }()\n", "	<-a.opening\n"},
	{"the server counts what it has closed", "InThePlaceOfAClosedOne", "debt.go", "	c.saidClose = true\n	c.leave()\n	return true", "	return false"},
	{"a Dialer stays with the dead server", "ADialerGoesOn", "dialer.go", "			d.current = nil\n", "			return d.current, d.gone, nil\n"},
	{"a Dialer keeps the next server out", "ADialerGoesOn", "dialer.go", "			_ = a.endpoint.Close() // as", "			// as"},
	{"Close of a Dialer ends no Dial", "DialGivesUp", "dialer.go", "	defer context.AfterFunc(d.ctx, cancel)()\n", ""},
	{"what Close ends has another name", "DialGivesUp", "dialer.go", "	if d.ctx.Err() != nil {\n", "	if false {\n"},
	{"Dial goes on beyond its context", "ADialEndsWithItsContext", "dialer.go", "			if ctx.Err() != nil { //", "			if false { //"},
	{"Close of the Listener ends connections", "ACloseOfTheListener", "listener.go", "attachment != nil && attachment.busy()", "attachment != nil && false"},
	{"what nobody accepted stays", "ACloseOfTheListener", "listener.go", "	for _, c := range pending {\n		_ = c.Close()", "	for range pending {"},
	{"what comes after Close stays", "ACloseOfTheListener", "listener.go", "		_ = c.Close()\n		c.mu.Lock()\n", "		c.mu.Lock()\n"},
	{"a client that takes nothing keeps the Listener", "TakesNothingKeeps", "debt.go", "if c.a.accept == nil || c.givenUp {", "if true {"},
	{"a close that finds no room is not waited for", "ACloseThatFindsNoRoom", "debt.go", "time.AfterFunc(c.a.patience, func", "time.AfterFunc(0, func"},
	{"what comes after Close is waited for", "CameAfterClose", "listener.go", "		c.giveUp() //", "		//"},
	{"the last connection of a former client ends all", "AFormerClientsConnection", "listener.go", "if l.closing && (l.attachment == nil || !l.attachment.busy()) {", "if l.closing {"},
	{"what nobody has opened panics", "NobodyHasOpened", "unopened.go", "if c == nil || c.a == nil {", "if false {"},
	{"an end advises calls of ipc", "EndsAreTold", "words.go", "case errors.Is(err, ipc.ErrPeerDied):", "case false:"},
	{"the pair is not closed after the last", "ACloseOfTheListener", "attachment.go", "	last := a.talking == 0\n", "	last := false\n"},

	// Peers that break the rules.
	{"more than the window is taken", "ABreakOfTheProtocol", "conn.go", "case len(body) > c.allowance:", "case false:"},
	{"data is taken after an end", "ABreakOfTheProtocol", "conn.go", "	case c.peerEnded:\n		return false, protocolError", "	case false:\n		return false, protocolError"},
	{"an end may come twice", "ABreakOfTheProtocol", "conn.go", "if c.peerGone || c.peerEnded && !gone {", "if c.peerGone {"},
	{"an earlier number is opened", "ABreakOfTheProtocol", "attachment.go", "case number <= a.lastNumber:", "case number == a.lastNumber:"},
	{"one connection more than the limit", "ABreakOfTheProtocol", "attachment.go", "case len(a.conns) >= a.own.connLimit:", "case len(a.conns) > a.own.connLimit:"},
	{"a frame for connection 0 is passed over", "ABreakOfTheProtocol", "attachment.go", "(f.number == 0 || f.number > last)", "f.number > last"},
	{"any version is understood", "ABadHello", "frame.go", "theirs != version {", "false {"},
	{"a window of nothing is taken", "ABadHello", "frame.go", "windowSize == 0 || ", ""},
	{"who is expelled is not told", "WhoIsExpelledIsTold", "listener.go", "	_ = a.trySend(expelFrame, 0, nil)\n", ""},
	{"any number of connections wait", "NoMoreConnectionsWait", "listener.go", "if len(l.pending) >= l.own.connLimit {", "if false {"},
}

// bug is the planted bug as it is planted.
func (p planted) bug() plant.Bug {
	return plant.Bug{Name: p.name, Edits: []plant.Edit{{File: p.file, Old: p.old, New: p.new}}}
}

// build builds the tests of this package with some files replaced.
func build(t *testing.T, files map[string]string) (program string) {
	t.Helper()
	directory := t.TempDir()
	overlay, err := plant.WriteOverlay(directory, files)
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(directory, "conn.test")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-o", program, "-overlay="+overlay, ".").CombinedOutput(); err != nil {
		t.Fatalf("it does not build: %v\n%s", err, out)
	}
	return program
}

// complaints are the lines with which a test fails.
var complaints = regexp.MustCompile(`(?m)^ +(--- FAIL|[a-z_]+_test\.go:\d+: ).*|^panic: .*|^goroutines of .*`)

func TestEachPlantedBugHasItsPlace(t *testing.T) {
	if !*huntPlanted {
		t.Skip("ci/check.sh laws asks it, with -mutants")
	}
	if err := plant.Places(".", everyBug()); err != nil {
		t.Error(err)
	}
}

func everyBug() (bugs []plant.Bug) {
	for _, bug := range plantedBugs {
		bugs = append(bugs, bug.bug())
	}
	return bugs
}

func TestEachPlantedBugIsFound(t *testing.T) {
	if !*huntPlanted {
		t.Skip("it takes minutes: run it with -mutants")
	}
	if err := plant.AdoptOrphans(); err != nil {
		t.Fatal(err)
	}
	shared, err := plant.Together(".", everyBug())
	if err != nil {
		t.Fatal(err)
	}
	together := build(t, shared.Files)
	run := func(program, tests string, limit time.Duration) *exec.Cmd {
		pace := plant.Pace()
		stretched := func(limit time.Duration) string { return time.Duration(float64(limit) * pace).String() }
		cmd := exec.Command(program, "-test.v", "-test.run="+tests, "-test.failfast", "-test.count=10", "-test.timeout="+stretched(limit))
		cmd.Env = append(os.Environ(), "TANDEM_TEST_WATCHDOG="+stretched(5*time.Second))
		return cmd
	}
	if out, err := run(together, "", 3*time.Minute).CombinedOutput(); err != nil {
		t.Fatalf("with every bug asleep: %v\n%s", err, out)
	}
	only := regexp.MustCompile(*huntOnly)
	t.Run("bugs", func(t *testing.T) { // it ends when all of them have
		for _, bug := range plantedBugs {
			if !only.MatchString(bug.name) {
				continue
			}
			t.Run(bug.name, func(t *testing.T) {
				t.Parallel() // many wait for a watchdog
				program := together
				if !shared.Has(bug.name) {
					files, err := bug.bug().Alone(".")
					if err != nil {
						t.Fatal(err)
					}
					program = build(t, files)
				}
				cmd := run(program, bug.tests, 20*time.Second)
				cmd.Env = append(cmd.Env, shared.Awaken(bug.name))
				if out, err := cmd.CombinedOutput(); err == nil {
					t.Errorf("nobody finds it: %s passes\n%s", bug.tests, out)
				} else if !plant.Found(string(out), err) {
					t.Errorf("it ended otherwise than by a test that failed: %v\n%s", err, out)
				} else {
					t.Logf("%s", complaints.FindAll(out, 2))
				}
			})
		}
	})
	t.Logf("%d processes were left, and are no more", plant.EndOrphans())
}
