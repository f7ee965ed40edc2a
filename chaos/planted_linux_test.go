package chaos

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// A liar is a cell whose replies are tampered with: what a broken runtime would
// make its callers see.
type liar struct {
	*cell
	tamper func(m *member, c command, got *reply)
}

func (l *liar) do(ctx context.Context, c command) (reply, error) {
	got, err := l.cell.do(ctx, c)
	if err == nil {
		l.tamper(l.m, c, &got)
	}
	return got, err
}

// lies are what a pair could show, each with the promise that it breaks. It is
// shown in the case that the coordinate names.
var lies = []struct {
	what, broken, at string
	tamper           func(m *member, c command, got *reply)
}{
	{"a message is dropped", "M1 NoLoss", "client:send/client@5", func(m *member, c command, got *reply) {
		if m.role == ipc.RoleServer && len(got.Received) > 1 {
			got.Received = got.Received[:len(got.Received)-1]
		}
	}},
	{"a commit that no step shows", "M1 NoLoss", "server:full", func(m *member, c command, got *reply) {
		if got.Sort == "full" {
			got.Committed++
		}
	}},
	{"two messages change places", "M2 FIFO", "server:drain", func(m *member, c command, got *reply) {
		slices.Reverse(got.Received)
	}},
	{"no mark", "M3 AtLeastOnce", "client:receive/client@2", func(m *member, c command, got *reply) {
		for i := range got.Received {
			got.Received[i].Redelivered = false
		}
	}},
	{"a mark too many", "M3 AtLeastOnce", "client:drain", func(m *member, c command, got *reply) {
		for i := range got.Received {
			got.Received[i].Redelivered = true
		}
	}},
	{"a torn message", "M4 NoTear", "client:send/client@4", func(m *member, c command, got *reply) {
		for i := range got.Received {
			got.Received[i].Damage = "byte 20 is 0x0 instead of 0x1"
		}
	}},
	{"an end that is not told", "M5 Drain", "client:send/client@5", func(m *member, c command, got *reply) {
		got.Ends = nil
	}},
	{"an end before the last message", "M5 Drain", "client:send/client@5", func(m *member, c command, got *reply) {
		for i := range got.Ends {
			got.Ends[i].After = 0
		}
	}},
	{"the account lacks one", "M6 Account", "server:send/client@server.5", func(m *member, c command, got *reply) {
		if len(got.Unreleased) > 0 {
			got.Unreleased = got.Unreleased[1:]
		}
	}},
	{"the account forgets a delivery", "M6 Account", "client:receive/client@2", func(m *member, c command, got *reply) {
		for i := range got.Unreleased {
			got.Unreleased[i].Delivered = false
		}
	}},
	{"the event counts wrong", "M6 Account", "client:receive/client@2", func(m *member, c command, got *reply) {
		for i := range got.Events {
			got.Events[i].Redeliverable++
		}
	}},
	{"full with room", "M8 Bounded", "client:send", func(m *member, c command, got *reply) {
		if c.Verb == "trysend" && c.Sizes[0] == sendSize {
			got.Trouble, got.Sort, got.Committed = "ring full", "full", 0
		}
	}},
	{"a server starts beside a client", "L3 BothRestart", "server:send/server@4", func(m *member, c command, got *reply) {
		if got.Sort == "client running" {
			got.Trouble, got.Sort = "", ""
		}
	}},
	{"a message of another generation", "L4 NoGhost", "server:send/server@4", func(m *member, c command, got *reply) {
		for i := range got.Received {
			if m.generation == 2 {
				got.Received[i].ID.Generation = 1
			}
		}
	}},
	{"a death called a close", "L5 TrueVerdict", "client:send/client@5", func(m *member, c command, got *reply) {
		for i := range got.Ends {
			got.Ends[i].Verdict = "closed"
		}
	}},
	{"the next client cannot attach", "L7 ClientRestart", "client:send/client@5", func(m *member, c command, got *reply) {
		if c.Verb == "dial" && m.number == 2 {
			got.Trouble, got.Sort = "refused", "other"
		}
	}},
	{"the next client cannot send", "L7 ClientRestart", "client:send/client@5", func(m *member, c command, got *reply) {
		if c.Verb == "trysend" && m.number == 2 {
			got.Trouble, got.Sort = "refused", "other"
		}
	}},
}

func TestEachLieIsFound(t *testing.T) {
	for _, lie := range lies {
		c, err := parseCoordinate(lie.at)
		if err != nil {
			t.Fatal(err)
		}
		got := play(watched(t), c, func(m *member) (party, error) {
			p, err := newCell(m)
			if err != nil {
				return nil, err
			}
			return &liar{p.(*cell), lie.tamper}, nil
		})
		if !slices.ContainsFunc(got.Failures, func(f Failure) bool { return f.Contract == lie.broken && f.Reproduce == lie.at }) {
			t.Errorf("%s: want %s, have %v", lie.what, lie.broken, got.Failures)
		}
	}
}

func TestACallThatDoesNotComeBackIsFound(t *testing.T) {
	defer func(d time.Duration) { patience = d }(patience)
	patience = 100 * time.Millisecond
	c, _ := parseCoordinate("client:wait")
	got := play(watched(t), c, func(m *member) (party, error) {
		p, err := newCell(m)
		if err != nil {
			return nil, err
		}
		return &deaf{p.(*cell)}, nil
	})
	if !slices.ContainsFunc(got.Failures, func(f Failure) bool {
		return f.Contract == "M7 NoStuckWaiter" && strings.Contains(f.What, "client: receive did not come back")
	}) {
		t.Errorf("have %v", got.Failures)
	}
}

// A deaf is a cell that does not hear the wake-up of a wait.
type deaf struct{ *cell }

func (d *deaf) do(ctx context.Context, c command) (reply, error) {
	got, err := d.cell.do(ctx, c)
	if c.Verb == "receive" {
		<-ctx.Done()
		return reply{}, ctx.Err()
	}
	return got, err
}

// A mortal is a cell that ends where nobody has planned it.
type mortal struct{ *cell }

func (d *mortal) do(ctx context.Context, c command) (reply, error) {
	if c.Verb == "trysend" && c.Sizes[0] == sendSize {
		d.die()
		return reply{}, errEnded
	}
	return d.cell.do(ctx, c)
}

func TestAnEndThatNobodyHasPlannedIsFound(t *testing.T) {
	c, _ := parseCoordinate("client:send")
	got := play(watched(t), c, func(m *member) (party, error) {
		p, err := newCell(m)
		if err != nil {
			return nil, err
		}
		return &mortal{p.(*cell)}, nil
	})
	if !slices.ContainsFunc(got.Failures, func(f Failure) bool {
		return f.Contract == "harness" && strings.Contains(f.What, "ended by itself, during send")
	}) {
		t.Errorf("have %v", got.Failures)
	}
}
