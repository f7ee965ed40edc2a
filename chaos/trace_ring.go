package chaos

import (
	"fmt"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/model"
)

// A ringTrace is what was recorded of one direction in one generation, in the
// words of the specification: its threads P, C and R, and its actions.
type ringTrace struct {
	Generation uint64
	Client     model.Role // which role the client has in it
	script
	Kills    map[model.Role]int // ends of processes
	Disarmed map[model.Role]int // waits that were given up
	Messages int
}

func (t *ringTrace) String() string {
	return fmt.Sprintf("generation %d, client is %s, %d events", t.Generation, t.Client, len(t.Events))
}

// config are the bounds within which the recorded run must be a run of the ring.
func (t *ringTrace) config() model.RingConfig {
	return model.RingConfig{
		Cap: traceSlots, MaxMsg: t.Messages + traceSlots, MaxGen: 1, Client: t.Client,
		KillP: t.Kills[model.Producer], KillC: t.Kills[model.Consumer],
		CancelP: t.Disarmed[model.Producer], CancelC: t.Disarmed[model.Consumer],
		Batch: traceSlots, Hold: traceSlots + 1, Aborts: true, Idle: true,
	}
}

// replay is the verdict of the model.
func (t *ringTrace) replay() (int, error) { return model.ReplayConcurrent(t.machine()) }

func (t *ringTrace) machine() (model.Machine[guarded[model.RingState]], model.Observer[guarded[model.RingState]], []model.Event) {
	config := t.config()
	return guarding(model.Ring(config), placed(model.RingSteps(config)), t.Events)
}

// placed adds to what is recorded of a step the place that the step is about, of
// those that move one.
func placed(sees model.Observer[model.RingState]) model.Observer[model.RingState] {
	return func(from model.RingState, a model.Action, to model.RingState) (model.Event, bool) {
		e, recorded := sees(from, a, to)
		switch {
		case !recorded:
		case e.Who == model.Kernel:
			e = killOf(e)
		case e.Name == "Sealed", e.Name == "Published":
			e.Name = placeName(e.Name, uint64(to.Cursor[0]))
		case e.Name == "Delivered":
			e.Name = placeName(e.Name, uint64(to.Seen[1]))
		case e.Name == "Released":
			e.Name = placeName(e.Name, uint64(to.Mem[1]))
		}
		return e, recorded
	}
}

// killOf gives the deaths of each process a thread of their own: two that die at
// about the same time are not found dead in the order in which they died. There
// are never more deaths than were recorded: the bounds say so.
func killOf(e model.Event) model.Event {
	e.Who = e.Name
	return e
}

func placeName(name string, place uint64) string { return fmt.Sprintf("%s %d", name, place) }

// A ringReader makes traces of the two directions out of what was recorded.
type ringReader struct {
	roles  map[int]tracedRole
	counts map[attachmentKey]bool // attachments that were stored: the ring's clients

	generation map[int]uint64 // of each process
	now        uint64         // the generation of the newest server
	client     map[int]uint64 // attachment of each client process
	up         map[int]bool   // clients that are in the ring, by process
	over       map[int]bool   // servers that have said goodbye or are dead
	closing    map[int]bool   // processes whose Close has begun
	ending     uint64         // whose end the server has just proven
	armed      map[[2]int]model.Role
	peeked     map[*ringTrace]map[string]*model.Event
	traces     map[uint64]map[model.Role]*ringTrace
	order      []*ringTrace
}

type attachmentKey struct{ generation, number uint64 }

// ringTraces are the directions of all generations of a trace.
func (t *trace) ringTraces() []*ringTrace {
	r := &ringReader{
		roles: t.Roles, counts: map[attachmentKey]bool{}, generation: map[int]uint64{}, client: map[int]uint64{},
		up: map[int]bool{}, over: map[int]bool{}, closing: map[int]bool{}, armed: map[[2]int]model.Role{},
		peeked: map[*ringTrace]map[string]*model.Event{}, traces: map[uint64]map[model.Role]*ringTrace{},
	}
	for _, e := range t.Events {
		switch e.At {
		case step.GenerationRecorded:
			r.now = e.Value
		case step.AttachmentStored:
			r.counts[attachmentKey{r.now, e.Value}] = true
		}
	}
	for _, e := range t.Events {
		if !t.Roles[e.Process].Second {
			r.read(e)
		}
	}
	return r.order
}

// read takes one event.
func (r *ringReader) read(e recorded) {
	server := r.roles[e.Process].Server
	switch e.At {
	case recordKilled:
		r.end(int(e.Value))
	case step.GenerationRecorded:
		r.now, r.generation[e.Process] = e.Value, e.Value
		r.traces[e.Value] = map[model.Role]*ringTrace{}
		for _, client := range []model.Role{model.Producer, model.Consumer} {
			t := &ringTrace{Generation: e.Value, Client: client, Kills: map[model.Role]int{}, Disarmed: map[model.Role]int{}}
			r.traces[e.Value][client] = t
			r.peeked[t] = map[string]*model.Event{}
			r.order = append(r.order, t)
		}
	case step.DialBegun:
		if r.up[e.Process] {
			r.end(e.Process) // its server went away before it was told ready
		}
	case step.GrantReceived:
		r.generation[e.Process], r.client[e.Process], r.closing[e.Process] = r.now, e.Value, false
	case step.SegmentsMapped:
		r.join(e.Process)
	case step.CloseBegun:
		r.closing[e.Process] = true
	case step.GoodbyeSaid:
		if server {
			r.end(e.Process)
		}
	case step.SegmentUnmapped:
		if !server {
			r.end(e.Process)
		}
	case step.EndProven, step.AccountTaken:
		if e.At == step.EndProven {
			r.ending = e.Value
		}
		if !server || r.counts[attachmentKey{r.generation[e.Process], r.ending}] {
			r.bothDirections(e, ".watch", e.At == step.AccountTaken)
		}
	default:
		r.passes(e)
	}
}

