package model

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// An arc of a drawing: an action leads from one state of what is drawn to another.
type arc struct{ from, to, action string }

// project lays the edges of a graph onto what is drawn. sees gives the arcs of one
// edge, which may be none.
func project[S comparable](g *Graph[S], arcs map[arc]bool, sees func(from, to S, a Action) []arc) {
	for _, e := range g.Edges {
		for _, seen := range sees(g.States[e.From], g.States[e.To], e.Action) {
			arcs[seen] = true
		}
	}
}

// A drawing is one state machine as it is shown.
type drawing struct {
	title, about string
	states       []caption // in their order; others are not drawn
	frame        []string  // those of them that stand for what is around: arcs among them are not drawn
	nothing      string    // the state that is no state: drawn as dots, at the beginning and the end
	arcs         map[arc]bool
	everywhere   []string // actions that are told below and not drawn
}

// A caption says what a state means. It is one state, or all that are named in of.
type caption struct {
	state, means string
	of           []string
}

// grouped puts states together. Of the arcs within a group those are kept that lead
// from a state to itself; arcs with a state that is in no group are left out.
func grouped(arcs map[arc]bool, groups []caption) map[arc]bool {
	group := map[string]string{}
	for _, c := range groups {
		for _, state := range append(c.of, c.state) {
			group[state] = c.state
		}
	}
	all := map[arc]bool{}
	for a := range arcs {
		if from, to := group[a.from], group[a.to]; from != "" && to != "" && (from != to || a.from == a.to) {
			all[arc{from, to, a.action}] = true
		}
	}
	return all
}

func (d *drawing) place(state string) int {
	return slices.IndexFunc(d.states, func(c caption) bool { return c.state == state })
}

// sorted are the arcs that are drawn, in the order of the states; or with
// everywhere those that are not, which may lead to states that are not drawn.
func (d *drawing) sorted(everywhere bool) (all []arc) {
	around := func(state string) bool { return slices.Contains(d.frame, state) }
	for a := range d.arcs {
		if slices.Contains(d.everywhere, a.action) != everywhere || d.place(a.from) < 0 {
			continue
		}
		if everywhere || d.place(a.to) >= 0 && !(around(a.from) && around(a.to)) {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b arc) int {
		return cmp.Or(d.place(a.from)-d.place(b.from), d.place(a.to)-d.place(b.to), strings.Compare(a.action, b.action))
	})
	return all
}

// mermaid is the drawing as GitHub draws it: arcs between the same two states are
// one.
func (d *drawing) mermaid() string {
	var out strings.Builder
	out.WriteString("```mermaid\nstateDiagram-v2\n")
	arcs := d.sorted(false)
	for _, c := range d.states {
		if c.state != d.nothing {
			fmt.Fprintf(&out, "    state \"%s<br/>%s\" as %s\n", c.state, c.means, c.state)
		}
	}
	dot := func(state string) string {
		if state == d.nothing {
			return "[*]"
		}
		return state
	}
	for i := 0; i < len(arcs); {
		a := arcs[i]
		var labels []string
		for ; i < len(arcs) && arcs[i].from == a.from && arcs[i].to == a.to; i++ {
			labels = append(labels, arcs[i].action)
		}
		fmt.Fprintf(&out, "    %s --> %s : %s\n", dot(a.from), dot(a.to), strings.Join(labels, "<br/>"))
	}
	out.WriteString("```\n")
	return out.String()
}

// rest tells the actions that are not drawn because they happen nearly everywhere.
func (d *drawing) rest() string {
	var out strings.Builder
	var told []string // sentences, each with the actions of which it is true
	actions := map[string][]string{}
	for _, action := range d.everywhere {
		from, to := map[string]bool{}, map[string]bool{}
		stays := true
		for _, a := range d.sorted(true) {
			if a.action == action {
				from[a.from], to[a.to] = true, true
				stays = stays && a.from == a.to
			}
		}
		var in, but []string
		for _, c := range d.states {
			if slices.Contains(d.frame, c.state) {
				continue
			}
			if from[c.state] {
				in = append(in, c.state)
			} else {
				but = append(but, c.state)
			}
		}
		sentence := "in every state"
		switch {
		case len(but) > len(in):
			sentence = "in " + strings.Join(in, ", ")
		case len(but) > 0:
			sentence += " but " + strings.Join(but, ", ")
		}
		if !stays {
			sentence += ", to " + strings.Join(sortedNames(to), ", ")
		}
		if len(actions[sentence]) == 0 {
			told = append(told, sentence)
		}
		actions[sentence] = append(actions[sentence], "`"+action+"`")
	}
	for _, sentence := range told {
		fmt.Fprintf(&out, "- Not drawn: %s, %s.\n", strings.Join(actions[sentence], ", "), sentence)
	}
	return out.String()
}

// table names the function of each arc.
func (d *drawing) table(functions map[string]string) string {
	var out strings.Builder
	out.WriteString("| action | leads | function |\n|---|---|---|\n")
	arcs := append(d.sorted(false), d.sorted(true)...)
	var told []string
	for _, a := range arcs {
		if slices.Contains(told, a.action) {
			continue
		}
		told = append(told, a.action)
		leads := "see above"
		if !slices.Contains(d.everywhere, a.action) {
			leads = ""
			for _, b := range arcs {
				if b.action == a.action {
					leads += fmt.Sprintf(", %s → %s", b.from, b.to)
				}
			}
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s |\n", a.action, strings.TrimPrefix(leads, ", "), functions[a.action])
	}
	return out.String()
}

// check makes sure that every arc has a function, and every state of the machine
// a place: a state that is not drawn has no arc, and one that is has some.
func (d *drawing) check(t *testing.T, functions map[string]string) {
	t.Helper()
	drawn := map[string]bool{}
	for _, a := range append(d.sorted(false), d.sorted(true)...) {
		drawn[a.from], drawn[a.to] = true, true
		if functions[a.action] == "" {
			t.Errorf("%s: tla/README.md does not name the function of %s", d.title, a.action)
		}
	}
	for _, c := range d.states {
		if !drawn[c.state] {
			t.Errorf("%s: nothing leads to or from %s", d.title, c.state)
		}
	}
	for _, action := range d.everywhere {
		if !slices.ContainsFunc(d.sorted(true), func(a arc) bool { return a.action == action }) {
			t.Errorf("%s: %s never happens", d.title, action)
		}
	}
}

// text is the section of the page.
func (d *drawing) text(functions map[string]string) string {
	text := "## " + d.title + "\n\n" + d.about + "\n\n" + d.mermaid() + "\n"
	if rest := d.rest(); rest != "" {
		text += rest + "\n"
	}
	return text + d.table(functions)
}

var actionRow = regexp.MustCompile("(?m)^\\| (`[^|]*) \\| ([^|]*) \\| [^|]* \\|$")

// actionFunctions are the functions of ipc that tla/README.md names beside the
// actions of a module.
func actionFunctions(t *testing.T, heading string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../tla/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rows, _ := strings.Cut(string(text), "\n## "+heading+": actions and functions\n")
	rows, _, _ = strings.Cut(rows, "\n## ")
	functions := map[string]string{}
	for _, row := range actionRow.FindAllStringSubmatch(rows, -1) {
		for _, action := range strings.Split(row[1], ", ") {
			functions[strings.Trim(action, "`")] = row[2]
		}
	}
	if len(functions) < 20 {
		t.Fatalf("tla/README.md: only %d actions under %s", len(functions), heading)
	}
	return functions
}
