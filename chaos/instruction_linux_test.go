//go:build amd64 || arm64

package chaos

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// shareOf is how long a layer may take that goes through everything if it may: 0
// for all of it.
func shareOf(usual time.Duration) time.Duration {
	if *fullFlag && *budgetFlag == 0 {
		return 0
	}
	return budgetOf(usual/10, usual)
}

// notHere skips what this machine does not permit, but never where everything must
// be checked.
func notHere(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("it cannot be tested on this machine: "+format, args...)
	}
	t.Skipf("NOT TESTED on this machine: "+format, args...)
}

// needTrace is for tests that trace processes.
func needTrace(t *testing.T) {
	t.Helper()
	if err := mayTrace(); err != nil {
		notHere(t, "%v", err)
	}
}

// show prints what a report covered, and refuses one that is not Pass. A machine
// that does not permit what the layer needs skips it, and says so.
func show(t *testing.T, report *Report) {
	t.Helper()
	t.Log(report)
	for _, name := range slices.Sorted(maps.Keys(report.Counts)) {
		t.Logf("%-50s %d", name, report.Counts[name])
	}
	for _, name := range slices.Sorted(maps.Keys(report.Steps)) {
		t.Logf("%-50s %v", name, report.Steps[name])
	}
	for _, note := range report.Notes {
		t.Log(note)
		if strings.HasPrefix(note, "skipped:") {
			notHere(t, "%s: %s", report.Layer, note)
		}
	}
	if report.Verdict != Pass {
		t.Errorf("verdict %v", report.Verdict)
	}
}

// instrumented says that the race detector has put its code between all others.
var instrumented bool

// onlyShipped skips a test of the code as it ships.
func onlyShipped(t *testing.T) {
	if instrumented {
		t.Skip("the race detector's code is not what ships")
	}
}

func TestInstructionsLeaveNoImageWithoutItsStep(t *testing.T) {
	onlyShipped(t)
	show(t, Instructions(context.Background(), InstructionOptions{
		Budget: shareOf(10 * time.Second), Seed: seedOf(t),
	}))
}

func TestInstructionsLeaveOutWhatTheBudgetHasNoRoomFor(t *testing.T) {
	needTrace(t)
	report := Instructions(t.Context(), InstructionOptions{Budget: 1, Seed: 1})
	all, _ := crossingsOf("")
	if report.Verdict != Void || report.Kills != 0 || len(report.Notes) != len(all) {
		t.Errorf("%v, %q", report, report.Notes)
	}
}

func TestInstructionsWithoutABudgetLeaveNothingOut(t *testing.T) {
	c := &crossing{o: operations["send"], length: 3, wanted: 3, crashed: 2}
	for _, o := range []InstructionOptions{{}, {Budget: 1}, {Only: "client/send/1"}} {
		report := NewReport(instructionLayer, 1)
		for _, s := range storeSteps {
			report.Covered(s.String(), "sound")
		}
		summarize(report, []*crossing{c}, o)
		if failed := report.Failed > 0; failed != (o.Budget == 0) {
			t.Errorf("%+v: %v", o, report)
		}
	}
}

// otherStoreSteps are the stores of other operations, which layer 1 dies at.
var otherStoreSteps = []step.ID{step.Disarmed, step.Beaten, step.GoodbyeSaid}

// Which steps are stores to shared memory stands in the table of the steps.
func TestStoreStepsAreThoseOfTheProtocol(t *testing.T) {
	protocol, err := os.ReadFile("../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, s := range append(storeSteps, otherStoreSteps...) {
		known[s.String()] = true
	}
	word := regexp.MustCompile("^(payload|header|its waiting word|`(writePos|readPos|deliveredPos|dataWaitFor|spaceWaitFor|beat|attachment|goodbye)`)")
	for line := range strings.Lines(string(protocol)) {
		column := strings.Split(line, " | ")
		if len(column) < 5 {
			continue
		}
		name := strings.TrimPrefix(column[0], "| ")
		if slices.ContainsFunc(step.All(), func(s step.ID) bool { return s.String() == name }) && word.MatchString(column[2]) != known[name] {
			t.Errorf("%s stores %q, which is said here to be a store: %t", name, column[2], known[name])
		}
		delete(known, name)
	}
	if len(known) > 0 {
		t.Errorf("in no row: %v", known)
	}
}

