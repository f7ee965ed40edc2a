package chaos

import (
	"maps"
	"slices"
	"testing"
	"time"
)

func TestCampaignHostile(t *testing.T) {
	o := CampaignOptions{Seed: *seedFlag, Duration: 20 * time.Second, Dir: t.TempDir()}
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d; again: %s", o.Seed, ReproduceHostile(o.Seed))
	if *dirFlag != "" {
		o.Dir = *dirFlag
	}
	if testing.Short() {
		o.Duration = 4 * time.Second
	}
	if *timeFlag > 0 {
		o.Duration = *timeFlag
	}
	report, err := HostileCampaign(t.Context(), o)
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
