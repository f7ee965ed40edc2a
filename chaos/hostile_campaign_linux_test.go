package chaos

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"
)

func TestCampaignHostile(t *testing.T) {
	playHostileCampaign(t, 20*time.Second, 4*time.Second, HostileCampaign)
}

// TestCampaignHostileServers plays only those of its episodes in which servers are
// hostile.
func TestCampaignHostileServers(t *testing.T) {
	playHostileCampaign(t, 6*time.Second, 2*time.Second, func(ctx context.Context, o CampaignOptions) (*Report, error) {
		return hostileCampaignWith(ctx, o, 1)
	})
}

func playHostileCampaign(t *testing.T, usual, short time.Duration, play func(context.Context, CampaignOptions) (*Report, error)) {
	t.Helper()
	o := CampaignOptions{Seed: *seedFlag, Duration: usual, Dir: t.TempDir()}
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d; again: %s", o.Seed, ReproduceHostile(o.Seed))
	if *dirFlag != "" {
		o.Dir = *dirFlag
	}
	if testing.Short() {
		o.Duration = short
	}
	if *timeFlag > 0 {
		o.Duration = *timeFlag
	}
	report, err := play(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(report.Counts)) {
		t.Logf("%s: %d", name, report.Counts[name])
	}
	if report.Verdict != Pass {
		t.Error(report)
	} else {
		t.Log(report)
	}
}
