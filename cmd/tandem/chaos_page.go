package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tandem-ipc/tandem/chaos"
)

// A page is a run as its template shows it: chaos_page.html says how, and
// everything that is to be counted or sorted was counted and sorted here.
type page struct {
	Run          *chaosRun
	Word         string // the verdict
	Summary      string
	Cards        []card
	Coverage     []bar
	Unhit        []string // steps that nobody died at
	Steps        *heat    // of the protocol's steps
	Others       *heat    // of whatever else somebody died at, as system calls
	Timelines    []timelineView
	Trouble      string // why there are no timelines, if there should be some
	Matrix       *matrixView
	Failures     []failureView
	MoreFailures []failureView // shown when asked for
	Unkept       int           // counted and not kept
}

type card struct {
	layerRun
	Word   string
	Steps  int
	Counts countTable
	Plain  []namedCount
	Notes  []string
	More   int // notes that are left out
}

type namedCount struct {
	Name  string
	Count int
}

// A countTable holds those counts of a layer whose names are "row: column".
type countTable struct {
	Columns []string
	Rows    []countRow
}

type countRow struct {
	Name  string
	Cells []string
}

// A bar is how many of all that there are were covered.
type bar struct {
	Name      string
	Count, Of int
}

func (b bar) Percent() float64 { return 100 * float64(min(b.Count, b.Of)) / float64(max(b.Of, 1)) }

type failureView struct {
	Layer string
	Nth   int // of its layer
	chaos.Failure
}

//go:embed chaos_page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"seconds": func(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) },
	"number":  grouped,
	"lower":   strings.ToLower,
}).Parse(pageText))

// grouped writes a number with a thin space at each thousand.
func grouped(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

// writePage writes the page of a run beside what it is about.
func (r *chaosRun) writePage(dir string) error {
	p := r.page()
	for _, l := range r.Layers {
		if l.Name != chaos.CampaignName || l.Report.Cases == 0 {
			continue
		}
		timelines, err := chaos.Timelines(filepath.Join(dir, l.Name), maxTimelines)
		if err != nil {
			p.Trouble = err.Error()
		}
		for i := range timelines {
			p.Timelines = append(p.Timelines, drawTimeline(&timelines[i]))
		}
	}
	matrix, err := readMatrix(filepath.Join(dir, savedMatrix))
	if err != nil {
		return err
	}
	p.Matrix = matrix
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, p); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, savedPage), out.Bytes(), 0o600)
}

// many is count for a reader.
func many(n int, noun string) string {
	_, noun, _ = strings.Cut(count(n, noun), " ")
	return grouped(n) + " " + noun
}

// openFailures is how many failures the page shows before it is asked for more.
const openFailures = 10

// maxNotes is how many notes of a layer the page shows. The report has all.
const maxNotes = 30

func (r *chaosRun) page() *page {
	p := &page{Run: r, Word: wordOf(r.Verdict)}
	kills, cases, failed := 0, 0, 0
	for _, l := range r.Layers {
		kills, cases, failed = kills+l.Report.Kills, cases+l.Report.Cases, failed+l.Report.Failed
		c := card{layerRun: l, Word: l.word(), Steps: len(l.Report.Steps), Notes: l.Report.Notes}
		if c.More = len(c.Notes) - maxNotes; c.More > 0 {
			c.Notes = c.Notes[:maxNotes]
		}
		c.Counts, c.Plain = tableOf(l.Report.Counts)
		p.Cards = append(p.Cards, c)
		for i, f := range l.Report.Failures {
			p.Failures = append(p.Failures, failureView{l.Name, i, f})
		}
		p.Unkept += l.Report.Failed - len(l.Report.Failures)
	}
	p.Summary = fmt.Sprintf("%s in %s by %s in %.1f s, %s.",
		many(kills, "death"), many(cases, "judged case"), many(len(r.Layers), "layer"), r.Elapsed.Seconds(), many(failed, "failure"))
	// The first of each layer, then the second ones: none buries the others.
	slices.SortStableFunc(p.Failures, func(a, b failureView) int { return a.Nth - b.Nth })
	if n := len(p.Failures); n > openFailures {
		p.Failures, p.MoreFailures = p.Failures[:openFailures], p.Failures[openFailures:]
	}
	p.Steps, p.Others = r.stepHeat(), r.otherHeat()
	p.cover(r)
	return p
}

