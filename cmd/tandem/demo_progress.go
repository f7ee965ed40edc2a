package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
)

// A progress is the line that says how far the work is: one that moves, on a
// terminal; elsewhere a new one every second.
type progress struct {
	out          io.Writer
	bar          *progressbar.ProgressBar // nil if not on a terminal
	total, kills int
	said         time.Time
	seen         string
}

func newProgress(out io.Writer, total, kills int) *progress {
	p := &progress{out: out, total: total, kills: kills, said: time.Now()}
	if file, ok := out.(*os.File); ok && isTerminal(file) {
		p.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(out),
			progressbar.OptionSetDescription(p.text(0, 0)),
			progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(false),
			progressbar.OptionSetWidth(20),
			progressbar.OptionThrottle(50*time.Millisecond),
			progressbar.OptionClearOnFinish(),
		)
	}
	return p
}

func (p *progress) text(kills, serverKills int) string {
	return fmt.Sprintf("client killed %d/%d, server %d/1", kills, p.kills, serverKills)
}

// show is called often, and says something only when it is time to.
func (p *progress) show(answers, kills, serverKills int) {
	if p.bar != nil {
		if text := p.text(kills, serverKills); text != p.seen {
			p.seen = text
			p.bar.Describe(text)
		}
		_ = p.bar.Set(answers)
		return
	}
	if now := time.Now(); now.Sub(p.said) >= time.Second {
		p.said = now
		fmt.Fprintf(p.out, "tandem demo: %d of %d messages answered, %s\n", answers, p.total, p.text(kills, serverKills))
	}
}

// end takes the moving line away.
func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
		_ = p.bar.Exit()
	}
}
