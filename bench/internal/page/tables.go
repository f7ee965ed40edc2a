package page

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	m "github.com/tandem-ipc/tandem/internal/measure"
)

// cost is what a message of 64 bytes costs besides time.
func (w *writer) cost() string {
	calls := map[string]*m.CallRow{}
	for _, c := range w.Calls {
		calls[c.Name] = c
	}
	rows := w.choose(func(r *m.Row) bool {
		return r.Size == 64 && r.Place == m.Apart && r.Pause == 0 && !r.Busy && r.InFlight <= 1 && (r.Work == m.RoundTrip || r.Work == m.OneWay) && r.Measured()
	})
	figure := func(figures []float64, text func(float64) string) string {
		if len(figures) == 0 {
			return "-"
		}
		return text(m.Median(figures))
	}
	var lines [][]string
	for _, r := range rows {
		traced := "-"
		if c := calls[r.Name]; c != nil && c.Why == "" {
			traced = digits(c.Calls)
		}
		lines = append(lines, []string{emphasis(r.Contender + " / " + r.Work + " / " + r.Form + " / " + r.Wait),
			figure(r.CPU, duration), figure(r.Switches, digits), traced, figure(r.Allocations, digits),
			figure(r.Resident, func(b float64) string { return memory(uint64(b)) })})
	}
	return grid([]string{"contender / work / form / wait", "processor time", "context switches", "system calls", "allocations", "memory of both processes"}, lines)
}

func (w *writer) deathTable() string {
	var lines [][]string
	for _, d := range w.Deaths {
		line := []string{emphasis(d.Contender), d.Victim}
		if d.Why != "" || len(d.Told) == 0 {
			line = append(line, oneLine(d.Why), "", "", "")
		} else {
			line = append(line, duration(medianOf(d.Told)), duration(float64(slices.Max(d.Told))), duration(medianOf(d.Answered)), duration(float64(slices.Max(d.Answered))))
		}
		lines = append(lines, line)
	}
	return grid([]string{"contender", "killed", "to the error: median", "most", "to the first answer of the replacement: median", "most"}, lines)
}

func oneLine(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n", " "), "|", "/")
}

func (w *writer) lossTable() string {
	var lines [][]string
	for _, l := range w.Losses {
		line := []string{emphasis(l.Contender + " / " + l.Form)}
		if l.Why != "" {
			line = append(line, oneLine(l.Why), "", "", "")
		} else {
			line = append(line, fmt.Sprint(l.Kills), fmt.Sprint(l.Sent), fmt.Sprint(l.Lost), fmt.Sprint(l.Again))
		}
		lines = append(lines, line)
	}
	return grid([]string{"contender / form", "kills", "sent", "lost", "to two receivers"}, lines)
}

func (w *writer) idleTable() string {
	var lines [][]string
	for _, i := range w.Idle {
		line := []string{emphasis(i.Contender + " / " + i.Wait)}
		if i.Why != "" {
			line = append(line, oneLine(i.Why), "", "")
		} else {
			line = append(line, digits(i.CPU)+" %", digits(i.Switches), memory(i.Resident))
		}
		lines = append(lines, line)
	}
	return grid([]string{"contender / wait", "of one processor", "context switches a second", "memory of both processes"}, lines)
}

func (w *writer) scaleTable() string {
	if len(w.Scale) == 0 {
		return notMeasured + ": go run ./bench -scale\n"
	}
	var lines [][]string
	for _, s := range w.Scale {
		line := []string{emphasis(s.Contender), fmt.Sprint(s.Pairs)}
		if s.Why != "" {
			line = append(line, oneLine(s.Why), "", "", "", "", "")
		} else {
			line = append(line, duration(s.Opened), memory(s.Memory), fmt.Sprint(s.Descriptors), fmt.Sprint(s.Threads), digits(s.CPU)+" %", digits(s.Switches))
		}
		lines = append(lines, line)
	}
	return grid([]string{"contender", "pairs", "to open one", "memory", "descriptors", "threads", "idle: of one processor", "idle: context switches a second"}, lines)
}

