package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A heat is how often somebody died where, with which outcome: a table whose
// columns are the outcomes of each layer.
type heat struct {
	Layers   []heatLayer
	Outcomes []outcome
	Groups   []heatGroup
}

type heatLayer struct {
	Name string
	Span int
}

type outcome struct {
	Layer, Name string
	Bad         bool
}

type heatGroup struct {
	Name string
	Rows []heatRow
}

type heatRow struct {
	Name  string
	Total int
	Cells []heatCell
}

type heatCell struct {
	Count       int
	Class, Hint string
}

func (h *heat) size() (rows int) {
	for _, g := range h.Groups {
		rows += len(g.Rows)
	}
	return rows
}

// badWords are those by which a layer calls an outcome that breaks a promise.
var badWords = []string{"fail", "broken", "stuck", "lost"}

func isBad(outcome string) bool {
	return slices.ContainsFunc(badWords, func(word string) bool { return strings.Contains(outcome, word) })
}

// stepGroups are the parts of the protocol, each with its first step, in the
// order of package step.
var stepGroups = []struct {
	first step.ID
	name  string
}{
	{step.Claimed, "ring, sending"}, {step.Peeked, "ring, receiving"}, {step.DataArmed, "doorbell"}, {step.Beaten, "heartbeat"},
	{step.ListenBegun, "Listen"}, {step.ConnectionAccepted, "admission, at the server"}, {step.EndSeen, "end of a client, at the server"},
	{step.DialBegun, "Dial"}, {step.CloseBegun, "Close"},
}

// stepHeat has a row for each step of the protocol, also for one that was never
// reached.
func (r *chaosRun) stepHeat() *heat {
	var groups []heatGroup
	for _, id := range step.All() {
		if n := len(groups); n < len(stepGroups) && stepGroups[n].first <= id {
			groups = append(groups, heatGroup{Name: stepGroups[n].name})
		}
		last := &groups[len(groups)-1]
		last.Rows = append(last.Rows, heatRow{Name: id.String()})
	}
	return r.heat(groups)
}

// otherHeat has a row for everything else that a layer calls a step, by layer.
// It is nil if there is nothing.
func (r *chaosRun) otherHeat() *heat {
	steps := map[string]bool{}
	for _, id := range step.All() {
		steps[id.String()] = true
	}
	var groups []heatGroup
	for _, l := range r.Layers {
		g := heatGroup{Name: l.Name}
		for _, name := range slices.Sorted(maps.Keys(l.Report.Steps)) {
			if !steps[name] {
				g.Rows = append(g.Rows, heatRow{Name: name})
				steps[name] = true
			}
		}
		if len(g.Rows) > 0 {
			groups = append(groups, g)
		}
	}
	if groups == nil {
		return nil
	}
	return r.heat(groups)
}

// heat fills in the columns of those layers that have anything for the rows.
func (r *chaosRun) heat(groups []heatGroup) *heat {
	h := &heat{Groups: groups}
	columns := map[outcome]bool{}
	for _, l := range r.Layers {
		for _, g := range groups {
			for _, row := range g.Rows {
				for name := range l.Report.Steps[row.Name] {
					columns[outcome{l.Name, name, isBad(name)}] = true
				}
			}
		}
		before := len(h.Outcomes)
		for c := range columns {
			if c.Layer == l.Name {
				h.Outcomes = append(h.Outcomes, c)
			}
		}
		if own := h.Outcomes[before:]; len(own) > 0 {
			slices.SortFunc(own, func(a, b outcome) int { return strings.Compare(a.Name, b.Name) })
			h.Layers = append(h.Layers, heatLayer{l.Name, len(own)})
		}
	}
	reports := map[string]map[string]map[string]int{}
	for _, l := range r.Layers {
		reports[l.Name] = l.Report.Steps
	}
	for g := range groups {
		for i := range groups[g].Rows {
			row := &groups[g].Rows[i]
			for _, c := range h.Outcomes {
				n := reports[c.Layer][row.Name][c.Name]
				row.Total += n
				row.Cells = append(row.Cells, heatCell{n, heatClass(n, c.Bad), fmt.Sprintf("%s, %s: %s, %d", row.Name, c.Layer, c.Name, n)})
			}
		}
	}
	return h
}

// heatClass is the colour of a field: darker with each power of ten.
func heatClass(count int, bad bool) string {
	switch {
	case count == 0:
		return ""
	case bad:
		return "bad"
	}
	return fmt.Sprintf("h%d", min(len(fmt.Sprint(count)), 6))
}
