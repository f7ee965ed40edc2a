package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// A world is one path with the pair on it, those who came before, and what was
// observed of all of them.
type world struct {
	ctx     context.Context
	path    string
	options actorOptions
	recruit func(*member) (party, error) // makes a party for a member
	uniform int                          // the size of each message; 0: as the operations say

	server, client *member // of now; nil if there is none
	buried         []*member
	beside         bool           // somebody died beside an operation of the other's
	fuse           *point         // where somebody is to die
	dialing        chan error     // of a client that dials while there is no server
	departed       []*member      // servers whose clients were told of their end
	background     sync.WaitGroup // of what waits for the next client
	members        [3]int

	mu       sync.Mutex
	ledgers  map[uint32]directions
	current  uint32 // the newest generation
	failures []Failure
}

// newWorld makes a world on a fresh path. Its end leaves nothing behind.
func newWorld(ctx context.Context, options actorOptions, recruit func(*member) (party, error)) (*world, error) {
	directory, err := newDirectory()
	if err != nil {
		return nil, err
	}
	if directory, err = filepath.EvalSymlinks(directory); err != nil {
		return nil, err
	}
	return &world{
		ctx: ctx, path: filepath.Join(directory, "s"), options: options, recruit: recruit,
		ledgers: map[uint32]directions{},
	}, nil
}

// end buries everybody and removes the path.
func (w *world) end() {
	// A server waits for its client to leave.
	for _, m := range append([]*member{w.client, w.server}, w.buried...) {
		if m != nil {
			m.bury()
		}
	}
	_ = os.RemoveAll(filepath.Dir(w.path))
}

// broken notes that a promise was broken. When everything ends, calls come back as
// they should not, and say nothing.
func (w *world) broken(contract, format string, args ...any) {
	if w.ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, Failure{Contract: contract, What: fmt.Sprintf(format, args...)})
}

// join makes a member for a role, and buries the one it replaces.
func (w *world) join(role ipc.Role) (*member, error) {
	w.members[role]++
	m := &member{role: role, number: w.members[role], w: w, cues: map[step.ID]*cue{}}
	if role == ipc.RoleServer {
		m.life = 1
	}
	p, err := w.recruit(m)
	if err != nil {
		return nil, fmt.Errorf("chaos: start a %v: %w", role, err)
	}
	m.party = p
	w.light(m)
	at := &w.client
	if role == ipc.RoleServer {
		at = &w.server
	}
	if *at != nil {
		w.buried = append(w.buried, *at)
	}
	*at = m
	return m, nil
}

// reached is told of every step of every member, just when it is reached. It
// returns what is to happen besides, in a goroutine of its own.
func (w *world) reached(m *member, at step.ID, value uint64) (then func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m.clock++
	m.last = at
	m.trail = append(m.trail, at)
	w.learn(m, at, value)
	if c := m.cues[at]; c != nil {
		delete(m.cues, at)
		close(c.given)
		return c.act
	}
	return nil
}

// outlived is told of a step that a member reached when it was about to die: what
// it has stored is there, and nothing else comes of it.
func (w *world) outlived(m *member, at step.ID, value uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.learn(m, at, value)
}

// learn notes what a step says of its member, and of the messages.
func (w *world) learn(m *member, at step.ID, value uint64) {
	switch at {
	case step.GenerationRecorded:
		m.generation, w.current = uint32(value), uint32(value)
		w.ledgers[m.generation] = directions{
			toServer: newLedger(m.generation, "toServer", w.options.RingSize),
			toClient: newLedger(m.generation, "toClient", w.options.RingSize),
		}
		w.ledgers[m.generation].toServer.begin()
		m.lives = true
	case step.DialBegun:
		w.part(m) // from a server that died before the dial was done
		m.attached, m.goodbye, m.farewell = false, false, false
	case step.GrantReceived:
		m.generation, m.life, m.next, m.lives = w.current, int(value), 0, true
		w.ledgers[m.generation].toClient.begin()
	case step.AttachmentStored:
		m.attached = true
	case step.GoodbyeSaid:
		m.goodbye = true
	case step.Published:
		w.ledgers[m.generation].out(m.role).reach(at, value)
	case step.Delivered, step.Released:
		w.ledgers[m.generation].in(m.role).reach(at, value)
	}
}

// cue has act called, in a goroutine of its own, when the member next reaches a
// step.
func (w *world) cue(m *member, at step.ID, act func()) *cue {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &cue{act, make(chan struct{})}
	m.cues[at] = c
	return c
}

// uncue takes a cue back, and reports whether it was given before.
func (w *world) uncue(m *member, at step.ID, c *cue) (given bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(m.cues, at)
	select {
	case <-c.given:
		return true
	default:
		return false
	}
}

