package chaos

import (
	"fmt"
	"slices"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/model"
)

// A lifeTrace is what was recorded of who lived on the path, in the words of the
// specification. There is one server at a time, which is called s1, and one client,
// c1; each may start again after its end. Beside them, s2 and c2 try and are refused.
type lifeTrace struct {
	script

	Servers        int // the last generation
	KillsS, KillsC int
	ClosesS        int
	ClosesC        int

	roles   map[int]tracedRole
	lives   map[string]int // deaths of each so far
	second  [2]bool        // there is a second one, by role
	granted bool           // the admission that is under way has sent its grant
	before  uint64         // the path's generation, before it all
	fallen  int            // the client that its closing server has killed
	proven  uint64         // the newest client of the generation whose end is proven
}

func (t *lifeTrace) String() string {
	return fmt.Sprintf("life cycle, %d generations, %d events", t.Servers, len(t.Events))
}

// config are the bounds within which the recorded run must be a run of the life
// cycle.
func (t *lifeTrace) config() model.LifecycleConfig {
	c := model.LifecycleConfig{
		Servers: 1 + count(t.second[role(true)]), Clients: 1 + count(t.second[role(false)]),
		MaxConn: 4, MaxGen: maxGenerations, HangTicks: 1, Wait: true,
		KillsS: t.KillsS, KillsC: t.KillsC, ClosesS: t.ClosesS, ClosesC: t.ClosesC,
	}
	if t.fallen != 0 { // which it is not for nothing
		c.KillOnClose, c.Freezes, c.FreezeWho = true, 1, []string{"c1"}
	}
	return c
}

// maxGenerations is how many generations the machine of the life cycle has room
// for. What comes behind the last of them is not replayed.
const maxGenerations = 3

// replay is the verdict of the model.
func (t *lifeTrace) replay() (int, error) { return model.ReplayConcurrent(t.machine()) }

func (t *lifeTrace) machine() (model.Machine[guarded[model.LifecycleRun]], model.Observer[guarded[model.LifecycleRun]], []model.Event) {
	m, sees := model.LifecycleRuns(t.config())
	return guarding(m, func(from model.LifecycleRun, a model.Action, to model.LifecycleRun) (model.Event, bool) {
		e, recorded := sees(from, a, to)
		if e.Who == model.Kernel {
			e = killOf(e)
		}
		return e, recorded
	}, t.Events)
}

// lifeTrace is the life cycle of a trace.
func (t *trace) lifeTrace() *lifeTrace {
	l := &lifeTrace{roles: t.Roles, lives: map[string]int{}, fallen: t.fallen(), before: t.Before}
	for i, e := range t.Events {
		switch {
		case e.At == step.LockFileOpened && l.Servers == maxGenerations, e.At == step.GenerationRecorded && e.Value-t.Before > maxGenerations:
			l.Left += len(t.Events) - i
			return l
		case e.At == recordKilled:
			l.killed(int(e.Value))
		case t.Roles[e.Process].Server:
			l.server(e)
		default:
			l.client(e)
		}
	}
	return l
}

// fallen is the client that its server has killed, closing, or 0.
func (t *trace) fallen() (client int) {
	for _, e := range t.Events {
		switch {
		case e.At == step.GrantReceived:
			client = e.Process
		case e.At == step.ClientKilled:
			return client
		}
	}
	return 0
}

// killed is the death of a process, unless it is one of the server's actions.
func (t *lifeTrace) killed(process int) {
	r := t.roles[process]
	if process == t.fallen {
		return
	}
	if r.Server {
		t.KillsS++
	} else {
		t.KillsC++
	}
	t.lives[r.name()]++
	t.enter(killOf(model.LifecycleKill(r.name())))
}

// add adds an event of a thread of control of a process.
func (t *lifeTrace) add(process int, lane, name string) {
	r := t.roles[process]
	t.second[role(r.Server)] = t.second[role(r.Server)] || r.Second
	t.enter(model.Event{Who: r.name() + lane, Life: t.lives[r.name()], Name: name})
}

func numberedName(e recorded) string { return placeName(e.At.String(), e.Value) }

// The steps of a server in Listen and Close, by one thread of control.
var listenAndClose = []step.ID{
	step.LockFileOpened, step.ServerLocked, step.TokenLocked, step.StaleProbed, step.GenerationRecorded,
	step.ServerSegmentMade, step.ClientSegmentMade, step.SocketBound, step.SocketListening, step.LockFileRechecked,
	step.TokenReturned, step.PathUnlinked, step.ListenerClosed, step.GoodbyeSaid, step.ConnectionClosed,
	step.TokenAwaited, step.ClientKilled, step.SegmentUnmapped, step.ServerUnlocked,
}

// about is what learns of the end of an attachment of the newest generation: its
// server waits, closing, until nothing does, so that no record comes later.
func (t *lifeTrace) about(lane string, attachment uint64) string {
	return fmt.Sprintf("%s %d.%d", lane, t.Servers, attachment)
}

func (t *lifeTrace) server(e recorded) {
	lane, name := "", e.At.String()
	switch e.At {
	case step.CloseBegun:
		t.ClosesS++
		return
	case step.ConnectionAccepted:
		lane = ".accept"
	case step.HelloReceived:
		lane = ".hello"
	case step.TokenTaken, step.ClientRecorded:
		lane, t.granted = ".admit", false
	case step.GrantSent:
		lane, name, t.granted = ".admit", numberedName(e), true
	case step.TokenHandedOver:
		if !t.granted {
			return // an admission that was given up
		}
		lane = ".admit"
	case step.ReadyReceived, step.EndSeen:
		if e.Value <= t.proven {
			return // an admission has settled it, and its watcher comes late
		}
		lane = t.about(".watch", e.Value)
	case step.EndProven:
		lane, t.proven = t.about(".end", e.Value), e.Value
	case step.GenerationRecorded, step.GoodbyeSaid:
		if e.At == step.GenerationRecorded {
			t.Servers, t.proven = int(e.Value-t.before), 0
		}
		name = placeName(name, e.Value-t.before)
	default:
		if !slices.Contains(listenAndClose, e.At) {
			return
		}
	}
	t.add(e.Process, lane, name)
}

func (t *lifeTrace) client(e recorded) {
	lane, name := "", e.At.String()
	switch e.At {
	case step.Connected, step.HelloSent, step.SegmentsMapped, step.ReadySent,
		step.SegmentUnmapped, step.TokenClosed, step.ConnectionClosed:
	case step.GrantReceived, step.AttachmentStored:
		name = numberedName(e)
	case step.GoodbyeSaid:
		t.ClosesC++
		name = numberedName(e)
	case step.EndSeen, step.EndProven:
		lane = ".watch"
	default:
		return
	}
	t.add(e.Process, lane, name)
}
