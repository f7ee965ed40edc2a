package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A tenant is a process of a pair as the campaign sees it.
type tenant struct {
	*process
	server      bool
	incarnation int    // of its first stay
	fatal       bool   // a replay has told it where to die
	up          bool   // it has an endpoint, as far as it has said
	generation  uint32 // of that endpoint
	seat        seat
	frozen      bool
	gone        bool
}

// A pair is one path with its server and its client, and the supervisor's view
// of them.
type pair struct {
	directory      string // of the socket
	home           string // of the episode
	episode        *episode
	fates          []spot // of a replay
	flight         *flight
	server, client *tenant
	starts         [2]int // by role
	spinner        *process
}

// errBroken says that the episode cannot go on; what broke is in its log.
var errBroken = errors.New("chaos: the episode broke")

// settleLimit bounds each wait for something that is to happen by itself. Where it
// ends, somebody is stuck.
const settleLimit = 30 * time.Second

func (p *pair) log(what string, t *tenant, format string, args ...any) {
	o := occurrence{Time: monotonic(), What: what, Text: fmt.Sprintf(format, args...)}
	if t != nil {
		o.Incarnation = t.incarnation
	}
	p.episode.Log = append(p.episode.Log, o)
}

func (p *pair) broke(t *tenant, contract, format string, args ...any) error {
	p.log(sawBroken, t, contract+": "+format, args...)
	return errBroken
}

func (p *pair) path() string { return filepath.Join(p.directory, "s") }

// lifeSlots is for how many events of its life a tenant has room.
const lifeSlots = 1 << 11

// launch starts a server or a client. Incarnations are counted by role, in
// hundreds: what a process itself does again takes the numbers between.
func (p *pair) launch(server bool) error {
	incarnation := 100 * (2*p.starts[role(server)] + 1 + role(server))
	p.starts[role(server)]++
	t := &tenant{server: server, incarnation: incarnation}
	argument := residentArgument{
		Server: server, Path: p.path(), Tape: filepath.Join(p.home, tapePrefix),
		Incarnation: incarnation, Swarm: p.episode.Swarm,
	}
	argument.Swarm.Blows = nil
	for _, c := range p.fates {
		if c.Incarnation/100 == incarnation/100 {
			argument.Fatal, t.fatal = &c, true
		}
	}
	p.log(didStart, t, "%s", roleName(server))
	var err error
	if t.seat, err = p.flight.seat(tracedRole{Server: server}, lifeSlots); err != nil {
		return err
	}
	if t.seat.Life = !p.episode.Swarm.Traced; !t.seat.Life {
		t.seat.Slots = recordingSlots
	}
	argument.Seat = t.seat
	if t.process, err = start("resident", argument); err != nil {
		return err
	}
	if server {
		p.server = t
	} else {
		p.client = t
	}
	return nil
}

// heed takes one line of a tenant.
func (p *pair) heed(t *tenant, line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "up":
		var incarnation, attachment int
		if _, err := fmt.Sscan(rest, &incarnation, &t.generation, &attachment); err != nil {
			return p.broke(t, "harness", "it said %q", line)
		}
		t.up = true
	case "ended", "closed":
		t.up = false
	case "FAIL":
		contract, what, found := strings.Cut(rest, ": ")
		if !found {
			contract, what = "harness", rest
		}
		return p.broke(t, contract, "%s: %s", roleName(t.server), what)
	}
	return nil
}

// next waits for a line of either tenant and heeds it. A tenant that has ended by
// itself as it should is started again.
func (p *pair) next(ctx context.Context) (from *tenant, line string, err error) {
	var ok bool
	select {
	case line, ok = <-p.server.said():
		from = p.server
	case line, ok = <-p.client.said():
		from = p.client
	case <-ctx.Done():
		if context.Cause(ctx) == errIdle {
			return nil, "", p.stuck()
		}
		return nil, "", ctx.Err()
	}
	if ok {
		return from, line, p.heed(from, line)
	}
	if err := p.reap(from); err != nil {
		return from, "", err
	}
	return from, "", p.launch(from.server)
}

// said is what the tenant says; of one that was buried nothing more is heard.
func (t *tenant) said() <-chan string {
	if t.gone {
		return nil
	}
	return t.lines
}

var errIdle = errors.New("chaos: nothing happens")

// patiently bounds a wait.
func patiently(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, settleLimit, errIdle)
}

