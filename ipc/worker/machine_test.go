//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A deed is a sort of call, with the ends that it deserves whatever the others do.
type deed struct {
	name     string
	innocent bool
	options  func(attempts int) []CallOption
	request  func(attempts int) string
	deserves func(answer []byte, err error, attempts int) bool
}

var deeds = map[string]deed{
	"answered": {name: "linger", innocent: true, deserves: func(answer []byte, err error, _ int) bool {
		return err == nil && string(answer) == "request"
	}},
	"answered or unknown": {name: "linger", innocent: true, options: once, deserves: func(_ []byte, err error, _ int) bool {
		return err == nil || errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrPoison)
	}},
	"failed": {name: "fail", innocent: true, deserves: func(_ []byte, err error, _ int) bool {
		var remote *RemoteError
		return errors.As(err, &remote) && remote.Message == "request"
	}},
	"poison by exit": {name: "exit", deserves: isPoison}, "poison by panic": {name: "panic", deserves: isPoison},
	"unknown": {name: "exit", options: once, deserves: func(_ []byte, err error, attempts int) bool {
		var death *DeathError
		return errors.As(err, &death) && death.Attempts == 1 && errors.Is(err, ErrOutcomeUnknown) != errors.Is(err, ErrPoison) &&
			(attempts == 1 || errors.Is(err, ErrOutcomeUnknown))
	}},
	"answered at last": {name: "exit before attempt", request: strconv.Itoa, deserves: func(answer []byte, err error, attempts int) bool {
		n, _ := strconv.Atoi(string(answer))
		return err == nil && n >= attempts
	}},
	"timed out": {name: "wait", innocent: true, options: func(int) []CallOption { return []CallOption{Timeout(5 * time.Millisecond)} },
		deserves: func(_ []byte, err error, _ int) bool { return errors.Is(err, context.DeadlineExceeded) }},
}

func once(int) []CallOption { return []CallOption{AtMostOnce()} }

func isPoison(_ []byte, err error, attempts int) bool {
	var death *DeathError
	return errors.As(err, &death) && death.Err == ErrPoison && death.Attempts >= attempts
}

func TestAnyMixOfCallsEndsAsEachDeserves(t *testing.T) {
	names := slices.Sorted(maps.Keys(deeds))
	deaths, calls := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		attempts := rapid.IntRange(1, 3).Draw(rt, "attempts")
		j := newJournal()
		size := rapid.IntRange(1, 2).Draw(rt, "size")
		p, err := Start(context.Background(), Config{
			Command: command(t, "serve"), Output: io.Discard, OnEvent: j.add, MaxAttempts: attempts, Grace: watchdog,
			Size: size, Concurrency: rapid.IntRange(1, 4).Draw(rt, "concurrency"),
		})
		if err != nil {
			rt.Fatal(err)
		}
		mix := rapid.SliceOfN(rapid.SampledFrom(names), 1, 12).Draw(rt, "calls")
		calls += len(mix)
		wrong := make([]error, len(mix))
		var wg sync.WaitGroup
		for i, name := range mix {
			wg.Add(1)
			go func() {
				defer wg.Done()
				d := deeds[name]
				request, options := "request", []CallOption(nil)
				if d.request != nil {
					request = d.request(attempts)
				}
				if d.options != nil {
					options = d.options(attempts)
				}
				answer, err := p.Call(testContext(t), d.name, []byte(request), options...)
				if !d.deserves(answer, err, attempts) {
					wrong[i] = fmt.Errorf("call %d, which deserves %s, ends with %q, %v", i, name, answer, err)
				}
			}()
		}
		wg.Wait()
		if err := errors.Join(append(wrong, p.Close())...); err != nil {
			rt.Fatal(err)
		}
		j.nobodyIsLeft(t)
		deaths += len(j.deaths())
		for _, death := range j.deaths() {
			judgeDeath(rt, death)
		}
		// A process that was about to serve at Close may have said hello.
		if stats := p.Stats(); stats.Unasked != 0 || stats.Stale > uint64(size) || stats.Running+stats.Waiting != 0 {
			rt.Fatalf("counts %+v", stats)
		}
	})
	t.Logf("%d calls, %d deaths", calls, deaths)
}

// judgeDeath holds the rules of blame against one death.
func judgeDeath(rt *rapid.T, death Death) {
	blamed := 0
	for _, suspect := range death.Suspects {
		if suspect.Blamed {
			blamed++
		}
		for _, d := range deeds {
			if suspect.Blamed && d.name == suspect.Method && d.innocent {
				rt.Fatalf("an innocent call is blamed: %+v", death)
			}
		}
		if suspect.Attempt > 1 && len(death.Suspects) > 1 {
			rt.Fatalf("a suspect does not run alone: %+v", death)
		}
	}
	if blamed > 1 {
		rt.Fatalf("several are blamed: %+v", death)
	}
}
