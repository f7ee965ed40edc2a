package model

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestActionsAreThoseOfTheModules(t *testing.T) {
	for _, m := range []struct {
		path    string
		actions []string
	}{{"../tla/Ring.tla", RingActions()}, {"../tla/Lifecycle.tla", LifecycleActions()}} {
		text, err := os.ReadFile(m.path)
		if err != nil {
			t.Fatal(err)
		}
		_, next, _ := strings.Cut(string(text), "\nNext ==\n")
		next, _, _ = strings.Cut(next, "\n\n")
		for _, name := range m.actions {
			if !strings.Contains(next, " "+name) {
				t.Errorf("%s has no action %s", m.path, name)
			}
		}
		if len(m.actions) < 40 {
			t.Errorf("%s: only %d actions", m.path, len(m.actions))
		}
	}
}

func TestLifecycleGraphHasTheWaysOfALife(t *testing.T) {
	edges, err := LifecycleGraph()
	if err != nil {
		t.Fatal(err)
	}
	for _, edge := range []string{"server: idle -> opened by LockFileOpened", "client: over -> bye by GoodbyeSaid", "connection: watch -> endSeen by EndSeen"} {
		if !slices.Contains(edges, edge) {
			t.Errorf("no edge %s", edge)
		}
	}
	t.Log(len(edges), "edges")
}