func (w *writer) ringTable() string {
	var rows []*m.Row
	for _, r := range w.Rows {
		if r.Ring > 0 {
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		return notMeasured + ": go run ./bench -scale\n"
	}
	return pivot(rows, func(r *m.Row) string { return "tandem / messages of " + m.SizeText(r.Size) }, func(r *m.Row) int { return r.Ring }, rateCell,
		func(n int) string { return "ring of " + m.SizeText(n) })
}

// contenderTable says what was measured, once for each contender.
func (w *writer) contenderTable() string {
	type version struct{ version, settings string }
	var names []string
	seen := map[string]version{}
	for _, r := range w.Rows {
		if _, known := seen[r.Contender]; !known && r.Version != "" {
			names = append(names, r.Contender)
			seen[r.Contender] = version{r.Version, r.Settings}
		}
	}
	var lines [][]string
	for _, name := range names {
		lines = append(lines, []string{emphasis(name), oneLine(seen[name].version), oneLine(seen[name].settings)})
	}
	return grid([]string{"contender", "version", "settings, in the first row of its"}, lines)
}

// leftTable is who is not in the other tables, and why.
func (w *writer) leftTable() string {
	var lines [][]string
	for _, a := range w.Absent {
		lines = append(lines, []string{a.Contender, oneLine(a.Why)})
	}
	for _, r := range w.Rows {
		if !r.Measured() {
			lines = append(lines, []string{"`" + r.Name + "`", oneLine(r.Why())})
		}
	}
	return grid([]string{"contender or row", "why"}, lines)
}

// native are the contenders that have one process.
var native = []string{"channel", "goroutine-ring", "call", "memcpy"}

// worseTable is each cell in which another one between two processes is faster than
// tandem in its best form.
func (w *writer) worseTable() string {
	groups := map[string][]*m.Row{}
	var order []string
	for _, r := range w.choose(func(r *m.Row) bool { return r.Measured() && !slices.Contains(native, r.Contender) }) {
		c := r.Cell
		c.Contender, c.Form = "", ""
		if groups[c.Name()] == nil {
			order = append(order, c.Name())
		}
		groups[c.Name()] = append(groups[c.Name()], r)
	}
	var lines [][]string
	for _, name := range order {
		rows := groups[name]
		slices.SortFunc(rows, func(a, b *m.Row) int { return cmp.Compare(m.Median(a.Nanos), m.Median(b.Nanos)) })
		ours := slices.IndexFunc(rows, func(r *m.Row) bool { return r.Contender == "tandem" })
		if ours <= 0 {
			continue
		}
		var faster []string
		for _, r := range rows[:ours] {
			faster = append(faster, fmt.Sprintf("%s / %s %s (%s x)", r.Contender, r.Form, duration(m.Median(r.Nanos)), ratio(m.Median(rows[ours].Nanos)/m.Median(r.Nanos))))
		}
		lines = append(lines, []string{"`" + rows[ours].Name + "`", duration(m.Median(rows[ours].Nanos)), strings.Join(faster, "; ")})
	}
	if len(lines) == 0 {
		return "In no cell of this run was another one faster between two processes.\n"
	}
	return grid([]string{"the best row of tandem", "it takes", "who is faster, and how many times as fast"}, lines)
}

// sameTable is one cell, measured in several ways.
func (w *writer) sameTable() string {
	var lines [][]string
	for _, r := range w.Rows {
		if r.Contender == "tandem" && r.Work == m.OneWay && r.Size == 64 && r.Form == m.Copy && r.Ring == 0 && r.Measured() {
			lines = append(lines, []string{"`" + r.Name + "`", rateCell(r)})
		}
	}
	return grid([]string{"row", "messages a second"}, lines)
}
