//go:build linux && (amd64 || arm64)

package worker

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/internal/plant"
)

var (
	huntPlanted = flag.Bool("mutants", false, "plant each bug, and see that its tests fail")
	huntOnly    = flag.String("only", "", "with -mutants: hunt only those whose name matches")
)

// A planted bug is an edit of a text that stands once in a file of this package.
// Some of its tests must fail. docs/TESTING.md says which promise it breaks.
type planted struct{ name, tests, file, old, new string }

var plantedBugs = []planted{
	{"all suspects are blamed", "EveryInnocent", "blame.go", "return suspects == 1", "return suspects >= 1"},
	{"nobody is blamed", "ASuspectRunsAlone", "blame.go", "return suspects == 1", "return suspects == 0"},
	{"suspects run together", "EveryInnocent", "schedule.go", "free.solitary = true", "free.solitary = false"},
	{"a suspect does not wait for an empty worker", "ASuspectIsNotStarved", "schedule.go", "if free == nil || len(free.flights) > 0 {", "if free == nil {"},
	{"a suspect is ordinary", "EveryInnocent", "blame.go", "p.enqueue(c, p.suspects)", "p.enqueue(c, p.ordinary)"},
	{"a suspect that had not started is none", "ASuspectThatHadNotStarted", "blame.go", "case c.suspect, f.started", "case c.blame > 0, f.started"},
	{"no place is kept for suspects", "ASuspectIsNotStarved", "schedule.go", "reserved = p.leastLoaded(nil)", "reserved = nil"},
	{"at most once is not looked at", "AtMostOnce", "blame.go", "f.started && c.atMostOnce", "f.started && c.atMostOnce && c.blame > 1"},
	{"at most once also where nothing has started", "CallsThatHadNotStarted", "blame.go", "f.started && c.atMostOnce", "c.atMostOnce"},
	{"started is not told", "ASuspectRunsAlone", "serve.go", "if transmit(w.ctx, w.endpoint, kindStarted,", "if false && transmit(w.ctx, w.endpoint, kindStarted,"},
	{"the end is not drained", "AnswersOfADeadWorker", "slot.go", "	s.expect(y, served)\n", "	_ = served\n"},
	{"who attached in the place of a process stays", "AWorkerWhoseChildServes", "slot.go:expect", "			case <-time.After(s.pool.config.StopTimeout):\n			_ = s.endpoint.KillPeer()\n", "			case <-time.After(s.pool.config.StopTimeout):\n"},
	{"frames for a predecessor are taken", "TheNextWorkerDoesNot", "serve.go", "if h.start != w.start {\n			continue", "if h.start > w.start {\n			continue"},
	{"the stuck one is not the one to blame", "AStuckHandler", "blame.go", "return y.stuck == f", "return y.stuck != f"},
	{"a stuck handler stays", "AStuckHandler", "call.go", "f.watch = time.AfterFunc(p.config.Grace, func() { f.stay.killStuck(f) })", "_ = f"},
	{"cancellation is not carried", "DeadlineAndCancellation", "serve.go", "				c.cancel()", "				_ = c.cancel"},
	{"the deadline is not carried", "DeadlineAndCancellation", "ask.go", "if limit > 0 {", "if false {"},
	{"a frozen process stays", "AFrozenWorker", "slot.go", "y.kill(ReasonHung, nil)", "_ = event"},
	{"no breaker", "WorkersThatDieAtOnce", "blame.go", "s.down = s.quick >= c.MaxQuickDeaths", "s.down = false"},
	{"the breaker stays", "APoolThatWasDown", "schedule.go", "if !s.down || s.current != nil && s.current.serving {", "if !s.down {"},
	{"no kernel's kill when the service dies", "WorkersLeaveWhen", "process_linux.go", "cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL", "_ = cmd"},
	{"nobody outlives the service", "OutlivesItsService", "process_linux.go", "if !outlive && ", "if true && "},
	{"what was begun is broken off", "OutlivesItsService", "serve.go", "		w.await(w.drain)\n", ""},
	{"the readers' death kills the writers", "OutlivesItsService", "serve.go", "signal.Ignore(syscall.SIGPIPE)", "signal.Reset(syscall.SIGPIPE)"},
	{"it is drained for ever", "DrainsOnlySoLong", "serve.go", "	case <-time.After(limit):\n", ""},
	{"a process serves another pool than its own", "DiedBeforeItServed", "serve.go", "endpoint.Generation() != t.generation {", "endpoint.Generation() == 0 {"},
	{"nobody waits for the next service", "TheNextServiceAdopts", "back.go", "return w.patience > 0 && w.terms", "return w.patience < 0 && w.terms"},
	{"the next service is waited for without end", "WaitsOnlySoLong", "back.go", "context.WithTimeout(ctx, w.patience)", "context.WithCancel(ctx)"},
	{"who comes back leaves handlers behind", "TheNextServiceAdopts", "back.go", "	case <-w.idle():\n", "	default:\n"},
	{"who was replaced comes back under its own name", "TheNextServiceAdopts", "back.go", "strings.TrimSuffix(w.path, secondSuffix)", "strings.TrimSpace(w.path)"},
	{"an answer for another one is taken", "TakesOnlyItsOwn", "back.go", "case h.start != number:", "case h.start == 0:"},
	{"terms are not looked at", "WithOtherTerms", "adopt.go", " || back.terms != c.terms(cmd) {", " || c.terms(cmd) == \"\" {"},
	{"nobody is turned away", "DoesNotAdopt|WithOtherTerms", "adopt.go", "		_ = transmit(ctx, s.endpoint, kindStop,", "		_ = false && nil == transmit(ctx, s.endpoint, kindStop,"},
	{"a return counts with any number", "OnlySaysThatItComesBack", "receive.go", "h.start == comingBack|m.Attachment {", "h.start >= comingBack {"},
	{"who is adopted cannot be ended", "AnAdoptedWorkerEnds", "process_linux.go", "return unix.PidfdSendSignal(fd, signal, nil, 0)", "return nil"},
	{"what was begun is not waited for", "ComesBackAfterwards", "adopt.go", "|| !time.Now().Before(until) {", "|| !time.Now().Before(until.Add(-p.config.Adopt)) {"},
	{"the second name is not looked at", "UnderTheSecondName", "adopt.go", "os.Stat(second + \".lock\"); err == nil {", "os.Stat(second + \".lock\"); err == nil && second == \"\" {"},
	{"workers are started on any thread", "WorkersAreStartedOnAThread", "process.go", "runtime.LockOSThread() // never", "runtime.Gosched() // never"},
	{"a second answer counts", "AnswersThatNobody|CallsOfMany", "schedule.go", "delete(y.flights, f.id)", "_ = y.flights"},
	{"a malformed frame is passed over", "BreaksTheRules", "receive.go", "		return speaker, err\n	case h.start", "		return speaker, nil\n	case h.start"},
	{"an answer above the limit is taken", "BreaksTheRules", "receive.go", "if len(payload) > p.config.MaxMessage {", "if false {"},
	{"a hello counts from anybody", "AnotherVersion", "receive.go", "if h.id != wireVersion {", "if false {"},
	{"who has left is heard again", "ComesBack", "receive.go", "!y.over && !y.heard {", "!y.over {"},
	{"Close does not wait for calls", "CloseLetsCallsEndThatAsk", "slot.go", "		case <-y.retire:\n			if y.send(ctx, kindStop", "		default:\n			if y.send(ctx, kindStop"},
	{"a worker starts a pool", "InsteadOfServing", "pool.go", "	case os.Getenv(variable) != \"\": // it", "	case false: // it"},
	{"who lasts has proven itself", "NeverServed", "blame.go", "proven := y.heard && ", "proven := "},
	{"the last line is the cause", "SaysWhat", "event.go", "if d.ExitCode == panicStatus ||", "if d.ExitCode == -panicStatus ||"},
	{"the cause is forgotten", "SaysWhat|KeptLines", "output.go", "	before := min(len(o.cause), ", "	before := min(0, "},
	{"who was told ends when it likes", "WasTold", "pool.go", "time.AfterFunc(p.config.StopTimeout, p.giveUp)", "time.AfterFunc(time.Hour, p.giveUp)"},
	{"a relative directory stays so", "ARelativeDir", "pool.go", "		p.dir = absolute // a", "		_ = absolute // a"},
	{"a session is given a group", "ASessionAnd", "process_linux.go", "if !cmd.SysProcAttr.Setsid {", "if true {"},
	{"a Goexit keeps a place that adopts", "KeepsNoPlaceThatAdopts", "adopt.go", "cmd, err := s.pool.command()", "cmd, err := c.Command(), error(nil)"},
	{"a status is waited for", "ATracerHides", "process.go", "	if pidfd != nil {\n", "	if pidfd != nil && pidfd == nil {\n"},
	{"who takes nothing is kept", "TakesNothing", "stay.go", "		if left <= 0 {", "		if left = max(left, time.Millisecond); false {"},
	{"a closed pool takes notifications", "AfterCloseIsDropped", "notice.go", "	if p.deaf {\n", "	if false {\n"},
	{"space found meanwhile is no space", "FindsSpace", "stay.go", "	now, since := y.age(), y.fullSince.Load()\n	if since == 0 {\n		since = now\n		y.fullSince.CompareAndSwap(0, since)\n	}\n	return time.Duration(now - since)\n", "	y.fullSince.CompareAndSwap(0, y.age())\n	return time.Duration(y.age() - y.fullSince.Load())\n"},
	{"one look at a full ring is enough", "TakesOneMore", "stay.go", "		if err == nil || both.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {\n			return r, err", "		if err == nil || both.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || y.slot.endpoint != nil {\n			if err == nil || both.Err() != nil {\n				return r, err\n			}\n			return y.slot.endpoint.Reserve(both, size)"},
	{"a timeout counts from the commit", "TakesNothing", "call.go", "if ctx.Err() == nil && within.Err() != nil {", "if false {"},
	{"who is lost is waited for", "CannotBeKilled", "process.go", "	return killed != 0 && time.Since", "	return false && time.Since"},
	{"SIGTERM is enough", "DeafToSIGTERM", "slot.go", "		process.kill()\n		select {", "		select {"},
	{"a timeout counts the waiting", "ATimeoutCounts", "call.go", "	p.enqueue(c, p.ordinary)\n", "	p.enqueue(c, p.ordinary)\n	if c.timeout > 0 {\n		time.AfterFunc(c.timeout, func() { p.leave(c, nil, context.DeadlineExceeded) })\n	}\n"},
	{"what Close breaks off does not say so", "WhatCloseBreaksOff", "blame.go", "		closed = ErrClosed\n", "		_ = ErrClosed\n"},
	{"a begun stream is started again", "NotStartedAgain", "blame.go", "c.stream != nil && c.stream.begun", "false"},
	{"no stream is started again", "BeforeItsFirstPart", "blame.go", "c.stream != nil && c.stream.begun", "c.stream != nil"},
	{"a stream is not held back", "ReaderIsBehind", "flow.go", "case a.left <= 0:", "case false:"},
	{"what was not allowed is taken", "RulesOfStreams", "flow.go", "if i.left <= 0 {", "if false {"},
	{"credits are not given", "MoreThanItsWindow", "stream.go", "if credit > 0 {", "if false {"},
	{"a reader that leaves is not noticed", "ReaderThatLeaves", "stream.go", "defer p.leave(c, nil, context.Canceled) //", "// "},
	{"a context ends only between parts", "WhileItsReaderIsBusy", "stream.go", "stop = context.AfterFunc(ctx, func() { p.leave(c, nil, ctx.Err()) })", "_ = stop"},
	{"parts come after the end", "AfterItsStreamHasEnded", "stream.go", "	case o.ctx.Err() != nil:\n		return o.ctx.Err()\n", ""},
	{"a worker has any number of asks", "RulesOfAsks", "ask.go", "case len(y.asks) >= p.config.MaxAsks:", "case false:"},
	{"the places of the dead are free", "PlacesOutlast", "ask.go", "s.serving < s.pool.config.MaxAsks", "true"},
	{"asks of the dead wait for places", "PlacesOutlast", "blame.go", "a.cancel(); return true", "return false"},
	{"a death does not end what was asked", "EndsWithTheWorker", "ask.go", "within(y.ctx, h.remaining)", "within(context.Background(), h.remaining)"},
	{"an ask has no deadline", "ReachWhatWasAsked", "ask.go", "h.remaining = max(time.Until(deadline), 1)", "_ = deadline"},
	{"an ask is not cancelled", "ReachWhatWasAsked", "receive.go", "			a.cancel()\n", ""},
	{"a worker does not wait for a place", "NoMoreThanMaxAsks", "serve.go", "make(chan struct{}, t.maxAsks)", "make(chan struct{}, 1<<10)"},
	{"the place of an ask is free too late", "NoMoreThanMaxAsks", "ask.go", "	delete(y.asks, a.id)\n	s.serving--\n", "	defer time.AfterFunc(time.Millisecond, func() { p.mu.Lock(); delete(y.asks, a.id); p.mu.Unlock() })\n	s.serving--\n"},
	{"a notification is no suspect", "ANotificationThatKills", "blame.go", "	if y.noticing {\n		suspects++\n	}\n", ""},
	{"a notification is told too late", "ANotificationThatKills", "notice.go", "err := transmit(w.ctx, w.endpoint, kindStarted, header{start: w.start}, \"\", nil)", "err := error(nil)"},
	{"notifications are handled at once", "EachWorkerGets", "notice.go", "	if !w.noticing {\n		w.noticing = true\n		go w.handleNext()", "	if true {\n		go w.handleNext()"},
	{"a worker that is behind is not waited for", "ThatIsBehindWaits", "notice.go", "	for _, y := range behind {", "	for _, y := range behind[:0] {"},
	{"a flood of notifications is taken in", "RulesOfNotifications", "notice.go", "case !y.intake.accept(costOf(payload)):", "case false:"},
	{"a dropped notification is handled", "DroppedBeforeItsHandler", "notice.go", "if len(s.notices) == 0 { // dropped", "if len(s.notices) < 0 { // dropped"},
	{"the end of a notification counts from anybody", "RulesOfNotifications", "notice.go", "if !y.noticing || int(h.number) != y.notified[0].cost {", "if !y.noticing {"},
	{"any number of the dead's notifications wait", "NotificationsOfTheDead", "notice.go", "if s.backlog > 2*s.pool.config.MaxMessage+messageCost {", "if false {"},
	{"a death is waited for to make room", "ThatIsBehindWaits", "slot.go", "	y.allowance.end(errGone)\n", ""},
	{"the old one leaves before the fresh one serves", "ReplaceFailsNoCall", "replace.go", "	fresh.replaces, fresh.reason = old, reason\n", "	fresh.replaces, fresh.reason = old, reason\n	p.mu.Lock()\n	if y := old.current; y != nil {\n		y.leavesFor, y.retiring = reason, true\n		y.retireIfEmpty()\n	}\n	p.mu.Unlock()\n"},
	{"calls of the old one are not waited for", "ReplaceFailsNoCall|WhatTheOldHasBegun", "replace.go", "		y.retireIfEmpty()\n	}\n	p.schedule()", "		go y.kill(s.reason, nil)\n	}\n	p.schedule()"},
	{"a process that does not serve takes the place", "DoesNotServeReplaces", "replace.go", "	s.replaces, s.failed = nil, death\n", "	s.pool.slots[s.index], s.replaces = s, nil\n	close(s.settled)\n	return false\n"},
	{"the channel of the old one stays", "ReplaceFailsNoCall", "replace.go", "	if !placed {\n", "	if !placed && false {\n"},
	{"MaxCalls is only when to begin", "RecyclingFails", "schedule.go", "y.full = y.boarded >= limit", "y.full = false"},
	{"who has had its calls waits for ever", "LeavesEvenIfNone", "replace.go", "				y.retireIfEmpty()\n			}\n			p.mu.Unlock()", "			}\n			p.mu.Unlock()"},
	{"parts are lost at the end", "ManyStreams", "stream.go", "if p.deliver(ctx, c, yield) && (o.err", "if (o.err"},
	{"what a handler fails with is its answer", "AHandlersError", "receive.go", "		return nil, &RemoteError{method, string(payload), nil}\n", "		return payload, nil\n"},
	{"a call waits beyond its context", "AStuckHandler", "call.go", "			p.leave(c, nil, ctx.Err())\n			o := <-c.done", "			o := <-c.done"},
	{"what may have run is called not sent", "WhileItsReaderIsBusy", "call.go", "c.finish(nil, unknown(cause))", "c.finish(nil, notSent(cause))"},
	{"what was not sent is called unknown", "WaitsForAPlace", "call.go", "return notSent(cause)", "return unknown(cause)"},
	{"calls that had not started are given up", "CallsThatHadNotStarted", "blame.go", "c.queue, c.place = p.ordinary, p.ordinary.PushFront(c)", "failed(ErrOutcomeUnknown, nil)"},
	{"calls that had not started are blamed", "CallsThatHadNotStarted", "blame.go", "		if f.started {\n			blamed", "		if true {\n			blamed"},
	{"a call is poison one death too early", "ASuspectRunsAlone", "blame.go", "c.blame >= c.maxAttempts", "c.blame >= c.maxAttempts-1"},
	{"parts come in another order", "InOrderAndWhole", "stream.go", "append(s.parts, part), true", "append([][]byte{part}, s.parts...), true"},
	{"a part comes twice", "InOrderAndWhole", "stream.go", "append(s.parts, part), true", "append(s.parts, part, part), true"},
	{"what the dead had told is dropped", "ReceivedAfterItsEnd", "notice.go", "	if p.deaf {", "	if y.over {\n		return nil\n	}\n	if p.deaf {"},
	{"a worker gets more calls than it takes", "WaitsForAPlace", "schedule.go", "len(y.flights) >= p.config.Concurrency", "len(y.flights) > p.config.Concurrency"},
	{"a notification is handled twice", "TellsInOrder", "notice.go", "append(s.notices, n), s.backlog", "append(s.notices, n, n), s.backlog"},
	{"a call that is broken off keeps its place", "UserCodeThatDoesNotReturnKeepsNothing$", "call.go", "if !over { // the caller's code", "if !over && false { // the caller's code"},
	{"what was not sent keeps its credit", "UserCodeThatDoesNotReturnKeepsNothing$", "flow.go", "	if !sent {\n", "	if false {\n"},
	{"a worker's credit is not given back", "UserCodeThatDoesNotReturnKeepsNothingInAWorker", "flow.go", "defer func() { a.refund(cost, sent) }()", "_ = sent"},
	{"an ask that is broken off keeps its place", "UserCodeThatDoesNotReturnKeepsNothingInAWorker", "ask.go", "		case !committed:\n			w.asker.end(id)\n", "		case !committed:\n"},
	{"an error's text is asked for after the handler", "AnErrorThatEndsItsGoroutine", "serve.go", "	status, payload := resultOf(ctx, answer, err, maxMessage)\n	returned = true\n", "	returned = true\n	status, payload := resultOf(ctx, answer, err, maxMessage)\n"},
	{"Start leaves what it has begun", "DoesNotReturnFromStart", "pool.go", "		if !started {\n", "		if !started && false {\n"},
	{"the supervisor calls the user's code itself", "ACommandThatEndsItsGoroutine", "process.go", "	called := make(chan struct{})\n	go func() {\n", "	called := make(chan struct{})\n	func() {\n"},
	{"the user's writer ends the reading", "AnOutputThatEndsItsGoroutine", "output.go", "			go o.copy(stream, from, lines, keep)\n			return\n", ""},
	{"events are told beside one another", "EventsAreToldOneAfter", "events.go", "	e.handle(event)\n", "	go e.handle(event)\n"},
	{"events wait without a bound", "AnEventHandlerThatIsStuck", "events.go", "	if len(e.waiting) > maxEvents {\n", "	if false {\n"},
	{"events that are missed are not counted", "AnEventHandlerThatIsStuck", "events.go", "e.waiting[1].Missed += 1 + e.waiting[0].Missed", "_ = e.waiting"},
	{"who tells an event waits", "AnEventHandlerThatIsStuck", "events.go", "	e.waiting = append(e.waiting, event)\n", "	e.handle(event)\n"},
	{"a death while it leaves is excused", "AnySequence", "blame.go", "return y.reason == ReasonStopped", "return y.leavesFor != 0 || y.reason == ReasonStopped"},
	{"the stuck one makes suspects of others", "AnySequence", "blame.go", "c.suspect, f.started && !y.excuses() && y.stuck == nil:", "c.suspect, f.started && !y.excuses():"},
	{"one suspect at a time in all workers", "AnySequence", "schedule.go", "if free == nil || len(free.flights) > 0 {", "if free == nil || len(free.flights) > 0 || p.anySolitary() {"},
	{"what is given up is counted for ever", "AnySequence", "blame.go", "	p.land(f)\n	if f.abandoned {\n		return\n	}\n", "	if f.abandoned {\n		delete(y.flights, f.id)\n		return\n	}\n	p.land(f)\n"},
	{"the directory stays", "ACallIsAnswered", "pool.go", "errs = append(errs, os.RemoveAll(p.dir))", "_ = p.dir"},
}

