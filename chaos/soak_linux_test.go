//go:build amd64 || arm64

package chaos

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

var (
	soakFlag       = flag.Duration("soak", 0, "how long a pair is under load and faults, to see what grows; 0 is not at all")
	soakOutFlag    = flag.String("soak.out", "", "where a soak leaves its table and its plot; a directory of the test's own if empty")
	soakSampleFlag = flag.Duration("soak.sample", 10*time.Second, "the time between two samples of a soak")
)

// A soaked pair is a resident, which lives as long as the soak, and a mortal, which is
// killed and frozen and comes again.
type soaked struct {
	side             string // of the resident
	path             string
	resident, mortal *process
	mortalArgument   soakArgument
	kills, freezes   atomic.Int64
	silent           int // samples in a row in which nothing came back
}

// TestSoak has two pairs under load: a server whose clients die, and a client whose
// servers die. It samples both that stay, and refuses what grows.
//
//	go test ./chaos -run 'TestSoak$' -soak 1h -soak.out DIR -timeout 2h
func TestSoak(t *testing.T) {
	if *soakFlag == 0 {
		t.Skip("it takes as long as -soak says")
	}
	out := *soakOutFlag
	if out == "" {
		out = t.TempDir()
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *soakFlag+4*watchdog)
	defer cancel()
	pairs := []*soaked{startSoaked(t, ctx, ipc.RoleServer), startSoaked(t, ctx, ipc.RoleClient)}
	faults, stop := context.WithTimeout(ctx, *soakFlag)
	defer stop()
	var trouble sync.WaitGroup
	seed := seedOf(t)
	for i, p := range pairs {
		trouble.Add(1)
		go func() {
			defer trouble.Done()
			p.harm(t, faults, rand.New(rand.NewPCG(seed, uint64(i))))
		}()
	}
	var samples []soakSample
	begin := time.Now()
	ticker := time.NewTicker(*soakSampleFlag)
	defer ticker.Stop()
	for faults.Err() == nil && !t.Failed() {
		select {
		case <-ticker.C:
		case <-faults.Done():
			continue
		}
		for _, p := range pairs {
			samples = append(samples, p.sample(t, ctx, time.Since(begin).Seconds()))
		}
	}
	stop()
	trouble.Wait()
	for _, p := range pairs {
		p.end(t, ctx)
		t.Logf("resident %s: its peer was killed %d times and frozen %d times", p.side, p.kills.Load(), p.freezes.Load())
		if p.kills.Load() == 0 || p.freezes.Load() == 0 {
			t.Errorf("resident %s: too little has happened", p.side)
		}
	}
	judgeSoak(t, out, samples)
}

