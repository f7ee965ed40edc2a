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

func TestFailedSystemCallsShowAPlantedBug(t *testing.T) {
	if err := mayTrace(); err != nil {
		t.Skipf("NOT TESTED on this machine: %v", err)
	}
	for contract := range plantedLives {
		t.Run(contract, func(t *testing.T) {
			t.Parallel()
			report := NewReport(errnoLayer, 1)
			s := &saboteur{part: "lives without " + contract, role: ipc.RoleClient, report: report, only: "client/socket/1/EMFILE", random: rand.New(rand.NewPCG(1, 1))}
			onThread(func() { s.run(context.Background()) })
			if !slices.ContainsFunc(report.Failures, func(f Failure) bool { return f.Contract == contract }) {
				t.Errorf("have %v", report)
			}
		})
	}
}
