//go:build amd64 || arm64

package chaos

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// runLine runs a line that a failure has printed, with this binary for what go
// test would build.
func runLine(t *testing.T, line string) (output string, err error) {
	t.Helper()
	arguments, found := strings.CutPrefix(line, "go test ./chaos -run ")
	if !found {
		t.Fatalf("%q does not run a test of this package", line)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(watched(t), "sh", "-c", "exec '"+binary+"' -test.v -test.run "+arguments)
	text, err := command.CombinedOutput()
	return string(text), err
}

func TestALinePlaysOneCaseAgain(t *testing.T) {
	cases := map[string]string{
		"enumerator": "client:send/client@5",
		"forked":     "frozen-and-killed,client:send/client@5",
	}
	if mayTrace() == nil && !instrumented {
		cases[instructionLayer] = "client/send large/100"
		cases[boundaryLayer] = "server/40"
		cases[errnoLayer] = "client/socket/1/EMFILE"
	}
	for layer, coordinate := range cases {
		output, err := runLine(t, playAgain(layer, coordinate))
		if err != nil || !strings.Contains(output, layer+": pass; ") {
			t.Errorf("%s, %s: %v\n%s", layer, coordinate, err, output)
		}
	}
}

func TestALineShowsItsFailureAgain(t *testing.T) {
	onlyShipped(t)
	needTrace(t)
	report := NewReport(instructionLayer, 1)
	c := &crossing{o: operations["planted: publish before fill"], role: both[0], report: report, random: rand.New(rand.NewPCG(1, 1)), deadline: time.Now()}
	onThread(func() { c.run(context.Background()) })
	if report.Failed == 0 {
		t.Fatal("what is planted was not found")
	}
	for _, f := range []Failure{report.Failures[0], report.Failures[len(report.Failures)-1]} {
		output, err := runLine(t, f.Reproduce)
		if err == nil || !strings.Contains(output, f.Contract+": "+f.What) {
			t.Errorf("%s: %v\nwant %s\nhave %s", f.Reproduce, err, f.What, output)
		}
	}
}
