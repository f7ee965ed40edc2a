package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"
)

// The enumerator's cases with hostile clients are played in processes of their own
// too: what panics or hangs there is one failure.

// hostileTask is what one process of them is to do.
type hostileTask struct {
	Seed  uint64
	Cases int
	Only  *hostileCase
}

var _ = register("hostile enumerator", func(p *player) {
	var directory string
	p.arg(&directory)
	if err := os.Setenv("TMPDIR", directory); err != nil {
		p.fail("%v", err)
	}
	held := 0
	for {
		var t hostileTask
		if err := json.Unmarshal([]byte(p.next()), &t); err != nil {
			p.fail("task: %v", err)
		}
		r := rand.New(rand.NewPCG(t.Seed, 11))
		for range t.Cases {
			c := drawHostileCase(r)
			if t.Only != nil {
				c = *t.Only
			}
			p.say("play %v", c)
			broken := playHostile(context.Background(), c)
			if left := leftDescriptors(&held); left > 0 && len(broken) == 0 {
				broken = append(broken, Failure{"L8 NoLeak", fmt.Sprintf("%d descriptors are left", left), ""})
			}
			encoded, _ := json.Marshal(broken)
			p.say("case %s", encoded)
		}
		p.say("end")
	}
})

// leftDescriptors is how many more there are than behind the first case. What is
// closed by another goroutine is given time.
func leftDescriptors(held *int) (left int) {
	now := len(descriptors())
	if *held == 0 {
		*held = now
	}
	for begun := time.Now(); now > *held && time.Since(begun) < footPatience; now = len(descriptors()) {
		time.Sleep(time.Millisecond)
	}
	left = now - *held
	*held = max(*held, now)
	return left
}

// drawHostileCase draws a case: up to four hostile clients, and up to three
// operations of the server's beside the last.
func drawHostileCase(r *rand.Rand) (c hostileCase) {
	c.Seed, c.Eager = r.Uint64(), r.IntN(3) == 0
	for range 1 + r.IntN(4) {
		var names []string
		for range 1 + r.IntN(3) {
			if a := drawAct(r); a.name != "rest" {
				names = append(names, a.name)
			}
		}
		c.Rows = append(c.Rows, names)
	}
	for range r.IntN(4) {
		c.Operations = append(c.Operations, hostileOperations[r.IntN(len(hostileOperations))])
	}
	if len(c.Operations) > 0 {
		c.Step = r.IntN(14)
	}
	return c
}

// hostileUntil is how long the cases with hostile clients go on: beside the others,
// for half of the time.
func (e *enumeration) hostileUntil() time.Time {
	half := e.options.Budget / 2
	if e.options.Full && half == 0 {
		half = time.Minute
	}
	return time.Now().Add(half)
}

// hostileCases plays cases until the time is over.
func (e *enumeration) hostileCases(ctx context.Context, until time.Time) error {
	draw := rand.New(rand.NewPCG(e.options.Seed, 13))
	directory, err := newDirectory()
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	var p *process
	defer func() {
		if p != nil {
			p.kill()
		}
	}()
	for first := true; ctx.Err() == nil && (first || time.Now().Before(until)); first = false {
		if p == nil {
			if p, err = start("hostile enumerator", directory); err != nil {
				return err
			}
		}
		encoded, _ := json.Marshal(hostileTask{Seed: draw.Uint64(), Cases: 50})
		p.tell("%s", encoded)
		if at, err := e.hearHostile(ctx, p); err != nil {
			if ctx.Err() == nil {
				e.report.Case(0)
				e.report.Fail("T1", playAgain("enumerator", at), "the case did not come to its end: %s", headOf(err))
			}
			p.kill()
			p = nil
		}
	}
	return nil
}

// headOf is an error without the stacks behind it.
func headOf(err error) string {
	lines := strings.SplitN(err.Error(), "\n", 3)
	return strings.Join(lines[:min(2, len(lines))], " ")
}

// hearHostile enters what such a process has played.
func (e *enumeration) hearHostile(ctx context.Context, p *process) (at string, err error) {
	for {
		silence, cancel := context.WithTimeout(ctx, watchdog)
		line, err := p.hear(silence)
		cancel()
		if err != nil {
			return at, err
		}
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "end":
			return "", nil
		case "play":
			at = rest
		case "case":
			var broken []Failure
			if err := json.Unmarshal([]byte(rest), &broken); err != nil {
				return at, err
			}
			e.report.Case(0)
			e.report.Count("hostile cases", 1)
			for _, f := range broken {
				e.report.Fail(f.Contract, playAgain("enumerator", at), "%s", f.What)
			}
		}
	}
}

// playHostileAgain plays one case again, in this process.
func playHostileAgain(ctx context.Context, text string) (*Report, error) {
	var c hostileCase
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return nil, errors.Join(errors.New("chaos: that is no hostile case"), err)
	}
	report := NewReport("enumerator", c.Seed)
	report.Case(0)
	for _, f := range playHostile(ctx, c) {
		report.Fail(f.Contract, playAgain("enumerator", c.String()), "%s", f.What)
	}
	return report.Finish(1), nil
}
