//go:build linux

package measure

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// BurnName is the contender that is none: a process that uses a processor until its
// standard input ends.
const BurnName = "burn"

func burn() error {
	say("ready")
	go endWithStdin()
	for x := uint64(1); ; x += x >> 7 {
		if x == 0 {
			say("never")
		}
	}
}

// burn keeps all processors busy until the function that it returns is called.
func (s *Session) burn(ctx context.Context) (end func()) {
	all, err := Processors()
	if err != nil {
		return func() {}
	}
	var burners []*Process
	for range all {
		setup := Setup{Role: "server", Name: BurnName, Dir: s.dir, Size: 8, InFlight: 1, Time: time.Hour}
		if p, err := startProcess(ctx, s.Own, &setup, -1); err == nil {
			_, _ = p.Line()
			burners = append(burners, p)
		}
	}
	return func() {
		for _, p := range burners {
			p.Kill()
		}
	}
}

// perSecond is something of both processes, each over the time that it has measured.
func perSecond(server, client Report, of func(Report) uint64) float64 {
	rate := func(r Report) float64 { return float64(of(r)) / (max(1, float64(r.Nanos)) / 1e9) }
	return rate(server) + rate(client)
}

func cpuOf(r Report) uint64      { return r.CPUNanos }
func switchesOf(r Report) uint64 { return r.Switches }

// Idle measures two processes that wait for each other.
func (s *Session) Idle(ctx context.Context, contender, wait string, d time.Duration) *IdleRow {
	row := &IdleRow{Name: contender + " / idle / " + wait, Contender: contender, Wait: wait}
	setup := s.SetupOf(Cell{Contender: contender, Work: Idle, Form: Copy, Wait: wait, Size: 64})
	setup.Time = d
	server, client, err := s.run(ctx, setup, Free)
	if err != nil {
		row.Why = err.Error()
		fmt.Fprintf(s.Log, "%s: %v\n", row.Name, err)
		return row
	}
	row.CPU = 100 * perSecond(server, client, cpuOf) / 1e9
	row.Switches = perSecond(server, client, switchesOf)
	row.Resident = server.Resident + client.Resident
	return row
}

// Scale measures many pairs.
func (s *Session) Scale(ctx context.Context, contender string, pairs int, d time.Duration) *ScaleRow {
	row := &ScaleRow{Name: fmt.Sprintf("%s / %d pairs", contender, pairs), Contender: contender, Pairs: pairs}
	setup := s.SetupOf(Cell{Contender: contender, Work: Scale, Form: Copy, Wait: Default, Size: 64, InFlight: pairs})
	setup.Time = d
	server, client, err := s.run(ctx, setup, Free)
	if err != nil {
		row.Why = err.Error()
		fmt.Fprintf(s.Log, "%s: %v\n", row.Name, err)
		return row
	}
	row.Opened = float64(client.Opened) / float64(pairs)
	row.Memory = server.Proportional + client.Proportional
	row.Descriptors, row.Threads = server.Descriptors+client.Descriptors, server.Threads+client.Threads
	row.CPU = 100 * perSecond(server, client, cpuOf) / 1e9
	row.Switches = perSecond(server, client, switchesOf)
	return row
}

// ErrNoStrace says that the program that counts system calls is missing.
var ErrNoStrace = errors.New("not measured: there is no strace on this machine")

// SystemCalls counts the system calls of both sides in a long and a short run: the
// difference is what the messages cost, without the start and the end. Naps of the
// runtime's own monitor are left out: they come by time, which a tracer stretches.
func (s *Session) SystemCalls(ctx context.Context, c Cell) *CallRow {
	row := &CallRow{Name: c.Name()}
	short, shortMessages, err := s.countCalls(ctx, c, 30*time.Millisecond)
	if err == nil {
		var long, longMessages uint64
		long, longMessages, err = s.countCalls(ctx, c, 300*time.Millisecond)
		if err == nil && longMessages <= shortMessages {
			err = errors.New("too few messages")
		}
		row.Calls = max(0, float64(long)-float64(short)) / (float64(longMessages) - float64(shortMessages))
	}
	if err != nil {
		row.Calls, row.Why = 0, err.Error()
		fmt.Fprintf(s.Log, "%s: system calls: %v\n", row.Name, err)
	}
	return row
}

func (s *Session) countCalls(ctx context.Context, c Cell, d time.Duration) (calls, messages uint64, err error) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return 0, 0, ErrNoStrace
	}
	setup := s.SetupOf(c)
	setup.Warm, setup.Time = 0, d
	if setup.Dir, err = s.NewDir(); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(setup.Dir)) }()
	files := []string{filepath.Join(setup.Dir, "calls-server"), filepath.Join(setup.Dir, "calls-client")}
	prefix := func(file string) []string { return []string{strace, "-f", "-c", "-e", "trace=!nanosleep", "-o", file} }
	pair, err := StartPair(ctx, s.Driver(c.Contender), setup, c.Place, prefix(files[0]), prefix(files[1]))
	if err != nil {
		return 0, 0, err
	}
	defer pair.End()
	_, client, err := pair.Reports()
	if err == nil && client.Unsupported != "" {
		err = UnsupportedError(client.Unsupported)
	}
	for _, file := range files {
		if err == nil {
			var n uint64
			n, err = totalCalls(file)
			calls += n
		}
	}
	return calls, client.Total, err
}

// totalCalls reads the last line of a summary of strace.
func totalCalls(path string) (uint64, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) >= 4 && words[len(words)-1] == "total" {
			return strconv.ParseUint(words[3], 10, 64)
		}
	}
	return 0, fmt.Errorf("the summary of strace has no total")
}
