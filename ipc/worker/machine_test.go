//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A machine draws what happens to a pool: calls, kills from outside, freezes, replacements. After
// each action it waits until all that goes on waits for the next one, and compares with
// the reference, which is in pledge.
type machine struct {
	t       *rapid.T
	start   func() *exec.Cmd
	pool    *Pool
	journal *journal
	heard   int    // events of the journal that the reference knows
	records string // the directory of the records

	attempts, size, concurrency int
	patient                     bool // Close waits for what was begun
	closing                     bool

	pledges   []*pledge
	frozen    map[uint64]bool // processes, by the number of their start
	doomed    map[uint64]bool // they are to die
	told      map[int]int     // how many were told, by the number of the notification
	replacing chan error      // nil if nothing replaces
	disturbed bool            // since then a process was killed

	mu     sync.Mutex
	gates  map[int]chan struct{} // of calls that ask, by their number; closed when they are released
	asking atomic.Int64          // handlers of the service

	tally *tally
}

// A tally is what all machines of a test have seen.
type tally struct{ calls, deaths, kills, poisons, replaced, pools int }

func TestAnySequenceEndsAsTheReferenceSays(t *testing.T) {
	defer fewer(t, "rapid.checks", "6")()
	var all tally
	start := command(t, "machine")
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{t: rt, start: start, tally: &all}
		m.open()
		defer m.abandon()
		rt.Repeat(map[string]func(*rapid.T){"": m.rest, "act": m.act})
		m.close()
	})
	t.Logf("%+v", all)
	if !t.Failed() && (all.calls == 0 || all.deaths == 0) {
		t.Error("too little has happened")
	}
}

// fewer sets a flag for a while, unless it was given.
func fewer(t *testing.T, name, value string) (restore func()) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	old := flag.Lookup(name).Value.String()
	if given {
		return func() {}
	}
	if err := flag.Set(name, value); err != nil {
		t.Fatal(err)
	}
	return func() { _ = flag.Set(name, old) }
}

// evenly draws one of so many numbers, each as likely as the others: rapid itself
// prefers small ones.
func evenly(all int) *rapid.Generator[int] {
	return rapid.Custom(func(t *rapid.T) (n int) {
		const bits = 12
		for range bits {
			n *= 2
			if rapid.Bool().Draw(t, "bit") {
				n++
			}
		}
		return n * all >> bits
	})
}

func (m *machine) open() {
	*m = machine{t: m.t, start: m.start, tally: m.tally, journal: newJournal(),
		frozen: map[uint64]bool{}, doomed: map[uint64]bool{}, told: map[int]int{}, gates: map[int]chan struct{}{}}
	m.size, m.concurrency = rapid.IntRange(1, 2).Draw(m.t, "size"), rapid.IntRange(1, 3).Draw(m.t, "concurrency")
	m.attempts, m.patient = rapid.IntRange(1, 3).Draw(m.t, "attempts"), rapid.Bool().Draw(m.t, "patient")
	var err error
	if m.records, err = os.MkdirTemp("", "tandem-records-"); err != nil {
		m.t.Fatalf("harness: %v", err)
	}
	stop := 50 * time.Millisecond
	if m.patient {
		stop = watchdog
	}
	m.pool, err = Start(context.Background(), Config{
		Command: func() *exec.Cmd {
			cmd := m.start()
			cmd.Env = append(cmd.Env, recordsVariable+"="+m.records)
			return cmd
		},
		Output: io.Discard, OnEvent: m.journal.add, Handlers: Handlers{"gate": m.gate},
		Size: m.size, Concurrency: m.concurrency, MaxAttempts: m.attempts, MaxMessage: 4096, MaxQuickDeaths: 1 << 20,
		Grace: 20 * time.Millisecond, StopTimeout: stop, HangTimeout: time.Hour, StartTimeout: watchdog,
		MinPause: time.Millisecond, MaxPause: time.Millisecond,
	})
	if err != nil {
		m.t.Fatalf("harness: %v", err)
	}
	m.tally.pools++
}

// abandon leaves nothing behind, whatever has failed.
func (m *machine) abandon() {
	for _, c := range m.pledges {
		c.cancel() // else Close may wait for it
	}
	for _, y := range m.living() {
		_ = y.process.cmd.Process.Kill()
	}
	_ = m.pool.Close()
	_ = os.RemoveAll(m.records)
}

