package main

import (
	"encoding/csv"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Verdict is about a row, or about all. Void is never Pass: nothing was shown.
type Verdict string

const (
	Pass   Verdict = "Pass"
	Fail   Verdict = "Fail"
	Void   Verdict = "Void"
	NotRun Verdict = "NOT RUN"
)

const (
	leastLoss   = 0.05 // a smaller one is not worth stopping anybody
	mostNoise   = 0.20 // under more, a loss that is worth it could hide
	leastRounds = 8    // with fewer, few differences can be significant
	// significance is how often all rows together may show a difference where there
	// is none.
	significance = 0.01
)

// A column is what benchstat says of a role in a row.
type column struct {
	there  bool
	median float64
	spread float64 // of the median, relative to it: half of its 95 % interval
	p      float64 // that it differs from the parent only by chance
}

// A row is one benchmark.
type row struct {
	name    string
	columns [roles]column
	rounds  int

	verdict Verdict
	why     string
	delta   float64 // change against parent; more is slower
	noise   float64
	total   int // rounds, also those that were not kept
}

type judgement []row

// judge gives each row its verdict. A benchmark of which no round was kept is in no row
// yet; total is how many rounds each has had.
func judge(rows []row, total map[string]int) judgement {
	for _, name := range slices.Sorted(maps.Keys(total)) {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.name == name }) {
			rows = append(rows, row{name: name})
		}
	}
	compared := 0
	for _, r := range rows {
		if r.columns[parent].there && r.columns[change].there {
			compared++
		}
	}
	for i := range rows {
		rows[i].total = total[rows[i].name]
		rows[i].judge(significance / float64(max(compared, 1)))
	}
	return rows
}

func (r *row) judge(alpha float64) {
	before, same, after := r.columns[parent], r.columns[again], r.columns[change]
	switch {
	case !before.there && !after.there:
		r.verdict, r.why = Void, fmt.Sprintf("the machine is busy: no two of %d rounds are alike", r.total)
		return
	case !before.there:
		r.verdict, r.why = Pass, "new: there is nothing to compare it with"
		return
	case !after.there:
		r.verdict, r.why = Pass, "gone: it is measured no more"
		return
	}
	r.delta = after.median/before.median - 1
	r.noise = max(math.Abs(same.median/before.median-1), before.spread, same.spread)
	loss := r.delta > max(leastLoss, r.noise) && after.p < alpha
	switch {
	case !same.there || math.IsNaN(r.delta) || math.IsNaN(r.noise):
		r.verdict, r.why = Void, "there are no figures"
	case r.total < leastRounds:
		r.verdict, r.why = Void, fmt.Sprintf("the machine is busy: there was time for %d rounds only, and %d are needed", r.total, leastRounds)
	case r.rounds < leastRounds:
		r.verdict, r.why = Void, fmt.Sprintf("the machine is busy: of %d rounds only %d are alike, and %d are needed", r.total, r.rounds, leastRounds)
	case r.noise > mostNoise:
		r.verdict, r.why = Void, "the machine is busy: the same code differs from itself as much"
	case loss:
		r.verdict, r.why = Fail, "slower"
	case after.spread > mostNoise:
		r.verdict, r.why = Void, fmt.Sprintf("its own figures differ by %.0f %%", 100*after.spread)
	case r.delta < -max(leastLoss, r.noise) && after.p < alpha:
		r.verdict, r.why = Pass, "faster"
	default:
		r.verdict = Pass
	}
}

// open is the pattern of the rows to look at again.
func (j judgement) open() string {
	var names []string
	for _, r := range j {
		if r.verdict != Pass {
			names = append(names, r.name)
		}
	}
	return pattern(names)
}

// both joins a judgement with a second one of its open rows. Only a loss that both have
// seen fails; a row that has passed once has passed.
func (j judgement) both(second judgement) judgement {
	joined := slices.Clone(j)
	for i, first := range joined {
		if first.verdict == Pass {
			continue
		}
		at := slices.IndexFunc(second, func(r row) bool { return r.name == first.name })
		switch {
		case at < 0:
			joined[i].verdict, joined[i].why = Void, "it was not measured a second time"
		case first.verdict == second[at].verdict || second[at].verdict == Pass:
			joined[i] = second[at]
		default: // a loss, and a machine that was too busy to see it twice
			joined[i].verdict, joined[i].why = Void, "a loss was seen once, and the machine was too busy to see it twice"
		}
	}
	return joined
}

