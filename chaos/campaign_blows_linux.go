package chaos

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// play runs the episode: its faults, then the liveness phase. Whatever happens,
// no process is left.
func (p *pair) play(ctx context.Context) error {
	defer p.clear()
	for _, server := range []bool{true, false} {
		if err := p.launch(server); err != nil {
			return err
		}
	}
	for _, b := range p.episode.Swarm.Blows {
		if !b.Early {
			if err := p.settle(ctx); err != nil {
				return err
			}
		}
		if err := p.idle(ctx, b.After); err != nil {
			return err
		}
		if err := p.strikeWith(ctx, b); err != nil {
			return err
		}
	}
	return p.live(ctx)
}

// idle lets the pair run. The time is the fault's coordinate, drawn from the
// seed; nothing is waited for.
func (p *pair) idle(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tenants returns the victim and the other one.
func (p *pair) tenants(server bool) (victim, other *tenant) {
	if server {
		return p.server, p.client
	}
	return p.client, p.server
}

// strikeWith does one thing to the pair, and starts again what has ended by it,
// as a supervisor in production would.
func (p *pair) strikeWith(ctx context.Context, b struckBlow) error {
	victim, other := p.tenants(b.Server)
	switch b.What {
	case killClient:
		return p.replace(ctx, p.client)
	case killServer:
		return p.replace(ctx, p.server)
	case killBoth:
		p.strike(victim)
		p.strike(other)
		for _, t := range []*tenant{victim, other} {
			if err := p.bury(t); err != nil {
				return err
			}
		}
		return errors.Join(p.launch(true), p.launch(false))
	case freezeThaw:
		p.freeze(victim)
		defer p.thaw(victim)
		return p.idle(ctx, b.Length)
	case freezeKill:
		p.freeze(victim)
		if err := p.idle(ctx, b.Length); err != nil {
			return err
		}
		return p.replace(ctx, victim)
	case freezeCross:
		return p.cross(ctx, victim, other, b)
	case starve:
		return p.starve(ctx, b.Length)
	case closeClient, closeServer:
		return p.part(ctx, b.What == closeServer)
	case intrude:
		return p.intrude(ctx)
	}
	return nil
}

// replace kills a tenant and starts the next one.
func (p *pair) replace(ctx context.Context, t *tenant) error {
	tell := !t.server && t.up && p.server.up && p.episode.Swarm.LeaveInOrder
	if err := p.kill(t); err != nil {
		return err
	}
	if tell {
		if err := p.hear(ctx, p.server, "left"); err != nil {
			return err
		}
	}
	return p.launch(t.server)
}

// cross freezes one and kills the other: the zombie holds its place, whoever
// comes. Then it goes on, or dies too.
func (p *pair) cross(ctx context.Context, zombie, victim *tenant, b struckBlow) error {
	p.freeze(zombie)
	if err := p.kill(victim); err != nil {
		return err
	}
	if err := p.launch(victim.server); err != nil {
		return err
	}
	if err := p.idle(ctx, b.Length); err != nil {
		return err
	}
	if b.Early {
		return p.replace(ctx, zombie)
	}
	p.thaw(zombie)
	return nil
}

// starve keeps the processors busy with another process.
func (p *pair) starve(ctx context.Context, d time.Duration) error {
	if p.spinner == nil {
		spinner, err := start("spinner", nil)
		if err != nil {
			return err
		}
		p.spinner = spinner
	}
	p.log(didStarve, nil, "")
	_ = p.spinner.signal(syscall.SIGCONT)
	defer func() { _ = p.spinner.signal(syscall.SIGSTOP) }()
	return p.idle(ctx, d)
}

var _ = register("spinner", func(*player) {
	for range 2 {
		go func() {
			for {
				spun.Add(1)
			}
		}()
	}
	select {}
})

// spun keeps the spinner's loops from being empty.
var spun atomic.Uint64

// part has one side leave in good order, under load.
func (p *pair) part(ctx context.Context, server bool) error {
	if err := p.settle(ctx); err != nil {
		return err
	}
	t, command := p.client, "again"
	if server {
		t, command = p.server, "close"
	}
	p.log(didClose, t, "")
	t.tell(command)
	return p.hear(ctx, t, "closed")
}

// intrude tries to be a second server and a second client (L1, L2).
func (p *pair) intrude(ctx context.Context) error {
	if err := p.settle(ctx); err != nil {
		return err
	}
	if p.server.fatal || p.client.fatal {
		return nil // in a replay: it may die in the middle of this
	}
	ctx, cancel := patiently(ctx)
	defer cancel()
	tries := [2]seat{}
	var options [2]*ipc.Options
	for i, server := range []bool{true, false} {
		at, err := p.flight.seat(tracedRole{Server: server, Second: true}, lifeSlots)
		if err != nil {
			return err
		}
		recorder, err := at.open()
		if err != nil {
			return err
		}
		defer recorder.close()
		tries[i], options[i] = at, step.Watched(&ipc.Options{}, recorder.hook)
	}
	if e, err := ipc.Listen(ctx, p.path(), options[0]); !errors.Is(err, ipc.ErrServerRunning) {
		if err == nil {
			_ = e.Close()
		}
		return p.broke(nil, "L1 SingleServer", "a second Listen returned %v", err)
	}
	p.flight.killed(tries[0])
	if e, err := ipc.Dial(ctx, p.path(), options[1]); !errors.Is(err, ipc.ErrClientRunning) {
		if err == nil {
			_ = e.Close()
		}
		return p.broke(nil, "L2 SingleClient", "a second Dial returned %v", err)
	}
	p.flight.killed(tries[1])
	p.log(didIntrude, nil, "")
	return nil
}

// live is the liveness phase: no more faults. What is in flight completes, both
// exchange a last message behind everything else, agree on an empty account, and
// leave nothing.
func (p *pair) live(ctx context.Context) error {
	if err := p.spare(ctx); err != nil {
		return err
	}
	p.log(didCalm, nil, "")
	for _, phase := range []struct{ command, answer string }{{"calm", "quiet"}, {"account", "counted"}} {
		p.server.tell(phase.command)
		p.client.tell(phase.command)
		if err := p.hearBoth(ctx, phase.answer); err != nil {
			return err
		}
	}
	for _, t := range []*tenant{p.client, p.server} {
		t.tell("close")
		if err := p.reap(t); err != nil {
			return err
		}
	}
	p.episode.Calm = true
	return p.leftovers()
}

// spare waits until both are up and neither is to die: one that a replay told to,
// and which no blow has met, dies now.
func (p *pair) spare(ctx context.Context) error {
	for {
		if err := p.settle(ctx); err != nil {
			return err
		}
		doomed := p.server
		if !doomed.fatal {
			doomed = p.client
		}
		if !doomed.fatal {
			return nil
		}
		if err := p.replace(ctx, doomed); err != nil {
			return err
		}
	}
}

// hearBoth waits until both have said a word.
func (p *pair) hearBoth(ctx context.Context, want string) error {
	ctx, cancel := patiently(ctx)
	defer cancel()
	said := map[*tenant]bool{}
	for !said[p.server] || !said[p.client] {
		from, line, err := p.next(ctx)
		if err != nil {
			return err
		}
		if len(line) >= len(want) && line[:len(want)] == want {
			said[from] = true
		}
	}
	return nil
}

// leftovers looks at what the pair has left behind (L8).
func (p *pair) leftovers() error {
	entries, err := os.ReadDir(p.directory)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !staysBehind(entry.Name(), p.path()) {
			_ = p.broke(nil, "L8 NoLeak", "%s is left", entry.Name())
		}
	}
	return nil
}

// clear ends every process of the pair.
func (p *pair) clear() {
	for _, t := range []*tenant{p.server, p.client} {
		if t != nil && t.process != nil && !t.gone {
			t.process.kill()
		}
	}
	if p.spinner != nil {
		p.spinner.kill()
		p.spinner = nil
	}
}
