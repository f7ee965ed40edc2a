package page

import (
	"fmt"
	"slices"
	"strings"

	m "github.com/tandem-ipc/tandem/internal/measure"
)

// grid writes a table of a page.
func grid(head []string, lines [][]string) string {
	var out strings.Builder
	row := func(cells []string) { out.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	row(head)
	out.WriteString("|" + strings.Repeat("---|", len(head)) + "\n")
	for _, line := range lines {
		row(line)
	}
	return out.String()
}

// choose are the rows of a work and a place that are neither special nor of another ring.
func (w *writer) choose(want func(*m.Row) bool) (rows []*m.Row) {
	for _, r := range w.Rows {
		if r.Ring == 0 && !r.Bare && !r.Short && want(r) {
			rows = append(rows, r)
		}
	}
	return rows
}

func (w *writer) plain(work, place string, waits []string) []*m.Row {
	return w.choose(func(r *m.Row) bool {
		return r.Work == work && r.Place == place && slices.Contains(waits, r.Wait) && r.Pause == 0 && !r.Busy && r.InFlight <= 1
	})
}

// columns gives the values of a key in the order of a comparison, and the lines by label
// in the order of the rows.
func pivot(rows []*m.Row, label func(*m.Row) string, key func(*m.Row) int, text func(*m.Row) string, column func(int) string) string {
	var keys []int
	var labels []string
	cells := map[string]map[int]string{}
	for _, r := range rows {
		if k := key(r); !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
		l := label(r)
		if cells[l] == nil {
			cells[l] = map[int]string{}
			labels = append(labels, l)
		}
		cells[l][key(r)] = text(r)
	}
	slices.Sort(keys)
	slices.SortStableFunc(labels, oursFirst)
	head := []string{"contender / form / wait"}
	for _, k := range keys {
		head = append(head, column(k))
	}
	var lines [][]string
	for _, l := range labels {
		line := []string{emphasis(l)}
		for _, k := range keys {
			cell := cells[l][k]
			if cell == "" {
				cell = " "
			}
			line = append(line, cell)
		}
		lines = append(lines, line)
	}
	return grid(head, lines)
}

func isOurs(label string) bool { return label == "tandem" || strings.HasPrefix(label, "tandem /") }

func oursFirst(a, b string) int {
	switch {
	case isOurs(a) && !isOurs(b):
		return -1
	case isOurs(b) && !isOurs(a):
		return 1
	}
	return 0
}

func emphasis(label string) string {
	if isOurs(label) {
		return "**" + label + "**"
	}
	return label
}

func label(r *m.Row) string { return r.Contender + " / " + r.Form + " / " + r.Wait }

func short(r *m.Row) string {
	switch {
	case r.Unsupported != "":
		return "-"
	case !r.Measured():
		return strings.SplitN(r.Why(), ":", 2)[0]
	}
	return ""
}

// timeText is a figure, its spread, and its ratio to the floor.
func timeText(r *m.Row) string {
	if why := short(r); why != "" {
		return why
	}
	return fmt.Sprintf("%s [%s-%s]; %s x", duration(m.Median(r.Nanos)), digitsOf(slices.Min(r.Nanos)), digitsOf(slices.Max(r.Nanos)), ratio(m.Median(r.Ratios())))
}

func digitsOf(ns float64) string { return strings.ReplaceAll(duration(ns), " ", "") }

func rateCell(r *m.Row) string {
	if why := short(r); why != "" {
		return why
	}
	text := func(ns float64) string { return rateText(r, ns) }
	low, _, _ := strings.Cut(text(slices.Max(r.Nanos)), " ")
	high, _, _ := strings.Cut(text(slices.Min(r.Nanos)), " ")
	return fmt.Sprintf("%s [%s-%s]; %s x", text(m.Median(r.Nanos)), low, high, ratio(m.Median(r.Ratios())))
}

// matrix is contenders by sizes. waits are separated by commas.
func (w *writer) matrix(work, place, waits string) string {
	text := timeText
	if work != m.RoundTrip {
		text = rateCell
	}
	rows := w.plain(work, place, strings.Split(waits, ","))
	return pivot(rows, label, func(r *m.Row) int { return r.Size }, text, m.SizeText)
}

// flights is contenders by requests under way.
func (w *writer) flights() string {
	rows := w.choose(func(r *m.Row) bool { return r.Work == m.Requests })
	return pivot(rows, label, func(r *m.Row) int { return r.InFlight }, rateCell, func(n int) string { return fmt.Sprintf("%d under way", n) })
}

// percentiles is the times of single round trips of 64 bytes.
func (w *writer) percentiles(kind string) string {
	rows := w.choose(func(r *m.Row) bool {
		if r.Work != m.RoundTrip || r.Size != 64 {
			return false
		}
		switch kind {
		case "asleep":
			return r.Pause > 0
		case "busy":
			return r.Busy
		case "one":
			return r.Place == m.Together
		}
		return r.Pause == 0 && !r.Busy && r.Place == m.Apart
	})
	var lines [][]string
	for _, r := range rows {
		line := []string{emphasis(label(r))}
		if why := short(r); why != "" {
			line = append(line, why, "", "", "", "", "")
		} else {
			p := r.Percentiles
			line = append(line, timeText(r))
			for _, ns := range []int64{p.P50, p.P90, p.P99, p.P999, p.Max} {
				line = append(line, duration(float64(ns)))
			}
		}
		lines = append(lines, line)
	}
	slices.SortStableFunc(lines, func(a, b []string) int { return oursFirst(strings.Trim(a[0], "*"), strings.Trim(b[0], "*")) })
	return grid([]string{"contender / form / wait", "mean", "p50", "p90", "p99", "p99.9", "max"}, lines)
}
