package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/chaos"
	"github.com/tandem-ipc/tandem/internal/step"
)

var (
	address   = regexp.MustCompile(`(?i)(https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s"'&<]*`)
	reference = regexp.MustCompile(`(?i)\s(?:src|href|action|poster|background)\s*=\s*"([^"]*)"|url\(|@import`)
	tag       = regexp.MustCompile(`(?is)<!--.*?-->|<(script|style)\b[^>]*>.*?</(?:script|style)>|<(/?)([a-z][a-z0-9]*)\b[^>]*>`)
)

// problemsOf returns why a page is not one that stands for itself: what it would
// fetch, and where its tags do not match.
func problemsOf(page string) (problems []string) {
	for _, found := range address.FindAllString(page, -1) {
		if found != "http://www.w3.org/2000/svg" { // a name, which nothing fetches
			problems = append(problems, "it speaks of "+found)
		}
	}
	for _, found := range reference.FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(found[1], "#") {
			problems = append(problems, "it refers to "+found[0])
		} else if !strings.Contains(page, fmt.Sprintf("id=%q", found[1][1:])) {
			problems = append(problems, "nothing has the id "+found[1])
		}
	}
	var open []string
	for _, found := range tag.FindAllStringSubmatch(page, -1) {
		name := found[3]
		switch {
		case name == "" || slices.Contains([]string{"meta", "br", "hr", "img", "link", "input"}, name):
		case found[2] == "":
			open = append(open, name)
		case len(open) == 0 || open[len(open)-1] != name:
			return append(problems, fmt.Sprintf("</%s> closes one of %v", name, open))
		default:
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		problems = append(problems, fmt.Sprintf("never closed: %v", open))
	}
	return problems
}

func checkPage(t *testing.T, page string) {
	t.Helper()
	for _, problem := range problemsOf(page) {
		t.Error(problem)
	}
	for _, id := range step.All() {
		if !strings.Contains(page, "<th>"+id.String()+"</th>") {
			t.Errorf("step %v has no row", id)
		}
	}
}

func TestAPageThatDoesNotStandForItselfIsFound(t *testing.T) {
	for _, page := range []string{
		`<p>see https://example.com/x</p>`, `<img src="x.png">`, `<a href="other.html">x</a>`, `<a href="#nowhere">x</a>`,
		`<style>p { background: url(x.png) }</style>`, `<p><b>x</p></b>`, `<p>x`, `x</p>`,
	} {
		if len(problemsOf(page)) == 0 {
			t.Errorf("%s: nothing was found", page)
		}
	}
	if found := problemsOf(`<!DOCTYPE html><p id="a">x<br><a href="#a">y</a><script>if (1<2) f()</script></p>`); found != nil {
		t.Errorf("of a sound page: %v", found)
	}
}

// saveSample returns the page of a run.
func saveSample(t *testing.T, matrix string, reports ...*chaos.Report) string {
	t.Helper()
	dir := t.TempDir()
	if matrix != "" {
		write(t, filepath.Join(dir, savedMatrix), matrix)
	}
	if err := sample(reports...).save(dir); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, savedPage))
	if err != nil {
		t.Fatal(err)
	}
	if to := os.Getenv("TANDEM_PAGES"); to != "" { // to be looked at
		write(t, filepath.Join(to, strings.ReplaceAll(t.Name(), "/", "-")+".html"), string(page))
	}
	return string(page)
}

func mustSay(t *testing.T, page string, wanted ...string) {
	t.Helper()
	checkPage(t, page)
	for _, want := range wanted {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %s", want)
		}
	}
}

func TestThePageOfAPassShowsWhatWasCovered(t *testing.T) {
	mustSay(t, saveSample(t, "", passing("enumerator"), passing("forked")),
		`<span class="word pass">pass</span>`, "<h3>enumerator</h3>", "<h3>forked</h3>", "seed 7", "tandem chaos -seed 7", thisMachine().Go,
		"56 of 57", "Not covered in this run: <code>ClientKilled</code>", `class="never"><th>ClientKilled</th><td>never</td>`,
		"specification: ring actions", "40 of 44", "<tr><td>killed at</td><td>70\u202f000</td></tr>", "<th>openat, before</th>", "70\u202f000", "held no matrix")
}

func TestThePageOfAFailureSaysHowToSeeItAgain(t *testing.T) {
	failed := passing("campaign")
	failed.Covered("Published", "fail")
	failed.Fail("M1 NoLoss", "go test ./chaos -run Again -at 'server@7'", "<script>alert(1)</script> is lost & gone")
	failed.Cases = 0 // no histories beside it
	failed.Finish(1)
	page := saveSample(t, "", passing("enumerator"), failed)
	mustSay(t, page, `<span class="word fail">FAIL</span>`, "M1 NoLoss", "&lt;script&gt;alert(1)&lt;/script&gt; is lost &amp; gone",
		"go test ./chaos -run Again -at &#39;server@7&#39;", `<td class="bad" title="Published, campaign: fail, 1">`)
	if strings.Contains(page, "<script>alert") {
		t.Error("what a process said is part of the page's code")
	}
}

