package model

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// A judged state also has what each server has said last of a client.
type judged struct {
	state LifecycleState
	last  [maxServers]fate
}

// judging is the machine with that memory: how the last client has ended is
// nowhere in the state, and a server's view of its client has it.
func judging(config LifecycleConfig) Machine[judged] {
	m, machine := newLifecycle(config), Lifecycle(config)
	return Machine[judged]{
		Init:    []judged{{state: machine.Init[0]}},
		Actions: func(x judged) []Action { return machine.Actions(x.state) },
		Next: func(x judged, a Action) judged {
			before := x.state
			x.state = machine.Next(x.state, a)
			for i, s := range m.servers {
				if !x.state.serves(s) {
					x.last[i] = fNone
				} else if cur := before.server(s).cur; cur != 0 && x.state.server(s).cur == 0 {
					if says, told := m.verdict(&before, s, cur); told {
						x.last[i] = says
					}
				}
			}
			return x
		},
		Text: func(x judged) string { return machine.Text(x.state) },
	}
}

// of is a server's view of its client, as docs/PROTOCOL.md names it; empty where
// there is no server that has one.
func (x judged) of(s process) string {
	r := x.state.server(s)
	switch {
	case r.pc != sServing:
		return ""
	case r.cur == 0 && x.last[s-1] == fNone:
		return "absent"
	case r.cur == 0:
		return x.last[s-1].String()
	case r.hung:
		return "hung"
	case r.ready:
		return "attached"
	}
	return "granted"
}

// ofServer is a client's view of its server.
func (x judged) ofServer(c process) string {
	switch r := x.state.client(c); {
	case r.pc == cConnected || r.pc == cHello || r.pc == cGranted || r.pc == cMapped || r.pc == cStored:
		return "absent"
	case r.pc != cAttached && r.pc != cEndSeen:
		return ""
	case r.hung:
		return "hung"
	}
	return "attached"
}

// viewDrawings are the pictures of what each side says of the other.
func viewDrawings(t *testing.T) (ofClient, ofServer *drawing) {
	t.Helper()
	ofClient = &drawing{title: "The server's view of its client", about: aboutClientSeen, states: seenStates, arcs: map[arc]bool{}}
	ofServer = &drawing{title: "The client's view of its server", about: aboutServerSeen, arcs: map[arc]bool{}}
	ofServer.states = slices.DeleteFunc(slices.Clone(seenStates), func(c caption) bool { return c.state == "granted" })
	one := LifecycleConfig{Servers: 1, Clients: 1, MaxConn: 1, MaxGen: 1, HangTicks: 1}
	clients, servers, pairDies, pairStops := one, one, one, one
	clients.KillsC, clients.ClosesC, clients.Freezes, clients.FreezeWho, clients.KillHung = 1, 1, 1, []string{"c1"}, true
	servers.KillsS, servers.ClosesS, servers.Freezes, servers.FreezeWho, servers.MaxGen = 1, 1, 1, []string{"s1"}, 2
	pairDies.Clients, pairDies.MaxConn, pairDies.KillsC = 2, 2, 1
	pairStops.Clients, pairStops.MaxConn, pairStops.ClosesC, pairStops.Freezes, pairStops.FreezeWho, pairStops.KillHung = 2, 2, 1, 1, []string{"c1"}, true
	for _, config := range append(checked(t), clients, servers, pairDies, pairStops) {
		m := newLifecycle(config)
		g, err := Explore(judging(config), Options{})
		if err != nil {
			t.Fatal(err)
		}
		project(g, ofClient.arcs, func(from, to judged, a Action) (arcs []arc) {
			for _, s := range m.servers {
				if p, q := from.of(s), to.of(s); p != "" && q != "" && p != q {
					arcs = append(arcs, arc{p, q, a.Name})
				}
			}
			return arcs
		})
		project(g, ofServer.arcs, func(from, to judged, a Action) (arcs []arc) {
			for _, c := range m.clients {
				p, q := from.ofServer(c), to.ofServer(c)
				if to.state.client(c).pc == cOver && from.state.client(c).pc == cEndSeen {
					says, _ := m.verdictOfServer(&from.state, c)
					q = says.String()
				}
				if p != "" && q != "" && p != q {
					arcs = append(arcs, arc{p, q, a.Name})
				}
			}
			return arcs
		})
	}
	return ofClient, ofServer
}

// documented are the edges of a table of docs/PROTOCOL.md, without their actions.
func documented(t *testing.T, heading string) map[arc]bool {
	t.Helper()
	text, err := os.ReadFile("../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n### "+heading+"\n\n| from | to | when |")
	rest, _, _ = strings.Cut(rest, "\n\n")
	edges := map[arc]bool{}
	for row := range strings.Lines(rest) {
		cells := strings.Split(row, "|")
		if len(cells) < 6 || strings.HasPrefix(cells[1], "---") {
			continue
		}
		for _, from := range strings.Split(cells[1], ",") {
			edges[arc{from: strings.TrimSpace(from), to: strings.TrimSpace(cells[2])}] = true
		}
	}
	if len(edges) < 5 {
		t.Fatalf("docs/PROTOCOL.md: %d edges under %s", len(edges), heading)
	}
	return edges
}

// differences lists the edges that only one of the two has.
func differences(document, model map[arc]bool) (all []string) {
	for a := range document {
		if !model[a] {
			all = append(all, fmt.Sprintf("only the document leads from %s to %s", a.from, a.to))
		}
	}
	for a := range model {
		if !document[a] {
			all = append(all, fmt.Sprintf("only the model leads from %s to %s", a.from, a.to))
		}
	}
	slices.Sort(all)
	return all
}

// TestProtocolHasTheModelsViews compares the two tables of docs/PROTOCOL.md with
// what the model does.
func TestProtocolHasTheModelsViews(t *testing.T) {
	ofClient, ofServer := viewDrawings(t)
	for _, d := range []*drawing{ofClient, ofServer} {
		document, model := documented(t, d.title), map[arc]bool{}
		for a := range d.arcs {
			model[arc{from: a.from, to: a.to}] = true
		}
		if got := differences(document, model); len(got) != 0 {
			t.Errorf("%s: %q", d.title, got)
		}
		planted := arc{from: "attached", to: "granted"}
		document[planted] = true
		delete(document, arc{from: "hung", to: "attached"})
		got := differences(document, model)
		for _, difference := range []string{"only the document leads from attached to granted", "only the model leads from hung to attached"} {
			if !slices.Contains(got, difference) {
				t.Errorf("%s: not noticed: %s", d.title, difference)
			}
		}
	}
}
