package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// makeInput writes files of sizes around what might matter: nothing, a byte, the
// edges of a page, and more than the default ring.
func makeInput(t *testing.T, files int) (dir string, size int64) {
	t.Helper()
	dir = t.TempDir()
	random := rand.New(rand.NewPCG(1, 2))
	sizes := []int{0, 1, 7, 8, 4095, 4096, 4097, 100_000, 1<<20 + 1}
	for i := range files {
		data := make([]byte, 3000)
		if i < len(sizes) {
			data = make([]byte, sizes[i])
		}
		for k := range data {
			data[k] = byte(random.Uint32())
		}
		// A name that is no text: paths are bytes.
		path := filepath.Join(dir, fmt.Sprintf("sub%d", i%3), fmt.Sprintf("\xff%d", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		size += int64(len(data))
	}
	return dir, size
}

// result parses what -json printed, which must be one object and nothing else,
// with the keys in snake_case.
func (r *tandemRun) result() (result report) {
	r.t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(r.stdout.Bytes()))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&result); err != nil {
		r.t.Fatalf("the output is not the JSON object: %v", err)
	}
	if strings.Count(r.stdout.String(), "\n") != 1 || decoder.More() {
		r.t.Errorf("there is more than one JSON object on one line")
	}
	return result
}

func TestDemoLosesNothingThoughBothDieAgainAndAgain(t *testing.T) {
	dir, size := makeInput(t, 200)
	for _, seed := range []string{"1", "2"} {
		r := newTandem(t, "demo", "-json", "-dir", dir, "-kills", "8", "-seed", seed)
		if status := r.run(); status != exitOK {
			t.Fatalf("exit status %d", status)
		}
		have := r.result()
		want := have // what may vary
		want.OK, want.Error, want.Dir, want.Files, want.Messages, want.Bytes = true, "", dir, 200, 200, size
		want.Kills, want.ClientRestarts, want.ServerKills, want.Generations = 8, 9, 1, 2
		want.Lost, want.Duplicated, want.OutOfOrder, want.Mismatched, want.Skipped = 0, 0, 0, 0, 0
		if have != want {
			t.Errorf("have %+v\nwant %+v", have, want)
		}
		if fmt.Sprint(have.Seed) != seed || have.MedianRecovery <= 0 || have.MaxRecovery < have.MedianRecovery ||
			have.ServerRecovery <= 0 || have.MBPerSecond <= 0 || have.Duration <= 0 || have.AnsweredTwice > have.Redelivered {
			t.Errorf("this makes no sense: %+v", have)
		}
		r.expectNothingLeft()
	}
}

func TestDemoSendsFewFilesInRounds(t *testing.T) {
	dir, size := makeInput(t, 3)
	r := newTandem(t, "demo", "-json", "-dir", dir, "-kills", "4")
	if status := r.run(); status != exitOK {
		t.Fatalf("exit status %d", status)
	}
	if have := r.result(); have.Files != 3 || have.Messages != 21 || have.Bytes != 7*size || have.Kills != 4 {
		t.Errorf("have %+v", have)
	}
	r.expectNothingLeft()
}

func TestDemoWithoutKillsStillKillsTheServer(t *testing.T) {
	dir, _ := makeInput(t, 1)
	r := newTandem(t, "demo", "-dir", dir, "-kills", "0")
	if status := r.run(); status != exitOK {
		t.Fatalf("exit status %d", status)
	}
	for _, want := range []string{"1, in 4 messages", "0 of the client, 1 of the server", "seed"} {
		if !strings.Contains(r.stdout.String(), want) {
			t.Errorf("the table does not say %q", want)
		}
	}
	r.expectNothingLeft()
}

// TestDemoFindsPlantedFaults plants each fault that the demo claims to find in
// the client: in the last message of 100, which only the second server sends, so
// that no death is to come that would undo it. What is to be swapped with it is
// the one before: the first server may die before the other half has come.
func TestDemoFindsPlantedFaults(t *testing.T) {
	dir, _ := makeInput(t, 100)
	for _, test := range []struct {
		fault, message string
		wrong          func(report) bool
	}{
		{faultFlip, "99", func(r report) bool { return r.Mismatched == 1 && r.Lost+r.Duplicated+r.OutOfOrder == 0 }},
		{faultLose, "99", func(r report) bool { return r.Lost == 1 && r.Mismatched+r.Duplicated+r.OutOfOrder == 0 }},
		{faultRepeat, "99", func(r report) bool { return r.Duplicated == 1 && r.Mismatched+r.Lost+r.OutOfOrder == 0 }},
		{faultSwap, "98", func(r report) bool { return r.OutOfOrder == 1 && r.Mismatched+r.Lost+r.Duplicated == 0 }},
	} {
		t.Run(test.fault, func(t *testing.T) {
			r := newTandem(t, "demo", "-json", "-dir", dir, "-kills", "1", "-seed", "5")
			r.cmd.Env = append(r.cmd.Env, faultVariable+"="+test.fault+":"+test.message)
			if status := r.run(); status != exitFailed {
				t.Errorf("exit status %d, want %d", status, exitFailed)
			}
			if have := r.result(); have.OK || !test.wrong(have) {
				t.Errorf("have %+v", have)
			}
			r.expectNothingLeft()
		})
	}
}

