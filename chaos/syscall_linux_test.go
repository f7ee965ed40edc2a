//go:build amd64 || arm64

package chaos

import (
	"context"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

func TestSystemCallBoundariesAreSafeToDieAt(t *testing.T) {
	show(t, SystemCallKills(context.Background(), InstructionOptions{
		Budget: shareOf(10 * time.Second), Seed: seedOf(t),
	}))
}

// A server that leaves, for a while, what the next cannot start with.
var _ = register("life with a planted bug", func(p *player) {
	var arg lifeArgument
	p.arg(&arg)
	markBegin.here(0)
	if err := os.WriteFile(arg.Path, nil, 0o600); err != nil {
		p.fail("%v", err)
	}
	_ = os.Remove(arg.Path)
	if err := arg.live(context.Background()); err != nil {
		p.fail("%v", err)
	}
	markEnd.here(0)
	p.next()
})

func TestSystemCallBoundariesShowAPlantedBug(t *testing.T) {
	needTrace(t)
	report := NewReport("planted", 1)
	b := &boundaries{part: "life with a planted bug", role: ipc.RoleServer, report: report, random: rand.New(rand.NewPCG(1, 1))}
	onThread(func() {
		for n := 1; report.Finish(1).Verdict != Fail && !b.kill(context.Background(), n); n++ {
		}
	})
	broken := 0 // behind openat, or before what the thread does next: another goroutine may come in between
	for _, outcomes := range report.Steps {
		broken += outcomes["broken"]
	}
	if report.Verdict != Fail || broken != 1 {
		t.Errorf("a file that is in the way of the next server was not found: %v, %v", report, report.Steps)
	}
}
