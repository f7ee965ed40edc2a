package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/tandem-ipc/tandem/chaos"
)

// A chaosProgress is the line that says how far a run is: one that moves, on a
// terminal; elsewhere one for each layer.
type chaosProgress struct {
	out   io.Writer
	bar   *progressbar.ProgressBar // nil if not on a terminal
	total int                      // parts of all layers
	past  int                      // and of those that are through
}

// barSteps is how fine the bar is.
const barSteps = 1000

func newChaosProgress(out io.Writer, o chaosOptions) *chaosProgress {
	p := &chaosProgress{out: out}
	for _, l := range o.layers {
		p.total += l.Parts
	}
	if file, ok := out.(*os.File); ok && isTerminal(file) {
		p.bar = progressbar.NewOptions(barSteps,
			progressbar.OptionSetWriter(out),
			progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetWidth(20),
			progressbar.OptionThrottle(50*time.Millisecond),
			progressbar.OptionClearOnFinish(),
		)
	}
	return p
}

// begin says that a layer begins; what it returns, that it is through. Between
// them the bar moves, by the clock or by the kills that the layer is to make.
func (p *chaosProgress) begin(l chaos.Layer, o *chaos.LayerOptions) (done func()) {
	if p.bar == nil {
		fmt.Fprintf(p.out, "tandem chaos: %s: %s, about %v\n", l.Name, l.What, o.Budget.Round(time.Second/10))
		return func() {}
	}
	var mu sync.Mutex
	var cases, kills int
	o.Progress = func(c, k int) {
		mu.Lock()
		defer mu.Unlock()
		cases, kills = c, k
	}
	begun, budget, wanted := time.Now(), o.Budget, 0
	if l.Name == chaos.CampaignName {
		wanted = o.Kills
	}
	show := func() {
		mu.Lock()
		defer mu.Unlock()
		part := float64(time.Since(begun)) / float64(budget)
		text := l.Name
		if cases > 0 {
			text += ", " + count(cases, "case")
		}
		if kills > 0 {
			text += ", " + count(kills, "kill")
		}
		if wanted > 0 {
			part = float64(kills) / float64(wanted)
			text += fmt.Sprintf(" of %d", wanted)
		}
		p.bar.Describe(text)
		_ = p.bar.Set(min(int(barSteps*(float64(p.past)+min(part, 1)*float64(l.Parts))/float64(p.total)), barSteps-1))
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				show()
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
		p.past += l.Parts
	}
}

// end takes the moving line away.
func (p *chaosProgress) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
		_ = p.bar.Exit()
	}
}
