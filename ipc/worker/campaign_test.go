//go:build linux && (amd64 || arm64)

package worker

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	campaignFlag = flag.Duration("campaign", 0, "how long the campaign takes; 0 for a short one")
	seedFlag     = flag.Uint64("seed", 0, "seed of the campaign's choices; 0 for a new one")
)

// A campaign has many callers and kills real workers at random. Each promise has a
// judge, which counts what it has looked at.
type campaign struct {
	t       *testing.T
	pool    *Pool
	journal *journal
	end     time.Time
	ledger  string // a file to which the workers write what they do, line by line
	desk    desk
	ids     atomic.Uint64
	told    sync.Map // by id: what the service was told of it

	mu     sync.Mutex
	judged map[string]int
	failed map[string][]string
	killed map[int]bool // processes, by the campaign
}

// The promises of the package comment, each of which must have been looked at.
var promises = []string{"Answer", "Blame", "AtMostOnce", "Stream", "Drain", "Bounded", "Ask", "Notify", "Replace", "Trust", "Leave"}

func (c *campaign) judge(promise string, holds bool, what string, details ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.judged[promise]++
	if !holds && len(c.failed[promise]) < 5 {
		c.failed[promise] = append(c.failed[promise], fmt.Sprintf(what, details...))
	}
}

const (
	campaignConcurrency = 4
	campaignMessage     = 4096
	campaignAsks        = 3
	campaignTold        = 40

	wholeLine = " .\n"
)

// The workers' handlers. A request begins with the call's id.
func init() {
	// note writes one line to the ledger. A kill may break a write off at the end of a page:
	// only what stands between both marks was written whole.
	note := func(text string) {
		file, err := os.OpenFile(os.Getenv("TANDEM_TEST_LEDGER"), os.O_WRONLY|os.O_APPEND, 0)
		leave(err)
		_, err = file.WriteString("\n" + text + wholeLine)
		leave(errors.Join(err, file.Close()))
	}
	testHandlers["c answer"] = func(ctx context.Context, r *Request) ([]byte, error) {
		linger(ctx)
		return r.Data, nil
	}
	testHandlers["c once"] = func(ctx context.Context, r *Request) ([]byte, error) {
		note("once " + string(r.Data))
		linger(ctx)
		return r.Data, nil
	}
	testHandlers["c stream"] = func(ctx context.Context, r *Request) ([]byte, error) {
		for i := range 30 {
			if err := r.Send(fmt.Appendf(make([]byte, 0, 300), "%s %d %d", r.Data, r.Attempt, i)); err != nil {
				return nil, err
			}
			if i%10 == 0 {
				linger(ctx)
			}
		}
		return nil, nil
	}
	// ask asks for more at a time than there are places.
	testHandlers["c ask"] = func(ctx context.Context, r *Request) ([]byte, error) {
		answers, errs := make([][]byte, campaignAsks+2), make([]error, campaignAsks+2)
		var asking sync.WaitGroup
		for i := range answers {
			asking.Add(1)
			go func() {
				defer asking.Done()
				answers[i], errs[i] = Ask(ctx, "c double", fmt.Appendf(nil, "%s.%d ", r.Data, i))
			}()
		}
		asking.Wait()
		return bytes.Join(answers, nil), errors.Join(errs...)
	}
	// tell says in the ledger how often Tell has returned at least, and dies while that is received.
	testHandlers["c tell"] = func(ctx context.Context, r *Request) ([]byte, error) {
		for n := 1; n <= campaignTold; n++ {
			if err := Tell(ctx, "c told", r.Data); err != nil {
				return nil, err
			}
			if n == campaignTold/2 {
				note(fmt.Sprintf("told %s %d", r.Data, n))
			}
		}
		os.Exit(7)
		return nil, nil
	}
	testHandlers["c notice"] = func(_ context.Context, r *Request) ([]byte, error) {
		note(fmt.Sprintf("notice %d %s", os.Getpid(), r.Data))
		return nil, nil
	}
}

func linger(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(4 * time.Millisecond)): // sleep: so that deaths come in the middle
	}
}

func (c *campaign) handlers() Handlers {
	return Handlers{
		"c double": func(ctx context.Context, r *Request) ([]byte, error) {
			defer c.desk.enter()()
			linger(ctx)
			return append(r.Data, r.Data...), nil
		},
		"c told": func(_ context.Context, r *Request) ([]byte, error) {
			count, _ := c.told.LoadOrStore(string(r.Data), new(atomic.Int64))
			count.(*atomic.Int64).Add(1)
			return nil, nil
		},
	}
}

