package page

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	m "github.com/tandem-ipc/tandem/internal/measure"
)

const root = "../../.."

// The page, and the README's numbers, are what the generator makes of the last committed
// result file.
func TestThePageIsMadeOfTheResultFile(t *testing.T) {
	path, err := LastResult(root)
	if errors.Is(err, ErrNoResult) {
		if _, err := os.Stat(filepath.Join(root, Path)); err == nil {
			t.Fatalf("there is a page, and no result file that it could be made of")
		}
		t.Skip(err)
	}
	f, err := m.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := Render(f, results+"/"+filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	same(t, filepath.Join(root, Path), text)
	readme, err := Readme(root, f)
	if err != nil {
		t.Fatal(err)
	}
	same(t, filepath.Join(root, "README.md"), readme)
	w := &writer{File: f}
	for _, p := range w.pictures() {
		for _, kind := range []string{".svg", ".png"} {
			_, err := os.Stat(filepath.Join(root, Pictures, p.name+kind))
			if missing := err != nil; missing != p.empty() {
				t.Errorf("%s%s: missing %v, without figures %v", p.name, kind, missing, p.empty())
			}
		}
	}
}

func same(t *testing.T, path string, want []byte) {
	t.Helper()
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(have, want) {
		return
	}
	haveLines, wantLines := strings.Split(string(have), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(haveLines), len(wantLines)) {
		if haveLines[i] != wantLines[i] {
			t.Fatalf("%s:%d is\n%s\nbut the result file makes\n%s\nRun go run ./bench -report", path, i+1, haveLines[i], wantLines[i])
		}
	}
	t.Fatalf("%s has %d lines, and the result file makes %d. Run go run ./bench -report", path, len(haveLines), len(wantLines))
}

// sample is a result file with a figure in each of its parts.
func sample(ns float64) *m.File {
	h := m.Percentiles{P50: 500, P90: 600, P99: 700, P999: 800, Max: 900}
	row := func(contender, work, form, wait string, size int, ns float64) *m.Row {
		c := m.Cell{Contender: contender, Work: work, Form: form, Wait: wait, Place: m.Apart, Size: size, InFlight: 1}
		return &m.Row{Cell: c, Name: c.Name(), Nanos: []float64{ns, ns * 1.1, ns * 0.9}, Floors: []float64{100, 100, 100}, Percentiles: h, Version: "v1", Settings: "as it is"}
	}
	wrong := row("boost", m.RoundTrip, m.Copy, m.Spin, 64, 10)
	wrong.Wrong = 3
	return &m.File{
		Rounds: 3, Machine: m.Machine{CPU: "a processor", Processors: 2}, Floors: []float64{100, 110},
		Rows: []*m.Row{
			row("tandem", m.RoundTrip, m.Copy, m.Spin, 64, ns), row("tandem", m.RoundTrip, m.Copy, m.Spin, 4096, 2*ns), row("spsc", m.RoundTrip, m.Copy, m.Spin, 64, ns/2), wrong,
		},
		Deaths: []*m.DeathRow{{Name: "tandem / death of the client", Contender: "tandem", Victim: "client", Told: []int64{1000, 3000, 2000}, Answered: []int64{5000, 6000, 7000}}},
		Losses: []*m.LossRow{{Name: "loss", Contender: "tandem", Form: m.View, Kills: 2, Sent: 1234, Again: 1}},
		Idle:   []*m.IdleRow{{Name: "idle", Contender: "tandem", Wait: m.Default, CPU: 0.5}},
		Calls:  []*m.CallRow{{Name: "tandem / roundtrip / 64 B / copy / spin / apart", Calls: 1.5}},
		Scale:  []*m.ScaleRow{{Name: "s", Contender: "tandem", Pairs: 10, Memory: 20 << 20}},
		Absent: []m.Absent{{Contender: "mangos", Why: "its module could not be downloaded"}},
	}
}

func TestAnotherFigureMakesAnotherPage(t *testing.T) {
	one, err := Render(sample(250), "r.json")
	if err != nil {
		t.Fatal(err)
	}
	other, err := Render(sample(251), "r.json")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(one, other) {
		t.Error("the page does not depend on a figure")
	}
	for _, want := range []string{
		"takes 250 ns (row `tandem / roundtrip / 64 B / copy / spin / apart`)", "2.50 times the floor",
		"| **tandem / copy / spin** | 250 ns [225ns-275ns]; 2.50 x | 500 ns [450ns-550ns]; 5.00 x |",
		"spsc / copy 125 ns (2.00 x)", "WRONG: 3 messages wrong, 0 missing", "median 2.00 us, at most 3.00 us, 3 kills (row `tandem / death of the client`)",
		"0 of 1234 messages in 2 kills", "mangos | its module could not be downloaded", "| **tandem** | 10 |",
	} {
		if !strings.Contains(string(one), want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if text := string(one); strings.Contains(text, "| boost / copy / spin | 10") || !strings.Contains(text, "| boost / copy / spin | WRONG |") {
		t.Error("a contender that spoils messages has a figure, or is not shown as wrong")
	}
}

// In prose a figure comes from a row only: no number with a unit is written by hand.
func TestProseHasNoFigureOfItsOwn(t *testing.T) {
	written := regexp.MustCompile(`\d ?(ns|us|ms|M/s|GB/s|x)\b|\d times`)
	allowed := regexp.MustCompile(`200 us pass`) // a setting
	for name, text := range map[string]string{"page": pageTemplate, "README": readmeTemplate} {
		prose := regexp.MustCompile(`(?s)\{\{.*?\}\}`).ReplaceAllString(text, "")
		for i, line := range strings.Split(prose, "\n") {
			if found := written.FindString(allowed.ReplaceAllString(line, "")); found != "" {
				t.Errorf("%s, line %d: %q is written by hand", name, i+1, found)
			}
		}
	}
	if !written.MatchString("it takes 12.9 ns") {
		t.Error("the check is blind")
	}
}

func TestAReadmeWithoutAPlaceIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte("# none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Readme(dir, sample(250)); err == nil {
		t.Error("it was written")
	}
	if _, err := LastResult(dir); !errors.Is(err, ErrNoResult) {
		t.Errorf("the last of no results: %v", err)
	}
}

func TestPicturesAreDrawnOfWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	if err := Draw(sample(250), dir); err != nil {
		t.Fatal(err)
	}
	drawn, _ := filepath.Glob(dir + "/*.svg")
	if len(drawn) < 3 {
		t.Errorf("drawn: %v", drawn)
	}
}

// RowsOf are the names of rows in a template: see the test of the plan.
func TestEachRowOfTheTemplatesHasAName(t *testing.T) {
	if names := RowsOfTemplates(); len(names) < 20 {
		t.Errorf("the templates name %d rows: %q", len(names), names)
	}
}