func TestDemoFailsIfTheClientCannotWork(t *testing.T) {
	dir, _ := makeInput(t, 5)
	r := newTandem(t, "demo", "-json", "-dir", dir, "-kills", "2")
	r.cmd.Env = append(r.cmd.Env, faultVariable+"=nonsense")
	if status := r.run(); status != exitFailed {
		t.Errorf("exit status %d, want %d", status, exitFailed)
	}
	if have := r.result(); have.OK || !strings.Contains(have.Error, "before they have answered anything") {
		t.Errorf("have %+v", have)
	}
	r.expectNothingLeft()
}

func TestDemoRefusesInputThatShowsNothing(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	huge := filepath.Join(base, "huge", "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"empty/sub", "huge"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(huge, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, 1<<30-7); err != nil { // a hole: it takes no space
		t.Skipf("no file of 1 GiB can be made here: %v", err)
	}
	for _, test := range []struct{ dir, want string }{
		{filepath.Join(base, "missing"), "no such file"},
		{file, "is not a directory"},
		{filepath.Join(base, "empty"), "no regular file"},
		{filepath.Dir(huge), huge},
	} {
		r := newTandem(t, "demo", "-json", "-dir", test.dir)
		if status := r.run(); status != exitFailed {
			t.Errorf("%s: exit status %d, want %d", test.dir, status, exitFailed)
		}
		if have := r.result(); have.OK || !strings.Contains(have.Error, test.want) || !strings.Contains(r.stderr.String(), test.want) {
			t.Errorf("%s: have %+v, want %q", test.dir, have, test.want)
		}
		r.expectNothingLeft()
	}
}

func TestDemoSkipsWhatItCannotReadAndSaysSo(t *testing.T) {
	dir, size := makeInput(t, 10)
	// What a link names is not under the directory.
	if err := os.Symlink("/proc/self/net", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, nil, 0o000); err != nil {
		t.Fatal(err)
	}
	files, skips := 10, 1
	if file, err := os.Open(secret); err == nil { // root reads everything
		_ = file.Close()
		files, skips = 11, 0
	}
	r := newTandem(t, "demo", "-json", "-dir", dir, "-kills", "1")
	if status := r.run(); status != exitOK {
		t.Errorf("exit status %d", status)
	}
	have := r.result()
	if have.Files != files || have.Bytes != size || have.Skipped != skips {
		t.Errorf("have %+v, want %d files and %d skipped", have, files, skips)
	}
	if skips > 0 && !strings.Contains(r.stderr.String(), secret) {
		t.Error("what was skipped is not named")
	}
	r.expectNothingLeft()
}

func TestDemoComparesNothingThatHasNoSize(t *testing.T) {
	// These say that they are empty and are not, whoever reads them. The second has
	// pagemap, which goes on for hours.
	for _, dir := range []string{"/proc/self/net", "/proc/self"} {
		r := newTandem(t, "demo", "-json", "-dir", dir, "-kills", "1")
		r.run()
		if have := r.result(); have.Skipped == 0 || have.Mismatched != 0 || !strings.Contains(r.stderr.String(), "skipped: ") {
			t.Errorf("have %+v", have)
		}
		r.expectNothingLeft()
	}
}

// startLong starts a run that would take much longer than the test, and returns
// when its client is at work.
func startLong(t *testing.T) *tandemRun {
	t.Helper()
	dir, _ := makeInput(t, 20)
	r := newTandem(t, "demo", "-json", "-dir", dir, "-kills", "20000")
	r.start()
	until(t, "both processes are there", func() bool { return len(r.leftovers()) == 2 })
	return r
}

func TestAnInterruptedDemoLeavesNothing(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		r := startLong(t)
		r.signal(signal)
		if status, want := r.wait(), 128+int(signal); status != want {
			t.Errorf("%v: exit status %d, want %d", signal, status, want)
		}
		if have := r.result(); have.OK || !strings.Contains(have.Error, "interrupted") {
			t.Errorf("%v: have %+v", signal, have)
		}
		r.expectNothingLeft()
	}
}

func TestTheProcessesOfADeadDemoExit(t *testing.T) {
	r := startLong(t)
	r.signal(syscall.SIGKILL)
	r.wait()
	until(t, "server and client have exited", func() bool { return len(r.leftovers()) == 0 })
}

func TestProgressIsALineEverySecondOffTerminals(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, 10, 3)
	p.show(1, 0, 0)
	if out.Len() > 0 {
		t.Errorf("it speaks at once: %q", out.String())
	}
	p.said = p.said.Add(-time.Second)
	p.show(7, 2, 1)
	p.show(8, 2, 1)
	p.end()
	if have, want := out.String(), "tandem demo: 7 of 10 messages answered, client killed 2/3, server 1/1\n"; have != want {
		t.Errorf("have %q, want %q", have, want)
	}
}
