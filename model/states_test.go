package model

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/STATES.md")

const statesHead = `# The state machines

Drawn from the model and not by hand: ` + "`go test ./model -run States`" + ` explores the machines of ` + "`model/`" + `, which equal the
specification state by state, lays every edge onto what is drawn, and compares the result with this page (` + "`-update`" + ` writes it). So what
is neither drawn nor told below a picture does not happen.

An edge is an action of the specification, and nearly always a system call. [PROTOCOL.md](PROTOCOL.md) says what each step does, and what
is true if its process dies just behind it; the tables here name the Go function of each. The dots stand for no process, no connection or no
call, which the tables call ` + "`idle`" + ` and ` + "`free`" + `: there everything begins, and ends. ` + "`P`" + ` is the path, ` + "`P.lock`" + ` the lock file, whose byte 0
is the server's, ` + "`P.token`" + ` the token file of the latest attachment: byte 0 of that is the token, the client's, byte 1 its server's.

`

// TestStatesAreDrawnAsTheyAre generates docs/STATES.md and compares.
func TestStatesAreDrawnAsTheyAre(t *testing.T) {
	const path = "../docs/STATES.md"
	if underRace {
		t.Skip("one goroutine")
	}
	page := statesHead
	ofClient, ofServer := viewDrawings(t)
	draw := func(functions map[string]string, drawings ...*drawing) {
		for _, d := range drawings {
			d.check(t, functions)
			page += d.text(functions) + "\n"
		}
	}
	draw(actionFunctions(t, "Life cycle"), append(lifeDrawings(t), ofClient, ofServer)...)
	draw(actionFunctions(t, "Ring"), ringDrawings(t)...)
	page = strings.TrimRight(page, "\n") + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	there, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if line := firstDifference(page, string(there)); line > 0 {
		t.Errorf("docs/STATES.md:%d is not what the model draws; go test ./model -run States -update writes it", line)
	}
	if page = strings.Replace(page, "GrantSent", "TokenTaken", 1); firstDifference(page, string(there)) == 0 {
		t.Error("another action at an edge is not noticed")
	}
}

// firstDifference is the number of the first line that is not the same, or 0.
func firstDifference(a, b string) int {
	if a == b {
		return 0
	}
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	i := 0
	for i < min(len(x), len(y)) && x[i] == y[i] {
		i++
	}
	return i + 1
}

// lifeDrawings are the pictures of the life cycle.
func lifeDrawings(t *testing.T) []*drawing {
	t.Helper()
	server, client, conn := map[arc]bool{}, map[arc]bool{}, map[arc]bool{}
	for _, config := range drawn(t) {
		m := newLifecycle(config)
		g, err := Explore(Lifecycle(config), Options{Invariants: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		project(g, server, func(from, to LifecycleState, a Action) (arcs []arc) {
			for _, s := range m.servers {
				if p, q := from.server(s).pc, to.server(s).pc; p != q || strings.HasPrefix(a.Args, s.String()) {
					arcs = append(arcs, arc{p.String(), q.String(), a.Name})
				}
			}
			return arcs
		})
		project(g, client, func(from, to LifecycleState, a Action) (arcs []arc) {
			for _, c := range m.clients {
				if p, q := from.client(c).pc, to.client(c).pc; p != q || strings.HasPrefix(a.Args, c.String()) {
					arcs = append(arcs, arc{p.String(), q.String(), a.Name})
				}
			}
			return arcs
		})
		project(g, conn, func(from, to LifecycleState, a Action) (arcs []arc) {
			for k := range m.MaxConn {
				if p, q := from.conn[k].st, to.conn[k].st; p != q {
					arcs = append(arcs, arc{p.String(), q.String(), a.Name})
				}
			}
			return arcs
		})
	}
	signals := []string{"KillServer", "Freeze", "Thaw"}
	kills := []string{"KillClient", "OrphanKilled", "ClientKilled", "HungClientKilled", "Freeze", "Thaw", "TokenCopied"}
	return []*drawing{
		{title: "A server", about: aboutServer, nothing: "idle", states: serverGroups, arcs: grouped(server, serverGroups), everywhere: []string{"Freeze", "Thaw", "ServerByteCopied"}},
		{title: "Listen", about: aboutListen, nothing: "idle", states: listenStates, arcs: server, frame: []string{"idle", "serving"}, everywhere: signals},
		{title: "Close of a server", about: aboutClose, nothing: "idle", states: closeStates, arcs: server, frame: []string{"idle", "serving"}, everywhere: signals},
		{title: "A client", about: aboutClient, nothing: "idle", states: clientGroups, arcs: grouped(client, clientGroups), everywhere: []string{"Freeze", "Thaw", "TokenCopied"}},
		{title: "Dial, and Close of a client", about: aboutDial, nothing: "idle", states: clientStates, arcs: client, frame: []string{"idle"}, everywhere: kills},
		{title: "A connection, at its server", about: aboutConn, nothing: "free", states: connStates, arcs: grouped(conn, connStates),
			frame: []string{"free"}, everywhere: []string{"KernelClosesListener", "KernelClosesSocket"}},
	}
}

// drawn are the configurations that are explored for the pictures. Together they
// have every edge: with -everything more are explored, and must add none.
func drawn(t *testing.T) []LifecycleConfig {
	t.Helper()
	one := LifecycleConfig{Servers: 1, Clients: 1, MaxConn: 1, MaxGen: 1, HangTicks: 1}
	dies, stops, leaves, closes, killed, orphan := one, one, one, one, one, one
	dies.KillsS, dies.ClosesS, dies.Deletions = 1, 1, 1
	stops.Freezes, stops.FreezeWho, stops.ClosesS, stops.Deletions = 1, []string{"s1"}, 1, 1
	leaves.KillsC, leaves.ClosesC, leaves.KillsS = 1, 1, 1
	closes.Freezes, closes.FreezeWho, closes.ClosesS, closes.ClosesC, closes.KillHung = 1, []string{"c1"}, 1, 1, true
	killed.Freezes, killed.FreezeWho, killed.ClosesS, killed.ClosesC, killed.KillOnClose = 1, []string{"c1"}, 1, 1, true
	orphan.Servers, orphan.MaxGen, orphan.Freezes, orphan.FreezeWho, orphan.KillsS, orphan.KillOrphan = 2, 2, 1, []string{"c1"}, 1, true
	two, pair := one, one
	two.Servers, two.MaxGen, two.Deletions = 2, 2, 1
	pair.Clients, pair.MaxConn, pair.KillsS, pair.ClosesC = 2, 2, 1, 1
	expels := pair
	expels.ClosesC, expels.Expels = 0, 1
	beside, copied, kept := two, one, one // two Listens at once; other processes with descriptors
	beside.TokenDeletions = 1
	copied.KillsS, copied.ClosesC, copied.Copies = 1, 1, 1
	kept.ClosesC, kept.Formers = 1, 1
	return append(checked(t), dies, stops, leaves, closes, killed, orphan, two, pair, expels, beside, copied, kept)
}

// checked are with -everything the configurations that the checker goes through
// on every commit, and else none.
func checked(t *testing.T) (all []LifecycleConfig) {
	t.Helper()
	for _, s := range settings(t, "lifecycle") {
		if *everything && s.Kind == "holds" && s.Tier == "ci" && s.Name != "lifecycle_masked_NoRecheck" {
			all = append(all, lifecycleConfig(t, s))
		}
	}
	return all
}
