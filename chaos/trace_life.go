package chaos

import (
	"fmt"
	"slices"

	"github.com/tandem-ipc/tandem/ipc/step"
	"github.com/tandem-ipc/tandem/model"
)

// A lifeTrace is what was recorded of who lived on the path, in the words of the
// specification. There is one server at a time, which is called s1, and one client,
// c1; each may start again after its end.
type lifeTrace struct {
	Events []model.Event

	Servers        int // that got as far as a generation
	KillsS, KillsC int
	ClosesS        int
	ClosesC        int
	granted        bool // the admission that is under way has sent its grant
}

func (t *lifeTrace) String() string {
	return fmt.Sprintf("life cycle, %d generations, %d events", t.Servers, len(t.Events))
}

// config are the bounds within which the recorded run must be a run of the life
// cycle.
func (t *lifeTrace) config() model.LifecycleConfig {
	return model.LifecycleConfig{
		Servers: 1, Clients: 1, MaxConn: 4, MaxGen: maxGenerations, HangTicks: 1, Wait: true,
		KillsS: t.KillsS, KillsC: t.KillsC, ClosesS: t.ClosesS, ClosesC: t.ClosesC,
	}
}

// maxGenerations is how many generations a scene has: so many the machine of the
// life cycle has room for.
const maxGenerations = 3

// replay is the verdict of the model.
func (t *lifeTrace) replay() (int, error) { return model.ReplayConcurrent(t.machine()) }

func (t *lifeTrace) machine() (model.Machine[model.LifecycleRun], model.Observer[model.LifecycleRun], []model.Event) {
	m, sees := model.LifecycleRuns(t.config())
	return m, func(from model.LifecycleRun, a model.Action, to model.LifecycleRun) (model.Event, bool) {
		e, recorded := sees(from, a, to)
		if e.Who == model.Kernel {
			e = killOf(e)
		}
		return e, recorded
	}, t.Events
}

// lifeTrace is the life cycle of a trace.
func (t *trace) lifeTrace() *lifeTrace {
	l := &lifeTrace{}
	for _, e := range t.Events {
		switch {
		case e.At == recordKilled && t.Roles[int(e.Value)]:
			l.KillsS++
			l.Events = append(l.Events, killOf(model.LifecycleKill("s1")))
		case e.At == recordKilled:
			l.KillsC++
			l.Events = append(l.Events, killOf(model.LifecycleKill("c1")))
		case t.Roles[e.Process]:
			l.server(e)
		default:
			l.client(e)
		}
	}
	return l
}

func numberedName(e recorded) string { return placeName(e.At.String(), e.Value) }

// The steps of a server in Listen and Close, by one thread of control.
var listenAndClose = []step.ID{
	step.LockFileOpened, step.ServerLocked, step.TokenLocked, step.StaleProbed, step.GenerationRecorded, step.GenerationLocked,
	step.ServerSegmentMade, step.ClientSegmentMade, step.SocketBound, step.SocketListening, step.LockFileRechecked,
	step.SocketRenamed, step.TokenReturned, step.PathUnlinked, step.ListenerClosed, step.GoodbyeSaid, step.ConnectionClosed,
	step.TokenAwaited, step.ClientKilled, step.SegmentUnmapped, step.ServerUnlocked,
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
		lane = placeName(".watch", e.Value)
	case step.EndProven:
		lane = placeName(".end", e.Value)
	case step.GenerationRecorded, step.GoodbyeSaid:
		if e.At == step.GenerationRecorded {
			t.Servers++
		}
		name = numberedName(e)
	default:
		if !slices.Contains(listenAndClose, e.At) {
			return
		}
	}
	t.Events = append(t.Events, model.Event{Who: "s1" + lane, Life: t.KillsS, Name: name})
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
	t.Events = append(t.Events, model.Event{Who: "c1" + lane, Life: t.KillsC, Name: name})
}
