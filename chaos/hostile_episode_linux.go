package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A hostileEpisode is one path, a server on it, and clients that come one behind the
// other: most of them hostile. At its end an honest pair must work as if nothing
// had been.
type hostileEpisode struct {
	Seed   uint64
	Number int
	Kills  int
	Counts map[string]int
	Log    []string
	Broken []Failure

	home, directory string
	draw            *rand.Rand
	script          honestScript // of this episode's honest ones
	started         int
	all             []*extra
	server          *extra
	formers         []*extra // hostile ones that have left and live on
}

// An extra is one process of an episode.
type extra struct {
	*process
	part  string
	diary *diary
	lane  uint16

	generation, attachment uint64 // where it was last, as far as it has said
	tainted                bool   // of an honest client: others could write its memory
	killed, gone           bool
	settled                bool // of a server: it has received all that there was, and has sent its last
	calm                   bool // of a client: it closed in good order, with all answered
	refused                string
}

func (e *hostileEpisode) logf(format string, args ...any) {
	e.Log = append(e.Log, fmt.Sprintf(format, args...))
}

func (e *hostileEpisode) count(name string, n int) {
	if e.Counts == nil {
		e.Counts = map[string]int{}
	}
	e.Counts[name] += n
}

// broke notes a broken promise. If the server is dead by itself, that is it.
func (e *hostileEpisode) broke(contract, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if s := e.server; s != nil && !s.gone {
		select {
		case <-s.done:
			s.gone = true
			_ = e.ended(s)
		case <-time.After(time.Second):
		}
	}
	e.logf("BROKEN %s: %s", contract, what)
	e.Broken = append(e.Broken, Failure{contract, what, ReproduceHostile(e.Seed)})
	return errBroken
}

func (e *hostileEpisode) path() string { return filepath.Join(e.directory, "s") }

// launch starts a process with a diary of its own.
func (e *hostileEpisode) launch(part string, argument func(x *extra, diary string) any) (*extra, error) {
	e.started++
	x := &extra{part: part, lane: uint16(e.started)}
	name := filepath.Join(e.home, fmt.Sprintf("%02d-%s", e.started, strings.ReplaceAll(part, " ", "-")))
	var err error
	if x.diary, err = openDiary(name); err != nil {
		return nil, err
	}
	if x.process, err = start(part, argument(x, name)); err != nil {
		return nil, err
	}
	e.all = append(e.all, x)
	e.logf("start %v", x)
	return x, nil
}

func (x *extra) String() string { return fmt.Sprintf("%s %d", x.part, x.lane) }

func (e *hostileEpisode) honest(part string) (*extra, error) {
	return e.launch(part, func(x *extra, diary string) any {
		s := e.script
		s.Path, s.Diary, s.Seed = e.path(), diary, e.draw.Uint64()
		if part == "honest client" {
			s.Lane = x.lane
		}
		return s
	})
}

func (e *hostileEpisode) hostile(former bool) (*extra, error) {
	return e.launch("hostile client", func(x *extra, diary string) any {
		return hostileScript{Path: e.path(), Diary: diary, Seed: e.draw.Uint64(), Stays: 1 + e.draw.IntN(3), Former: former}
	})
}

// hear waits for a line of a process that begins with one of the words, and
// heeds the others.
func (e *hostileEpisode) hear(x *extra, limit time.Duration, words ...string) (word, rest string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		line, err := x.process.hear(ctx)
		if err != nil {
			return "", "", err
		}
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "up", "attached":
			_, _ = fmt.Sscan(rest, &x.generation, &x.attachment)
		case "FAIL":
			contract, what, _ := strings.Cut(rest, ": ")
			return "", "", e.broke(contract, "%v: %s", x, what)
		}
		if word == "left" || word == "event" {
			e.logf("%v: %s", x, line)
		}
		if slices.Contains(words, word) {
			return word, rest, nil
		}
	}
}

// want is hear for one that is honest: if it does not say one of the words, a
// promise is broken.
func (e *hostileEpisode) want(x *extra, contract string, words ...string) (word, rest string, err error) {
	word, rest, err = e.hear(x, settleLimit, words...)
	switch {
	case err == nil, errors.Is(err, errBroken):
		return word, rest, err
	case errors.Is(err, errEnded):
		x.gone = true
		return "", "", e.ended(x)
	}
	stacks := e.stacks(x)
	return "", "", e.broke(contract, "%v does not say %v%s", x, words, stacks)
}

// ended says that a process has ended by itself, with the first lines of why.
func (e *hostileEpisode) ended(x *extra) error {
	x.gone = true
	contract := "T1"
	if strings.HasPrefix(x.part, "hostile") {
		contract = "harness"
	}
	name := filepath.Join(e.home, fmt.Sprintf("stacks-%02d", x.lane))
	_ = os.WriteFile(name, []byte(x.log.String()), 0o600)
	why := strings.SplitN(x.log.String(), "\n", 3)
	return e.broke(contract, "%v ended by itself: %v %s; its stacks are in %s", x, x.cmd.ProcessState, strings.Join(why[:min(2, len(why))], " "), filepath.Base(name))
}

// stacks ends a process that is stuck, and returns what its goroutines were at.
func (e *hostileEpisode) stacks(x *extra) string {
	_ = x.signal(syscall.SIGQUIT)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = x.awaitEnd(ctx)
	x.gone = true
	name := filepath.Join(e.home, fmt.Sprintf("stacks-%02d", x.lane))
	_ = os.WriteFile(name, []byte(x.log.String()), 0o600)
	return "; its stacks are in " + filepath.Base(name)
}

// strike kills a process and waits for its end.
func (e *hostileEpisode) strike(x *extra) error {
	if x.gone {
		return nil
	}
	_ = x.signal(syscall.SIGKILL)
	return e.bury(x, true)
}

// bury waits for the end of a process: of the kill, or of its own.
func (e *hostileEpisode) bury(x *extra, struck bool) error {
	ctx, cancel := patiently(context.Background())
	defer cancel()
	signal, err := x.awaitEnd(ctx)
	if err != nil {
		return e.broke(contractStuck, "%v does not end%s", x, e.stacks(x))
	}
	_ = x.stdin.Close()
	x.gone = true
	switch {
	case signal == syscall.SIGKILL:
		x.killed = true
		e.Kills++
		e.count(countKills, 1)
		e.count("kills of "+x.part+"s", 1)
		e.logf("killed %v", x)
	case signal != 0 || !x.cmd.ProcessState.Success():
		return e.ended(x)
	default:
		e.logf("ended %v (struck %t)", x, struck)
	}
	return nil
}

// end leaves nothing behind.
func (e *hostileEpisode) end() {
	for _, x := range e.all {
		if !x.gone {
			x.kill()
		}
		x.diary.close()
	}
}
