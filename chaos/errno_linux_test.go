//go:build amd64 || arm64

package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/ipc"
)

func TestFailedSystemCallsEndInACleanErrorOrInSuccess(t *testing.T) {
	show(t, FailedSystemCalls(context.Background(), ErrnoOptions{
		Budget: shareOf(10 * time.Second), Seed: seedOf(t),
	}))
}

// A server reads its lock file again and again, and goes by what it says. The calls
// are too few among all to be drawn in a short time.
func TestFailedSystemCallsThatReadTheLockFile(t *testing.T) {
	for n := range 3 { // as it is opened, as the server's lock is held, for the generation
		for _, errno := range failings["pread64"].errnos {
			only := ipc.RoleServer.String() + "/" + sabotage{"pread64", n + 1, errno}.String()
			t.Run(only, func(t *testing.T) {
				t.Parallel()
				show(t, FailedSystemCalls(context.Background(), ErrnoOptions{Only: only}))
			})
		}
	}
}

// Lives with a bug on the path of an error, by what must find it.
var plantedLives = map[string]func(arg lifeArgument, err error) error{
	"L8 NoLeak": func(_ lifeArgument, err error) error {
		_, _ = unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	},
	"clean error": func(lifeArgument, error) error { return errors.New("it has failed") },
	"M7 NoStuckWaiter": func(_ lifeArgument, err error) error {
		return errors.Join(err, context.DeadlineExceeded) // as of one that waited for ever
	},
	"next attempt": func(arg lifeArgument, err error) error {
		_ = os.Remove(arg.Path) // nobody finds the peer any more
		return err
	},
}

func init() {
	for contract, plant := range plantedLives {
		register("lives without "+contract, lives(func(ctx context.Context, arg lifeArgument) error {
			ctx, cancel := context.WithTimeout(ctx, lifeLimit/10)
			defer cancel()
			err := arg.live(ctx)
			if err != nil {
				err = plant(arg, err)
			}
			return err
		}))
	}
}

// plantedFailures are the failures that show the bugs. Where a call may leave a file, what
// else is left must be seen beside it.
var plantedFailures = []struct {
	contract string
	role     ipc.Role
	failure  string
}{
	{"L8 NoLeak", ipc.RoleClient, "socket/1/EMFILE"},
	{"L8 NoLeak", ipc.RoleServer, "unlinkat/2/EACCES"}, // of the path, in Close
	{"clean error", ipc.RoleClient, "socket/1/EMFILE"},
	{"M7 NoStuckWaiter", ipc.RoleClient, "socket/1/EMFILE"},
	{"next attempt", ipc.RoleClient, "socket/1/EMFILE"},
}

func TestFailedSystemCallsShowAPlantedBug(t *testing.T) {
	needTrace(t)
	for _, p := range plantedFailures {
		only := p.role.String() + "/" + p.failure
		t.Run(p.contract+"/"+only, func(t *testing.T) {
			t.Parallel()
			report := NewReport(errnoLayer, 1)
			s := &saboteur{part: "lives without " + p.contract, role: p.role, report: report, only: only, random: rand.New(rand.NewPCG(1, 1))}
			onThread(func() { s.run(context.Background()) })
			if !slices.ContainsFunc(report.Failures, func(f Failure) bool { return f.Contract == p.contract }) {
				t.Errorf("have %v, %v", report, report.Counts)
			}
		})
	}
}