// mustFind says of each promise which bug the campaign must find by itself.
var mustFind = map[string]string{
	"Answer":     "calls that had not started are given up",
	"Blame":      "all suspects are blamed",
	"AtMostOnce": "at most once is not looked at",
	"Stream":     "parts come in another order",
	"Drain":      "what the dead had told is dropped",
	"Bounded":    "a worker gets more calls than it takes",
	"Ask":        "a worker does not wait for a place",
	"Notify":     "a notification is handled twice",
	"Replace":    "calls of the old one are not waited for",
	"Trust":      "what was not allowed is taken",
	"Leave":      "the directory stays",
}

// mixMustFind is what TestAnyMixOfCallsEndsAsEachDeserves must find by itself.
const mixMustFind = "all suspects are blamed"

// machineOnly is the test for those that nobody else finds.
const machineOnly = "AnySequence"

// machineMustFind is what it must find by itself.
var machineMustFind = []string{
	"all suspects are blamed", "at most once is not looked at", "frames for a predecessor are taken",
	"calls that had not started are blamed", "suspects run together", "a begun stream is started again",
	"a death while it leaves is excused", "the stuck one makes suspects of others",
	"one suspect at a time in all workers", "what is given up is counted for ever",
}

// A hunt is a run of tests that must fail with a bug.
type hunt struct {
	name, tests string
	bug         planted
	rounds      int           // how often its tests run, one after the other
	limit       time.Duration // how long they may take together, on a quiet machine
}