// in is the trace of a direction that a process is in, if it is in one.
func (r *ringReader) in(process int, client model.Role) *ringTrace {
	if server := r.roles[process].Server; server && r.over[process] || !server && !r.up[process] {
		return nil
	}
	return r.traces[r.generation[process]][client]
}

// join is a client that comes into the ring. The first of a generation is there
// from the beginning.
func (r *ringReader) join(process int) {
	if !r.counts[attachmentKey{r.generation[process], r.client[process]}] {
		return // it has stored nothing that counts, and the server tells nothing of it
	}
	r.up[process] = true
	for client, t := range r.traces[r.generation[process]] {
		if t.Kills[client] > 0 {
			t.add(string(client), client, "SegmentsMapped", false)
		}
	}
}

// end is the end of a process, as the ring knows it: it is dead, or stores nothing
// any more.
func (r *ringReader) end(process int) {
	for _, client := range []model.Role{model.Producer, model.Consumer} {
		t := r.in(process, client)
		if t == nil {
			continue
		}
		role := client
		if r.roles[process].Server {
			role = other(client)
		}
		t.Kills[role]++
		t.script.enter(killOf(model.RingKill(role)))
	}
	r.up[process] = false
	r.over[process] = r.roles[process].Server
}

func other(r model.Role) model.Role {
	if r == model.Producer {
		return model.Consumer
	}
	return model.Producer
}

// add adds an event of a thread of a role.
func (t *ringTrace) add(who string, role model.Role, name string, early bool) {
	t.script.enter(model.Event{Who: who, Life: t.Kills[role], Name: name, Early: early})
}

// bothDirections adds an event to both traces that a process is in.
func (r *ringReader) bothDirections(e recorded, suffix string, early bool) {
	for _, client := range []model.Role{model.Producer, model.Consumer} {
		role := client
		if r.roles[e.Process].Server {
			role = other(client)
		}
		if t := r.in(e.Process, client); t != nil {
			t.add(string(role)+suffix, role, e.At.String(), early)
		}
	}
}

// passes takes an event of one direction.
func (r *ringReader) passes(e recorded) {
	role, who := model.Role(""), ""
	thread := [2]int{e.Process, e.Thread}
	switch e.At {
	case step.Claimed, step.Filled, step.Sealed, step.Published, step.Notified, step.Aborted, step.SpaceArmed, step.SpaceWaitCleared:
		role, who = model.Producer, "P"
	case step.Peeked, step.Delivered, step.DataArmed, step.DataWaitCleared:
		role, who = model.Consumer, "C"
	case step.Released, step.ReleaseNotified:
		role, who = model.Consumer, "R"
	case step.Sleeping, step.Woken, step.Disarmed:
		role = r.armed[thread]
		who = string(role)
	default:
		return
	}
	if e.At == step.SpaceArmed || e.At == step.DataArmed {
		r.armed[thread] = role
	}
	client := role
	if r.roles[e.Process].Server {
		client = other(role)
	}
	t := r.in(e.Process, client)
	first := e.At == step.DataWaitCleared || e.At == step.SpaceWaitCleared
	// A waiter whose own side closes gives up whatever there is to take: that is
	// part of its end, which the ring's module knows as a death.
	last := e.At == step.Disarmed && r.closing[e.Process]
	if t == nil || first && t.Kills[role] == 0 || last {
		return
	}
	r.enter(t, e, role, who)
}

// enter adds an event to its trace, as the model has it: Sleeping and Woken are
// recorded before the action, and of the headers that were looked at only the last
// before Delivered counts.
func (r *ringReader) enter(t *ringTrace, e recorded, role model.Role, who string) {
	name, place := e.At.String(), e.Value/uint64(traceSlotSize)
	switch e.At {
	case step.Peeked:
		r.peeked[t][who] = &model.Event{Who: who, Life: t.Kills[role], Name: name}
		return
	case step.Delivered:
		if p := r.peeked[t][who]; p != nil && p.Life == t.Kills[role] {
			t.script.enter(*p)
		}
		delete(r.peeked[t], who)
		name = placeName(name, place)
	case step.Published:
		t.Messages = max(t.Messages, int(place))
		name = placeName(name, place)
	case step.Sealed, step.Released:
		name = placeName(name, place)
	case step.Disarmed:
		t.Disarmed[role]++
	}
	if placed := name != e.At.String(); placed && e.Value%uint64(traceSlotSize) != 0 {
		name += " and a part" // there is no such place
	}
	t.add(who, role, name, e.At == step.Sleeping || e.At == step.Woken)
}
