package main

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tandem-ipc/tandem/internal/plant"
)

var planted = flag.Bool("planted", false, "measure planted losses; it wants a quiet machine, and takes minutes")

// The guard passes the tree against itself, and finds losses that are planted in it.
func TestAPlantedLossIsFound(t *testing.T) {
	if !*planted {
		t.Skip("it takes minutes: -planted")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	send := func(work string) []plant.Edit {
		const before = "\ti := p.ring.index(pos)\n\tcopy(p.ring.mem[i+headerSize:], data)\n"
		return []plant.Edit{{File: "send.go", Old: before, New: before + work}}
	}
	for _, bug := range []struct {
		plant.Bug
		want Verdict
		row  string
	}{
		{plant.Bug{Name: "nothing"}, Pass, ""},
		{plant.Bug{Name: "Send does more work", Edits: send("\tfor range 600 {\n\t\tp.own.writePos.Load()\n\t}\n")}, Fail, "RoundTrip/spinning"},
		{plant.Bug{Name: "Send copies twice", Edits: send("\tcopy(p.ring.mem[i+headerSize:], data)\n")}, Fail, "OneWay/64KiB/into"},
	} {
		t.Run(bug.Name, func(t *testing.T) {
			w := newTestWork(t, t.Context())
			files, err := bug.Alone(filepath.Join(root, "ipc"))
			if err != nil {
				t.Fatal(err)
			}
			replace := map[string]string{}
			for name, text := range maps.All(files) {
				replace[name] = filepath.Join(w.directory, filepath.Base(name))
				if err := os.WriteFile(replace[name], []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			verdict, why, err := w.compare(pinned(t), source{tree: root}, source{tree: root, planted: replace})
			switch {
			case err != nil:
				t.Fatal(err)
			case verdict == Void:
				t.Errorf("the machine is too busy to show it: %s", why)
			case verdict != bug.want || !strings.Contains(why, bug.row):
				t.Errorf("%s: %s, want %s with %q", verdict, why, bug.want, bug.row)
			}
		})
	}
}
