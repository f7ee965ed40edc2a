package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A hostileCampaign runs episodes with hostile actors until it has had enough.
type hostileCampaign struct {
	CampaignOptions
	report  *Report
	servers int // of so many episodes one has hostile servers

	mu      sync.Mutex
	number  int
	trouble error
}

// HostileCampaign is Campaign with hostile actors: clients and servers that speak
// the protocol by hand and break it, several in a row, beside honest ones. What it
// judges is the honest side: it does not crash, hang or leak, it receives nothing
// that nobody wrote, and what honest ones have sent each other keeps M1-M6.
func HostileCampaign(ctx context.Context, o CampaignOptions) (*Report, error) {
	return hostileCampaignWith(ctx, o, 4)
}

func hostileCampaignWith(ctx context.Context, o CampaignOptions, servers int) (*Report, error) {
	if o.Duration <= 0 && o.Kills <= 0 {
		return nil, errors.New("chaos: a campaign needs a duration or a number of kills")
	}
	if o.Pairs == 0 {
		o.Pairs = 3
	}
	if err := prepareDir(o.Dir); err != nil {
		return nil, err
	}
	c := &hostileCampaign{CampaignOptions: o, servers: servers, report: NewReport("hostile", o.Seed)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var pairs sync.WaitGroup
	for range o.Pairs {
		pairs.Add(1)
		go func() {
			defer pairs.Done()
			if err := c.run(ctx); err != nil {
				c.mu.Lock()
				c.trouble = errors.Join(c.trouble, err)
				c.mu.Unlock()
				cancel()
			}
		}()
	}
	pairs.Wait()
	if c.trouble != nil {
		return c.report, c.trouble
	}
	c.report.Finish(1)
	return c.report, saveReport(o.Dir, c.report)
}

// more draws the number of the next episode, if there is one.
func (c *hostileCampaign) more() (number int, more bool) {
	c.report.mu.Lock()
	kills := c.report.Kills
	c.report.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trouble != nil || c.Duration > 0 && time.Since(c.report.Started) >= c.Duration || c.Kills > 0 && kills >= c.Kills {
		return 0, false
	}
	c.number++
	return c.number, true
}

func (c *hostileCampaign) run(ctx context.Context) error {
	for {
		number, more := c.more()
		if !more {
			return nil
		}
		e, err := c.play(ctx, number)
		if err != nil {
			return err
		}
		e.enter(c.report)
		if len(e.Broken) == 0 {
			if err := os.RemoveAll(e.home); err != nil {
				return err
			}
		}
		if c.Progress != nil {
			c.report.mu.Lock()
			p := CampaignProgress{Elapsed: time.Since(c.report.Started), Episodes: c.report.Cases, Failed: c.report.Failed, Kills: c.report.Kills}
			c.report.mu.Unlock()
			c.Progress(p)
		}
	}
}

// play plays and judges one episode. The error is of the harness itself.
func (c *hostileCampaign) play(ctx context.Context, number int) (*hostileEpisode, error) {
	e := &hostileEpisode{Seed: c.Seed, Number: number, home: filepath.Join(c.Dir, fmt.Sprintf("h%06d", number))}
	if err := os.Mkdir(e.home, 0o700); err != nil {
		return nil, err
	}
	var err error
	if e.directory, err = newDirectory(); err != nil {
		return nil, err
	}
	defer os.RemoveAll(e.directory)
	e.draw = rand.New(rand.NewPCG(episodeSeed(c.Seed, number), 0x686f))
	defer e.end()
	if e.draw.IntN(c.servers) == 0 {
		err = e.withHostileServers(ctx)
	} else {
		err = e.withHostileClients(ctx)
	}
	if err != nil && !errors.Is(err, errBroken) {
		return nil, err
	}
	e.judge()
	if len(e.Broken) > 0 {
		text, err := json.MarshalIndent(e, "", "\t")
		if err == nil {
			err = os.WriteFile(filepath.Join(e.home, episodeFile), text, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	return e, nil
}

// enter enters an episode into the report.
func (e *hostileEpisode) enter(report *Report) {
	report.Case(e.Kills)
	for name, n := range e.Counts {
		report.Count(name, n)
	}
	for _, f := range e.Broken {
		report.Fail(f.Contract, f.Reproduce, "episode %d: %s", e.Number, f.What)
	}
}

// ReproduceHostile is the command that draws the same campaign again.
func ReproduceHostile(seed uint64) string {
	return fmt.Sprintf("go test ./chaos -run 'TestCampaignHostile$' -seed %d", seed)
}
