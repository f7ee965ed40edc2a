package page

import (
	"fmt"
	"math"
	"slices"
	"text/template"

	m "github.com/tandem-ipc/tandem/internal/measure"
)

// A writer has what the templates use.
type writer struct {
	*m.File
	Source string
}

func (w *writer) functions() template.FuncMap {
	return template.FuncMap{
		"took": w.took, "rate": w.rate, "times": w.times, "above": w.above, "p99": w.p99, "cpu": w.cpu,
		"timesOnly": w.bareTimes, "tookOnly": w.bareTook, "rateOnly": w.bareRate, "aboveOnly": w.bareAbove,
		"sizes": func() []string { return readmeSizes }, "memory": memory,
		"seconds": func(s float64) string { return duration(s * 1e9) },
		"told":    w.told, "lost": w.lost, "floor": w.floor,
		"matrix": w.matrix, "flights": w.flights, "percentiles": w.percentiles, "cost": w.cost, "deaths": w.deathTable,
		"losses": w.lossTable, "idle": w.idleTable, "scale": w.scaleTable, "rings": w.ringTable, "contenders": w.contenderTable,
		"picture": w.picture, "worse": w.worseTable, "left": w.leftTable, "same": w.sameTable,
	}
}

// notMeasured stands where a figure would be.
const notMeasured = "(not measured)"

// row is a row with figures, nil if it has none.
func (w *writer) row(name string) *m.Row {
	if r := w.Row(name); r != nil && r.Measured() {
		return r
	}
	return nil
}

func named(text, name string) string { return fmt.Sprintf("%s (row `%s`)", text, name) }

// took is how long a message or round trip takes.
func (w *writer) took(name string) string { return named(w.bareTook(name), name) }

func (w *writer) bareTook(name string) string {
	r := w.row(name)
	if r == nil {
		return notMeasured
	}
	return duration(m.Median(r.Nanos))
}

// rate is how many messages there are in a second, or bytes if they are large.
func (w *writer) rate(name string) string { return named(w.bareRate(name), name) }

func (w *writer) bareRate(name string) string {
	r := w.row(name)
	if r == nil {
		return notMeasured
	}
	return rateText(r, m.Median(r.Nanos))
}

// times is how many times as long as the first the second one takes.
func (w *writer) times(a, b string) string {
	return fmt.Sprintf("%s times (row `%s` by row `%s`)", w.bareTimes(a, b), b, a)
}

func (w *writer) bareTimes(a, b string) string {
	of, to := w.row(a), w.row(b)
	if of == nil || to == nil {
		return notMeasured
	}
	return ratio(m.Median(to.Nanos) / m.Median(of.Nanos))
}

// above is how many times the floor something takes.
func (w *writer) above(name string) string { return named(w.bareAbove(name)+" times the floor", name) }

func (w *writer) bareAbove(name string) string {
	r := w.row(name)
	if r == nil {
		return notMeasured
	}
	return ratio(m.Median(r.Ratios()))
}

func (w *writer) p99(name string) string {
	r := w.row(name)
	if r == nil || r.Percentiles.P99 == 0 {
		return named(notMeasured, name)
	}
	return named(duration(float64(r.Percentiles.P99)), name)
}

func (w *writer) cpu(name string) string {
	r := w.row(name)
	if r == nil || len(r.CPU) == 0 {
		return named(notMeasured, name)
	}
	return named(duration(m.Median(r.CPU)), name)
}

// told is how long a survivor waits for its error, in words.
func (w *writer) told(contender, victim string) string {
	for _, d := range w.Deaths {
		if d.Contender == contender && d.Victim == victim && len(d.Told) > 0 {
			return named(fmt.Sprintf("median %s, at most %s, %d kills", duration(medianOf(d.Told)), duration(float64(slices.Max(d.Told))), len(d.Told)), d.Name)
		}
	}
	return notMeasured
}

// lost is how many messages were lost.
func (w *writer) lost(contender, form string) string {
	for _, l := range w.Losses {
		if l.Contender == contender && l.Form == form && l.Why == "" {
			return named(fmt.Sprintf("%d of %d messages in %d kills", l.Lost, l.Sent, l.Kills), l.Name)
		}
	}
	return notMeasured
}

// floor is the floor over the whole run.
func (w *writer) floor() string {
	if len(w.Floors) == 0 {
		return notMeasured
	}
	sorted := slices.Sorted(slices.Values(w.Floors))
	at := func(q float64) string { return duration(sorted[int(q*float64(len(sorted)-1))]) }
	return fmt.Sprintf("median %s, 5 to 95 of a hundred %s to %s, %d measurements", at(0.5), at(0.05), at(0.95), len(sorted))
}

func medianOf(times []int64) float64 {
	figures := make([]float64, len(times))
	for i, t := range times {
		figures[i] = float64(t)
	}
	return m.Median(figures)
}

// digits writes a number with about three digits.
func digits(x float64) string {
	switch {
	case math.IsNaN(x):
		return "-"
	case math.Abs(x) >= 100:
		return fmt.Sprintf("%.0f", x)
	case math.Abs(x) >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

func ratio(x float64) string { return digits(x) }

// duration writes nanoseconds.
func duration(ns float64) string {
	switch {
	case ns >= 1e9:
		return digits(ns/1e9) + " s"
	case ns >= 1e6:
		return digits(ns/1e6) + " ms"
	case ns >= 1e3:
		return digits(ns/1e3) + " us"
	}
	return digits(ns) + " ns"
}

// bytesFrom is the size from which on a rate is in bytes.
const bytesFrom = 4 << 10

func rateText(r *m.Row, ns float64) string {
	if r.Size >= bytesFrom {
		return digits(float64(r.Size)/ns) + " GB/s"
	}
	return digits(1e3/ns) + " M/s"
}

func memory(bytes uint64) string { return digits(float64(bytes)/(1<<20)) + " MiB" }