// Each caller repeats one sort of call until the campaign ends. patient calls are never
// named for the kills of others.
func (c *campaign) callers(ctx context.Context) map[string]func(id string) {
	patient := MaxAttempts(1 << 20)
	return map[string]func(string){
		"answer": func(id string) {
			answer, err := c.pool.Call(ctx, "c answer", []byte(id), patient)
			c.judge("Answer", err == nil && string(answer) == id, "%s is answered with %q, %v", id, answer, err)
			c.judge("Blame", !errors.Is(err, ErrPoison), "innocent %s: %v", id, err)
		},
		"once": func(id string) {
			answer, err := c.pool.Call(ctx, "c once", []byte(id), patient, AtMostOnce())
			c.judge("Answer", err == nil && string(answer) == id || errors.Is(err, ErrOutcomeUnknown) != errors.Is(err, ErrNotSent), "%s ends with %q, %v", id, answer, err)
			c.told.Store("once "+id, err)
		},
		"deadly": func(id string) {
			_, err := c.pool.Call(ctx, "exit", []byte(id), MaxAttempts(2))
			var death *DeathError
			c.judge("Blame", errors.As(err, &death) && death.Err == ErrPoison && death.Attempts >= 2, "deadly %s: %v", id, err)
			<-time.After(20 * time.Millisecond) // sleep: others are to live, too
		},
		"deadline": func(id string) {
			brief, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
			defer cancel()
			_, err := c.pool.Call(brief, "wait", []byte(id), patient)
			c.judge("Answer", errors.Is(err, context.DeadlineExceeded), "%s ends with %v", id, err)
		},
		"stream": func(id string) {
			n, attempt := 0, ""
			for part, err := range c.pool.Stream(ctx, "c stream", []byte(id), patient) {
				if err != nil {
					c.judge("Stream", n > 0 && errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrPoison), "%s ends after %d parts with %v", id, n, err)
					return
				}
				fields := strings.Fields(string(part))
				if n == 0 {
					attempt = fields[1]
				}
				c.judge("Stream", fields[0] == id && fields[1] == attempt && fields[2] == strconv.Itoa(n), "part %d of %s, attempt %s: %s", n, id, attempt, part)
				if n++; n%8 == 0 {
					linger(ctx) // so that parts wait
				}
			}
			c.judge("Stream", n == 30, "%s ends well after %d parts", id, n)
		},
		"ask": func(id string) {
			answer, err := c.pool.Call(ctx, "c ask", []byte(id), patient)
			want := ""
			for i := range campaignAsks + 2 {
				want += strings.Repeat(fmt.Sprintf("%s.%d ", id, i), 2)
			}
			c.judge("Ask", err == nil && string(answer) == want, "%s is answered with %q, %v", id, answer, err)
		},
		"tell": func(id string) {
			_, err := c.pool.Call(ctx, "c tell", []byte(id), patient, AtMostOnce())
			c.judge("AtMostOnce", errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrNotSent), "%s ends with %v", id, err)
			<-time.After(10 * time.Millisecond) // sleep: others are to live, too
		},
		"notify": func(id string) {
			_, err := c.pool.Notify(ctx, "c notice", []byte(id))
			c.judge("Notify", err == nil, "%v", err)
			linger(ctx)
		},
	}
}