// verdict is about all rows. Where most say nothing, neither does a loss: whatever
// makes them busy may have made it.
func (j judgement) verdict() (Verdict, string) {
	told := map[Verdict][]string{}
	for _, r := range j {
		name := processors.ReplaceAllString(strings.TrimPrefix(r.name, "Guard/"), "")
		text := fmt.Sprintf("%s %+.0f %% (noise %.0f %%)", name, 100*r.delta, 100*r.noise)
		if r.verdict == Void {
			text = name + ", " + r.why
		}
		told[r.verdict] = append(told[r.verdict], text)
	}
	lost, unknown := told[Fail], told[Void]
	switch {
	case len(j) == 0:
		return Void, "nothing was measured"
	case len(lost) > 0 && len(unknown) <= len(j)/2:
		return Fail, "slower than the parent: " + strings.Join(lost, "; ")
	case len(unknown) > 0:
		return Void, fmt.Sprintf("%d of %d rows could not be judged: %s", len(unknown), len(j), unknown[0])
	}
	return Pass, fmt.Sprintf("no loss in %d rows", len(j))
}

// String is a table for people.
func (j judgement) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s %9s %9s %9s %7s\n", "", "change", "noise", "p", "rounds")
	for _, r := range j {
		fmt.Fprintf(&b, "%-28s %+7.1f %% %7.1f %% %9.3f %3d/%-3d  %s", r.name, 100*r.delta, 100*r.noise, r.columns[change].p, r.rounds, r.total, r.verdict)
		if r.why != "" {
			fmt.Fprintf(&b, ": %s", r.why)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// benchstat -format csv prints this above the rows: for parent a median and its spread, for
// the others also how they compare with it.
const tableHead = ",parent,,again,,,,change,,,\n,x-floor,CI,x-floor,CI,vs base,P,x-floor,CI,vs base,P\n"

// firstField is where in a line of the table the fields of a role begin.
var firstField = [roles]int{parent: 1, again: 3, change: 7}

const fields = 11

// readTable reads what benchstat -format csv has printed.
func readTable(text string) (rows []row, err error) {
	_, table, found := strings.Cut(text, tableHead)
	if !found || strings.Contains(table, tableHead) {
		return nil, fmt.Errorf("benchstat has not printed one table of parent, again and change:\n%s", text)
	}
	reader := csv.NewReader(strings.NewReader(table))
	reader.FieldsPerRecord = -1 // empty ones at the end of a line are not printed
	lines, err := reader.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("benchstat: %w", err)
	}
	for _, line := range lines {
		if line[0] == "geomean" {
			continue
		}
		r := row{name: line[0], rounds: math.MaxInt}
		line = append(line, make([]string, fields)...)
		for role, at := range firstField {
			if line[at] == "" {
				continue
			}
			if err := r.columns[role].read(line[at], line[at+1]); err != nil {
				return nil, fmt.Errorf("benchstat: %s: %w", r.name, err)
			}
			if role != int(parent) && r.columns[parent].there {
				if err := r.chance(role, line[at+3]); err != nil {
					return nil, fmt.Errorf("benchstat: %s: %w", r.name, err)
				}
			}
		}
		if r.columns == [roles]column{} {
			return nil, fmt.Errorf("benchstat: no figures in the line %q", r.name)
		}
		if r.rounds == math.MaxInt { // there is nothing that it is compared with
			r.rounds = 0
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func (c *column) read(median, spread string) (err error) {
	c.there, c.p, c.spread = true, 1, math.Inf(1)
	if percent, err := strconv.ParseFloat(strings.TrimSuffix(spread, "%"), 64); err == nil {
		c.spread = percent / 100
	}
	c.median, err = strconv.ParseFloat(median, 64)
	return err
}

var chance = regexp.MustCompile(`^p=([0-9.]+) n=([0-9]+)(?:\+([0-9]+))?$`)

// chance reads how probable a difference is where there is none, and of how many rounds
// it is: two numbers if they differ.
func (r *row) chance(role int, text string) error {
	found := chance.FindStringSubmatch(text)
	if found == nil {
		return fmt.Errorf("%q is no comparison", text)
	}
	r.columns[role].p, _ = strconv.ParseFloat(found[1], 64)
	for _, n := range found[2:] {
		if rounds, err := strconv.Atoi(n); err == nil {
			r.rounds = min(r.rounds, rounds)
		}
	}
	return nil
}
