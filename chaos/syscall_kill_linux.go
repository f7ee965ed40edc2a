//go:build amd64 || arm64

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/ipc"
)

// SystemCallKills kills a server and a client at the entry and at the exit of
// every system call of their lives, from Listen or Dial to the end of Close, in
// whatever thread it is made: for N = 1, 2, 3 … until the life completes. Then the
// other side must get on with a successor, and nobody may be stuck.
func SystemCallKills(ctx context.Context, o InstructionOptions) *Report {
	report := NewReport(boundaryLayer, o.Seed)
	if err := mayTrace(); err != nil {
		report.Note("skipped: %v", err)
		return report.Finish(1)
	}
	roles := []ipc.Role{ipc.RoleServer, ipc.RoleClient}
	onThread(func() {
		for i, role := range roles {
			b := &boundaries{part: "life", role: role, report: report, random: rand.New(rand.NewPCG(o.Seed, uint64(role)))}
			if victim, at, one := strings.Cut(o.Only, "/"); one {
				if n, err := strconv.Atoi(at); err == nil && victim == role.String() {
					b.kill(ctx, n)
				}
				continue
			}
			budget := o.Budget
			if budget > 0 {
				budget = max(1, budget-time.Since(report.Started)) / time.Duration(len(roles)-i)
			}
			b.cross(ctx, budget)
		}
	})
	return report.Finish(1)
}

// boundaries are those of one side's life.
type boundaries struct {
	part   string // that the victim plays
	role   ipc.Role
	report *Report
	random *rand.Rand
	kills  int
}

// usualBoundaries is about how many a life has: it only serves to leave out the
// same share everywhere.
const usualBoundaries = 200

// cross kills at each boundary in turn, or, if that would take longer than the
// budget, at some.
func (b *boundaries) cross(ctx context.Context, budget time.Duration) {
	start, at := time.Now(), 0
	for stride := 1; ctx.Err() == nil && !b.kill(ctx, at+1); at += 1 + b.random.IntN(2*stride-1) {
		if budget <= 0 {
			continue // no budget: all of them
		}
		each := time.Since(start) / time.Duration(b.kills)
		rest := max(budget-time.Since(start), time.Millisecond)
		stride = int(min(max(1, time.Duration(usualBoundaries-at)*each/rest), usualBoundaries/4))
	}
	b.report.Count(b.role.String()+": boundaries", at)
	b.report.Count(b.role.String()+": killed at", b.kills)
}

// kill kills a life at its n-th boundary and judges what comes after. It reports
// whether the life has completed before. What is begun is judged, also when everything
// ends meanwhile.
func (b *boundaries) kill(ctx context.Context, n int) (completed bool) {
	reproduce := playAgain(boundaryLayer, fmt.Sprintf("%v/%d", b.role, n))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), watchdog)
	defer cancel()
	directory, err := newDirectory()
	if err != nil {
		b.report.Fail("harness", reproduce, "%v", err)
		return true
	}
	defer os.RemoveAll(directory)
	s := &survival{ctx: ctx, path: filepath.Join(directory, "s"), part: b.part, role: b.role}
	defer s.close()
	at, err := s.until(n)
	if err == nil {
		err = s.succeed()
	}
	if err != nil {
		b.report.Fail("L7 ClientRestart", reproduce, "%v killed %s: %s", b.role, at, stable(err.Error()))
	}
	if at != "" {
		b.report.Case(1)
		b.report.Covered(at, map[bool]string{true: "sound", false: "broken"}[err == nil])
		b.kills++
	}
	return at == ""
}

// A survival is the other side of a life that is cut short.
type survival struct {
	ctx    context.Context
	path   string
	part   string // the victim's
	role   ipc.Role
	t      *tracee
	server *ipc.Endpoint // this process's, when it has one
	served chan error
	talk   chan error // the end of this process's conversation, if it has begun one
}

// until lets the victim live to its n-th boundary and kills it there. It names the
// boundary, or nothing if the life has completed.
func (s *survival) until(n int) (at string, err error) {
	if s.role == ipc.RoleClient {
		if err := s.listen(); err != nil {
			return "", err
		}
	} else {
		s.talk = make(chan error, 1)
		go func() { s.talk <- converse(s.ctx, s.path, survivorLane) }()
	}
	if s.t, err = startTraced(s.part, lifeArgument{s.path, s.role}); err != nil {
		return "", err
	}
	if err := s.t.resumeAll(s.t.runToCall); err != nil {
		return "", err
	}
	begun := false
	errThere := errors.New("there")
	for {
		thread, m, err := s.t.nextMark(s.t.runToCall, func(thread *tracedThread, why stop, r *registers) error {
			call := callAt(thread, r)
			if !begun || call == "" {
				return nil
			}
			if n--; n > 0 {
				return nil
			}
			at = map[stop]string{stopEntry: "before ", stopExit: "behind "}[why] + call
			return errThere
		})
		switch {
		case errors.Is(err, errThere):
			s.t.kill()
			return at, nil
		case err != nil:
			return at, err
		case m.kind == markEnd:
			return "", nil
		}
		begun = true
		if err := s.t.runToCall(thread); err != nil {
			return at, err
		}
	}
}

// listen begins this process's server.
func (s *survival) listen() (err error) {
	if s.server, err = ipc.Listen(s.ctx, s.path, lively()); err != nil {
		return fmt.Errorf("the survivor's Listen: %w", err)
	}
	s.served = make(chan error, 1)
	go func() { s.served <- answer(s.ctx, s.server, true) }()
	return nil
}

// succeed ends the victim and lets others take its place: what this process was
// about must come to its end, then a whole conversation, then both ends close.
func (s *survival) succeed() error {
	s.t.kill()
	if s.t.status.Signal() != unix.SIGKILL {
		return fmt.Errorf("it ended %s%s%s", statusText(s.t.status), s.t.said(), s.t.log)
	}
	if s.server == nil {
		if err := s.listen(); err != nil {
			return err
		}
	}
	if s.talk != nil {
		if err := <-s.talk; err != nil {
			return fmt.Errorf("the survivor: %w", err)
		}
	}
	if err := converse(s.ctx, s.path, successorLane); err != nil {
		return fmt.Errorf("the successor: %w", err)
	}
	if err := s.server.Close(); err != nil {
		return fmt.Errorf("close of the server: %w", err)
	}
	if err := <-s.served; !errors.Is(err, ipc.ErrClosed) {
		return fmt.Errorf("the server: %w", err)
	}
	return onlyLockFile(s.path)
}

func (s *survival) close() {
	if s.t != nil {
		s.t.kill()
	}
	if s.server != nil {
		_ = s.server.Close()
	}
}
