package chaos

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// A Timeline is one saved episode of a campaign as it can be drawn. Its times
// count from the episode's beginning.
type Timeline struct {
	Number   int
	Verdict  Verdict
	Span     time.Duration
	Messages int
	Stays    []Stay
	Faults   []Strike
	Calm     time.Duration // when the faults have stopped; 0 if that was not reached
	Takes    [2][]time.Duration

	// Porcupine is the page that porcupine draws of one direction of one
	// generation, or empty if the episode has none that a page can hold.
	Porcupine      string
	PorcupineTitle string
}

// A Stay is one server or client, from Listen or Dial to its end.
type Stay struct {
	Server     bool
	Generation uint32 // 0 if it was not told
	From, To   time.Duration
	Killed     bool
	At         string // where it was killed, as a coordinate
}

// A Strike is what the campaign did to a process, or to the machine.
type Strike struct {
	What string
	Whom string // "server", "client", or nothing
	From time.Duration
	To   time.Duration // of a freeze, its end; else From
	Text string
}

// maxRead bounds how many saved episodes are looked at for the ones to draw.
const maxRead = 200

// Timelines draws up to most episodes of a saved campaign: those that failed
// first, then those in which the most was done.
func Timelines(dir string, most int) ([]Timeline, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var read []*docket
	for _, entry := range entries {
		if !entry.IsDir() || len(read) == maxRead {
			continue
		}
		d, err := readEpisode(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		read = append(read, d)
	}
	verdicts := map[*docket]*ruling{}
	for _, d := range read {
		verdicts[d] = d.judge(NewReport("timeline", d.Seed))
	}
	slices.SortStableFunc(read, func(a, b *docket) int {
		if x, y := verdicts[a].verdict == Fail, verdicts[b].verdict == Fail; x != y {
			return map[bool]int{true: -1, false: 1}[x]
		}
		return b.variety() - a.variety()
	})
	var drawn []Timeline
	for _, d := range read[:min(most, len(read))] {
		drawn = append(drawn, d.timeline(verdicts[d]))
	}
	return drawn, nil
}

// variety is how many kinds of faults an episode has, and then how many faults.
func (d *docket) variety() int {
	kinds := map[string]bool{}
	faults := 0
	for _, o := range d.Log {
		switch o.What {
		case didKill, didFreeze, didStarve, didIntrude, didClose:
			kinds[fmt.Sprint(o.What, o.Incarnation/100%2)] = true
			faults++
		}
	}
	return 100*len(kinds) + min(faults, 99)
}

func (d *docket) timeline(r *ruling) Timeline {
	t := Timeline{Number: d.Number, Verdict: r.verdict, Messages: r.messages}
	begin, end := d.extent()
	since := func(at int64) time.Duration { return time.Duration(min(max(at, begin), end) - begin) }
	t.Span = since(end)
	for _, l := range d.lives {
		stay := Stay{Server: l.server, Generation: l.generation, From: since(l.begun), To: since(l.lastSeen()), Killed: l.killed != 0}
		if stay.Killed {
			stay.To, stay.At = since(l.killed), l.spot().String()
		}
		if !l.departed {
			stay.To = t.Span
		}
		t.Stays = append(t.Stays, stay)
		for i := range l.slots {
			if s := &l.slots[i]; s.doing.takes() && s.fate == done {
				t.Takes[role(l.server)] = append(t.Takes[role(l.server)], since(s.returned))
			}
		}
	}
	t.strikes(d, since)
	t.ask(d, since)
	return t
}

// extent is the time from the first to the last of what an episode has recorded.
func (d *docket) extent() (begin, end int64) {
	begin = math.MaxInt64
	for _, o := range d.Log {
		begin, end = min(begin, o.Time), max(end, o.Time)
	}
	for _, l := range d.lives {
		begin, end = min(begin, l.begun), max(end, l.lastSeen())
	}
	return min(begin, end), end
}

// strikes are the lines of the log that a reader looks for, each freeze as one
// with its thaw.
func (t *Timeline) strikes(d *docket, since func(int64) time.Duration) {
	frozen := map[int]int{} // incarnation -> index of its freeze
	for _, o := range d.Log {
		at := since(o.Time)
		switch o.What {
		case didThaw, didKill:
			if i, found := frozen[o.Incarnation]; found {
				t.Faults[i].To = at
				delete(frozen, o.Incarnation)
			}
			if o.What == didThaw {
				continue
			}
		case didStart, didReap:
			continue
		case didCalm:
			t.Calm = at
			continue
		case didFreeze:
			frozen[o.Incarnation] = len(t.Faults)
		}
		whom := ""
		if o.Incarnation != 0 {
			whom = roleName(o.Incarnation/100%2 == 1)
		}
		t.Faults = append(t.Faults, Strike{o.What, whom, at, at, o.Text})
	}
}

// The most operations that porcupine's page is asked to show, and the most of
// those that a reader can take in.
const (
	mostDrawn = 1500
	mostClear = 250

	mostPage   = 4 << 20         // bytes of porcupine's page
	askTimeout = 2 * time.Second // of each search: what is drawn was judged before
)

// ask chooses a direction of a generation for porcupine to draw: one that it
// refuses, or else one with a death and as many operations as can be read.
func (t *Timeline) ask(d *docket, since func(int64) time.Duration) {
	var best *trial
	worth := 0
	for _, c := range d.chronicles {
		for _, toServer := range []bool{true, false} {
			trial := c.trial(toServer, &d.Swarm)
			if w := trial.worth(); w > worth {
				best, worth = trial, w
			}
		}
	}
	if best == nil {
		return
	}
	_, info := porcupine.CheckOperationsVerbose(channelModel, renumbered(best.operations()), askTimeout)
	info.AddAnnotations(best.annotations(d))
	var page strings.Builder
	if porcupine.Visualize(channelModel, info, &page) == nil && page.Len() <= mostPage {
		t.Porcupine = page.String()
		t.PorcupineTitle = fmt.Sprintf("generation %d, %s, from %.1f ms on", best.chronicle.generation, best.stream.Direction,
			since(best.chronicle.server.begun).Seconds()*1e3)
	}
}

// renumbered gives those who do anything the numbers from 0 on: the others would
// be empty lines.
func renumbered(history []porcupine.Operation) []porcupine.Operation {
	used := map[int]bool{}
	for _, o := range history {
		used[o.ClientId] = true
	}
	line := map[int]int{}
	for _, id := range slices.Sorted(maps.Keys(used)) {
		line[id] = len(line)
	}
	for i := range history {
		history[i].ClientId = line[history[i].ClientId]
	}
	return history
}

// worth is how much a page of the trial would show; 0 for none at all.
func (t *trial) worth() int {
	size := len(t.sends) + len(t.takes)
	if size == 0 || size > mostDrawn {
		return 0
	}
	worth := size
	if size > mostClear {
		worth = mostClear * mostClear / size
	}
	for _, l := range append(slices.Clone(t.senders), t.receivers...) {
		if l.killed != 0 {
			worth += mostClear
		}
	}
	if legal, decided := t.linearizableWithin(askTimeout); decided && !legal {
		worth += mostClear * mostClear
	}
	return worth
}

// annotations are the faults that struck while the trial lasted.
func (t *trial) annotations(d *docket) (marks []porcupine.Annotation) {
	first, last := int64(math.MaxInt64), int64(0)
	for _, l := range append(slices.Clone(t.senders), t.receivers...) {
		first, last = min(first, l.begun), max(last, l.lastSeen(), l.killed)
	}
	colours := map[string]string{didKill: "#f2b8b5", didFreeze: "#b9d7f5", didThaw: "#d9ead3"}
	for _, o := range d.Log {
		colour := colours[o.What]
		if colour == "" || o.Time < first || o.Time > last {
			continue
		}
		marks = append(marks, porcupine.Annotation{
			Tag: roleName(o.Incarnation/100%2 == 1), Start: o.Time, Description: o.What,
			Details: fmt.Sprintf("%s of incarnation %d %s", o.What, o.Incarnation, o.Text), BackgroundColor: colour,
		})
	}
	sort.SliceStable(marks, func(i, j int) bool { return marks[i].Start < marks[j].Start })
	return marks
}