// setClocks sets the clocks of the pair to zero.
func (w *world) setClocks() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range []*member{w.server, w.client} {
		if m != nil {
			m.clock = 0
		}
	}
}

// errStuck is a call that did not come back: M7, or a harness that is wrong.
var errStuck = errors.New("a call did not come back")

// patience bounds one command. It is a watchdog's bound, not a claim.
var patience = watchdog / 2

// tell has a member do something, and enters what came of it. The answer of one
// who dies in it is empty, with the error errEnded.
func (w *world) tell(m *member, c command) (reply, error) {
	w.prepare(m, c)
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	got, err := m.do(ctx, c)
	if m.dead() {
		err = errEnded // also if it died just behind its answer, which is then nobody's
		w.settle(m, c, reply{})
		return reply{}, err
	}
	if ctx.Err() != nil && (err != nil || got.Sort == "deadline" || got.Sort == "cancelled") {
		if w.ctx.Err() == nil {
			w.broken("M7 NoStuckWaiter", "%v: %v did not come back, last step %v", m.role, c, m.last)
		}
		return got, errStuck
	}
	if err == nil {
		w.settle(m, c, got)
	}
	if got.tellsOfDeath() {
		w.awaitFall()
	}
	return got, err
}

// tellsOfDeath reports whether an answer may be the work of a death: the peer
// can know of it before the script does.
func (a reply) tellsOfDeath() bool {
	for _, end := range a.Ends {
		if end.Verdict == "died" {
			return true
		}
	}
	return a.Trouble != "" && a.Sort != "full" && a.Sort != "cancelled" && a.Sort != "client running"
}

// awaitFall waits until one of the pair is dead, if one is about to be.
func (w *world) awaitFall() {
	if mourned := w.server != nil && w.server.mourned || w.client != nil && w.client.mourned; !mourned {
		w.awaitFuse()
	}
}

// awaitFuse waits until its victim is dead, if it has burnt down.
func (w *world) awaitFuse() {
	if w.fuse == nil {
		return
	}
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	for _, m := range []*member{w.server, w.client} {
		if m != nil && w.fuse.Clock == m.role {
			m.awaitVictim(ctx)
		}
	}
}

// sends reports whether a verb sends.
func (c command) sends() bool {
	switch c.Verb {
	case "send", "trysend", "batch", "reserve", "abort":
		return true
	}
	return false
}

// prepare enters what is about to be sent.
func (w *world) prepare(m *member, c command) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.sends() {
		w.ledgers[m.generation].out(m.role).sending(m.life, laneOf(m.role, m.life), c)
	}
}

// settle enters what came of a command.
func (w *world) settle(m *member, c command, got reply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, known := w.ledgers[m.generation]
	switch {
	case !known:
		return
	case c.sends():
		l := d.out(m.role)
		l.sent(len(c.Sizes))
		if got.Sort == "full" && got.Committed < len(c.Sizes) {
			l.refused(c.Sizes[got.Committed])
		}
		promised := len(l.stream.Sent) - len(c.Sizes)
		for i := range got.Committed {
			if c.Verb != "abort" && l.stream.Sent[promised+i].Committed != Yes {
				w.failures = append(w.failures, Failure{"M1 NoLoss", fmt.Sprintf("%v: %v said that it had committed %d, and no step shows it", m.role, c, got.Committed), ""})
			}
		}
	default:
		d.in(m.role).received(got.Received, got.Ends)
	}
}

// sizes names the sizes of messages; each gets the next number of its sender. In a
// world that is traced, all are of one size.
func (m *member) sizes(verb string, sizes ...int) command {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	for i := range sizes {
		if m.w.uniform > 0 {
			sizes[i] = m.w.uniform
		}
	}
	first := m.next
	m.next += uint32(len(sizes))
	return command{Verb: verb, First: first, Sizes: sizes}
}

// leave settles the life of a member that is dead, or has closed. It does so
// once.
func (w *world) leave(m *member) {
	if m == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	m.open = false
	w.part(m)
}

func (w *world) part(m *member) {
	if !m.lives {
		return
	}
	m.lives = false
	d, known := w.ledgers[m.generation]
	if !known {
		return
	}
	d.in(m.role).finish(m.life, m.dead())
	if m.role == ipc.RoleClient { // for a server's, see bereave
		d.toServer.depart(m.life, m.goodbye)
	}
}

// streams are what was observed, oldest generation first.
func (w *world) streams() (all []*Stream) {
	for generation := uint32(0); generation <= w.current; generation++ {
		if d, known := w.ledgers[generation]; known {
			all = append(all, d.toServer.stream, d.toClient.stream)
		}
	}
	return all
}

// pageSize is the smallest ring.
var pageSize = os.Getpagesize()
