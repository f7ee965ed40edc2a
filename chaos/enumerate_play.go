package chaos

import (
	"context"
	"slices"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// A played is one case of the enumerator, played to its end.
type played struct {
	Coordinate string
	Failures   []Failure `json:",omitempty"`
	Deaths     []died    `json:",omitempty"` // as they came; fewer than wanted if a point was not reached
	Thaws      []died    `json:",omitempty"` // who was frozen and went on

	// Clocks are how many steps each role had reached: behind each operation
	// without a death, and in the recovery behind the last death.
	Operations []clocks
	Recovery   clocks

	Followed map[string]int `json:",omitempty"` // what the specification's machines did, by a report's counts
}

type clocks struct{ Server, Client int }

func (c clocks) of(role ipc.Role) int {
	if role == ipc.RoleServer {
		return c.Server
	}
	return c.Client
}

// A died is a death as it happened.
type died struct{ Step, During, Outcome string }

// play plays a case: the operations, the deaths, the recovery from each, and the
// judgement.
func play(ctx context.Context, c coordinate, recruit func(*member) (party, error)) played {
	p := played{Coordinate: c.String()}
	o := worldOptions(c.Operations)
	o.Start = c.start()
	w, err := newWorld(ctx, o, recruit)
	if err != nil {
		p.Failures = []Failure{{"harness", err.Error(), p.Coordinate}}
		return p
	}
	defer w.end()
	p.play(w, c)
	p.Failures = w.judge()
	for i := range p.Failures {
		p.Failures[i].Reproduce = p.Coordinate
	}
	return p
}

func (p *played) play(w *world, c coordinate) {
	if c.Operations[0] != "listen" && !w.setup(c.Actor) {
		w.unexplained("the pair did not come about")
		return
	}
	w.setClocks()
	deaths := c.Deaths
	if len(deaths) > 0 {
		w.arm(deaths[0])
	}
	for _, operation := range c.Operations {
		if !w.perform(operation, c.Actor) {
			if !w.fallen() {
				w.unexplained(operation + " did not come to its end")
				return
			}
			if deaths = p.mournNext(w, operation, deaths); deaths == nil {
				return
			}
			break
		}
		p.Operations = append(p.Operations, w.clocks())
	}
	if w.disarm(); len(p.Deaths) == 0 && len(deaths) > 0 && w.fallen() { // too late for any operation to notice
		deaths = p.mournNext(w, c.Operations[len(c.Operations)-1], deaths)
	}
	for {
		w.setClocks()
		if len(deaths) > 0 && len(p.Deaths) > 0 {
			w.arm(deaths[0])
		}
		recovered := w.recover()
		p.Recovery = w.clocks()
		w.disarm()
		if recovered && !w.fallen() {
			break
		}
		if !w.fallen() {
			w.unexplained("the recovery did not come to its end")
			return
		}
		if deaths = p.mournNext(w, "recovery", deaths); deaths == nil {
			return
		}
	}
	if !w.finish() {
		w.unexplained("the last pair did not come to its end")
	}
}

// mournNext is mourn for the first of the deaths that are to come, and returns the
// others; nil if there was none to come, which is a failure.
func (p *played) mournNext(w *world, during string, deaths []point) []point {
	if len(deaths) == 0 {
		w.broken("harness", "somebody has ended by itself, during %s", during)
		return nil
	}
	p.mourn(w, during, deaths[0])
	return append([]point{}, deaths[1:]...)
}

// mourn notes who has died where.
func (p *played) mourn(w *world, during string, at point) {
	victim, other := w.pair(at.Victim)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beside = w.beside || at.Clock != at.Victim || during == "full" || during == "wait"
	outcome, reached := "died", victim.last
	switch {
	case victim.goodbye:
		outcome = "closed"
	case victim.role == ipc.RoleClient && !victim.attached, victim.role == ipc.RoleServer && !victim.open:
		outcome = "unnoticed"
	}
	if at.Clock != at.Victim {
		outcome, reached = outcome+" beside it", other.last
	}
	p.Deaths = append(p.Deaths, died{reached.String(), during, victim.role.String() + " " + outcome})
}

// unexplained makes sure that a case which did not come to its end has failed.
func (w *world) unexplained(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.failures) == 0 {
		w.failures = append(w.failures, Failure{Contract: "harness", What: what})
	}
}

// arm has somebody die at a point from now on.
func (w *world) arm(p point) {
	w.fuse = &p
	for _, m := range []*member{w.server, w.client} {
		if m != nil && !m.dead() && m.role == p.Clock {
			w.light(m)
		}
	}
}

// light arms a member if the point is on its clock.
func (w *world) light(m *member) {
	if w.fuse == nil || w.fuse.Clock != m.role {
		return
	}
	victim := m
	if w.fuse.Victim != m.role {
		_, victim = w.pair(m.role)
	}
	m.arm(fuse{w.fuse.N, victim})
}

// disarm takes back a point that was not reached. Behind it nobody dies of it.
func (w *world) disarm() {
	w.fuse = nil
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	for _, m := range []*member{w.server, w.client} {
		if m != nil && !m.dead() {
			m.disarm(ctx)
		}
	}
}

// clocks are the steps of the pair since the clocks were set.
func (w *world) clocks() (c clocks) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.server != nil {
		c.Server = w.server.clock
	}
	if w.client != nil {
		c.Client = w.client.clock
	}
	return c
}

// worldOptions are the options for a sequence. Nothing ends a sleep by itself in
// a world, so that a lost wake-up is seen; where hearts are to beat when they are
// told, they are ready quickly.
func worldOptions(operations []string) actorOptions {
	o := actorOptions{
		RingSize: pageSize, Spin: ipc.NoSpin,
		HeartbeatInterval: time.Hour, HangTimeout: 10 * time.Hour,
		HandshakeTimeout: watchdog, CloseTimeout: watchdog,
	}
	if slices.Contains(operations, "beat") {
		o.HeartbeatInterval = 2 * time.Millisecond
	}
	return o
}

// points are the points in the last operation of a sequence, which was played
// without a death: those in the operations before belong to shorter sequences.
func points(whole played, operations []string) (all []point) {
	if len(whole.Operations) != len(operations) {
		return nil
	}
	last := len(operations) - 1
	var before clocks
	if last > 0 {
		before = whole.Operations[last-1]
	}
	for _, clock := range roles {
		for n := before.of(clock) + 1; n <= whole.Operations[last].of(clock); n++ {
			for _, victim := range roles {
				if victim == clock || !opens(operations[last]) {
					all = append(all, point{victim, clock, n})
				}
			}
		}
	}
	return all
}

// again are the points in a recovery.
func again(recovery clocks) (all []point) {
	for _, role := range roles {
		for n := 1; n <= recovery.of(role); n++ {
			all = append(all, point{role, role, n})
		}
	}
	return all
}