// ownWord returns how to store a word of the victim's control page behind the
// back of package ipc.
func (v *victim) ownWord(offset int) (store func(uint64) error, err error) {
	content, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(content)) {
		if !strings.Contains(line, " rw-s 00000000 ") || !strings.Contains(line, "/memfd:tandem-"+v.role.String()) {
			continue
		}
		var start int64
		if _, err := fmt.Sscanf(line, "%x-", &start); err != nil {
			return nil, err
		}
		memory, err := unix.Open("/proc/self/mem", unix.O_RDWR|unix.O_CLOEXEC, 0)
		return func(value uint64) error {
			_, err := unix.Pwrite(memory, binary.LittleEndian.AppendUint64(nil, value), start+int64(offset))
			return err
		}, err
	}
	return nil, fmt.Errorf("no memory of the %v's own", v.role)
}

var (
	plantedGoodbye  func(uint64) error
	plantedWritePos func(uint64) error
)

var (
	_ = operationNamed(operation{name: "planted: a store without a step", planted: true, victims: both, sends: []int{wordMessage},
		prepare: func(v *victim) (err error) {
			plantedGoodbye, err = v.ownWord(offsetGoodbye)
			return err
		},
		run: func(v *victim) error {
			for _, value := range []uint64{99, 0} {
				if err := plantedGoodbye(value); err != nil {
					return err
				}
			}
			return v.sendComposed()
		}})
	_ = operationNamed(operation{name: "planted: publish before fill", planted: true, victims: both, sends: []int{wordMessage},
		prepare: func(v *victim) (err error) {
			plantedWritePos, err = v.ownWord(offsetWritePos)
			return err
		},
		run: func(v *victim) error {
			if err := plantedWritePos(3 * recordSize(wordMessage)); err != nil {
				return err
			}
			return v.sendComposed()
		}})
	_ = operationNamed(operation{name: "planted: a return before the commit", planted: true, victims: both, sends: []int{wordMessage},
		run: func(*victim) error { return nil }})
)

func TestInstructionsFindAPlantedBug(t *testing.T) {
	onlyShipped(t)
	needTrace(t)
	for name, contract := range map[string]string{
		"planted: a store without a step":     "steps",
		"planted: publish before fill":        "M4 NoTear",
		"planted: a return before the commit": "M1 NoLoss",
	} {
		for _, role := range both {
			report := NewReport(instructionLayer, 1)
			c := &crossing{o: operations[name], role: role, report: report, random: rand.New(rand.NewPCG(1, 1)), deadline: time.Now()}
			onThread(func() { c.run(context.Background()) })
			if !slices.ContainsFunc(report.Failures, func(f Failure) bool { return f.Contract == contract }) {
				t.Errorf("%v, %s: want a failure of %q, have %v", role, name, contract, report)
			}
		}
	}
}

func TestOffsetsAreThoseOfTheProtocol(t *testing.T) {
	protocol, err := os.ReadFile("../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, offset := range map[string]int{
		"ringSize": offsetRingSize, "writePos": offsetWritePos, "readPos": offsetReadPos, "deliveredPos": offsetDeliveredPos,
		"dataWaitFor": offsetDataWaitFor, "spaceWaitFor": offsetSpaceWaitFor, "beat": offsetBeat,
		"attachment": offsetAttachment, "goodbye": offsetGoodbye,
	} {
		if row := fmt.Sprintf("| 0x%03x | %s |", offset, name); !strings.Contains(string(protocol), row) {
			t.Errorf("docs/PROTOCOL.md has no row %q", row)
		}
	}
}

func TestAVisibleImageHasOnlyWhatIsCommitted(t *testing.T) {
	const page = 4096
	raw := make([]byte, page+64)
	binary.LittleEndian.PutUint64(raw[offsetRingSize:], 64)
	binary.LittleEndian.PutUint64(raw[offsetWritePos:], 80) // from 48 over the end to 80: bytes 48-63 and 0-15
	for i := range 64 {
		raw[page+i] = 1
	}
	seen := image(raw).visible(48)
	for i := range 64 {
		want := byte(0)
		if i < 16 || i >= 48 {
			want = 1
		}
		if seen[page+i] != want {
			t.Fatalf("byte %d of the ring is %d, want %d", i, seen[page+i], want)
		}
	}
	if string(seen[:page]) != string(raw[:page]) {
		t.Error("the control page was touched")
	}
}
