package page

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tandem-ipc/tandem/internal/chart"
	m "github.com/tandem-ipc/tandem/internal/measure"
)

// A picture is a chart with its place in the page.
type picture struct {
	name string
	made chart.Chart
}

func (p picture) empty() bool { return len(p.made.Lines) == 0 && len(p.made.Bars) == 0 }

// pictures are all pictures, also those for which there is no figure.
func (w *writer) pictures() []picture {
	return []picture{
		{"roundtrip", w.overSize("Round trip against size", "time there and back, us", m.RoundTrip, 1e-3, false)},
		{"throughput", w.overSize("One way against size", "GB/s", m.OneWay, 1, true)},
		{"tail", w.tail("How long single round trips of 64 bytes take", false)},
		{"busy", w.tail("The same on a busy machine", true)},
		{"cost", w.costs()},
		{"recovery", w.recovery()},
		{"scale", w.scaleLines()},
		{"rings", w.ringLines()},
	}
}

// picture is the line of the page that shows a picture, if there is one.
func (w *writer) picture(name, text string) (string, error) {
	for _, p := range w.pictures() {
		if p.name == name && p.empty() {
			return "", nil
		}
		if p.name == name {
			return fmt.Sprintf("![%s](%s/%s.svg)\n", text, path.Base(Pictures), name), nil
		}
	}
	return "", fmt.Errorf("there is no picture %q", name)
}

// Draw draws all pictures for which a result file has figures.
func Draw(f *m.File, dir string) error {
	w := &writer{File: f}
	var errs []error
	for _, p := range w.pictures() {
		if !p.empty() {
			errs = append(errs, p.made.Write(dir, p.name))
		}
	}
	return errors.Join(errs...)
}

func sizeTicks(sizes []int) (ticks []chart.Tick) {
	slices.Sort(sizes)
	for _, size := range slices.Compact(sizes) {
		ticks = append(ticks, chart.Tick{At: float64(size), Label: m.SizeText(size)})
	}
	return ticks
}

// overSize draws each contender in each of its forms and waits that has several sizes.
func (w *writer) overSize(title, y, work string, unit float64, rate bool) chart.Chart {
	c := chart.Chart{Title: title, X: "size of a message", Y: y, LogX: true, LogY: true}
	at := map[string]int{}
	var sizes []int
	for _, r := range w.plain(work, m.Apart, []string{m.Spin, m.Default}) {
		if !r.Measured() {
			continue
		}
		name := label(r)
		i, known := at[name]
		if !known {
			i = len(c.Lines)
			at[name] = i
			c.Lines = append(c.Lines, chart.Line{Name: name, Bold: isOurs(name)})
		}
		value := func(ns float64) float64 {
			if rate {
				return float64(r.Size) / ns
			}
			return ns * unit
		}
		low, high := value(slices.Min(r.Nanos)), value(slices.Max(r.Nanos))
		l := &c.Lines[i]
		l.X, l.Y = append(l.X, float64(r.Size)), append(l.Y, value(m.Median(r.Nanos)))
		l.Low, l.High = append(l.Low, min(low, high)), append(l.High, max(low, high))
		sizes = append(sizes, r.Size)
	}
	c.Lines = slices.DeleteFunc(c.Lines, func(l chart.Line) bool { return len(l.X) < 2 })
	slices.SortStableFunc(c.Lines, func(a, b chart.Line) int { return oursFirst(a.Name, b.Name) })
	c.Ticks = sizeTicks(sizes)
	return c
}

// tail draws the percentiles of round trips.
func (w *writer) tail(title string, busy bool) chart.Chart {
	c := chart.Chart{Title: title, X: "of all round trips", Y: "time, us", LogY: true}
	for nines, text := range []string{"0 %", "90 %", "99 %", "99.9 %", "99.99 %"} {
		c.Ticks = append(c.Ticks, chart.Tick{At: float64(nines), Label: text})
	}
	rows := w.choose(func(r *m.Row) bool {
		return r.Work == m.RoundTrip && r.Size == 64 && r.Pause == 0 && r.Busy == busy && r.Form == m.Copy && r.InFlight <= 1 && r.Measured() &&
			(busy || r.Place == m.Apart && r.Wait != m.Block) && !slices.Contains(native, r.Contender)
	})
	for _, r := range rows {
		h, err := hdrhistogram.Decode([]byte(r.Histogram))
		if err != nil || h.TotalCount() == 0 {
			continue
		}
		line := chart.Line{Name: r.Contender + " / " + r.Wait, Bold: r.Contender == "tandem"}
		last := math.Min(4, math.Log10(float64(h.TotalCount())))
		for nines := 0.0; nines <= last; nines += 0.02 {
			at := h.ValueAtQuantile(100 * (1 - math.Pow(10, -nines)))
			line.X, line.Y = append(line.X, nines), append(line.Y, float64(max(at, h.Min()))/1e3)
		}
		c.Lines = append(c.Lines, line)
	}
	slices.SortStableFunc(c.Lines, func(a, b chart.Line) int { return oursFirst(a.Name, b.Name) })
	return c
}