func wordOf(v chaos.Verdict) string {
	if v == chaos.Pass {
		return "pass"
	}
	return strings.ToUpper(v.String())
}

// cover fills in what was covered of what there is: of the steps, by each layer
// and by all; and what a layer itself has counted as "NAME" and "NAME, of all".
func (p *page) cover(r *chaosRun) {
	hit := map[string]bool{}
	var bars []bar
	for _, l := range r.Layers {
		own := 0
		for _, g := range p.Steps.Groups {
			for _, row := range g.Rows {
				if len(l.Report.Steps[row.Name]) > 0 {
					own++
					hit[row.Name] = true
				}
			}
		}
		if own > 0 {
			bars = append(bars, bar{"steps: " + l.Name, own, p.Steps.size()})
		}
		for _, name := range slices.Sorted(maps.Keys(l.Report.Counts)) {
			if what, found := strings.CutSuffix(name, takenEnd); found {
				bars = append(bars, bar{"specification: " + what, l.Report.Counts[name], l.Report.Counts[what+allEnd]})
			}
		}
	}
	p.Coverage = append([]bar{{"steps, all layers together", len(hit), p.Steps.size()}}, bars...)
	for _, g := range p.Steps.Groups {
		for _, row := range g.Rows {
			if !hit[row.Name] {
				p.Unhit = append(p.Unhit, row.Name)
			}
		}
	}
}

// The ends of the names of two counts, of which one is a part of the other: as
// "ring actions taken by real processes", "ring actions of the specification".
const (
	takenEnd = " taken by real processes"
	allEnd   = " of the specification"
)

// tableOf sorts counts: those named "row: column" make a table, which is higher
// than it is wide.
func tableOf(counts map[string]int) (table countTable, plain []namedCount) {
	fields := map[[2]string]int{}
	var rows, columns []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		row, column, found := strings.Cut(name, ": ")
		if !found {
			plain = append(plain, namedCount{name, counts[name]})
			continue
		}
		fields[[2]string{row, column}] = counts[name]
		rows, columns = append(rows, row), append(columns, column)
	}
	slices.Sort(columns)
	rows, table.Columns = slices.Compact(rows), slices.Compact(columns)
	at := func(row, column string) [2]string { return [2]string{row, column} }
	if len(table.Columns) > len(rows) {
		rows, table.Columns = table.Columns, rows
		at = func(row, column string) [2]string { return [2]string{column, row} }
	}
	for _, name := range rows {
		row := countRow{Name: name}
		for _, column := range table.Columns {
			text := ""
			if n, found := fields[at(name, column)]; found {
				text = grouped(n)
			}
			row.Cells = append(row.Cells, text)
		}
		table.Rows = append(table.Rows, row)
	}
	return table, plain
}

// A matrix is what the run with planted bugs has written.
type matrix struct {
	Mutants []struct {
		Name     string          `json:"name"`
		Files    []string        `json:"files"`
		KilledBy string          `json:"killed_by"`
		Seconds  float64         `json:"seconds"`
		Layers   map[string]hunt `json:"layers"`
	} `json:"mutants"`
}

type hunt struct {
	Outcome string  `json:"outcome"` // killed or survived
	Seconds float64 `json:"seconds"`
}

type matrixView struct {
	Layers    []string
	Rows      []matrixRow
	Survivors int
}

type matrixRow struct {
	Name, Files, KilledBy string
	Seconds               float64
	Cells                 []hunt // without an outcome: was not asked
}

// readMatrix reads the matrix, if there is one.
func readMatrix(path string) (*matrixView, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var m matrix
	if err = cmp.Or(err, json.Unmarshal(text, &m)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	v := &matrixView{}
	for _, mutant := range m.Mutants {
		for name := range mutant.Layers {
			if !slices.Contains(v.Layers, name) {
				v.Layers = append(v.Layers, name)
			}
		}
	}
	slices.Sort(v.Layers)
	for _, mutant := range m.Mutants {
		row := matrixRow{mutant.Name, strings.Join(mutant.Files, ", "), mutant.KilledBy, mutant.Seconds, nil}
		for _, name := range v.Layers {
			row.Cells = append(row.Cells, mutant.Layers[name])
		}
		if mutant.KilledBy == "" {
			v.Survivors++
		}
		v.Rows = append(v.Rows, row)
	}
	return v, nil
}