func TestCampaign(t *testing.T) {
	duration, seed := *campaignFlag, *seedFlag
	if duration == 0 {
		duration = 3 * time.Second
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("again: go test ./ipc/worker -run TestCampaign -campaign %v -seed %d", duration, seed)
	c := &campaign{t: t, judged: map[string]int{}, failed: map[string][]string{}, killed: map[int]bool{}, ledger: filepath.Join(t.TempDir(), "ledger")}
	if err := os.WriteFile(c.ledger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TANDEM_TEST_LEDGER", c.ledger)
	t.Setenv("TANDEM_TEST_SEED", strconv.FormatUint(seed, 10))
	c.pool, c.journal = startPool(t, quick(Config{
		Size: 2, Concurrency: campaignConcurrency, MaxMessage: campaignMessage, MaxAsks: campaignAsks, Handlers: c.handlers(),
		Grace: watchdog, MaxCalls: 500, MaxQuickDeaths: 1 << 30, HangTimeout: watchdog,
	}))
	bad, scribblers := startPool(t, quick(Config{
		Command: command(t, "scribble"), Output: io.Discard, MaxMessage: 1000, Handlers: c.handlers(), Size: 2,
		Grace: time.Millisecond, StopTimeout: 10 * time.Millisecond, StartTimeout: 200 * time.Millisecond, MaxQuickDeaths: 1 << 30,
	}))
	c.end = time.Now().Add(duration)
	var load sync.WaitGroup
	run := func(each func()) {
		load.Add(1)
		go func() {
			defer load.Done()
			for time.Now().Before(c.end) {
				each()
			}
		}()
	}
	ctx, cancel := context.WithTimeout(context.Background(), duration+watchdog)
	defer cancel()
	for _, call := range c.callers(ctx) {
		run(func() { call(strconv.FormatUint(c.ids.Add(1), 10)) })
	}
	run(func() {
		brief, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		answer, err := bad.Call(brief, "echo", nil)
		c.judge("Trust", len(answer) <= bad.config.MaxMessage && (err == nil || saysWhetherToRepeat(err)), "a call to a scribbler ends with %q, %v", answer, err)
		for part, err := range bad.Stream(brief, "echo", nil) {
			c.judge("Trust", len(part) <= bad.config.MaxMessage && (err == nil || saysWhetherToRepeat(err)), "a stream of a scribbler has %q, %v", part, err)
			linger(brief)
		}
	})
	run(func() {
		c.look("Bounded", c.pool)
		c.look("Trust", bad)
		<-time.After(time.Millisecond) // sleep: between two looks
	})
	kills, replaces := 0, 0
	rng := rand.New(rand.NewPCG(seed, 0))
	run(func() {
		<-time.After(time.Duration(rng.Int64N(int64(30 * time.Millisecond)))) // sleep: between two kills
		if c.kill(rng) {
			kills++
		}
	})
	run(func() {
		<-time.After(100 * time.Millisecond) // sleep: between two replacements
		err := c.pool.Replace(ctx)
		c.judge("Replace", err == nil || errors.Is(err, ErrNotReplaced), "%v", err)
		replaces++
	})
	load.Wait()
	if pid := number(mustCall(t, c.pool, "pid", "")); parentOf(pid) != os.Getpid() {
		t.Errorf("process %d serves, and its parent is not seen: the judge of Leave is blind", pid)
	}
	stats := c.pool.Stats()
	err := errors.Join(c.pool.Close(), bad.Close())
	c.judge("Leave", err == nil, "%v", err)
	for _, pid := range append(c.journal.started(), scribblers.started()...) {
		c.judge("Leave", parentOf(pid) != os.Getpid(), "process %d has outlived its pool", pid)
	}
	c.judgeDeaths()
	c.judgeLedger()
	for _, promise := range promises {
		t.Logf("%-10s %7d judged, %d violations", promise, c.judged[promise], len(c.failed[promise]))
		for _, failure := range c.failed[promise] {
			t.Errorf("%s: %s", promise, failure)
		}
		if c.judged[promise] == 0 {
			t.Errorf("%s: nothing was looked at", promise)
		}
	}
	t.Logf("%d calls, %d kills, %d replacements, %+v; the scribblers: %+v", c.ids.Load(), kills, replaces, stats, bad.Stats())
}

// kill kills one worker, which may be in its start or about to leave, too.
func (c *campaign) kill(rng *rand.Rand) bool {
	p := c.pool
	p.mu.Lock()
	var living []*process
	for _, s := range p.slots {
		if s.current != nil && s.current.process != nil {
			living = append(living, s.current.process)
		}
	}
	for s := range p.leaving {
		if s.current != nil && s.current.process != nil {
			living = append(living, s.current.process)
		}
	}
	p.mu.Unlock()
	if len(living) == 0 {
		return false
	}
	victim := living[rng.IntN(len(living))]
	c.mu.Lock()
	c.killed[victim.cmd.Process.Pid] = true
	c.mu.Unlock()
	victim.kill()
	return true
}

// saysWhetherToRepeat reports whether an error is one of those of a call.
func saysWhetherToRepeat(err error) bool {
	var remote *RemoteError
	known := []error{ErrNotSent, ErrOutcomeUnknown, ErrPoison, ErrWorkerDown, ErrUnknownMethod, ErrTooLarge}
	return errors.As(err, &remote) || slices.ContainsFunc(known, func(target error) bool { return errors.Is(err, target) })
}

// look looks at what is bounded, at a moment of its own choice.
func (c *campaign) look(promise string, p *Pool) {
	limit := &p.config
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slots {
		c.judge(promise, s.serving <= limit.MaxAsks && len(s.asks) <= limit.MaxAsks, "%d asks served, %d wait", s.serving, len(s.asks))
		c.judge(promise, s.backlog <= 4*(limit.MaxMessage+messageCost), "notifications of %d bytes", s.backlog)
		y := s.current
		if y == nil {
			continue
		}
		c.judge(promise, len(y.flights) <= limit.Concurrency && len(y.asks) <= limit.MaxAsks, "%d calls and %d asks", len(y.flights), len(y.asks))
		for _, f := range y.flights {
			size := 0
			if f.call.stream != nil && !f.abandoned {
				for _, part := range f.call.stream.parts {
					size += len(part)
				}
			}
			c.judge(promise, size < 2*limit.MaxMessage, "parts of %d bytes", size)
		}
	}
}

// started are the processes that were started.
func (j *journal) started() (pids []int) {
	for _, event := range j.all() {
		if event.Kind == EventStarted {
			pids = append(pids, event.PID)
		}
	}
	return pids
}

// parentOf is the parent of a process, 0 if there is no such process.
func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // of the state and the parent
	return number(fields[1])
}

// judgeDeaths holds the rules of blame and of replacement against each death.
func (c *campaign) judgeDeaths() {
	for _, death := range c.journal.deaths() {
		blamed := 0
		for _, suspect := range death.Suspects {
			if suspect.Blamed {
				blamed++
			}
		}
		c.judge("Bounded", death.Reason != ReasonBroken, "an honest worker sends more than it may: %+v", death)
		c.judge("Blame", blamed == 0 || blamed == 1 && len(death.Suspects) == 1, "death %+v", death)
		if (death.Reason == ReasonReplaced || death.Reason == ReasonRetired) && !c.killed[death.PID] {
			c.judge("Replace", len(death.Suspects) == 0, "it left calls behind: %+v", death)
		}
	}
}

// judgeLedger compares what the workers say they did with what the service has seen.
func (c *campaign) judgeLedger() {
	text, err := os.ReadFile(c.ledger)
	if err != nil {
		c.t.Fatal(err)
	}
	lines := map[string]int{}
	notices := map[string][]int{} // by process
	for line := range strings.Lines(string(text)) {
		line, whole := strings.CutSuffix(line, wholeLine)
		fields := strings.Fields(line)
		switch {
		case !whole:
		case fields[0] == "notice":
			notices[fields[1]] = append(notices[fields[1]], number(fields[2]))
		case fields[0] == "told":
			lines["told "+fields[1]] = number(fields[2])
		default:
			lines[fields[0]+" "+fields[1]]++
		}
	}
	c.told.Range(func(key, value any) bool {
		id := key.(string)
		if !strings.HasPrefix(id, "once ") {
			return true
		}
		err, _ := value.(error)
		starts := lines[id]
		c.judge("AtMostOnce", starts <= 1, "%s was started %d times", id, starts)
		c.judge("AtMostOnce", err != nil || starts == 1, "%s is answered and was started %d times", id, starts)
		c.judge("AtMostOnce", !errors.Is(err, ErrNotSent) || starts == 0, "%s: %v, and it was started", id, err)
		return true
	})
	dropped := c.pool.Stats().Dropped
	for line, n := range lines {
		if id, found := strings.CutPrefix(line, "told "); found {
			count, _ := c.told.Load(id)
			handled := 0
			if count != nil {
				handled = int(count.(*atomic.Int64).Load())
			}
			c.judge("Drain", handled >= n || dropped > 0, "%s told %d times before it died, and %d came", id, n, handled)
			c.judge("Notify", handled <= campaignTold, "%s told at most %d times, and %d came", id, campaignTold, handled)
		}
	}
	for pid, ids := range notices {
		ordered := slices.IsSorted(ids) && len(slices.Compact(slices.Clone(ids))) == len(ids)
		c.judge("Notify", ordered, "process %s was notified in this order: %v", pid, ids)
	}
}
