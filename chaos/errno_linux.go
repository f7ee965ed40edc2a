//go:build amd64 || arm64

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/ipc"
)

// FailedSystemCalls makes each system call of a server's and of a client's life
// fail, in turn, with each errno that it can plausibly give: the tracer replaces
// the call by none, and its result. Which calls there are is seen in a life
// without a failure. A life with one must end in a clean error or in success,
// behind EINTR in success; nothing is stuck, nothing is left, the peer goes on,
// and the next life of the same process, without a failure, succeeds.
func FailedSystemCalls(ctx context.Context, o ErrnoOptions) *Report {
	report := NewReport(errnoLayer, o.Seed)
	if err := mayTrace(); err != nil {
		report.Note("skipped: %v", err)
		return report.Finish(1)
	}
	var group sync.WaitGroup
	for _, role := range []ipc.Role{ipc.RoleServer, ipc.RoleClient} {
		group.Add(1)
		go onThread(func() {
			defer group.Done()
			s := &saboteur{part: "lives", role: role, report: report, only: o.Only, random: rand.New(rand.NewPCG(o.Seed, uint64(role)))}
			if o.Budget > 0 {
				s.deadline = report.Started.Add(o.Budget)
			}
			s.run(ctx)
		})
	}
	group.Wait()
	return report.Finish(1)
}

// A sabotage is one call that fails: the n-th of its name in a life.
type sabotage struct {
	call  string
	n     int
	errno unix.Errno
}

func (b sabotage) String() string {
	return fmt.Sprintf("%s/%d/%s", b.call, b.n, unix.ErrnoName(b.errno))
}

// A saboteur makes the lives of one side fail.
type saboteur struct {
	part     string
	role     ipc.Role
	report   *Report
	only     string
	random   *rand.Rand
	deadline time.Time // zero: none

	path   string
	t      *tracee
	thread *tracedThread // stopped between two lives
	peers  *peers
	seen   map[string]int // calls of the last life
	spent  bool           // the sabotage has taken place
}

// run makes everything fail, as far as the deadline allows.
func (s *saboteur) run(ctx context.Context) {
	directory, err := newDirectory()
	if err != nil {
		s.report.Fail("harness", "", "%v", err)
		return
	}
	defer os.RemoveAll(directory)
	s.path = filepath.Join(directory, "s")
	defer s.stop()
	plan, err := s.plan(ctx)
	if err != nil {
		s.report.Fail("harness", s.reproduce(""), "%v without a failure: %v", s.role, err)
		return
	}
	tried := 0
	for _, b := range plan {
		if ctx.Err() != nil || !s.deadline.IsZero() && time.Now().After(s.deadline) {
			break
		}
		s.try(ctx, b)
		tried++
	}
	s.report.Count(s.role.String()+": failures known", len(plan))
	s.report.Count(s.role.String()+": failures tried", tried)
}

func (s *saboteur) reproduce(b string) string {
	return playAgain(errnoLayer, fmt.Sprintf("%v/%s", s.role, b))
}

// plan leads a life without a failure, and lists what may fail in it.
func (s *saboteur) plan(ctx context.Context) (plan []sabotage, err error) {
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	if r, err := s.life(sabotage{}); err != nil || r.Err != "" || r.Left != "" {
		return nil, errors.Join(err, fmt.Errorf("%+v", r))
	}
	for call, count := range s.seen {
		how, known := failings[call]
		if !known {
			s.report.Fail("harness", s.reproduce(""), "%v: nobody has said how %q fails", s.role, call)
		}
		s.report.Count(s.role.String()+" calls "+call, count)
		for n := range count {
			for _, errno := range how.ways() {
				b := sabotage{call, n + 1, errno}
				if s.only == "" || s.only == s.role.String()+"/"+b.String() {
					plan = append(plan, b)
				}
			}
		}
	}
	s.random.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	return plan, nil
}

// start starts the victim and its peers, and leads a first life, in which the
// process opens what it keeps open for good. The peers stay to the end of the case
// that is under way when everything ends: without them a life would look stuck.
func (s *saboteur) start(ctx context.Context) (err error) {
	s.stop()
	if s.peers, err = newPeers(context.WithoutCancel(ctx), s.role, s.path); err != nil {
		return err
	}
	if s.t, err = startTraced(s.part, lifeArgument{s.path, s.role}); err != nil {
		return err
	}
	if err := s.t.resumeAll(s.t.runToCall); err != nil {
		return err
	}
	_, err = s.life(sabotage{})
	return err
}

func (s *saboteur) stop() {
	if s.t != nil {
		s.t.kill()
	}
	if s.peers != nil {
		s.peers.stop()
	}
	s.t, s.thread, s.peers = nil, nil, nil
}

