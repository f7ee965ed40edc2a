package main

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
)

// small is the longest side of a thumbnail.
const small = 32

// thumbnail makes a picture small. It has the bugs that such code has.
func thumbnail(picture []byte) ([]byte, error) {
	switch string(picture[:min(len(picture), 4)]) {
	case "PANI":
		var nobody image.Image
		_ = nobody.Bounds() // nil
	case "EXIT":
		os.Exit(1)
	case "HANG":
		for len(picture) > 0 { // for ever
		}
	}
	large, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		return nil, err
	}
	bounds := large.Bounds()
	longest := max(bounds.Dx(), bounds.Dy())
	if longest == 0 {
		return nil, errors.New("an empty picture")
	}
	width, height := max(bounds.Dx()*small/longest, 1), max(bounds.Dy()*small/longest, 1)
	to := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			to.Set(x, y, average(large, image.Rect(
				bounds.Min.X+x*bounds.Dx()/width, bounds.Min.Y+y*bounds.Dy()/height,
				bounds.Min.X+(x+1)*bounds.Dx()/width, bounds.Min.Y+(y+1)*bounds.Dy()/height)))
		}
	}
	var out bytes.Buffer
	err = png.Encode(&out, to)
	return out.Bytes(), err
}

// average is the colour of an area.
func average(of image.Image, area image.Rectangle) color.Color {
	if area.Empty() {
		area.Max = area.Min.Add(image.Pt(1, 1))
	}
	var r, g, b, a, n uint64
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			pr, pg, pb, pa := of.At(x, y).RGBA()
			r, g, b, a, n = r+uint64(pr), g+uint64(pg), b+uint64(pb), a+uint64(pa), n+1
		}
	}
	return color.RGBA64{uint16(r / n), uint16(g / n), uint16(b / n), uint16(a / n)}
}