// costs draws the processor time of a message.
func (w *writer) costs() chart.Chart {
	c := chart.Chart{Title: "Processor time of a round trip of 64 bytes, both processes", X: "us"}
	for _, r := range w.plain(m.RoundTrip, m.Apart, []string{m.Spin, m.Default, m.Block}) {
		if r.Size == 64 && r.Measured() && len(r.CPU) > 0 {
			c.Bars = append(c.Bars, chart.Bar{Name: label(r), Value: m.Median(r.CPU) / 1e3, Low: slices.Min(r.CPU) / 1e3, High: slices.Max(r.CPU) / 1e3, Bold: isOurs(label(r))})
		}
	}
	return c
}

// recovery draws the times after a death.
func (w *writer) recovery() chart.Chart {
	c := chart.Chart{Title: "From SIGKILL to the survivor's error, and to the first answer of the replacement", X: "ms"}
	bar := func(name string, times []int64) chart.Bar {
		return chart.Bar{Name: name, Value: medianOf(times) / 1e6, Low: float64(slices.Min(times)) / 1e6, High: float64(slices.Max(times)) / 1e6, Bold: isOurs(name)}
	}
	for _, d := range w.Deaths {
		if len(d.Told) > 0 && len(d.Answered) > 0 {
			c.Bars = append(c.Bars, bar(d.Contender+" / "+d.Victim+" dies: error", d.Told), bar(d.Contender+" / "+d.Victim+" dies: answer", d.Answered))
		}
	}
	for i := range c.Bars {
		c.Bars[i].Bold = isOurs(c.Bars[i].Name)
	}
	return c
}

// scaleLines draws what grows with the number of pairs, in terms of one pair.
func (w *writer) scaleLines() chart.Chart {
	c := chart.Chart{Title: "Many pairs between the same two processes", X: "pairs", Y: "see the names", LogX: true, LogY: true}
	kinds := []struct {
		name string
		of   func(*m.ScaleRow) float64
	}{
		{"memory, MiB", func(s *m.ScaleRow) float64 { return float64(s.Memory) / (1 << 20) }},
		{"descriptors", func(s *m.ScaleRow) float64 { return float64(s.Descriptors) }},
		{"threads", func(s *m.ScaleRow) float64 { return float64(s.Threads) }},
		{"idle, % of a processor", func(s *m.ScaleRow) float64 { return s.CPU }},
		{"idle, context switches a second", func(s *m.ScaleRow) float64 { return s.Switches }},
	}
	for _, kind := range kinds {
		line := chart.Line{Name: kind.name}
		for _, s := range w.Scale {
			if s.Contender == "tandem" && s.Why == "" {
				line.X, line.Y = append(line.X, float64(s.Pairs)), append(line.Y, kind.of(s))
			}
		}
		if len(line.X) > 0 {
			c.Lines = append(c.Lines, line)
		}
	}
	return c
}

// ringLines draws the rate against the size of a ring.
func (w *writer) ringLines() chart.Chart {
	c := chart.Chart{Title: "One way against the size of the ring", X: "ring", Y: "GB/s", LogX: true, LogY: true}
	at := map[int]int{}
	var rings []int
	for _, r := range w.Rows {
		if r.Ring == 0 || !r.Measured() {
			continue
		}
		i, known := at[r.Size]
		if !known {
			i = len(c.Lines)
			at[r.Size] = i
			c.Lines = append(c.Lines, chart.Line{Name: fmt.Sprintf("messages of %s", m.SizeText(r.Size))})
		}
		l := &c.Lines[i]
		l.X, l.Y = append(l.X, float64(r.Ring)), append(l.Y, float64(r.Size)/m.Median(r.Nanos))
		l.Low, l.High = append(l.Low, float64(r.Size)/slices.Max(r.Nanos)), append(l.High, float64(r.Size)/slices.Min(r.Nanos))
		rings = append(rings, r.Ring)
	}
	c.Ticks = sizeTicks(rings)
	return c
}