// try makes one call fail, and judges that life and the next.
func (s *saboteur) try(ctx context.Context, b sabotage) {
	if s.t == nil {
		if err := s.start(ctx); err != nil {
			s.report.Fail("harness", s.reproduce(b.String()), "start again: %v", err)
			return
		}
	}
	s.report.Case(0)
	outcome := "success"
	r, err := s.life(b)
	switch {
	case err != nil:
		s.fail(b, "M7 NoStuckWaiter", "the life has no end: %v", err)
		s.stop()
		return
	case !s.spent:
		outcome = "not reached"
	case r.Err != "":
		outcome = "error"
	}
	broken := s.judge(b, r)
	next, err := s.life(sabotage{})
	if err != nil || next.Err != "" || next.Left != "" {
		broken = s.fail(b, "next attempt", "%v %s %s, behind %q", err, next.Err, next.Left, r.Err)
	}
	if err := s.peers.trouble(); err != nil {
		broken = s.fail(b, "peer", "%v", err)
	}
	if broken {
		outcome = "broken"
		s.stop() // what comes next is not to pay for it
	}
	s.report.Covered(b.call, unix.ErrnoName(b.errno)+" "+outcome)
}

// judge looks at a life in which a call failed.
func (s *saboteur) judge(b sabotage, r lifeReport) (broken bool) {
	switch {
	case r.Stuck:
		broken = s.fail(b, "M7 NoStuckWaiter", "stuck: %s", r.Err)
	case r.Err != "" && b.errno == unix.EINTR:
		broken = s.fail(b, "EINTR", "not repeated: %s", r.Err)
	case r.Err != "" && !r.Clean:
		broken = s.fail(b, "clean error", "it does not name its cause: %s", r.Err)
	}
	if left := s.notExcused(b, r.Left); left != "" {
		broken = s.fail(b, "L8 NoLeak", "%s, behind %q", left, r.Err)
	}
	return broken
}

// notExcused is what a life has left without an excuse. One for a thing is none for
// what is left beside it.
func (s *saboteur) notExcused(b sabotage, left string) string {
	var rest []string
	for thing := range strings.SplitSeq(left, betweenLeft) {
		i := slices.IndexFunc(excuses, func(e excuse) bool { return e.call == b.call && e.left == thing })
		if i < 0 {
			rest = append(rest, thing)
			continue
		}
		s.report.Count("excused: "+b.call+": "+excuses[i].why, 1)
	}
	return strings.Join(rest, betweenLeft)
}

// fail records a broken promise.
func (s *saboteur) fail(b sabotage, contract, format string, args ...any) bool {
	s.report.Fail(contract, s.reproduce(b.String()), "%v, %v: %s", s.role, b, stable(fmt.Sprintf(format, args...)))
	return true
}

// life lets the victim lead a life in which the sabotage takes place.
func (s *saboteur) life(b sabotage) (r lifeReport, err error) {
	s.t.tell("%d", b.errno)
	s.t.guard.Reset(traceeLimit)
	if s.thread != nil {
		if err := s.t.runToCall(s.thread); err != nil {
			return r, err
		}
	}
	s.seen, s.spent = map[string]int{}, false
	begun, failing := false, map[*tracedThread]bool{}
	for {
		thread, m, err := s.t.nextMark(s.t.runToCall, func(thread *tracedThread, why stop, regs *registers) error {
			if why == stopExit && failing[thread] {
				delete(failing, thread)
				return orDead(regs.setResult(thread.id, -int64(b.errno)))
			}
			call := callAt(thread, regs)
			if !begun || call == "" || why != stopEntry {
				return nil
			}
			if s.seen[call]++; call != b.call || s.seen[call] != b.n {
				return nil
			}
			s.spent, failing[thread] = true, true
			if failings[call].done {
				return nil
			}
			return orDead(regs.skipCall(thread.id))
		})
		if err != nil {
			return r, err
		}
		if m.kind == markPrepared {
			s.thread = thread
			return r, json.Unmarshal([]byte(<-s.t.lines), &r)
		}
		begun = m.kind == markBegin
		if err := s.t.runToCall(thread); err != nil {
			return r, err
		}
	}
}

// peers are the other side of all lives: a server that serves for ever, or a
// client that comes again and again.
type peers struct {
	cancel context.CancelFunc
	server *ipc.Endpoint
	end    chan error
	early  error
}

func newPeers(ctx context.Context, victim ipc.Role, path string) (p *peers, err error) {
	p = &peers{end: make(chan error, 1)}
	ctx, p.cancel = context.WithCancel(ctx)
	if victim == ipc.RoleClient {
		if p.server, err = ipc.Listen(ctx, path, lively()); err != nil {
			return p, err
		}
		go func() { p.end <- answer(ctx, p.server, true) }()
		return p, nil
	}
	go func() {
		for {
			if err := converse(ctx, path, survivorLane); err != nil {
				p.end <- err
				return
			}
		}
	}()
	return p, nil
}

// trouble returns why the peer has given up, if it has.
func (p *peers) trouble() error {
	select {
	case p.early = <-p.end:
		return p.early
	default:
		return nil
	}
}

func (p *peers) stop() {
	p.cancel()
	if p.early == nil {
		<-p.end
	}
	if p.server != nil {
		_ = p.server.Close()
	}
}
