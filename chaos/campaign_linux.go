package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A campaign runs episodes until it has had enough.
type campaign struct {
	CampaignOptions
	report  *Report
	replays *replayer

	mu       sync.Mutex
	number   int // of the next episode
	kept     int
	progress CampaignProgress
	trouble  error
}

// Campaign breaks real pairs at random under load: it kills, freezes and closes
// servers and clients, starts them again as a supervisor would, and judges what
// all of them have seen. Each episode ends with a liveness phase, in which
// everything in flight must complete. The error is about the campaign itself;
// what it finds stands in the report.
func Campaign(ctx context.Context, o CampaignOptions) (*Report, error) {
	if o.Duration <= 0 && o.Kills <= 0 {
		return nil, errors.New("chaos: a campaign needs a duration or a number of kills")
	}
	if o.Pairs == 0 {
		o.Pairs = 2
	}
	if o.Keep == 0 {
		o.Keep = 100
	}
	if err := prepareDir(o.Dir); err != nil {
		return nil, err
	}
	c := &campaign{CampaignOptions: o, report: NewReport("campaign", o.Seed), replays: newReplayer()}
	// The first process costs descriptors of the runtime, which stay.
	first, err := start("spinner", nil)
	if err != nil {
		return nil, err
	}
	first.kill()
	before := openFiles()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var pairs sync.WaitGroup
	for range o.Pairs {
		pairs.Add(1)
		go func() {
			defer pairs.Done()
			if err := c.run(ctx); err != nil {
				c.stop(err)
				cancel()
			}
		}()
	}
	pairs.Wait()
	if c.trouble != nil {
		return c.report, c.trouble
	}
	if now := openFiles(); now > before {
		c.report.Fail("L8 NoLeak", ReproduceCampaign(o.Seed), "the campaign has %d descriptors more than before", now-before)
		c.report.Count(countLeaked, now-before)
	}
	finishCampaign(c.report)
	return c.report, saveReport(o.Dir, c.report)
}

// prepareDir makes an empty directory.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("chaos: %s is not empty", dir)
	}
	return err
}

// openFiles counts this process's descriptors.
func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

func (c *campaign) stop(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trouble == nil {
		c.trouble = err
	}
}

// more draws the number of the next episode, if there is one.
func (c *campaign) more() (number int, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Duration > 0 && time.Since(c.report.Started) >= c.Duration || c.Kills > 0 && c.progress.Kills >= c.Kills {
		return 0, false
	}
	c.number++
	return c.number, true
}

// run is one pair's life: one episode after another on the same path.
func (c *campaign) run(ctx context.Context) error {
	directory, err := newDirectory()
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	for {
		number, more := c.more()
		if !more {
			return nil
		}
		home := filepath.Join(c.Dir, fmt.Sprintf("%06d", number))
		err := playEpisode(ctx, c.Seed, number, directory, home, nil)
		if err != nil {
			return err
		}
		if err := c.judge(home); err != nil {
			return err
		}
	}
}

// playEpisode runs one episode and saves it. An episode that breaks is saved too.
func playEpisode(ctx context.Context, seed uint64, number int, directory, home string, fates []spot) error {
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	p := &pair{directory: directory, home: home, fates: fates}
	p.episode = &episode{Seed: seed, Number: number, Swarm: drawSwarm(episodeSeed(seed, number))}
	var err error
	if p.flight, err = newFlight(home); err != nil {
		return err
	}
	defer p.flight.close()
	if err := p.play(ctx); err != nil && !errors.Is(err, errBroken) {
		return err
	}
	return p.save()
}

// judge judges an episode, and forgets it if it passed and enough were kept.
func (c *campaign) judge(home string) error {
	v, err := judgeSaved(home, c.report, c.replays)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.progress.Episodes++
	if v.verdict == Void {
		c.progress.Voids++
	} else {
		c.progress.Kills += v.kills
		c.progress.Messages += v.messages
	}
	if v.verdict == Fail {
		c.progress.Failed++
	}
	if v.verdict != Fail {
		if c.kept++; c.kept > c.Keep {
			if err := os.RemoveAll(home); err != nil {
				return err
			}
		}
	}
	if c.Progress != nil {
		c.progress.Elapsed = time.Since(c.report.Started)
		c.Progress(c.progress)
	}
	return nil
}

func saveReport(dir string, r *Report) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, reportFile), text, 0o600)
}

// Replay runs one episode again, with each death at the coordinate where it was
// before. line is what a campaign printed: SEED/EPISODE/COORDINATE,COORDINATE…
func Replay(ctx context.Context, line, dir string) (*Report, error) {
	parts := strings.SplitN(line, "/", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("chaos: %q is no line to replay", line)
	}
	seed, err := strconv.ParseUint(parts[0], 10, 64)
	number, err2 := strconv.Atoi(parts[1])
	if err := errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("chaos: %q is no line to replay: %w", line, err)
	}
	var fates []spot
	for text := range strings.SplitSeq(parts[2], ",") {
		if text == "" {
			continue
		}
		c, err := parseSpot(text)
		if err != nil {
			return nil, err
		}
		fates = append(fates, c)
	}
	if err := prepareDir(dir); err != nil {
		return nil, err
	}
	directory, err := newDirectory()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(directory)
	report := NewReport("replay", seed)
	home := filepath.Join(dir, fmt.Sprintf("%06d", number))
	if err := playEpisode(ctx, seed, number, directory, home, fates); err != nil {
		return report, err
	}
	if _, err := judgeSaved(home, report, newReplayer()); err != nil {
		return report, err
	}
	finishCampaign(report)
	return report, saveReport(dir, report)
}
