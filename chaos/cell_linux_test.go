package chaos

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// A stack is searched for a function by its name, which a change of ipc can take away.
func TestTheFunctionsThatStacksAreSearchedForAreThere(t *testing.T) {
	files, err := filepath.Glob("../ipc/*.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^func \(\w+ (\*?\w+)\) (\w+)\(`)
	methods := map[string]bool{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			methods["/ipc.("+m[1]+")."+m[2]+"("] = true
		}
	}
	for _, function := range []string{admitting, retiring, renewing} {
		if !methods[function] {
			t.Errorf("ipc has no %s", function)
		}
	}
	if methods["/ipc.(*server).nothing("] || len(methods) < 100 {
		t.Errorf("%d methods were found: the check is blind", len(methods))
	}
}

// The kernel takes the token from a server that dies with it in its hand. An
// admission has it from before it settles the client that has left, if the one
// who watches that client's connection is late: here it never comes.
func TestAServerThatDiesInAnAdmissionLetsItsLocksGo(t *testing.T) {
	for _, at := range []step.ID{step.HelloReceived, step.EndProven, step.AccountTaken, step.TokenTaken, step.ClientRecorded} {
		hellos := 0
		w, err := newWorld(watched(t), worldOptions(nil), func(m *member) (party, error) {
			made, err := newCell(m)
			if c := made.(*cell); err == nil && m.role == ipc.RoleServer {
				c.report = func(reached step.ID, value uint64) {
					switch reached {
					case step.EndSeen:
						<-c.risen
					case step.HelloReceived:
						hellos++
					}
					if reached == at && hellos == 2 {
						c.die()
					}
					c.step(reached, value)
				}
			}
			return made, err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer w.end()
		if !w.setup(ipc.RoleServer) || !w.depart(w.client) {
			t.Fatal(w.failures)
		}
		if _, err := w.join(ipc.RoleClient); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = w.client.do(w.ctx, command{Verb: "dial"}) }()
		select {
		case <-w.server.gone():
		case <-w.ctx.Done():
			t.Fatalf("nobody died at %v", at)
		}
		for _, suffix := range []string{".lock", ".token"} {
			file, err := os.Open(w.path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			lock := unix.Flock_t{Type: unix.F_WRLCK, Len: 2}
			if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &lock); err != nil || lock.Type != unix.F_UNLCK {
				t.Errorf("dead at %v, the server has byte %d of %s locked (%v)", at, lock.Start, suffix, err)
			}
			_ = file.Close()
		}
	}
}

// A client dies by its server's step while it is on its way from a store to its
// step: what it has stored is found, so it counts, and it stores nothing any more.
func TestAStoreCountsThatItsProcessDidNotLiveToTell(t *testing.T) {
	for _, test := range []struct {
		at   step.ID
		does command
	}{
		{step.Published, command{Verb: "trysend", First: 2, Sizes: []int{smallSize}}},
		{step.Delivered, command{Verb: "take", Count: 1}},
		{step.Released, command{Verb: "release", Count: 1}},
	} {
		stored := make(chan struct{})
		var watch atomic.Bool
		w, err := newWorld(watched(t), worldOptions([]string{"beat"}), func(m *member) (party, error) {
			made, err := newCell(m)
			if c := made.(*cell); err == nil && m.role == ipc.RoleClient {
				c.report = func(reached step.ID, value uint64) {
					if reached == test.at && watch.CompareAndSwap(true, false) {
						close(stored)
						for !c.dying.Load() && c.ctx.Err() == nil {
							runtime.Gosched()
						}
					}
					c.step(reached, value)
				}
			}
			return made, err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer w.end()
		if !w.setup(ipc.RoleClient) {
			t.Fatal(w.failures)
		}
		w.arm(point{Victim: ipc.RoleClient, Clock: ipc.RoleServer, N: 1})
		watch.Store(true)
		go func() {
			<-stored
			_, _ = w.server.do(w.ctx, command{Verb: "beat"})
		}()
		if _, err := w.tell(w.client, test.does); !errors.Is(err, errEnded) {
			t.Fatalf("dead at %v: %v", test.at, err)
		}
		if w.disarm(); !w.recover() || !w.finish() {
			w.unexplained("the recovery did not come to its end")
		}
		if failures := w.judge(); len(failures) > 0 {
			t.Errorf("dead at %v: %v", test.at, failures)
		}
	}
}

// The machines of the specification follow a recorded case, and do not if one of
// its steps is not recorded.
func TestTheMachinesFollowCells(t *testing.T) {
	c, err := parseCoordinate("recorded,client:send/server@client.4/client@5")
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range []step.ID{step.Count, step.Published, step.Delivered, step.AttachmentStored, step.ClientRecorded} {
		counts := NewReport("enumerator", 0)
		recruits := func(fl *flight) func(*member) (party, error) {
			recruit := recordedCells(fl)
			return func(m *member) (party, error) {
				made, err := recruit(m)
				if c := made.(*cell); err == nil {
					c.report = func(at step.ID, value uint64) {
						if at != left {
							c.step(at, value)
						} else if m.w.reached(m, at, value); c.dying.Load() {
							<-c.risen
						}
					}
				}
				return made, err
			}
		}
		p := follower{newReplayer(), counts, nil}.play(watched(t), c, worldOptions(c.Operations), recruits, func(p *played, w *world) { p.play(w, c) })
		missed := slices.ContainsFunc(p.Failures, func(f Failure) bool { return f.Contract == "Ring" || f.Contract == "Lifecycle" })
		if left == step.Count && len(p.Failures) > 0 || left != step.Count && !missed || len(p.Deaths) == 0 {
			t.Errorf("without %v: deaths %v, failures %v", left, p.Deaths, p.Failures)
		}
	}
}