// hunts are those that each bug names, and those that must find one by themselves.
func hunts(t *testing.T) (all []hunt) {
	for _, bug := range plantedBugs {
		if bug.tests == machineOnly {
			continue // it is in machineMustFind
		}
		all = append(all, hunt{bug.name, bug.tests, bug, 1, 20 * time.Second})
	}
	again := func(hunter, bug, tests string, rounds int, limit time.Duration) {
		i := slices.IndexFunc(plantedBugs, func(p planted) bool { return p.name == bug })
		if i < 0 {
			t.Fatalf("%s must find %q, which is not planted", hunter, bug)
		}
		all = append(all, hunt{hunter + " finds: " + bug, tests, plantedBugs[i], rounds, limit})
	}
	again("the mix", mixMustFind, "^TestAnyMixOfCallsEndsAsEachDeserves$", 1, 20*time.Second)
	for _, bug := range machineMustFind {
		again("the machine", bug, "^TestAnySequenceEndsAsTheReferenceSays$", 25, 4*time.Minute)
	}
	for _, promise := range promises {
		again("the campaign, for "+promise+",", mustFind[promise], "^TestCampaign$", 10, 65*time.Second)
	}
	return all
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
	program = filepath.Join(directory, "worker.test")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-o", program, "-overlay="+overlay, ".").CombinedOutput(); err != nil {
		t.Fatalf("it does not build: %v\n%s", err, out)
	}
	return program
}

