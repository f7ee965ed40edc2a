package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/tandem-ipc/tandem/chaos"
)

// maxTimelines is how many episodes of a campaign the page draws.
const maxTimelines = 3

// The measures of a drawing, in units of its view box.
const (
	drawWidth  = 1000
	drawLeft   = 70 // of the beginning of time; names stand before it
	drawRight  = 960
	serverTop  = 34
	clientTop  = 84
	stayHeight = 30
	ratesTop   = 150 // the rates: to the server above, to the client below
	rateHeight = 34
	drawHeight = 262
	rateBins   = 184
)

// A timelineView is an episode as its drawing: all in units of the view box.
type timelineView struct {
	Number, Messages int
	Word             string
	Span             string
	Faults           int
	Width, Height    int
	Left, Right      int
	Stays            []stayView
	Blocks           []blockView // freezes, and starvation
	Marks            []markView  // kills and the rest
	Calm             float64     // where the faults stop; 0 if they do not
	Ticks            []tickView
	Rates            [2]rateView
	Log              []logView
	More             int // lines of the log that are left out
	Porcupine        string
	PorcupineTitle   string
}

type stayView struct {
	X, W         float64
	Y, H         int
	Class, Label string
	Hint         string
}

type blockView struct {
	X, W        float64
	Y, H        int
	Class, Hint string
}

type markView struct {
	X           float64
	Y1, Y2      int
	Class, Hint string
}

type tickView struct {
	X     float64
	Label string
}

type rateView struct {
	Name, Path  string
	Top, Bottom int
	Most        int
}

type logView struct{ At, What, Whom, Text string }

// maxLog is how many lines of an episode's log the page shows.
const maxLog = 120

func drawTimeline(t *chaos.Timeline) timelineView {
	v := timelineView{
		Number: t.Number, Messages: t.Messages, Word: wordOf(t.Verdict), Span: inMilliseconds(t.Span), Faults: len(t.Faults),
		Width: drawWidth, Height: drawHeight, Left: drawLeft, Right: drawRight,
		Porcupine: t.Porcupine, PorcupineTitle: t.PorcupineTitle,
	}
	at := func(d time.Duration) float64 {
		return rounded(drawLeft + (drawRight-drawLeft)*float64(d)/float64(max(t.Span, 1)))
	}
	for i, s := range t.Stays {
		v.stay(i, s, at)
	}
	for _, f := range t.Faults {
		v.fault(f, at)
	}
	if t.Calm > 0 {
		v.Calm = at(t.Calm)
	}
	for i := range 6 {
		d := t.Span * time.Duration(i) / 5
		v.Ticks = append(v.Ticks, tickView{at(d), inMilliseconds(d)})
	}
	v.Rates[0] = rate("to server", ratesTop, t.Takes[0], t.Span)
	v.Rates[1] = rate("to client", ratesTop+rateHeight+10, t.Takes[1], t.Span)
	return v
}

func inMilliseconds(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1e3) }

func topOf(server bool) int {
	if server {
		return serverTop
	}
	return clientTop
}

func (v *timelineView) stay(i int, s chaos.Stay, at func(time.Duration) float64) {
	who := map[bool]string{true: "server", false: "client"}[s.Server]
	x, end := at(s.From), at(s.To)
	view := stayView{X: x, W: max(rounded(end-x), 1), Y: topOf(s.Server), H: stayHeight, Class: fmt.Sprintf("stay g%d", s.Generation%2)}
	if view.W > 26 && s.Generation > 0 {
		view.Label = fmt.Sprint(s.Generation)
	}
	view.Hint = fmt.Sprintf("%s, generation %d, %s to %s", who, s.Generation, inMilliseconds(s.From), inMilliseconds(s.To))
	if s.Killed {
		view.Hint += ", killed at " + s.At
		v.Marks = append(v.Marks, markView{end, view.Y - 5, view.Y + stayHeight + 5, "kill", fmt.Sprintf("%s killed at %s", who, s.At)})
	}
	v.Stays = append(v.Stays, view)
}

func (v *timelineView) fault(f chaos.Strike, at func(time.Duration) float64) {
	if len(v.Log) < maxLog {
		v.Log = append(v.Log, logView{inMilliseconds(f.From), f.What, f.Whom, f.Text})
	} else {
		v.More++
	}
	y, h := topOf(f.Whom == "server"), stayHeight
	if f.Whom == "" {
		y, h = serverTop, clientTop+stayHeight-serverTop
	}
	hint := strings.TrimSpace(fmt.Sprintf("%s %s at %s %s", f.What, f.Whom, inMilliseconds(f.From), f.Text))
	switch f.What {
	case "kill": // drawn with the stay that it ended
	case "freeze":
		v.Blocks = append(v.Blocks, blockView{at(f.From), max(rounded(at(f.To)-at(f.From)), 2), y, h, "freeze", hint})
	default:
		v.Marks = append(v.Marks, markView{at(f.From), y, y + h, "other", hint})
	}
}

// rate draws how many messages were received in each bin of time.
func rate(name string, top int, takes []time.Duration, span time.Duration) rateView {
	v := rateView{Name: name, Top: top, Bottom: top + rateHeight}
	bins := make([]int, rateBins)
	for _, d := range takes {
		i := min(int(int64(d)*rateBins/int64(max(span, 1))), rateBins-1)
		bins[i]++
		v.Most = max(v.Most, bins[i])
	}
	const width = float64(drawRight-drawLeft) / rateBins
	var path strings.Builder
	for i, n := range bins {
		if n > 0 {
			fmt.Fprintf(&path, "M%.1f %dh%.1fv%.1fh%.1fz", drawLeft+float64(i)*width, v.Bottom, width, -rateHeight*float64(n)/float64(v.Most), -width)
		}
	}
	v.Path = path.String()
	return v
}
