package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// drawScript draws how the honest ones are.
func (e *hostileEpisode) drawScript() {
	e.script = honestScript{
		ToServer: os.Getpagesize() << e.draw.IntN(2), ToClient: os.Getpagesize() << e.draw.IntN(2), Kill: e.draw.IntN(2) == 0,
		Spin: []time.Duration{0, ipc.NoSpin}[e.draw.IntN(2)], Pace: []time.Duration{0, 100 * time.Microsecond, time.Millisecond}[e.draw.IntN(3)],
	}
}

// withHostileClients is an episode with an honest server.
func (e *hostileEpisode) withHostileClients(ctx context.Context) error {
	e.drawScript()
	if err := e.serve(); err != nil {
		return err
	}
	if err := e.visit(true); err != nil {
		return err
	}
	for range 3 + e.draw.IntN(4) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.server.tell([]string{"eager", "lazy", "absent", "absent"}[e.draw.IntN(4)])
		if err := e.assault(); err != nil {
			return err
		}
		switch e.draw.IntN(6) {
		case 0: // the next server finds what they have left
			if err := e.replace(); err != nil {
				return err
			}
		case 1, 2, 3:
			e.server.tell([]string{"eager", "lazy"}[e.draw.IntN(2)])
			if err := e.visit(e.draw.IntN(2) == 0); err != nil {
				return err
			}
		}
	}
	return e.conclude()
}

// serve starts a server.
func (e *hostileEpisode) serve() (err error) {
	if e.server, err = e.honest("honest server"); err == nil {
		_, _, err = e.want(e.server, "L3 BothRestart", "up")
	}
	return err
}

// replace ends the server and starts the next one.
func (e *hostileEpisode) replace() error {
	e.exorcise(0)
	if e.draw.IntN(2) == 0 {
		if err := e.strike(e.server); err != nil {
			return err
		}
	} else if err := e.closeServer(); err != nil {
		return err
	}
	return e.serve()
}

func (e *hostileEpisode) closeServer() error {
	e.server.tell("close")
	_, rest, err := e.want(e.server, "L8 NoLeak", "closed")
	if err == nil && rest != "<nil>" && !strings.Contains(rest, "client") {
		err = e.broke("L8 NoLeak", "Close of a server: %s", rest)
	}
	if err == nil {
		err = e.bury(e.server, false)
	}
	return err
}

// assault has some hostile clients come, one behind the other or several at once.
func (e *hostileEpisode) assault() error {
	for range 1 + e.draw.IntN(3) {
		var crowd []*extra
		for range 1 + e.draw.IntN(3) {
			x, err := e.hostile(len(e.formers) < 2 && e.draw.IntN(5) == 0)
			if err != nil {
				return err
			}
			crowd = append(crowd, x)
		}
		for _, x := range crowd {
			if err := e.confront(x); err != nil {
				return err
			}
		}
	}
	return nil
}

// confront lets a hostile client do what it does, or kills it at some time.
func (e *hostileEpisode) confront(x *extra) error {
	word, _, err := "", "", error(nil)
	for range 1 + e.draw.IntN(3) {
		word, _, err = e.hear(x, settleLimit, "attached", "parted", "done", "refused")
		if word != "attached" {
			break
		}
	}
	switch {
	case errors.Is(err, errEnded): // it has killed itself
		return e.bury(x, false)
	case err != nil:
		return e.broke("harness", "%v: %v", x, err)
	case word == "parted":
		e.logf("parted %v", x)
		e.formers = append(e.formers, x)
		x.tell("haunt")
		return nil
	case word == "attached":
		switch e.draw.IntN(3) {
		case 0:
			time.Sleep(time.Duration(e.draw.IntN(4000)) * time.Microsecond)
		case 1:
			_ = x.signal(syscall.SIGSTOP)
			time.Sleep(time.Duration(e.draw.IntN(4000)) * time.Microsecond)
		}
	}
	return e.strike(x)
}

// exorcise kills former clients, until so many are left.
func (e *hostileEpisode) exorcise(left int) {
	for len(e.formers) > left {
		_ = e.strike(e.formers[0])
		e.formers = e.formers[1:]
	}
}

