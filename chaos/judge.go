package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A ruling is what the judge says of one episode.
type ruling struct {
	verdict         Verdict
	kills, messages int
	deaths          []spot
}

// A life is one stay of a process, from its tape and from what the campaign did
// to it.
type life struct {
	*recording
	from     int64 // when its process may have begun to hold the path
	killed   int64 // when SIGKILL was sent, or 0
	number   int   // of a client: its attachment; of a server: 1
	departed bool  // it has ended, one way or the other, and not at the episode's end
}

// closed tells whether the life had said goodbye.
func (l *life) closed() Outcome {
	switch {
	case l.counts[step.GoodbyeSaid] > 0:
		return Yes
	case l.closing == 0:
		return No
	}
	return Unknown
}

// until is how long the life held its place for sure. Behind SegmentUnmapped it
// gives it up, and may be killed before it has recorded that.
func (l *life) until() int64 {
	switch {
	case l.counts[step.SegmentUnmapped] > 0:
		return l.active
	case l.killed != 0:
		return l.killed
	}
	return l.active
}

// lastSeen is when the life did something last.
func (l *life) lastSeen() int64 {
	last := l.active
	for i := range l.slots {
		last = max(last, l.slots[i].call, l.slots[i].returned)
	}
	return last
}

// A chronicle is one generation: a server and the clients that came to it.
type chronicle struct {
	generation uint32
	server     *life
	clients    []*life // by attachment
	last       bool    // the episode ended with it, in the liveness phase
}

// A docket is an episode, read back.
type docket struct {
	*episode
	lives      []*life
	chronicles []*chronicle
	deaths     []spot
}

// judgeSaved judges a saved episode.
func judgeSaved(home string, report *Report, replays *replayer) (*ruling, error) {
	d, err := readEpisode(home)
	if err != nil {
		return nil, err
	}
	r := d.judge(report)
	return r, d.replay(home, report, replays, r)
}

// JudgeDir judges the episodes of a saved campaign again: those that are there.
func JudgeDir(dir string) (*Report, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	report, replays := NewReport("campaign", 0), newReplayer()
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		home := filepath.Join(dir, entry.Name())
		d, err := readEpisode(home)
		if err != nil {
			return nil, err
		}
		report.Seed = d.Seed
		if err := d.replay(home, report, replays, d.judge(report)); err != nil {
			return nil, err
		}
	}
	finishCampaign(report)
	return report, nil
}

func readEpisode(home string) (*docket, error) {
	text, err := os.ReadFile(filepath.Join(home, episodeFile))
	if err != nil {
		return nil, err
	}
	d := &docket{episode: &episode{}}
	if err := json.Unmarshal(text, d.episode); err != nil {
		return nil, fmt.Errorf("chaos: %s: %w", home, err)
	}
	tapes, err := filepath.Glob(filepath.Join(home, tapePrefix+"-*"))
	if err != nil {
		return nil, err
	}
	for _, path := range tapes {
		r, err := readTape(path)
		if err != nil {
			if isUnbegun(path) {
				continue // killed while it made the tape
			}
			return nil, err
		}
		d.lives = append(d.lives, &life{recording: r})
	}
	d.arrange()
	return d, nil
}

// isUnbegun reports whether a tape was made and never written to.
func isUnbegun(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	head := make([]byte, 8)
	n, _ := file.Read(head)
	return n < 8 || string(head) == "\x00\x00\x00\x00\x00\x00\x00\x00"
}

// arrange sorts the lives into generations, and tells how each ended.
func (d *docket) arrange() {
	sort.Slice(d.lives, func(i, j int) bool { return d.lives[i].incarnation < d.lives[j].incarnation })
	for i, l := range d.lives {
		l.from = l.begun
		lastStay := i+1 == len(d.lives) || d.lives[i+1].incarnation/100 != l.incarnation/100
		for _, o := range d.Log {
			if o.What != didKill || o.Incarnation/100 != l.incarnation/100 || !lastStay {
				continue
			}
			l.killed = o.Time
			if o.Text == byItself {
				l.killed = l.lastSeen() // the campaign found it later
			}
		}
		if l.killed != 0 {
			d.deaths = append(d.deaths, l.spot())
		}
		l.departed = l.killed != 0 || l.closing != 0
		if l.server && l.up != 0 {
			l.number = 1
			d.chronicles = append(d.chronicles, &chronicle{generation: l.generation, server: l})
		}
	}
	sort.Slice(d.chronicles, func(i, j int) bool { return d.chronicles[i].generation < d.chronicles[j].generation })
	for _, l := range d.lives {
		if c := d.home(l); c != nil && !l.server {
			l.number = int(l.attachment)
			c.clients = append(c.clients, l)
		}
	}
	for i, c := range d.chronicles {
		sort.Slice(c.clients, func(i, j int) bool { return c.clients[i].attachment < c.clients[j].attachment })
		c.last = i+1 == len(d.chronicles) && d.Calm
	}
	if n := len(d.chronicles); n > 0 && d.Calm {
		c := d.chronicles[n-1]
		c.server.departed = false
		if k := len(c.clients); k > 0 {
			c.clients[k-1].departed = false
		}
	}
}