// stuck says that something does not happen that should, with all goroutines of
// both processes.
func (p *pair) stuck() error {
	for _, t := range []*tenant{p.server, p.client} {
		p.log(didKill, t, "stuck")
		_ = t.signal(syscall.SIGQUIT)
		quit, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, _ = t.awaitEnd(quit)
		cancel()
		name := filepath.Join(p.home, fmt.Sprintf("stacks-%s-%d", roleName(t.server), t.incarnation))
		_ = os.WriteFile(name, []byte(t.process.log.String()), 0o600)
	}
	return p.broke(nil, contractStuck, "the pair does not come to an end: server up %t, client up %t", p.server.up, p.client.up)
}

// reap waits for a tenant that ends by itself. One that was not told to, or not
// so, is a failure.
func (p *pair) reap(t *tenant) error {
	ctx, cancel := patiently(context.Background())
	defer cancel()
	signal, err := t.awaitEnd(ctx)
	_ = t.stdin.Close()
	t.gone, t.up = true, false
	switch {
	case err != nil:
		return p.broke(t, contractStuck, "%s does not end", roleName(t.server))
	case t.fatal && signal == syscall.SIGKILL:
		p.log(didKill, t, byItself)
		p.flight.killed(t.seat)
	case signal != 0 || !t.cmd.ProcessState.Success():
		return p.endedByItself(t)
	}
	p.log(didReap, t, "")
	return nil
}

// settle waits until both are up and attached to each other.
func (p *pair) settle(ctx context.Context) error {
	ctx, cancel := patiently(ctx)
	defer cancel()
	for !p.server.up || !p.client.up || p.server.generation != p.client.generation {
		if _, _, err := p.next(ctx); err != nil {
			return err
		}
	}
	return nil
}

// hear waits until a tenant says a word.
func (p *pair) hear(ctx context.Context, t *tenant, want string) error {
	ctx, cancel := patiently(ctx)
	defer cancel()
	for {
		from, line, err := p.next(ctx)
		if err != nil {
			return err
		}
		if word, _, _ := strings.Cut(line, " "); from == t && word == want {
			return nil
		}
		if from == t && line == "" { // it has ended, and another is there
			return nil
		}
	}
}

// kill kills a tenant, and waits for its end in the kernel.
func (p *pair) kill(t *tenant) error {
	p.strike(t)
	return p.bury(t)
}

// strike sends SIGKILL; in a replay the victim does that itself. Whether that ends
// the process is seen when it is buried.
func (p *pair) strike(t *tenant) {
	if t.fatal && !t.gone {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		signal, err := t.awaitEnd(ctx)
		cancel()
		if err == nil && signal == syscall.SIGKILL {
			p.log(didKill, t, byItself)
			return
		}
	}
	p.log(didKill, t, "")
	_ = t.signal(syscall.SIGKILL)
}

// bury waits for the end of a tenant that was struck. One that had left in good
// order before was not killed.
func (p *pair) bury(t *tenant) error {
	ctx, cancel := patiently(context.Background())
	defer cancel()
	if t.gone {
		return nil
	}
	signal, err := t.awaitEnd(ctx)
	if err != nil {
		return p.broke(t, "harness", "%s survives SIGKILL", roleName(t.server))
	}
	_ = t.stdin.Close()
	t.gone, t.up = true, false
	if signal == syscall.SIGKILL {
		p.flight.killed(t.seat)
	} else if p.missed(t); signal != 0 || !t.cmd.ProcessState.Success() {
		return p.endedByItself(t)
	}
	p.log(didReap, t, "")
	return nil
}

// missed takes back that a tenant was killed: it had ended before.
func (p *pair) missed(t *tenant) {
	p.episode.Log = slices.DeleteFunc(p.episode.Log, func(o occurrence) bool {
		return o.What == didKill && o.Incarnation == t.incarnation
	})
}

func (p *pair) endedByItself(t *tenant) error {
	return p.broke(t, "harness", "%s ended by itself: %v%s", roleName(t.server), t.cmd.ProcessState, t.process.log)
}

func (p *pair) freeze(t *tenant) {
	p.log(didFreeze, t, "")
	_ = t.signal(syscall.SIGSTOP)
	t.frozen = true
}

func (p *pair) thaw(t *tenant) {
	p.log(didThaw, t, "")
	_ = t.signal(syscall.SIGCONT)
	t.frozen = false
}

// save writes the episode beside its tapes.
func (p *pair) save() error {
	text, err := json.MarshalIndent(p.episode, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.home, episodeFile), text, 0o600)
}
