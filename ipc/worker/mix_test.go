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
	do       func(t testing.TB, p *Pool, method, request string, options ...CallOption) ([]string, error) // Call if nil
	deserves func(parts []string, err error, attempts int) bool
}

var deeds = map[string]deed{
	"answered": {name: "linger", innocent: true, deserves: func(parts []string, err error, _ int) bool {
		return err == nil && parts[0] == "request"
	}},
	"answered or unknown": {name: "linger", innocent: true, options: once, deserves: func(_ []string, err error, _ int) bool {
		return err == nil || errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrPoison)
	}},
	"failed": {name: "fail", innocent: true, deserves: func(_ []string, err error, _ int) bool {
		var remote *RemoteError
		return errors.As(err, &remote) && remote.Message == "request"
	}},
	"poison by exit": {name: "exit", deserves: isPoison}, "poison by panic": {name: "panic", deserves: isPoison},
	"unknown": {name: "exit", options: once, deserves: func(_ []string, err error, attempts int) bool {
		var death *DeathError
		return errors.As(err, &death) && death.Attempts == 1 && errors.Is(err, ErrOutcomeUnknown) != errors.Is(err, ErrPoison) &&
			(attempts == 1 || errors.Is(err, ErrOutcomeUnknown))
	}},
	"answered at last": {name: "exit before attempt", request: strconv.Itoa, deserves: func(parts []string, err error, attempts int) bool {
		return err == nil && number(parts[0]) >= attempts
	}},
	"timed out": {name: "wait", innocent: true, options: func(int) []CallOption { return []CallOption{Timeout(5 * time.Millisecond)} },
		deserves: func(_ []string, err error, _ int) bool { return errors.Is(err, context.DeadlineExceeded) }},
	"asked": {name: "ask", innocent: true, request: func(int) string { return "echo\nrequest" }, deserves: func(parts []string, err error, _ int) bool {
		return err == nil && parts[0] == "request"
	}},

	// A stream that has begun ends with its worker, whoever has killed it.
	"streamed": {name: "count", innocent: true, request: func(int) string { return "40" }, do: collect, deserves: func(parts []string, err error, _ int) bool {
		return isCount(parts) && (err == nil && len(parts) == 40 || len(parts) > 0 && errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrPoison))
	}},
	"streamed and unknown": {name: "count and exit", request: func(int) string { return "3" }, do: collect, deserves: func(parts []string, err error, attempts int) bool {
		return isCount(parts) && (errors.Is(err, ErrOutcomeUnknown) && len(parts) > 0 || isPoison(parts, err, attempts))
	}},
	"poison before it streams": {name: "exit", do: collect, deserves: func(parts []string, err error, attempts int) bool {
		return len(parts) == 0 && isPoison(nil, err, attempts)
	}},
	"left": {name: "endless", innocent: true, request: func(int) string { return "100" }, do: leaveAfterTwo, deserves: func(parts []string, err error, _ int) bool {
		return len(parts) == 2 || len(parts) == 1 && errors.Is(err, ErrOutcomeUnknown)
	}},

	// Notifications that kill, and fresh processes, come between.
	"notified": {name: "exit by notification", do: notifyDeath, deserves: func(_ []string, err error, _ int) bool { return err == nil }},
	"replaced": {name: "replace", do: replaceAll, deserves: func(_ []string, err error, _ int) bool {
		return err == nil || errors.Is(err, ErrNotReplaced) // a notification has killed the fresh one
	}},
}

func number(s string) int { n, _ := strconv.Atoi(s); return n }

// isCount reports whether the parts are 0, 1, and so on.
func isCount(parts []string) bool {
	for i, part := range parts {
		if part != strconv.Itoa(i) {
			return false
		}
	}
	return true
}

func callOnce(t testing.TB, p *Pool, method, request string, options ...CallOption) ([]string, error) {
	answer, err := p.Call(testContext(t), method, []byte(request), options...)
	return []string{string(answer)}, err
}

func leaveAfterTwo(t testing.TB, p *Pool, method, request string, options ...CallOption) (parts []string, err error) {
	for part, err := range p.Stream(testContext(t), method, []byte(request), options...) {
		if err != nil {
			return parts, err
		}
		if parts = append(parts, string(part)); len(parts) == 2 {
			break
		}
	}
	return parts, nil
}

func notifyDeath(t testing.TB, p *Pool, method, _ string, _ ...CallOption) ([]string, error) {
	_, err := p.Notify(testContext(t), method, nil)
	return nil, err
}

func replaceAll(t testing.TB, p *Pool, _, _ string, _ ...CallOption) ([]string, error) {
	return nil, p.Replace(testContext(t))
}

func init() { testHandlers["exit by notification"] = testHandlers["exit"] }

func once(int) []CallOption { return []CallOption{AtMostOnce()} }

func isPoison(_ []string, err error, attempts int) bool {
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
			Command: command(t, "serve"), Output: io.Discard, OnEvent: j.add, MaxAttempts: attempts, Grace: watchdog, Handlers: (&desk{}).handlers(),
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
				do := callOnce
				if d.do != nil {
					do = d.do
				}
				parts, err := do(t, p, d.name, request, options...)
				if !d.deserves(parts, err, attempts) {
					wrong[i] = fmt.Errorf("call %d, which deserves %s, ends with %q, %v", i, name, parts, err)
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
		// A process that was about to serve when it was sent away may have said hello.
		if stats := p.Stats(); stats.Unasked != 0 || stats.Stale > stats.Deaths || stats.Running+stats.Waiting != 0 {
			rt.Fatalf("counts %+v", stats)
		}
	})
	t.Logf("%d calls, %d deaths", calls, deaths)
}

// judgeDeath holds the rules of blame against one death.
func judgeDeath(rt *rapid.T, death Death) {
	blamed, alone := 0, len(death.Suspects)
	for _, suspect := range death.Suspects {
		if suspect.Method == "exit by notification" { // notifications come to every worker
			alone--
		}
	}
	for _, suspect := range death.Suspects {
		if suspect.Blamed {
			blamed++
		}
		for _, d := range deeds {
			if suspect.Blamed && d.name == suspect.Method && d.innocent {
				rt.Fatalf("an innocent call is blamed: %+v", death)
			}
		}
		if suspect.Attempt > 1 && alone > 1 {
			rt.Fatalf("a suspect does not run alone: %+v", death)
		}
	}
	if blamed > 1 {
		rt.Fatalf("several are blamed: %+v", death)
	}
}