// home finds the generation of a client. One that was killed before Dial
// returned knows its attachment at most: it was granted by the last server that
// was up.
func (d *docket) home(l *life) *chronicle {
	if l.attachment == 0 {
		return nil
	}
	var found *chronicle
	for _, c := range d.chronicles {
		if l.generation == c.generation || l.generation == 0 && c.server.up <= l.active {
			found = c
		}
	}
	return found
}

// spot is the step that a killed life had passed last, as far as can be
// told: of the operation in flight that was called last; else of the endpoint
// itself while it started or closed; else of the operation that returned last.
func (l *life) spot() spot {
	var best *slot
	for i := range l.slots {
		s := &l.slots[i]
		if s.index == 0 && s.fate == inFlight && s.steps > 0 && (best == nil || s.call > best.call) {
			best = s
		}
	}
	if best == nil && l.up != 0 && l.closing == 0 {
		for i := range l.slots {
			s := &l.slots[i]
			if s.index == 0 && s.steps > 0 && (best == nil || s.returned > best.returned) {
				best = s
			}
		}
	}
	if best == nil {
		return spot{Incarnation: l.incarnation, Lane: -1, Step: l.last, Nth: int(l.counts[l.last%step.Count])}
	}
	return spot{l.incarnation, best.lane, int(best.operation), best.step, int(best.nth)}
}

// judge judges the episode and counts it in the report.
func (d *docket) judge(report *Report) *ruling {
	r := &ruling{verdict: Pass, deaths: d.deaths}
	reproduce := reproduceEpisode(d.episode, d.deaths)
	found := NewReport("episode", d.Seed)
	hit := d.underWay()
	undecided := false
	for _, o := range d.Log {
		if o.What == sawBroken {
			contract, what, _ := strings.Cut(o.Text, ": ")
			found.Fail(contract, reproduce, "%s", what)
		}
	}
	validateLives(d, found, reproduce)
	for _, c := range d.chronicles {
		for _, toServer := range []bool{true, false} {
			t := c.trial(toServer, &d.Swarm)
			r.messages += len(t.takes)
			t.account(found)
			Judge(t.stream, found, reproduce)
			undecided = t.judge(found, reproduce) || undecided
		}
	}
	for _, o := range d.Log {
		if o.What == didKill {
			r.kills++
			if o.Text == byItself {
				found.Count(countReplayed, 1)
			}
		}
	}
	switch {
	case found.Failed > 0:
		r.verdict = Fail
	case undecided, !d.Calm, r.kills > 0 && hit == 0, r.messages < 2:
		r.verdict = Void
	}
	d.tell(report, found, r, hit)
	return r
}

// tell adds an episode to a campaign's report.
func (d *docket) tell(report, found *Report, r *ruling, hit int) {
	report.Count(countEpisodes, 1)
	if r.verdict == Void {
		report.Count(countVoid, 1)
		report.Count(countVoidKill, r.kills)
		return
	}
	report.Case(0)
	report.Count(countKills, r.kills)
	report.Count(countMessages, r.messages)
	report.Count(countInFlight, hit)
	for name, n := range found.Counts {
		report.Count(name, n)
	}
	starts := 0
	for _, o := range d.Log {
		switch o.What {
		case didFreeze:
			report.Count(countFreezes, 1)
		case didStarve:
			report.Count(countStarved, 1)
		case didIntrude:
			report.Count(countIntruder, 2)
		case didStart:
			starts++
		}
	}
	report.Count(countRestarts, max(len(d.lives), starts)-2)
	for _, c := range r.deaths {
		report.Covered(c.Step.String(), r.verdict.String())
	}
	for _, f := range found.Failures {
		report.Fail(f.Contract, f.Reproduce, "%s", f.What)
		if name := columnOf(f); name != "" {
			report.Count(name, 1)
		}
	}
}

// columnOf is the column of the campaign's table that a failure belongs to.
func columnOf(f Failure) string {
	name, _, _ := strings.Cut(f.Contract, " ")
	switch {
	case name == "M4" && strings.Contains(f.What, "whole"):
		return countTorn
	case name == "M4", name == "L4":
		return countGhosts
	}
	return map[string]string{"M1": countLost, "M2": countReordered, "M3": countDuplicated, "M7": countStuck, "L8": countLeaked}[name]
}

// underWay counts the operations that a kill hit, at the victim and at the other
// side. None means that the faults hit nothing.
func (d *docket) underWay() (count int) {
	var kills []int64
	for _, l := range d.lives {
		if l.killed != 0 {
			kills = append(kills, l.killed)
		}
	}
	slices.Sort(kills)
	for _, l := range d.lives {
		for i := range l.slots {
			s := &l.slots[i]
			if s.index != 0 || !s.doing.sends() && !s.doing.takes() {
				continue
			}
			first, _ := slices.BinarySearch(kills, s.call)
			if first < len(kills) && (s.fate == inFlight || kills[first] <= s.returned) {
				count++
			}
		}
	}
	return count
}