// complaints are the lines with which a test fails.
var complaints = regexp.MustCompile(`(?m)^ +[a-z_]+_test\.go:\d+: .*|^panic: .*|^goroutine 1 .*`)

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
	hunts := hunts(t)
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
	run := func(program, tests string, rounds int, limit time.Duration, stretch float64) *exec.Cmd {
		stretched := func(limit time.Duration) string { return time.Duration(float64(limit) * stretch).String() }
		cmd := exec.Command(program, "-test.v", "-test.run="+tests, "-rapid.nofailfile", "-rapid.shrinktime=1s", "-test.failfast",
			"-test.count="+strconv.Itoa(rounds), "-test.timeout="+stretched(limit))
		cmd.Env = append(os.Environ(), "TANDEM_TEST_WATCHDOG="+stretched(5*time.Second))
		return cmd
	}
	asleep := "" // each test
	if *huntOnly != "" {
		asleep = "^TestACallIsAnswered$"
	}
	if out, err := run(together, asleep, 1, 2*time.Minute, plant.Pace()).CombinedOutput(); err != nil {
		t.Fatalf("with every bug asleep: %v\n%s", err, out)
	}
	t.Run("bugs", func(t *testing.T) { // it ends when all of them have
		for _, h := range hunts {
			if !regexp.MustCompile(*huntOnly).MatchString(h.name) {
				continue
			}
			t.Run(h.name, func(t *testing.T) {
				t.Parallel() // many wait for a watchdog
				program := together
				if !shared.Has(h.bug.name) {
					files, err := h.bug.bug().Alone(".")
					if err != nil {
						t.Fatal(err)
					}
					program = build(t, files)
				}
				cmd := run(program, h.tests, h.rounds, h.limit, plant.Pace())
				cmd.Env = append(cmd.Env, shared.Awaken(h.bug.name))
				if out, err := cmd.CombinedOutput(); err == nil {
					t.Errorf("nobody finds it: %s passes\n%s", h.tests, out)
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