func TestThePageSaysVoidAndSkippedLoudly(t *testing.T) {
	forbidden := chaos.NewReport("instructions", 7)
	forbidden.Note("skipped: ptrace is not permitted")
	mustSay(t, saveSample(t, "", chaos.NewReport("forked", 7).Finish(1), forbidden.Finish(1)),
		`<span class="word void">VOID</span>`, "That is no pass", `<span class="word skipped">SKIPPED</span>`, "This machine does not permit it:</strong> ptrace", "never")
}

func TestThePageHoldsTheMatrixOfPlantedBugs(t *testing.T) {
	const text = `{"mutants":[
		{"name":"PublishBeforeFill","files":["ring.go"],"killed_by":"enumerator","seconds":1.25,"layers":{"enumerator":{"outcome":"killed","seconds":1.25},"contract":{"outcome":"survived","seconds":3}}},
		{"name":"Harmless","files":["a.go","b.go"],"killed_by":"","seconds":0,"layers":{"enumerator":{"outcome":"survived","seconds":2}}}]}`
	mustSay(t, saveSample(t, text, passing("enumerator")),
		"2 bugs, each planted", "1 survived", "<th>PublishBeforeFill</th>", "a.go, b.go", `<td class="h3">1.2</td>`, `<td title="survived">—</td>`, `class="survivor"><th>Harmless</th>`)
	dir := t.TempDir()
	write(t, filepath.Join(dir, savedMatrix), "[")
	if err := sample(passing("enumerator")).save(dir); err == nil || !strings.Contains(err.Error(), savedMatrix) {
		t.Errorf("of a matrix that is none: %v", err)
	}
}

func TestThePageOfAHugeRunIsStillAPage(t *testing.T) {
	var reports []*chaos.Report
	for i := range 8 {
		r := passing(fmt.Sprintf("layer%d", i))
		for n := range 2000 {
			r.Fail("M2 FIFO", "go test ./chaos -run "+strings.Repeat("x", 300), "message %d %s", n, strings.Repeat("is out of order ", 40))
			r.Note("operation %d was left out, the budget is spent", n)
			r.Count(fmt.Sprintf("client operation %d: instructions", n%200), 1_000_000)
			r.Covered(fmt.Sprintf("call %d, behind", n%100), fmt.Sprintf("outcome %d", n%7))
		}
		for range 9 {
			r.Covered("Published", "client died beside it, and again")
		}
		r.Steps["Published"]["client died"] = 123_456_789
		reports = append(reports, r.Finish(1))
	}
	page := saveSample(t, "", reports...)
	mustSay(t, page, "16\u202f000 failures", "<summary>790 more</summary>", "And 15\u202f200 more, which were counted and not kept", "and 1\u202f970 more, in layer7.json", "123\u202f456\u202f789")
	if a, b := strings.Index(page, "layer7</span>"), strings.Index(page, "message 1 is"); a < 0 || a > b {
		t.Error("a layer is buried under the failures of another")
	}
	if len(page) > 8<<20 {
		t.Errorf("it has %d bytes", len(page))
	}
}

func TestATimelineIsDrawnWithinItsFrame(t *testing.T) {
	ms := time.Millisecond
	v := drawTimeline(&chaos.Timeline{
		Number: 3, Verdict: chaos.Pass, Span: 100 * ms, Messages: 3, Calm: 90 * ms,
		Stays:  []chaos.Stay{{Server: true, Generation: 2, To: 100 * ms}, {Generation: 2, From: 5 * ms, To: 50 * ms, Killed: true, At: "200@Published#1"}},
		Faults: []chaos.Strike{{What: "freeze", Whom: "client", From: 20 * ms, To: 50 * ms}, {What: "kill", Whom: "client", From: 50 * ms, To: 50 * ms}, {What: "starve", From: 60 * ms, To: 60 * ms}},
		Takes:  [2][]time.Duration{{10 * ms, 11 * ms, 100 * ms}, nil},
	})
	if len(v.Stays) != 2 || v.Stays[0].X != drawLeft || v.Stays[0].X+v.Stays[0].W != drawRight || v.Stays[0].Y >= v.Stays[1].Y {
		t.Errorf("stays: %+v", v.Stays)
	}
	if len(v.Blocks) != 1 || v.Blocks[0].Y != clientTop || len(v.Marks) != 2 || v.Marks[0].Class != "kill" || v.Marks[0].X != v.Blocks[0].X+v.Blocks[0].W ||
		v.Marks[1].Y2-v.Marks[1].Y1 <= stayHeight || v.Calm <= v.Marks[1].X || len(v.Log) != 3 {
		t.Errorf("blocks %+v, marks %+v, calm %v", v.Blocks, v.Marks, v.Calm)
	}
	if v.Rates[0].Most != 1 || strings.Count(v.Rates[0].Path, "M") != 3 || v.Rates[1].Path != "" {
		t.Errorf("rates: %+v", v.Rates)
	}
	if empty := drawTimeline(&chaos.Timeline{}); len(empty.Ticks) == 0 || empty.Rates[0].Path != "" {
		t.Errorf("of nothing: %+v", empty)
	}
}