// judgeSoak writes down what was sampled, and refuses what has grown.
func judgeSoak(t *testing.T, out string, samples []soakSample) {
	for name, write := range map[string]func(*os.File) error{
		"soak.csv": func(f *os.File) error { return writeSoak(f, samples) },
		"soak.svg": func(f *os.File) error { return plotSoak(f, samples) },
	} {
		if len(samples) == 0 {
			break
		}
		f, err := os.Create(filepath.Join(out, name))
		if err == nil {
			err = write(f)
			_ = f.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}
	for _, side := range []string{"server", "client"} {
		var own []soakSample
		for _, s := range samples {
			if s.side == side {
				own = append(own, s)
			}
		}
		table, grown := flat(own)
		t.Log(strings.Join(table, "\n"))
		for _, line := range grown {
			t.Errorf("it grows: %s", line)
		}
	}
}

// startSoaked starts a pair whose resident has a role.
func startSoaked(t *testing.T, ctx context.Context, role ipc.Role) *soaked {
	t.Helper()
	directory, err := newDirectory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	p := &soaked{side: role.String(), path: filepath.Join(directory, "s")}
	other := ipc.RoleServer
	if role == ipc.RoleServer {
		other = ipc.RoleClient
	}
	p.mortalArgument = soakArgument{p.path, other}
	if role == ipc.RoleClient { // it waits for a server
		p.revive(t, ctx)
	}
	if p.resident, err = start("soak resident", soakArgument{p.path, role}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.resident.kill)
	if _, err := p.resident.expect(ctx, "ready"); err != nil {
		t.Fatal(err)
	}
	if role == ipc.RoleServer {
		p.revive(t, ctx)
	}
	return p
}

// revive starts the mortal, and waits until it is there.
func (p *soaked) revive(t *testing.T, ctx context.Context) bool {
	var err error
	if p.mortal, err = start("soak mortal", p.mortalArgument); err == nil {
		t.Cleanup(p.mortal.kill)
		_, err = p.mortal.expect(ctx, "ready")
	}
	if err != nil {
		t.Errorf("resident %s: its peer: %v", p.side, err)
	}
	return err == nil
}

// harm kills and freezes the mortal, and freezes the resident, until ctx ends.
func (p *soaked) harm(t *testing.T, ctx context.Context, random *rand.Rand) {
	rest := func(least, most time.Duration) {
		select {
		case <-time.After(least + time.Duration(random.Int64N(int64(most-least)))):
		case <-ctx.Done():
		}
	}
	freeze := func(who *process) {
		p.freezes.Add(1)
		_ = who.signal(syscall.SIGSTOP)
		rest(20*time.Millisecond, 1500*time.Millisecond)
		_ = who.signal(syscall.SIGCONT)
	}
	for {
		rest(500*time.Millisecond, 3*time.Second)
		if ctx.Err() != nil {
			return
		}
		switch random.IntN(8) {
		case 0:
			freeze(p.resident)
		case 1, 2:
			freeze(p.mortal)
		case 3: // it dies frozen
			_ = p.mortal.signal(syscall.SIGSTOP)
			rest(20*time.Millisecond, time.Second)
			fallthrough
		default:
			p.kills.Add(1)
			p.mortal.kill()
			if !p.revive(t, context.WithoutCancel(ctx)) {
				return
			}
		}
	}
}

// sample looks at the resident, from outside and by its own report.
func (p *soaked) sample(t *testing.T, ctx context.Context, seconds float64) soakSample {
	var r soakReport
	text, err := p.resident.ask(ctx, "report ", "report")
	if err == nil {
		err = json.Unmarshal([]byte(text), &r)
	}
	if err != nil {
		t.Errorf("resident %s: %v", p.side, err)
	}
	if p.silent++; r.Messages > 0 {
		p.silent = 0
	}
	if time.Duration(p.silent)**soakSampleFlag > watchdog {
		t.Errorf("M7 NoStuckWaiter: resident %s: nothing has come back for %d samples", p.side, p.silent)
	}
	pid := p.resident.cmd.Process.Pid
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	status := numbersOf(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:", "Threads:")
	shared := 0.0
	content, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	for mapping := range strings.SplitSeq(string(content), "\nVmFlags:") {
		if strings.Contains(mapping, "/memfd:tandem-") {
			_, rest, _ := strings.Cut(mapping, "\nPss:")
			value, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			shared += value
		}
	}
	return soakSample{seconds, p.side, []float64{
		status[0], shared, float64(r.HeapKiB), float64(len(files)), status[1], float64(r.Goroutines),
		r.MedianMicros, r.WorstMicros, float64(r.Trips), float64(r.Messages), float64(r.Attached), float64(r.Ended), float64(r.Hung),
	}}
}

// numbersOf returns the numbers behind some words of a file of /proc.
func numbersOf(file string, words ...string) []float64 {
	content, _ := os.ReadFile(file)
	values := make([]float64, len(words))
	for line := range strings.Lines(string(content)) {
		for i, word := range words {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == word {
				values[i], _ = strconv.ParseFloat(fields[1], 64)
			}
		}
	}
	return values
}

// end ends both in good order.
func (p *soaked) end(t *testing.T, ctx context.Context) {
	order := []*process{p.mortal, p.resident} // the client first
	if p.side == "client" {
		order = []*process{p.resident, p.mortal}
	}
	for _, who := range order {
		_ = who.signal(syscall.SIGCONT)
		if _, err := who.ask(ctx, "closed", "end"); err != nil {
			t.Errorf("resident %s: the end: %v", p.side, err)
		}
	}
	if left, _ := filepath.Glob(p.path); len(left) > 0 {
		t.Errorf("resident %s: %v is left", p.side, left)
	}
}
