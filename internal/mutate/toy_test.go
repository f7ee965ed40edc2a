//go:build linux

package main

// The toy is a package whose mutants are known.
var toy = map[string]string{
	"go.mod": "module example.org/toy\n\ngo 1.24\n",
	"toy.go": `package toy

import (
	"errors"
	"sync"
	"time"
)

var mu sync.Mutex

// Larger's bound cannot be told from another one.
func Larger(a, b int) int {
	if a > b {
		return a
	}
	return b
}

func Count(n int) (sum int) {
	for i := 0; i < n; i++ {
		mu.Lock()
		sum += 2
		mu.Unlock()
	}
	return sum
}

func Set(to *int, _ string) {
	*to = 1
	return
}

func Check(bad bool) error {
	if bad {
		return errors.New("bad")
	}
	return nil
}

func InAChild() int { return 7 }

func Unasked() int { return 3 }

// Indifferent has constants that may well be others, and one that may not.
func Indifferent(bad bool) (int, error) {
	time.Sleep(50 * time.Microsecond)
	room := append(make([]int, 0, 40), 60)
	if bad {
		return -70, errors.New("bad")
	}
	return room[0], nil
}

func First[T any](all ...T) T { return all[0] }
`,
	"toy_test.go": `package toy

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestLarger(t *testing.T) {
	if Larger(1, 2) != 2 || Larger(2, 1) != 2 {
		t.Error("not the larger one")
	}
}

func TestCount(t *testing.T) {
	if Count(3) != 6 {
		t.Error("wrong sum")
	}
}

func TestSet(t *testing.T) {
	n := 0
	Set(&n, "")
	if n != 1 {
		t.Error("not set")
	}
}

func TestCheck(t *testing.T) {
	if Check(true) == nil {
		t.Error("it is good")
	}
}

func TestIndifferent(t *testing.T) {
	if n, err := Indifferent(false); n != 60 || err != nil {
		t.Error(n, err)
	}
}

func TestInAChild(t *testing.T) {
	if os.Getenv("TOY_CHILD") != "" {
		println("it is", InAChild())
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestInAChild$")
	child.Env = append(os.Environ(), "TOY_CHILD=1")
	if said, _ := child.CombinedOutput(); !strings.Contains(string(said), "it is 7") {
		t.Errorf("it said %s", said)
	}
}

func TestThatFailsAnyway(t *testing.T) { t.Error(Unasked()) }
`,
}

// toyOutcomes are what becomes of some of its mutants, and by which test; "" of what is none.
var toyOutcomes = map[string]string{
	"toy.go Larger: > -> <=: a > b":                                 "found by TestLarger",
	"toy.go Larger: > -> >=: a > b":                                 "survived",
	"toy.go Larger: left out: if a > b { return a }":                "found by TestLarger",
	"toy.go Count: ++ -> --: i++":                                   "found by TestCount", // it does not end
	"toy.go Count: without lock: mu.Lock":                           "survived",
	"toy.go Count: left out: mu.Unlock()":                           "found by TestCount",
	"toy.go Count: += -> -=: sum += 2":                              "found by TestCount",
	"toy.go Set: left out: return":                                  "same code",
	"toy.go Set: 1 -> 2":                                            "found by TestSet",
	"toy.go Check: left out: if bad { return errors.New(\"bad\") }": "found by TestCheck",
	"toy.go Check: error dropped: return errors.New(\"bad\")":       "found by TestCheck",
	"toy.go Check: negated: bad":                                    "found by TestCheck",
	"toy.go InAChild: 7 -> 8":                                       "found by TestInAChild",
	"toy.go Unasked: 3 -> 4":                                        "survived",
	"toy.go Indifferent: 60 -> 61":                                  "found by TestIndifferent",
	"toy.go Indifferent: 50 -> 51":                                  "",
	"toy.go Indifferent: 40 -> 41":                                  "",
	"toy.go Indifferent: 70 -> 71":                                  "",
}