// visit has an honest client come: it must be served once hostile ones are gone.
// Beside a former one it may be dropped, and nothing worse.
func (e *hostileEpisode) visit(calm bool) error {
	x, err := e.honest("honest client")
	if err != nil {
		return err
	}
	x.tainted = len(e.formers) > 0
	contract := "L7 ClientRestart"
	word, rest, err := e.want(x, contract, "up", "refused")
	if err != nil {
		return err
	}
	if word == "refused" {
		return e.turnedAway(x, rest)
	}
	if !calm {
		time.Sleep(time.Duration(e.draw.IntN(8000)) * time.Microsecond)
		return e.strike(x)
	}
	time.Sleep(time.Duration(e.draw.IntN(3000)) * time.Microsecond)
	x.tell("ping")
	limit := settleLimit
	if x.tainted { // its words may be lost: it has no right to an answer
		limit = 100 * time.Millisecond
	}
	word, rest, err = e.hear(x, limit, "quiet", "ended")
	switch {
	case word == "ended" && x.tainted:
		e.count("honest ones dropped beside a former", 1)
		if strings.HasPrefix(rest, fmt.Sprint(endOther)) {
			return e.broke("T1", "%v: %s", x, rest)
		}
		if _, _, err := e.want(x, contractStuck, "closed"); err != nil {
			return err
		}
		return e.bury(x, false)
	case word == "ended":
		return e.broke("T1", "%v was sound, and alone, and its end is: %s", x, rest)
	case err != nil && errors.Is(err, errBroken):
		return err
	case err != nil && errors.Is(err, errEnded):
		return e.ended(x)
	case err != nil && !x.tainted:
		return e.broke(contractStuck, "%v gets no answer%s; the server's: %s", x, e.stacks(x), e.stacks(e.server))
	}
	x.calm = err == nil && !x.tainted
	x.tell("close")
	if _, rest, err = e.want(x, contractStuck, "closed"); err != nil {
		return err
	}
	if rest != "<nil>" {
		return e.broke("L8 NoLeak", "%v: Close: %s", x, rest)
	}
	return e.bury(x, false)
}

// turnedAway is an honest client that could not attach.
func (e *hostileEpisode) turnedAway(x *extra, why string) error {
	x.refused = why
	if x.tainted && strings.HasPrefix(why, fmt.Sprint(endCorrupt)) {
		e.count("honest ones dropped beside a former", 1)
		return e.bury(x, false)
	}
	if x.tainted { // a former one can still keep it out: by a lock that it has, or by having the memory spoilt each time
		e.count("honest ones kept out beside a former", 1)
	}
	return e.broke("L7 ClientRestart", "%v (beside a former: %t) does not attach: %s", x, x.tainted, why)
}

// conclude sees that an honest pair works, and takes up no more than at first.
func (e *hostileEpisode) conclude() error {
	e.exorcise(0)
	if len(e.Broken) > 0 {
		return errBroken
	}
	e.server.tell("eager")
	if err := e.visit(true); err != nil {
		return err
	}
	e.server.tell("account")
	if _, _, err := e.want(e.server, "M6 Account", "account"); err != nil {
		return err
	}
	if err := e.await(e.server, e.tooMuch); err != nil {
		return err
	}
	e.server.tell("hush")
	if err := e.visit(true); err != nil {
		return err
	}
	if err := e.visit(true); err != nil { // what was on its way when it was told to hush
		return err
	}
	e.server.settled = true
	return e.closeServer()
}

// A server is given some time to let go of what it had for a client.
const footPatience = 10 * time.Second

// await looks at what a process takes up until nothing is wrong with it.
func (e *hostileEpisode) await(x *extra, wrong func(footing) string) error {
	for begun := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		x.tell("foot")
		_, rest, err := e.want(x, contractStuck, "foot")
		if err != nil {
			return err
		}
		var f footing
		if _, err := fmt.Sscan(rest, &f.Descriptors, &f.Goroutines, &f.Memories, &f.Maps, &f.Threads, &f.Kilobytes); err != nil {
			return e.broke("harness", "a footing: %q", rest)
		}
		what := wrong(f)
		if what == "" {
			return nil
		}
		if time.Since(begun) > footPatience {
			return e.broke("L8 NoLeak", "%v: %s", x, what)
		}
	}
}

// What a server without a client has, in descriptors, and how much it may grow by
// what the Go runtime keeps.
const (
	moreMemories    = 4 // of clients, spoilt by them: a user has five
	idleDescriptors = 16 + moreMemories
	idleMemories    = 5 + 2*moreMemories // mappings of its own memory and the client's
	roomThreads     = 40
	roomKilobytes   = 96 << 10
	idleGoroutines  = 16
)

func (e *hostileEpisode) tooMuch(f footing) string {
	for _, check := range []struct {
		name        string
		have, limit int
	}{
		{"descriptors", f.Descriptors, idleDescriptors}, {"goroutines", f.Goroutines, idleGoroutines}, {"mappings of shared memory", f.Memories, idleMemories},
		{"threads", f.Threads, roomThreads}, {"kilobytes", f.Kilobytes, roomKilobytes},
	} {
		if check.have > check.limit {
			return fmt.Sprintf("%d %s, want at most %d", check.have, check.name, check.limit)
		}
	}
	return ""
}
