package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata anew, with the benchstat that ci/check.sh names")

// pinned is the benchstat that ci/check.sh names.
func pinned(t *testing.T) string {
	t.Helper()
	script, err := os.ReadFile("../check.sh")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^benchstat=(\S+)$`).FindSubmatch(script)
	if found == nil {
		t.Fatal("ci/check.sh names no benchstat")
	}
	return string(found[1])
}

// A played row is what the three programs would print of a benchmark.
type played struct {
	name                  string
	parent, again, change float64 // medians of x-floor; 0 where there is no such row
	spread                float64 // of parent and again, relative
	moves                 int     // how many of the rounds the machine is in another state
	changeSpread          float64 // spread if 0
}

// quiet are two rows of a quiet machine, in which nothing differs.
var quiet = []played{
	{"Guard/RoundTrip/blocking", 0.7, 0.7, 0.7, 0.02, 0, 0},
	{"Guard/OneWay/64B/into", 0.25, 0.25, 0.25, 0.02, 0, 0},
}

// play makes rounds of rows, as the programs would print them. Where the machine is in
// another state, all figures are half as large.
func play(count int, rows ...played) (rounds []round) {
	draw := rand.New(rand.NewPCG(1, 2))
	for i := range count {
		var now round
		for r := range roles {
			now[r] = map[string]string{}
			for _, p := range rows {
				median := [...]float64{p.parent, p.again, p.change}[r]
				if median == 0 {
					continue
				}
				spread, line := p.spread, 100+10*draw.Float64()
				if r == change && p.changeSpread > 0 {
					spread = p.changeSpread
				}
				if i < p.moves {
					line, median = 4*line, median/2
				}
				x := median * (1 + spread*(2*draw.Float64()-1))
				now[r][p.name+"-2"] = fmt.Sprintf("Benchmark%s-2 \t 5\t %.2f ns/op\t %.3f line-ns\t %.6f x-floor\n", p.name, x*line, line, x)
			}
		}
		rounds = append(rounds, now)
	}
	return rounds
}

// Each row gets its verdict, and so do all together. What benchstat says of the rows is in
// testdata, as it has printed it.
func TestAVerdictFollowsFromTheFigures(t *testing.T) {
	for _, c := range []struct {
		name   string
		rounds []round
		want   Verdict
		says   string // in the last line or in the table
	}{
		{"same", play(10, quiet...), Pass, "no loss in 2 rows"},
		{"loss", play(10, append(quiet, played{"Guard/OneWay/64B/view", 0.3, 0.3, 0.39, 0.05, 0, 0})...), Fail, "OneWay/64B/view +2"},
		{"loss within noise", play(10, append(quiet, played{"Guard/OneWay/64B/view", 0.3, 0.345, 0.33, 0.02, 0, 0})...), Pass, "no loss in 3 rows"},
		{"loss too small", play(10, append(quiet, played{"Guard/OneWay/64B/view", 0.3, 0.3, 0.309, 0.003, 0, 0})...), Pass, "no loss in 3 rows"},
		{"loss not significant", play(10, append(quiet, played{"Guard/OneWay/64B/view", 0.3, 0.3, 0.324, 0.02, 0, 0.15})...), Pass, "no loss in 3 rows"},
		{"gain", play(10, append(quiet, played{"Guard/OneWay/64B/view", 0.3, 0.3, 0.2, 0.05, 0, 0})...), Pass, "faster"},
		{"busy machine", play(10, append(quiet, played{"Guard/OneWay/64B/view", 0.3, 0.3, 0.6, 0.9, 0, 0})...), Void, "1 of 3 rows could not be judged"},
		{"copies differ", play(10, append(quiet, played{"Guard/OneWay/64B/view", 0.3, 0.45, 0.45, 0.01, 0, 0})...), Void, "the same code differs"},
		{"machine moves", play(10, append(quiet, played{"Guard/OneWay/64B/view", 0.3, 0.3, 0.5, 0.05, 5, 0})...), Void, "of 10 rounds only 5 are alike"},
		{"machine moves once", play(14, append(quiet, played{"Guard/OneWay/64B/view", 0.3, 0.3, 0.5, 0.05, 4, 0})...), Fail, "10/14"},
		{"few rounds", play(5, append(quiet, played{"Guard/OneWay/64B/view", 0.3, 0.3, 0.5, 0.05, 0, 0})...), Void, "there was time for 5 rounds only"},
		{"new", play(10, append(quiet, played{"Guard/OneWay/1B/view", 0, 0, 0.3, 0.05, 0, 0})...), Pass, "new: there is nothing to compare it with"},
		{"gone", play(10, append(quiet, played{"Guard/OneWay/1B/view", 0.3, 0.3, 0, 0.05, 0, 0})...), Pass, "gone: it is measured no more"},
		{"loss among busy rows", play(10,
			played{"Guard/A", 0.3, 0.3, 0.3, 0.9, 0, 0}, played{"Guard/B", 0.3, 0.3, 0.3, 0.9, 0, 0},
			played{"Guard/C", 0.3, 0.3, 0.5, 0.05, 0, 0}), Void, "2 of 3 rows could not be judged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join("testdata", strings.ReplaceAll(c.name, " ", "-")+".csv")
			kept, total := steady(c.rounds)
			if *update {
				w := newTestWork(t, context.Background())
				csv, err := w.benchstat(pinned(t), kept)
				if err == nil {
					err = os.WriteFile(file, []byte(csv), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			csv, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			rows, err := readTable(string(csv))
			if err != nil {
				t.Fatal(err)
			}
			j := judge(rows, total)
			if verdict, why := j.verdict(); verdict != c.want || !strings.Contains(why+"\n"+j.String(), c.says) {
				t.Errorf("%s: %s, want %s with %q\n%s", verdict, why, c.want, c.says, j)
			}
		})
	}
}

// Where no round has all its roles in one state, there is nothing to compare.
func TestRoundsThatAreNotAlikeAreNotKept(t *testing.T) {
	var r round
	for role := range roles {
		r[role] = map[string]string{"Guard/A": fmt.Sprintf("BenchmarkGuard/A 5 %d line-ns 1 x-floor\n", 100*(role+1))}
	}
	kept, total := steady([]round{r, r})
	if kept != [roles]string{} || total["Guard/A"] != 2 {
		t.Errorf("of %v, %q are kept", total, kept)
	}
	verdict, why := judge(nil, total).verdict()
	if verdict != Void || !strings.Contains(why, "no two of 2 rounds are alike") {
		t.Errorf("%s: %s, want Void", verdict, why)
	}
}

// A loss has to be seen twice, and what has passed once has passed.
func TestOnlyALossThatIsSeenTwiceFails(t *testing.T) {
	for _, c := range []struct{ first, second, want Verdict }{
		{Fail, Fail, Fail},
		{Fail, Pass, Pass}, {Void, Pass, Pass},
		{Fail, Void, Void}, {Void, Fail, Void}, {Void, Void, Void},
		{Pass, Fail, Pass}, {Pass, Void, Pass}, // which are not measured again
	} {
		got := judgement{{name: "a", verdict: c.first}}.both(judgement{{name: "a", verdict: c.second}})
		if got[0].verdict != c.want {
			t.Errorf("first %s, then %s: %s, want %s", c.first, c.second, got[0].verdict, c.want)
		}
	}
	if got := (judgement{{name: "a", verdict: Fail}}).both(nil); got[0].verdict != Void {
		t.Errorf("a loss, and then nothing: %s, want Void", got[0].verdict)
	}
	if verdict, _ := (judgement{}).verdict(); verdict != Void {
		t.Errorf("nothing measured: %s, want Void", verdict)
	}
}

// What is measured again is what has not passed, and nothing else.
func TestOpenRowsAreMeasuredAgain(t *testing.T) {
	j := judgement{{name: "Guard/A/64B/into-2", verdict: Fail}, {name: "Guard/B", verdict: Pass}, {name: "Guard/C-16", verdict: Void}}
	if got, want := j.open(), "^BenchmarkGuard$/^A$/^64B$/^into$|^BenchmarkGuard$/^C$"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := j[1:2].open(); got != "" {
		t.Errorf("all have passed, and %s is open", got)
	}
}

func TestATableThatIsNoneIsAnError(t *testing.T) {
	good, err := os.ReadFile("testdata/same.csv")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing":                    "",
		"no change":                  ",parent,,again,,,\n,x-floor,CI,x-floor,CI,vs base,P\nGuard/A,1,1%,1,1%,~,p=1 n=10\n",
		"other columns":              strings.ReplaceAll(string(good), "again", "another"),
		"tables of two machines":     string(good) + "cpu: another\n" + string(bytes.TrimLeft(good, "gos: linux\n")),
		"no comparison":              strings.Replace(string(good), "n=10", "", 1),
		"a median that is no number": strings.Replace(string(good), "Guard/OneWay/64B/into-2,", "Guard/OneWay/64B/into-2,x", 1),
	} {
		if rows, err := readTable(text); err == nil {
			t.Errorf("%s: read as %v", name, rows)
		}
	}
}
