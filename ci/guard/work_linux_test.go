package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func newTestWork(t *testing.T, ctx context.Context) *work {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	w, err := newWork(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.remove(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// pretend makes programs of a shell script, which has its role as $role.
func pretend(t *testing.T, script string) (programs []program) {
	t.Helper()
	directory := t.TempDir()
	for layout := range layouts {
		for r := parent; r < roles; r++ {
			path := filepath.Join(directory, fmt.Sprintf("%s%d", r, layout))
			if err := os.WriteFile(path, []byte("#!/bin/sh\nrole="+r.String()+"\n"+script), 0o700); err != nil {
				t.Fatal(err)
			}
			programs = append(programs, program{r, path})
		}
	}
	return programs
}

// Each round has each role once, in an order that changes, and all layouts are used.
func TestRolesTakeTurns(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	programs := pretend(t, fmt.Sprintf("echo ${0##*/} >>%s\necho BenchmarkIt $role with $TMPDIR\n", log))
	w := newTestWork(t, t.Context())
	rounds, err := w.measure(programs, run{rounds: 12, limit: time.Hour, rows: everyRow})
	if err != nil {
		t.Fatal(err)
	}
	for i, now := range rounds {
		for r := range roles {
			if got, want := now[r]["It"], "BenchmarkIt "+r.String()+" with "+w.directory+"\n"; got != want {
				t.Errorf("round %d: %s has printed %q, want %q", i, r, got, want)
			}
		}
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	ran := strings.Fields(string(text))
	if len(ran) != 12*int(roles) {
		t.Fatalf("%d programs ran, want %d", len(ran), 12*int(roles))
	}
	first, all := map[string]int{}, map[string]int{}
	for i, name := range ran {
		all[name]++
		if i%int(roles) == 0 {
			first[strings.TrimRight(name, "012")]++
		}
		if layout := fmt.Sprint(i / int(roles) % layouts); !strings.HasSuffix(name, layout) {
			t.Errorf("program %d is %s, want one of layout %s", i, name, layout)
		}
	}
	for _, r := range []role{parent, again, change} {
		if first[r.String()] != 4 {
			t.Errorf("%s was first in %d rounds, want 4", r, first[r.String()])
		}
	}
	if len(all) != len(programs) {
		t.Errorf("%d programs ran, want all %d: %v", len(all), len(programs), all)
	}
}

// A measurement that takes too long ends behind the round.
func TestAMeasurementHasALimit(t *testing.T) {
	w := newTestWork(t, t.Context())
	rounds, err := w.measure(pretend(t, "echo $role\n"), run{rounds: 1000, limit: time.Nanosecond, rows: everyRow})
	if err != nil || len(rounds) > 1 {
		t.Errorf("%d rounds, %v, want 1 at most", len(rounds), err)
	}
}

// A parent that does not run says nothing of the change. A change that does not run fails.
func TestABenchmarkThatFails(t *testing.T) {
	w := newTestWork(t, t.Context())
	once := run{rounds: 1, limit: time.Hour, rows: everyRow}
	_, err := w.measure(pretend(t, "[ $role != parent ]\n"), once)
	if v := (voidError{}); !errors.As(err, &v) {
		t.Errorf("the parent fails: %v, want Void", err)
	}
	_, err = w.measure(pretend(t, "[ $role != change ]\n"), once)
	if v := (voidError{}); err == nil || errors.As(err, &v) {
		t.Errorf("the change fails: %v, want a failure", err)
	}
}

// When the guard is interrupted, what it has started ends, with what that has started.
func TestAnInterruptionLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	directory := t.TempDir()
	pids := filepath.Join(directory, "pids")
	if err := syscall.Mkfifo(pids, 0o600); err != nil {
		t.Fatal(err)
	}
	w := newTestWork(t, ctx)
	failed := make(chan error, 1)
	go func() {
		_, err := w.measure(pretend(t, fmt.Sprintf("sleep 1000 &\nmktemp >/dev/null\necho $$ $! >%s\nwait\n", pids)),
			run{rounds: 1, limit: time.Hour, rows: everyRow})
		failed <- err
	}()
	text, err := os.ReadFile(pids) // which waits for the program to write
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-failed; err == nil {
		t.Error("the measurement ended well")
	}
	var of [2]int
	if _, err := fmt.Sscan(string(text), &of[0], &of[1]); err != nil {
		t.Fatal(err)
	}
	for _, pid := range of {
		for runs(pid) {
			if t.Context().Err() != nil {
				t.Fatalf("process %d runs on", pid)
			}
		}
	}
	if err := w.remove(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("%v are left (%v)", left, err)
	}
}

// runs reports whether a process is there, and not only its end, which nobody has fetched.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}
