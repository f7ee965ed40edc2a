// Guard compares the speed of ipc in this tree with its speed in the parent commit.
//
// Both are built with the same benchmark, ipc's BenchmarkGuard, and run in turns on this
// machine. The parent runs as two copies, parent and again: by what they differ, though
// they are the same code, is the noise of the run. Each copy is linked in several layouts,
// because where a function lies changes its speed, too. benchstat says which differences
// are significant. A loss fails only if it is significant, larger than the noise, and seen
// in a second run. Where the noise would hide a loss, the verdict is Void.
//
// The last line, and the only one on the standard output, is the verdict: Pass, Fail,
// Void, or NOT RUN where there is no parent. Fail, and it alone, exits with 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	// The kernel ends a child of ours with the thread that started it: this one lasts.
	runtime.LockOSThread()
	root := flag.String("root", ".", "the `directory` of the tree")
	base := flag.String("base", "", "the `commit` to compare with; by default HEAD if the code differs from it, else HEAD's first parent")
	benchstat := flag.String("benchstat", "", "`package@version` of benchstat")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	verdict, why, err := guard(ctx, *root, *base, *benchstat)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		fmt.Fprintln(os.Stderr, "guard: interrupted")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "guard:", err)
		os.Exit(2)
	}
	fmt.Printf("%s: %s\n", verdict, why)
	if verdict == Fail {
		os.Exit(1)
	}
}

// guard finds the parent, and compares.
func guard(ctx context.Context, root, base, benchstat string) (verdict Verdict, why string, err error) {
	root, err = filepath.Abs(root)
	if err != nil {
		return "", "", err
	}
	w, err := newWork(ctx)
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, w.remove()) }()
	parent, name, err := w.parentOf(root, base)
	switch {
	case errors.Is(err, errNoParent) && ctx.Err() == nil:
		return NotRun, strings.ReplaceAll(err.Error(), "\n", ": "), nil
	case err != nil:
		return "", "", err
	}
	logf("this tree against %s", name)
	ours, err := w.code(root)
	if err != nil {
		return "", "", err
	}
	theirs, err := w.code(parent)
	if err != nil {
		err = voidError{"the parent's code cannot be read", err}
	}
	if err == nil && ours == theirs {
		return Pass, "the same code, nothing to compare", nil
	}
	if err == nil {
		verdict, why, err = w.compare(benchstat, source{tree: parent}, source{tree: root})
	}
	if v := (voidError{}); errors.As(err, &v) {
		logf("%v", v.err)
		return Void, v.why, nil
	}
	return verdict, why, err
}

// A voidError is why the two cannot be compared.
type voidError struct {
	why string
	err error
}

func (v voidError) Error() string { return v.why + ": " + v.err.Error() }

func (v voidError) Unwrap() error { return v.err }

// compare builds both, measures, and measures once more what has not passed.
func (w *work) compare(benchstat string, parent, change source) (Verdict, string, error) {
	programs, err := w.buildAll(parent, change)
	if err != nil {
		return "", "", err
	}
	first, err := w.look(benchstat, programs, run{rounds: 14, limit: 60 * time.Second, rows: everyRow})
	if err != nil {
		return "", "", err
	}
	open := first.open()
	if len(open) == 0 {
		verdict, why := first.verdict()
		return verdict, why, nil
	}
	logf("once more, and longer, what has not passed")
	second, err := w.look(benchstat, programs, run{rounds: 24, limit: 75 * time.Second, rows: open})
	if err != nil {
		return "", "", err
	}
	verdict, why := first.both(second).verdict()
	return verdict, why, nil
}

// look measures and judges once, and shows what it has seen.
func (w *work) look(benchstat string, programs []program, r run) (judgement, error) {
	rounds, err := w.measure(programs, r)
	if err != nil {
		return nil, err
	}
	kept, total := steady(rounds)
	var rows []row
	if kept != [roles]string{} {
		csv, err := w.benchstat(benchstat, kept)
		if err != nil {
			return nil, err
		}
		if rows, err = readTable(csv); err != nil {
			return nil, err
		}
	}
	j := judge(rows, total)
	logf("%s", j)
	return j, nil
}

func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
