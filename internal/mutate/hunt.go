//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandem-ipc/tandem/internal/plant"
)

// A hunt looks who finds which mutant.
type hunt struct {
	*target
	saying           sync.Mutex // guards out
	out              io.Writer
	state, temporary string
	fingerprint      string
	parallel, share  int // how many run at once, and how many are in one build
	limits           limits
	time             time.Duration // after which no other mutant is judged, if it is not 0
	shuffled         bool
	layers           []layer
	tests            []*test
	kills            sync.Map // how many mutants of a function a test has found

	quiet  sync.RWMutex // held for reading by who runs tests, for writing by who wants to be alone
	judged atomic.Int64
}

// A layer is a test of package chaos that is asked when no test of the package has found
// a mutant.
type layer struct{ name, run string }

// A built is a build that mutants share.
type built struct {
	*program
	chaos *program
	mu    sync.Mutex
	sound map[string]bool // whether a test passes with every mutant asleep
}

func (h *hunt) say(format string, a ...any) {
	h.saying.Lock()
	defer h.saying.Unlock()
	fmt.Fprintf(h.out, "%s "+format+"\n", append([]any{time.Now().Format("15:04:05")}, a...)...)
}

// endOrphans ends what tests have left. Nobody runs then.
func (h *hunt) endOrphans() {
	h.quiet.Lock()
	defer h.quiet.Unlock()
	plant.EndOrphans()
}

// build builds mutants together. It drops those whose code is that of the function as it
// is, or of another mutant, and returns the others.
func (h *hunt) build(ctx context.Context, mutants []*mutant, tell func(*mutant, result)) (b *built, kept []*mutant, err error) {
	files, _ := h.shared(mutants)
	var code *listing
	b = &built{sound: map[string]bool{}}
	b.program, err = build(ctx, h.directory, h.temporary, h.name, files, func(says *bytes.Buffer) (err error) {
		code, err = readListing(says)
		return err
	}, "-gcflags=-S")
	if err == nil && len(h.layers) > 0 {
		b.chaos, err = build(ctx, filepath.Join(h.directory, "..", "chaos"), h.temporary, "chaos", files, silent)
	}
	if err != nil {
		return nil, nil, err
	}
	codes := code.codes()
	symbol := func(m *mutant, number int) string { return fmt.Sprintf("%s.%s%s%d", h.path, m.of.key, suffix, number) }
	for _, m := range mutants {
		if codes[symbol(m, 0)] == "" {
			return nil, nil, fmt.Errorf("the compiler does not say what the code of %s is", symbol(m, 0))
		}
	}
	return b, different(mutants, codes, symbol, tell), nil
}

// hunt builds mutants together and judges them. tell gets each as soon as it is judged.
func (h *hunt) hunt(ctx context.Context, mutants []*mutant, tell func(*mutant, result)) error {
	b, kept, err := h.build(ctx, mutants, tell)
	if err != nil {
		return err
	}
	defer b.remove()
	if b.chaos != nil {
		defer b.chaos.remove()
	}
	if h.shuffled { // what there is no time for is not always the same
		rand.Shuffle(len(kept), func(i, j int) { kept[i], kept[j] = kept[j], kept[i] })
	}
	enough := make(<-chan time.Time)
	if h.time > 0 {
		enough = time.After(h.time)
	}
	var group sync.WaitGroup
	next := make(chan *mutant)
	for range h.parallel {
		group.Add(1)
		go func() {
			defer group.Done()
			for m := range next {
				r := h.judge(ctx, b, m)
				if ctx.Err() == nil {
					tell(m, r)
				}
				if h.judged.Add(1)%16 == 0 {
					h.endOrphans()
				}
			}
		}()
	}
judging:
	for _, m := range kept {
		select {
		case next <- m:
		case <-enough:
			break judging
		case <-ctx.Done():
			break judging
		}
	}
	close(next)
	group.Wait()
	h.endOrphans()
	return ctx.Err()
}

// judge shows a mutant to the tests that reach its statement, the cheapest first. A test
// that reaches little else counts as cheaper, and so does one that has found many in this
// function: it is more likely to fail, and less likely to hang.
func (h *hunt) judge(ctx context.Context, b *built, m *mutant) result {
	begun := time.Now()
	ended := func(outcome, by string) result {
		return result{Outcome: outcome, By: by, Seconds: time.Since(begun).Seconds()}
	}
	tests := h.thatReach(m)
	cost := map[string]float64{}
	for _, t := range tests {
		cost[t.Name] = t.Seconds * float64(50+t.breadth()) / float64(1+5*h.killsOf(m, t.Name).Load())
	}
	slices.SortFunc(tests, func(a, b *test) int { return cmp.Compare(cost[a.Name], cost[b.Name]) })
	for budget := 0.0; len(tests) > 0 && ctx.Err() == nil; budget = max(0.3, 3*budget) {
		var batch []string
		for sum := 0.0; len(tests) > 0 && (len(batch) == 0 || sum+tests[0].Seconds < budget); tests = tests[1:] {
			batch = append(batch, tests[0].Name)
			sum += tests[0].Seconds
		}
		if by, unclear := h.ask(ctx, b, m, batch); unclear != "" {
			return ended("unclear", unclear)
		} else if by != "" {
			h.killsOf(m, by).Add(1)
			return ended("found", by)
		}
	}
	for _, l := range h.layers {
		if h.askLayer(ctx, b, m, l) {
			return ended("found", "layer "+l.name)
		}
	}
	return ended("survived", "")
}

