package model

import (
	"errors"
	"strings"
	"testing"
)

func channelConfig(t *testing.T, s setting) ChannelConfig {
	t.Helper()
	var config ChannelConfig
	s.fill(t, &config)
	return config
}

func TestChannelEqualsItsModule(t *testing.T) {
	var all []setting
	for _, s := range settings(t, "ring") {
		if s.Module == "Channel" {
			all = append(all, s)
		}
	}
	// The manifest has one of each kind of client. Others have a longer log and no
	// batches, and more deaths.
	longer := all[0].with("MaxMsg", "5").with("Batch", "1").with("MaxGen", "1")
	deadlier := all[1].with("MaxMsg", "2").with("MaxDeaths", "4").with("Bound", "1").with("MaxGen", "3")
	longer.Name += ",longer"
	deadlier.Name += ",deadlier"
	all = append(all, longer, deadlier)
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			equalToTLC(t, Channel(channelConfig(t, s)), s)
		})
	}
}

// An oracle is a state that goes along with the real thing.
func TestChannelIsAnOracle(t *testing.T) {
	m := Channel(ChannelConfig{Bound: 3, Batch: 3, Client: Consumer, MaxMsg: 5000, MaxGen: 2, MaxDeaths: 50})
	do := func(name string) Action { return Action{Name: name} }
	s := m.Init[0]
	for i, a := range []Action{
		Commit(2), Commit(1), Deliver(2), HandOut(2), Release(1), Commit(1), do("ConsumerDies"), do("AccountTaken"),
		do("ConsumerStarts"), Deliver(3), HandOut(3), Release(4), do("ProducerDies"), do("EndTold"), do("EndTaken"),
	} {
		next, err := m.Do(s, a)
		if err != nil {
			t.Fatalf("action %d: %v", i, err)
		}
		s = next
		for _, v := range m.Invariants {
			if !v.Holds(s) {
				t.Errorf("%s does not hold after %v", v.Name, a)
			}
		}
		switch i {
		case 8:
			if s.Rel != 1 || s.Mark != 2 || s.Kept.Len() != 3 {
				t.Errorf("the next client begins at %d with a mark at %d and %v kept", s.Rel, s.Mark, s.Kept)
			}
		case 10:
			if s.View != s.Log.part(1, 4) {
				t.Errorf("it has %v in hand of %v", s.View, s.Log)
			}
		}
	}
	for _, wrong := range []Action{Commit(1), Deliver(1), HandOut(1), Release(3), do("EndTold"), do("Commit"), {"Commit", "k=0"}} {
		next, err := m.Do(s, wrong)
		var refused *NotAllowedError
		if !errors.As(err, &refused) || refused.Action != wrong || next != s || !strings.Contains(err.Error(), wrong.String()) {
			t.Errorf("%v: %v", wrong, err)
		}
	}
}
