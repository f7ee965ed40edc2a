//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tandem-ipc/tandem/internal/measure"
)

const (
	deathKills = 20
	lossKills  = 10
	idleTime   = 3 * time.Second
)

// run measures, and writes the result file.
func run(ctx context.Context, o order) (err error) {
	own, driver, absent, err := o.drivers()
	if err != nil {
		return err
	}
	s := &measure.Session{Rounds: o.rounds, Warm: 200 * time.Millisecond, Time: 500 * time.Millisecond, Log: os.Stderr, Own: own, Driver: driver}
	if o.quick {
		s.Warm, s.Time = 20*time.Millisecond, 60*time.Millisecond
	}
	for _, a := range absent {
		fmt.Fprintf(os.Stderr, "!! NOT MEASURED: %s: %s\n", a.Contender, a.Why)
	}
	if err := s.Open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	f, path, err := o.begin(s, absent)
	if err != nil {
		return err
	}
	began := time.Now()
	if o.scale {
		err = scale(ctx, s, f)
	} else {
		err = everything(ctx, s, f, o.only)
	}
	if err != nil {
		return err
	}
	f.Floors = append(f.Floors, s.Floors()...)
	f.Seconds += time.Since(began).Round(time.Second).Seconds()
	f.LoadAfter = measure.Load()
	if err := f.Write(path); err != nil {
		return err
	}
	show(f)
	fmt.Printf("\n%s has all of it, measured in %.0f s; go run ./bench -report %s writes the page\n", path, f.Seconds, path)
	return nil
}

// begin is the file that is to be written: a new one, or the last one with -scale.
func (o order) begin(s *measure.Session, absent []measure.Absent) (f *measure.File, path string, err error) {
	if o.scale {
		if path, err = o.existing(); err == nil {
			f, err = measure.ReadFile(path)
		}
		return f, path, err
	}
	commit := "unknown"
	if out, err := exec.Command("git", "-C", o.root, "describe", "--always", "--dirty").Output(); err == nil {
		commit = strings.TrimSpace(string(out))
	}
	now := time.Now().UTC()
	if path = o.file; path == "" {
		dir := filepath.Join(o.root, "bench", "results")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, "", err
		}
		path = filepath.Join(dir, now.Format("2006-01-02T150405")+".json")
	}
	return &measure.File{
		Date: now.Format(time.RFC3339), Commit: commit, Machine: measure.ThisMachine(), Quick: o.quick, Rounds: o.rounds,
		WarmMillis: s.Warm.Milliseconds(), TimeMillis: s.Time.Milliseconds(), LoadBefore: measure.Load(), Absent: absent,
	}, path, nil
}

// everything measures the plan, and what is no cell.
func everything(ctx context.Context, s *measure.Session, f *measure.File, only string) (err error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	cells := slices.DeleteFunc(cellsOf(plan), func(c measure.Cell) bool {
		return !match.MatchString(c.Name()) || isAbsent(f, c.Contender)
	})
	fmt.Fprintf(os.Stderr, "%d cells in %d rounds\n", len(cells), s.Rounds)
	if f.Rows, err = s.Measure(ctx, cells); err != nil || only != "" {
		return err
	}
	for _, d := range deaths {
		f.Deaths = append(f.Deaths, s.Deaths(ctx, d.contender, d.victim, deathKills))
	}
	for _, l := range losses {
		f.Losses = append(f.Losses, s.Losses(ctx, l.contender, l.form, lossKills))
	}
	for _, i := range idle {
		f.Idle = append(f.Idle, s.Idle(ctx, i.contender, i.wait, idleTime))
	}
	for _, c := range traced() {
		f.Calls = append(f.Calls, s.SystemCalls(ctx, c))
	}
	return ctx.Err()
}

func isAbsent(f *measure.File, contender string) bool {
	return slices.ContainsFunc(f.Absent, func(a measure.Absent) bool { return a.Contender == contender })
}

// scale measures many pairs, and rings of other sizes.
func scale(ctx context.Context, s *measure.Session, f *measure.File) error {
	f.Scale = nil
	for _, n := range pairs {
		for _, contender := range []string{"tandem", "unix"} {
			f.Scale = append(f.Scale, s.Scale(ctx, contender, n, idleTime))
		}
	}
	rows, err := s.Measure(ctx, cellsOf(rings))
	f.Rows = append(slices.DeleteFunc(f.Rows, func(r *measure.Row) bool { return r.Ring > 0 }), rows...)
	return errors.Join(err, ctx.Err())
}

// show prints the figures that were measured, a line each.
func show(f *measure.File) {
	for _, r := range f.Rows {
		if !r.Measured() {
			fmt.Printf("%-70s %s\n", r.Name, r.Why())
			continue
		}
		fmt.Printf("%-70s %12.1f ns [%.1f-%.1f]  %8.2f x floor\n", r.Name, measure.Median(r.Nanos), slices.Min(r.Nanos), slices.Max(r.Nanos), measure.Median(r.Ratios()))
	}
}