// limitsOf are what tests get: a multiple of what they took, and more on a busy machine.
func (h *hunt) limitsOf(names []string, stretch float64) limits {
	l := h.limits
	for _, t := range h.tests {
		if slices.Contains(names, t.Name) {
			l.all += time.Duration(5 * t.Seconds * float64(time.Second))
		}
	}
	return l.stretched(stretch)
}

func (h *hunt) killsOf(m *mutant, test string) *atomic.Int64 {
	n, _ := h.kills.LoadOrStore(m.of.file.name+m.of.key+" "+test, new(atomic.Int64))
	return n.(*atomic.Int64)
}

func (h *hunt) thatReach(m *mutant) (tests []*test) {
	for _, t := range h.tests {
		if !t.Failed && m.place < len(t.Reached) && t.Reached[m.place] == 1 {
			tests = append(tests, t)
		}
	}
	return tests
}

// ask runs a batch of tests, and returns which has found the mutant. A test that fails
// though every mutant is asleep is none; one that had too little time is asked once more,
// alone.
func (h *hunt) ask(ctx context.Context, b *built, m *mutant, batch []string) (by, unclear string) {
	environment := []string{fmt.Sprintf("%s=%d", awake, m.number)}
	for len(batch) > 0 && ctx.Err() == nil {
		l := h.limitsOf(batch, 1)
		h.quiet.RLock()
		r := b.run(ctx, exactly(batch), l, environment)
		h.quiet.RUnlock()
		if r.err == nil {
			return "", ""
		}
		test, slow := r.failure(l)
		if test == "" {
			return "", r.err.Error() + ": " + oneLine(r.output)
		}
		if h.passesAsleep(ctx, b, test) && (!slow || h.failsAlone(ctx, b, test, environment)) {
			return test, ""
		}
		batch = slices.DeleteFunc(batch, func(other string) bool { return other == test })
	}
	return "", ""
}

// failsAlone reports whether a test fails again when nothing else runs, and with more time,
// and passes when the mutant is asleep.
func (h *hunt) failsAlone(ctx context.Context, b *built, test string, environment []string) bool {
	h.quiet.Lock()
	defer h.quiet.Unlock()
	return b.run(ctx, exactly([]string{test}), h.limitsOf([]string{test}, 1.5), environment).err != nil &&
		b.run(ctx, exactly([]string{test}), h.limitsOf([]string{test}, 1), nil).err == nil
}

// passesAsleep reports whether a test passes in this build with every mutant asleep.
func (h *hunt) passesAsleep(ctx context.Context, b *built, test string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	sound, known := b.sound[test]
	for try := 0; !known && !sound && try < 2 && ctx.Err() == nil; try++ {
		h.quiet.RLock()
		sound = b.run(ctx, exactly([]string{test}), h.limitsOf([]string{test}, 1+float64(try)), nil).err == nil
		h.quiet.RUnlock()
	}
	if !known {
		b.sound[test] = sound
		if !sound {
			h.say("%s fails in a build whose mutants are asleep: it is not asked there", test)
		}
	}
	return sound
}

// askLayer runs a layer of chaos in its short form.
func (h *hunt) askLayer(ctx context.Context, b *built, m *mutant, l layer) bool {
	play := func(environment ...string) bool {
		h.quiet.RLock()
		defer h.quiet.RUnlock()
		limit := limits{45 * time.Second, 2 * h.limits.watchdog}.stretched(1)
		return b.chaos.run(ctx, l.run, limit, environment, "-test.short").err != nil
	}
	if !play(fmt.Sprintf("%s=%d", awake, m.number)) {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := "layer " + l.name
	if _, known := b.sound[key]; !known {
		b.sound[key] = !play()
	}
	return b.sound[key]
}

// different returns the mutants whose code is neither that of the function as it is, nor
// that of a mutant before.
func different(mutants []*mutant, codes map[string]string, symbol func(*mutant, int) string, tell func(*mutant, result)) (kept []*mutant) {
	seen := map[string]*mutant{}
	for _, m := range mutants {
		code := codes[symbol(m, m.number)]
		key := strings.Join([]string{m.of.file.name, m.of.key, code}, " ")
		switch {
		case code == codes[symbol(m, 0)]:
			tell(m, result{Outcome: "same code"})
		case code != "" && seen[key] != nil:
			tell(m, result{Outcome: "twice", By: seen[key].name()})
		default:
			seen[key] = m
			kept = append(kept, m)
		}
	}
	return kept
}
