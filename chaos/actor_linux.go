package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// An order is one line to an actor in a process of its own: a command, a charge,
// or neither, which asks for nothing but the reply that each of them gets.
type order struct {
	Number  int
	Command *command `json:",omitempty"`
	Charge  *charge  `json:",omitempty"`
}

// A charge is the signal that an actor sends to itself at its Step-th step from now
// on; the zero charge is none.
type charge struct {
	Signal syscall.Signal
	Step   int
}

// A striker tells of an actor's steps, one at a time, and strikes at the one that
// it is charged for. It holds the lock meanwhile: from there on the actor tells of
// no other step and can be charged with nothing, until it is thawed; one that is
// killed never is.
type striker struct {
	mu sync.Mutex
	charge
}

// load charges it anew, or only waits until it does not strike.
func (s *striker) load(with *charge) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if with != nil {
		s.charge = *with
	}
}

func (s *striker) step(p *player, r *recorder, at step.ID, value uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.hook(at, value)
	p.say("step %d %d", at, value)
	if s.Step == 0 {
		return
	}
	if s.Step--; s.Step == 0 {
		p.say("struck")
		signalSelf(s.Signal)
	}
}

// actorSlots is for how many events an actor of a case has room.
const actorSlots = 1 << 10

// tracedRole is what the flight of a world knows of a member; one without a number
// only tries.
func (m *member) tracedRole() tracedRole {
	return tracedRole{Server: m.role == ipc.RoleServer, Second: m.number == 0}
}

type actorArgument struct {
	Path    string
	Options actorOptions
	Seat    seat
}

// The actor of a process of its own. It records each step, and tells of it before
// it goes on, or does not: what it has told, it has stored.
var _ = register("actor", func(p *player) {
	var argument actorArgument
	p.arg(&argument)
	var strikes striker
	recorder, err := argument.Seat.open()
	if err != nil {
		p.fail("%v", err)
	}
	a := &actor{path: argument.Path, options: argument.Options}
	a.report = func(at step.ID, value uint64) { strikes.step(p, recorder, at, value) }
	for {
		var o order
		if err := json.Unmarshal([]byte(p.next()), &o); err != nil {
			p.fail("order: %v", err)
		}
		if o.Command == nil {
			strikes.load(o.Charge)
			p.say("reply %d {}", o.Number)
			continue
		}
		go func() {
			runtime.LockOSThread() // by which the recorder knows who sleeps
			defer runtime.UnlockOSThread()
			encoded, _ := json.Marshal(a.do(context.Background(), *o.Command))
			p.say("reply %d %s", o.Number, encoded)
		}()
	}
})

// A stroke is what is done to a process at a step.
type stroke struct {
	name   string
	at     syscall.Signal // which it sends to itself
	behind syscall.Signal // which it gets when it is stopped; 0 for none
}

var strokes = []stroke{
	{"killed", syscall.SIGKILL, 0},
	{"frozen and killed", syscall.SIGSTOP, syscall.SIGKILL},
	{"frozen and thawed", syscall.SIGSTOP, syscall.SIGCONT},
}

// A fork is a party that is a process of its own.
type fork struct {
	*process
	m      *member
	stroke stroke
	flight *flight
	seat   seat
	dead   chan struct{}

	frozen func(*member) // called while the process is stopped at its step
	struck chan struct{} // one when it says that it has reached that step
	armed  atomic.Bool

	mu     sync.Mutex
	number int
	calls  map[int]chan reply
}

// forks returns a function that makes forks for members, which get the stroke at
// the step that they are armed for, and a seat on the flight.
func forks(fl *flight, b stroke, frozen func(*member)) func(*member) (party, error) {
	return func(m *member) (party, error) {
		s, err := fl.seat(m.tracedRole(), actorSlots)
		if err != nil {
			return nil, err
		}
		p, err := start("actor", actorArgument{m.w.path, m.w.options, s})
		if err != nil {
			return nil, err
		}
		f := &fork{process: p, m: m, stroke: b, flight: fl, seat: s, frozen: frozen, dead: make(chan struct{}), calls: map[int]chan reply{}, struck: make(chan struct{}, 1)}
		go f.read()
		return f, nil
	}
}

// read takes what the process says: its steps, in order, and its replies.
func (f *fork) read() {
	defer close(f.dead)
	for {
		line, err := f.hear(context.Background())
		if err != nil {
			f.flight.killed(f.seat) // only that ends it
			return
		}
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "step":
			var at step.ID
			var value uint64
			if _, err := fmt.Sscan(rest, &at, &value); err == nil {
				if then := f.m.w.reached(f.m, at, value); then != nil {
					go then()
				}
			}
		case "struck":
			select {
			case f.struck <- struct{}{}:
			default: // nobody has waited for the last one
			}
		case "reply":
			var number int
			digits, text, _ := strings.Cut(rest, " ")
			var got reply
			_, err := fmt.Sscan(digits, &number)
			if err == nil {
				err = json.Unmarshal([]byte(text), &got)
			}
			if err != nil {
				f.m.w.broken("harness", "%v replied %q: %v", f.m.role, line, err)
			}
			f.mu.Lock()
			if call := f.calls[number]; call != nil {
				call <- got
				delete(f.calls, number)
			}
			f.mu.Unlock()
		default:
			f.m.w.broken("harness", "%v said %q%s", f.m.role, line, f.log)
		}
	}
}

func (f *fork) gone() <-chan struct{} { return f.dead }

// send sends one order.
func (f *fork) send(o order) {
	encoded, _ := json.Marshal(o)
	f.tell("%s", encoded)
}

// ask sends an order and waits for the reply.
func (f *fork) ask(ctx context.Context, o order) (reply, error) {
	f.mu.Lock()
	f.number++
	call := make(chan reply, 1)
	o.Number, f.calls[f.number] = f.number, call
	f.mu.Unlock()
	f.send(o)
	select {
	case got := <-call:
		return got, nil
	case <-f.dead:
		return reply{}, errEnded
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}

// do implements party.
func (f *fork) do(ctx context.Context, c command) (reply, error) {
	return f.ask(ctx, order{Command: &c})
}

// arm implements party. The victim is always this process.
func (f *fork) arm(at fuse) {
	f.armed.Store(true)
	if f.stroke.behind != 0 {
		stop := f.awaitStop()
		go func() {
			if <-stop != stopped {
				return
			}
			select {
			case <-f.struck: // all that it has told before is known now
			case <-f.dead:
				return
			}
			f.frozen(f.m)
			_ = f.signal(f.stroke.behind)
		}()
	}
	f.send(order{Charge: &charge{f.stroke.at, at.n}})
}

// disarm implements party: either the process replies, or it dies of its stroke.
func (f *fork) disarm(ctx context.Context) {
	if f.armed.Swap(false) {
		_, _ = f.ask(ctx, order{Charge: &charge{}})
	}
}

// awaitVictim implements party, in the same way.
func (f *fork) awaitVictim(ctx context.Context) {
	if f.armed.Load() {
		_, _ = f.ask(ctx, order{})
	}
}

// bury implements party.
func (f *fork) bury() {
	f.kill()
	<-f.dead
}
