//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/tandem-ipc/tandem/bench/internal/page"
	"github.com/tandem-ipc/tandem/bench/internal/peers"
	"github.com/tandem-ipc/tandem/internal/measure"
)

func names(cells []measure.Cell) (names []string) {
	for _, c := range cells {
		names = append(names, c.Name())
	}
	return names
}

// Each row that the prose speaks of is one that is measured.
func TestThePlanHasEachRowOfThePage(t *testing.T) {
	planned := names(cellsOf(plan))
	for _, name := range page.RowsOfTemplates() {
		if !slices.Contains(planned, name) {
			t.Errorf("the page speaks of %q, which is not measured", name)
		}
	}
}

func TestCompareNamesTheRowsThatLieApart(t *testing.T) {
	row := func(name string, nanos ...float64) *measure.Row { return &measure.Row{Name: name, Nanos: nanos} }
	a := &measure.File{Rows: []*measure.Row{row("same", 1, 2, 3), row("touches", 1, 2, 3), row("apart", 1, 2, 3), row("new", 1), row("failed")}}
	b := &measure.File{Rows: []*measure.Row{row("same", 1, 2, 3), row("touches", 3, 4, 5), row("apart", 4, 5, 6), row("failed", 1)}}
	var said strings.Builder
	compare(a, b, &said)
	if want := "apart: 2 ns [1-3], and 5 ns [4-6]\nthe spreads of 2 of 3 rows overlap\n"; said.String() != want {
		t.Errorf("%q, want %q", said.String(), want)
	}
}

// Each contender of the plan is one that somebody plays, and each that is played is in it.
func TestThePlanHasEachContender(t *testing.T) {
	planned := map[string]bool{}
	for _, c := range cellsOf(plan) {
		planned[c.Contender] = true
	}
	played := map[string]bool{}
	for _, transport := range peers.Transports() {
		played[transport.Name] = true
	}
	for name := range foreign {
		played[name] = true
	}
	for name := range planned {
		if !played[name] {
			t.Errorf("nobody plays %s", name)
		}
	}
	for name := range played {
		if !planned[name] {
			t.Errorf("%s is never measured", name)
		}
	}
	for _, a := range never {
		if planned[a.Contender] {
			t.Errorf("%s is measured, and said not to be", a.Contender)
		}
	}
	t.Logf("%d cells, %d contenders", len(cellsOf(plan)), len(planned))
}

func TestACellIsMeasuredOnce(t *testing.T) {
	all := names(append(cellsOf(plan), cellsOf(rings)...))
	slices.Sort(all)
	if unique := slices.Compact(slices.Clone(all)); len(unique) != len(all) {
		t.Errorf("%d cells have %d names", len(all), len(unique))
	}
}