// gate is the handler of the service that calls wait in which ask.
func (m *machine) gate(ctx context.Context, r *Request) ([]byte, error) {
	m.asking.Add(1)
	defer m.asking.Add(-1)
	m.mu.Lock()
	gate := m.gates[number(string(r.Data))]
	m.mu.Unlock()
	select {
	case <-gate:
		return []byte("open"), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// act does one of the things that make sense now.
func (m *machine) act(t *rapid.T) {
	m.t = t
	var all []func()
	offer := func(weight int, makesSense bool, do func()) {
		for i := 0; i < weight && makesSense; i++ {
			all = append(all, do)
		}
	}
	living, holding, open := m.living(), m.which((*pledge).holding), m.which((*pledge).open)
	thawed := slices.DeleteFunc(slices.Clone(living), func(y *stay) bool { return m.frozen[y.start] })
	frozen := slices.DeleteFunc(slices.Clone(living), func(y *stay) bool { return !m.frozen[y.start] })
	offer(8, len(m.pledges) < mostCalls-4, m.begin)
	offer(2, len(m.pledges) < mostCalls-4 && len(living) > 0, func() { m.begin(); m.kill(one(t, "process", living)) })
	offer(3, len(holding) > 0, func() { m.release(one(t, "call", holding)) })
	offer(1, len(holding) > 0, func() { m.release(one(t, "call", holding)); m.kill(one(t, "process", living)) })
	offer(2, len(open) > 0, func() { m.giveUp(one(t, "call", open)) })
	offer(4, len(living) > 0, func() { m.kill(one(t, "process", living)) })
	offer(1, len(thawed) > 0, func() { m.freeze(one(t, "process", thawed)) })
	offer(2, len(frozen) > 0, func() { m.thaw(one(t, "process", frozen)) })
	offer(1, true, func() { m.notify("notice") })
	offer(1, true, func() { m.notify("dies") })
	offer(1, m.replacing == nil, m.replace)
	offer(1, true, func() {
		m.close()
		_ = os.RemoveAll(m.records)
		m.open()
	})
	all[evenly(len(all)).Draw(t, "action")]()
}

func one[T any](t *rapid.T, what string, from []T) T {
	return from[evenly(len(from)).Draw(t, what)]
}

func (c *pledge) open() bool    { return !c.judged && !c.given }
func (c *pledge) holding() bool { return !c.judged && c.sort.holds && !c.released }

func (m *machine) which(is func(*pledge) bool) (which []*pledge) {
	for _, c := range m.pledges {
		if is(c) {
			which = append(which, c)
		}
	}
	return which
}

// begin begins calls, one after the other, and waits for none.
func (m *machine) begin() {
	names := slices.Sorted(maps.Keys(sorts))
	for range 1 + evenly(3).Draw(m.t, "calls") {
		name := one(m.t, "sort", names)
		c := &pledge{id: len(m.pledges), name: name, sort: sorts[name], done: make(chan struct{}), atMostOnce: name == "once" || name == "exits, at most once"}
		ctx, cancel := context.WithCancel(context.Background())
		if evenly(8).Draw(m.t, "deadline") == 0 {
			ctx, cancel = context.WithTimeout(context.Background(), 5*time.Millisecond)
			c.given = true
		}
		c.cancel = cancel
		var options []CallOption
		if c.atMostOnce {
			options = append(options, AtMostOnce())
		}
		m.mu.Lock()
		m.gates[c.id] = make(chan struct{})
		m.mu.Unlock()
		m.pledges = append(m.pledges, c)
		m.tally.calls++
		m.t.Logf("%v begins, with a deadline %t", c, c.given)
		do := c.sort.call
		if do == nil {
			do = (*machine).call
		}
		go func() {
			defer close(c.done)
			c.err = do(m, ctx, c, options...)
		}()
	}
}

func (m *machine) call(ctx context.Context, c *pledge, options ...CallOption) error {
	answer, err := m.pool.Call(ctx, c.method(), nil, options...)
	c.answer = string(answer)
	return err
}

func (m *machine) stream(ctx context.Context, c *pledge, options ...CallOption) error {
	for part, err := range m.pool.Stream(ctx, c.method(), nil, options...) {
		if err != nil {
			return err
		}
		c.parts = append(c.parts, string(part))
	}
	return nil
}

func (m *machine) release(c *pledge) {
	m.t.Logf("release %v", c)
	c.released = true
	m.mu.Lock()
	close(m.gates[c.id])
	m.mu.Unlock()
	if err := os.WriteFile(filepath.Join(m.records, "release-"+strconv.Itoa(c.id)), nil, 0o600); err != nil {
		m.t.Fatalf("harness: %v", err)
	}
}

func (m *machine) giveUp(c *pledge) {
	m.t.Logf("give up %v", c)
	c.given = true
	c.cancel()
}

// signal goes through the handle of the process, so that it meets nobody else.
func (m *machine) signal(y *stay, s syscall.Signal) {
	if err := y.process.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.t.Fatalf("harness: %v", err)
	}
}

func (m *machine) kill(y *stay) {
	m.t.Logf("kill start %d", y.start)
	m.doomed[y.start], m.disturbed = true, true
	m.tally.kills++
	m.signal(y, syscall.SIGKILL)
	delete(m.frozen, y.start)
}

func (m *machine) freeze(y *stay) {
	m.t.Logf("freeze start %d", y.start)
	m.signal(y, syscall.SIGSTOP)
	m.frozen[y.start] = true
	m.await("it stops", func() bool { return stopped(y.process.pidOf()) })
}

func (m *machine) thaw(y *stay) {
	m.t.Logf("thaw start %d", y.start)
	delete(m.frozen, y.start)
	m.signal(y, syscall.SIGCONT)
}

func (m *machine) notify(method string) {
	number := len(m.told)
	m.t.Logf("notification %d: %s", number, method)
	m.pool.mu.Lock()
	serving := slices.DeleteFunc(m.stays(), func(y *stay) bool { return !y.serving || y.retired })
	m.pool.mu.Unlock()
	if method == "dies" {
		m.disturbed = true
		for _, y := range serving {
			m.doomed[y.start] = true
		}
	}
	told, err := m.pool.Notify(context.Background(), method, []byte(strconv.Itoa(number)))
	if err != nil || told != len(serving) {
		m.t.Fatalf("%d of %d processes were told, %v", told, len(serving), err)
	}
	m.told[number] = told
}

func (m *machine) replace() {
	m.t.Logf("replace")
	replaced := make(chan error, 1)
	m.replacing, m.disturbed = replaced, false
	p := m.pool
	go func() { replaced <- p.Replace(context.Background()) }()
}
