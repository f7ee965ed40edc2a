// Package chart draws the figures of the evaluation, as SVG for pages and as PNG for
// what cannot show SVG.
package chart

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A Chart has lines over a common axis, or bars with a name each.
type Chart struct {
	Title, X, Y string
	LogX, LogY  bool
	Ticks       []Tick // of the x axis; chosen if there are none
	Lines       []Line
	Bars        []Bar // drawn instead of lines; X is then what they measure
}

// A Line is a series of points, with a spread if Low and High have one for each.
type Line struct {
	Name            string
	X, Y, Low, High []float64
	Bold            bool
}

// A Bar is one figure with its spread.
type Bar struct {
	Name             string
	Value, Low, High float64
	Bold             bool
}

// A Tick is a place on an axis with what stands there.
type Tick struct {
	At    float64
	Label string
}

const (
	width   = 22 * vg.Centimeter
	height  = 13 * vg.Centimeter
	perBar  = 0.62 * vg.Centimeter
	perInch = 110 // dots of a PNG
)

// bold is ours, and others are the colours of everybody else.
var (
	bold   = color.RGBA{0xc0, 0x1f, 0x2e, 0xff}
	others = []color.RGBA{
		{0x1f, 0x77, 0xb4, 0xff}, {0x2c, 0x8a, 0x3d, 0xff}, {0x94, 0x67, 0xbd, 0xff}, {0x8c, 0x56, 0x4b, 0xff},
		{0xd9, 0x7b, 0x0b, 0xff}, {0x17, 0x9c, 0xa8, 0xff}, {0x6b, 0x6b, 0x6b, 0xff}, {0xb5, 0x9b, 0x00, 0xff},
		{0xd6, 0x5f, 0xa8, 0xff}, {0x3b, 0x4a, 0x8f, 0xff},
	}
)

// Write draws the chart into NAME.svg and NAME.png of a directory.
func (c Chart) Write(dir, name string) error {
	p, h, err := c.plot()
	if err != nil {
		return fmt.Errorf("draw %s: %w", name, err)
	}
	svg := vgsvg.New(width, h)
	p.Draw(draw.New(svg))
	bitmap := vgimg.NewWith(vgimg.UseWH(width, h), vgimg.UseDPI(perInch))
	p.Draw(draw.New(bitmap))
	return errors.Join(
		save(filepath.Join(dir, name+".svg"), func(f *os.File) error { _, err := svg.WriteTo(f); return err }),
		save(filepath.Join(dir, name+".png"), func(f *os.File) error { _, err := vgimg.PngCanvas{Canvas: bitmap}.WriteTo(f); return err }),
	)
}

func save(path string, write func(*os.File) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}

func (c Chart) plot() (*plot.Plot, vg.Length, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = c.Title, c.X, c.Y
	p.BackgroundColor = color.White
	p.Title.Padding = 3 * vg.Millimeter
	if len(c.Bars) > 0 {
		h, err := c.bars(p)
		return p, h, err
	}
	p.Add(plotter.NewGrid())
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size = vg.Points(9)
	if c.LogX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	if c.LogY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, decades{}
	}
	if len(c.Ticks) > 0 {
		p.X.Tick.Marker = plot.ConstantTicks(ticksOf(c.Ticks))
	}
	drawn := 0
	for i, line := range c.Lines {
		ok, err := c.line(p, i, line)
		if err != nil {
			return nil, 0, err
		}
		if ok {
			drawn++
		}
	}
	if drawn == 0 {
		return nil, 0, errors.New("there is nothing to draw")
	}
	if c.LogY { // room for the names
		p.Y.Max *= math.Pow(p.Y.Max/p.Y.Min, 0.05+0.035*float64(drawn))
	} else {
		p.Y.Min, p.Y.Max = 0, p.Y.Max*(1.1+0.06*float64(drawn))
	}
	return p, height, nil
}

func ticksOf(ticks []Tick) (all []plot.Tick) {
	for _, t := range ticks {
		all = append(all, plot.Tick{Value: t.At, Label: t.Label})
	}
	return all
}

// decades are ticks of a logarithmic axis at powers of ten, with plain numbers.
type decades struct{}

