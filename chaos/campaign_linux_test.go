package chaos

import (
	"errors"
	"flag"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of a campaign; 0 for a new one")
	timeFlag   = flag.Duration("campaign", 0, "how long a campaign takes; 0 for the test's own")
	dirFlag    = flag.String("dir", "", "where a campaign is saved; a directory of the test's own if empty")
	replayFlag = flag.String("replay", "", "what a campaign has printed, to run one episode again")
)

func drawnSeed(t *testing.T) uint64 {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d; again: %s", seed, ReproduceCampaign(seed))
	return seed
}

func TestCampaign(t *testing.T) {
	o := CampaignOptions{Seed: drawnSeed(t), Duration: 20 * time.Second, Dir: t.TempDir(), Keep: -1}
	if *dirFlag != "" {
		o.Dir = *dirFlag
	}
	if testing.Short() {
		o.Duration = 4 * time.Second
	}
	if *timeFlag > 0 {
		o.Duration = *timeFlag
	}
	report, err := Campaign(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(CampaignTable(report))
	if report.Verdict != Pass {
		t.Error(report)
	}
}

// Without -replay it makes a campaign of its own, and replays episodes of it until
// deaths have come where they were before.
func TestCampaignReplay(t *testing.T) {
	lines := []string{*replayFlag}
	if *replayFlag == "" {
		lines = linesToReplay(t)
	}
	for _, line := range lines {
		report, err := Replay(t.Context(), line, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d of %d deaths where they were before\n%s", line, report.Counts[countReplayed], report.Counts[countKills], CampaignTable(report))
		if report.Verdict == Fail {
			t.Fatal(report)
		}
		if report.Counts[countReplayed] > 0 || *replayFlag != "" {
			return
		}
	}
	t.Errorf("no death of %d episodes came where it was before", len(lines))
}

func linesToReplay(t *testing.T) (lines []string) {
	dir := t.TempDir()
	if _, err := Campaign(t.Context(), CampaignOptions{Seed: drawnSeed(t), Kills: 30, Dir: dir}); err != nil {
		t.Fatal(err)
	}
	for _, d := range savedEpisodes(t, dir) {
		if len(d.deaths) > 3 {
			lines = append(lines, replayLine(d.episode, d.deaths))
		}
	}
	if testing.Short() { // a death that does not come about is waited for
		slices.SortFunc(lines, func(a, b string) int { return len(a) - len(b) })
	}
	return lines
}

// savedEpisodes reads what a campaign has left in the directory, with where each
// lies.
func savedEpisodes(t *testing.T, dir string) iter.Seq2[string, *docket] {
	return func(yield func(string, *docket) bool) {
		files, err := filepath.Glob(filepath.Join(dir, "*", episodeFile))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			home := filepath.Dir(file)
			d, err := readEpisode(home)
			if err != nil {
				t.Fatal(err)
			}
			if !yield(home, d) {
				return
			}
		}
	}
}

// A saved campaign is judged again as it was judged before.
func TestASavedCampaignIsJudgedAgain(t *testing.T) {
	dir := t.TempDir()
	before, err := Campaign(t.Context(), CampaignOptions{Seed: drawnSeed(t), Kills: 20, Dir: dir, Keep: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	again, err := JudgeDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.Verdict != before.Verdict || again.Kills != before.Kills || !maps.Equal(again.Counts, before.Counts) {
		t.Errorf("before: %v %v\nagain: %v %v", before, before.Counts, again, again.Counts)
	}
}

var (
	_ = register("one that has left", func(*player) {})
	_ = register("one that has crashed", func(*player) { os.Exit(exitMistake) })
)

// A kill counts that has ended the process. One that had left before was not
// killed, and one that had crashed is a failure.
func TestAKillCountsThatHasEndedTheProcess(t *testing.T) {
	flight, err := newFlight(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer flight.close()
	for _, test := range []struct {
		part  string
		ended bool // before it is struck
		fatal bool
		kills int
		err   error
	}{
		{"spinner", false, false, 1, nil},
		{"one that has left", true, false, 0, nil},
		{"one that has left", true, true, 0, nil},
		{"one that has crashed", true, false, 0, errBroken},
	} {
		process, err := start(test.part, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(process.kill)
		if test.ended {
			<-process.done
		}
		p := &pair{episode: &episode{}, flight: flight}
		victim := &tenant{process: process, incarnation: 200, fatal: test.fatal}
		p.strike(victim)
		if log := p.episode.Log; len(log) != 1 || log[0].What != didKill {
			t.Errorf("%s: the time of the blow is not logged: %v", test.part, log)
		}
		err = p.bury(victim)
		kills := 0
		for _, o := range p.episode.Log {
			if o.What == didKill {
				kills++
			}
		}
		if kills != test.kills || !errors.Is(err, test.err) || !victim.gone {
			t.Errorf("%s, fatal %t: %d kills, want %d; %v, want %v; log %v", test.part, test.fatal, kills, test.kills, err, test.err, p.episode.Log)
		}
	}
}
