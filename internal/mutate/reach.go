//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
)

// A test is one of the package, as it was when it ran alone.
type test struct {
	Name    string
	Seconds float64
	Reached []byte // by the number of a statement: 1 if it or one of its processes was there
	Failed  bool   // with nothing wrong in the package; it is not asked
}

// breadth is how many statements a test reaches.
func (t *test) breadth() int { return bytes.Count(t.Reached, []byte{1}) }

// fingerprint is of everything that decides which statements a test reaches.
func (t *target) fingerprint() (string, error) {
	sum := sha256.New()
	names := slices.Clone(t.tests)
	for _, s := range t.files {
		names = append(names, s.name)
	}
	slices.Sort(names)
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(t.directory, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(text), text)
	}
	fmt.Fprint(sum, runtime.Version())
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

// reach runs each test alone and notes what it reaches, unless that is known already.
func (h *hunt) reach(ctx context.Context) error {
	known := filepath.Join(h.state, "reach-"+h.fingerprint+".json")
	if text, err := os.ReadFile(known); err == nil {
		return json.Unmarshal(text, &h.tests)
	}
	p, err := build(ctx, h.directory, h.temporary, h.name, h.marked(), silent)
	if err != nil {
		return err
	}
	names, err := p.list(ctx)
	if err != nil {
		return err
	}
	h.tests = make([]*test, len(names))
	h.say("%d tests: each runs alone, to see what it reaches", len(names))
	var group sync.WaitGroup
	next := make(chan int)
	for range h.parallel {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := range next {
				h.tests[i] = h.measure(ctx, p, names[i])
			}
		}()
	}
	for i := range names {
		next <- i
	}
	close(next)
	group.Wait()
	h.endOrphans()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text, err := json.Marshal(h.tests)
	if err != nil {
		return err
	}
	return os.WriteFile(known, text, 0o600)
}

// measure runs one test, and once more if it fails.
func (h *hunt) measure(ctx context.Context, p *program, name string) *test {
	result := &test{Name: name}
	for range 2 {
		file := filepath.Join(h.temporary, "reached-"+name)
		err := os.WriteFile(file, make([]byte, h.statements+1), 0o600)
		if err == nil {
			err = os.Chmod(file, 0o666) // for a process of another user too
		}
		if err != nil {
			panic(err)
		}
		r := p.run(ctx, exactly([]string{name}), limits{10 * h.limits.all, 4 * h.limits.watchdog}.stretched(1), []string{reached + "=" + file})
		result.Seconds, result.Failed = r.seconds, r.err != nil
		result.Reached, _ = os.ReadFile(file)
		_ = os.Remove(file)
		if r.err == nil {
			return result
		}
	}
	h.say("%s fails though nothing is wrong: it is not asked", name)
	return result
}