func (decades) Ticks(low, high float64) (ticks []plot.Tick) {
	for at := math.Pow(10, math.Floor(math.Log10(low))); at <= high*1.001; at *= 10 {
		for k := 1.0; k < 10; k++ {
			if v := k * at; v >= low*0.999 && v <= high*1.001 {
				label := ""
				if k == 1 || high/low < 30 && (k == 2 || k == 5) {
					label = strings.TrimSuffix(fmt.Sprintf("%g", v), ".0")
				}
				ticks = append(ticks, plot.Tick{Value: v, Label: label})
			}
		}
	}
	return ticks
}

// points are those of a line that its axes can show.
type points struct {
	plotter.XYs
	errors plotter.YErrors
}

// YError makes points a plotter.YErrorer.
func (p points) YError(i int) (low, high float64) { return p.errors[i].Low, p.errors[i].High }

func (c Chart) pointsOf(l Line) (p points) {
	for i, x := range l.X {
		y := l.Y[i]
		if math.IsNaN(y) || c.LogY && y <= 0 || c.LogX && x <= 0 {
			continue
		}
		e := struct{ Low, High float64 }{}
		if i < len(l.Low) && i < len(l.High) && (!c.LogY || l.Low[i] > 0) {
			e.Low, e.High = y-l.Low[i], l.High[i]-y
		}
		p.XYs = append(p.XYs, plotter.XY{X: x, Y: y})
		p.errors = append(p.errors, e)
	}
	return p
}

func (c Chart) line(p *plot.Plot, i int, l Line) (drawn bool, err error) {
	points := c.pointsOf(l)
	if len(points.XYs) == 0 {
		return false, nil
	}
	line, dots, err := plotter.NewLinePoints(points.XYs)
	if err != nil {
		return false, err
	}
	line.Color, line.Width = others[i%len(others)], vg.Points(1.2)
	if i >= len(others) {
		line.Dashes = []vg.Length{vg.Points(4), vg.Points(2)}
	}
	if l.Bold {
		line.Color, line.Width = bold, vg.Points(2.2)
		line.Dashes = [][]vg.Length{nil, {vg.Points(6), vg.Points(3)}, {vg.Points(2), vg.Points(2)}}[i%3]
	}
	dots.Color, dots.Shape, dots.Radius = line.Color, draw.CircleGlyph{}, vg.Points(2)
	p.Add(line)
	p.Legend.Add(l.Name, line)
	if len(points.XYs) > 100 { // a curve
		return true, nil
	}
	p.Add(dots)
	spread, err := plotter.NewYErrorBars(points)
	if err != nil {
		return false, err
	}
	spread.Color, spread.Width = line.Color, vg.Points(0.6)
	p.Add(spread)
	return true, nil
}

// bars draws from top to bottom.
func (c Chart) bars(p *plot.Plot) (vg.Length, error) {
	names := make([]string, len(c.Bars))
	for i := range c.Bars {
		at := len(c.Bars) - 1 - i
		bar := c.Bars[i]
		names[at] = bar.Name
		b, err := plotter.NewBarChart(plotter.Values{bar.Value}, perBar*0.6)
		if err != nil {
			return 0, err
		}
		b.Horizontal, b.XMin, b.Color, b.LineStyle.Width = true, float64(at), others[0], 0
		if bar.Bold {
			b.Color = bold
		}
		if c.LogX {
			return 0, errors.New("bars have no beginning on a logarithmic axis")
		}
		spread, err := plotter.NewXErrorBars(point{bar, float64(at)})
		if err != nil {
			return 0, err
		}
		p.Add(b, spread)
	}
	p.NominalY(names...)
	p.Add(plotter.NewGrid())
	p.X.Min = 0
	return perBar*vg.Length(len(c.Bars)) + 3*vg.Centimeter, nil
}

// A point is the end of a bar with its spread.
type point struct {
	Bar
	at float64
}

func (p point) Len() int                       { return 1 }
func (p point) XY(int) (x, y float64)          { return p.Value, p.at }
func (p point) XError(int) (low, high float64) { return p.Value - p.Low, p.High - p.Value }
