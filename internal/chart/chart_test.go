package chart

import (
	"bytes"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestAChartIsTwoPictures(t *testing.T) {
	lines := Chart{
		Title: "a title", X: "bytes", Y: "ns", LogX: true, LogY: true, Ticks: []Tick{{8, "8 B"}, {64, "64 B"}},
		Lines: []Line{
			{Name: "ours", X: []float64{8, 64, 512}, Y: []float64{10, 20, math.NaN()}, Low: []float64{9, 15, 0}, High: []float64{11, 30, 0}, Bold: true},
			{Name: "theirs", X: []float64{8, 64}, Y: []float64{100, 0}},
		},
	}
	bars := Chart{Title: "bars", X: "us", Bars: []Bar{{"a", 3, 2, 4, true}, {"b", 10, 9, 12, false}}}
	for name, c := range map[string]Chart{"lines": lines, "bars": bars} {
		dir := t.TempDir()
		if err := c.Write(dir, name); err != nil {
			t.Fatal(err)
		}
		svg, err := os.ReadFile(filepath.Join(dir, name+".svg"))
		if err != nil || !bytes.Contains(svg, []byte("<svg")) || !bytes.Contains(svg, []byte(c.Title)) {
			t.Errorf("%s: the SVG is none, or has no title: %v", name, err)
		}
		file, err := os.Open(filepath.Join(dir, name+".png"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := png.Decode(file); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = file.Close()
	}
}

func TestNothingToDrawIsAnError(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []Chart{{}, {LogY: true, Lines: []Line{{X: []float64{1}, Y: []float64{0}}}}} {
		if err := c.Write(dir, "none"); err == nil {
			t.Errorf("%+v was drawn", c)
		}
	}
	if err := (Chart{Bars: []Bar{{Name: "a", Value: 1, Low: 1, High: 1}}}).Write(filepath.Join(dir, "absent"), "bars"); err == nil {
		t.Error("a directory that is not there has pictures")
	}
}
