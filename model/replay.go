package model

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
)

// An Event is one thing that a run has recorded.
type Event struct {
	Who   string // a thread of control, which records in the order in which it acts
	Life  int    // how many of that name came before, each in a process that has died
	Name  string // of a step of package internal/step
	Early bool   // recorded just before the action, and not just behind it
}

// String returns who did what.
func (e Event) String() string {
	if e.Life == 0 {
		return e.Who + " " + e.Name
	}
	return fmt.Sprintf("%s/%d %s", e.Who, e.Life, e.Name)
}

// Kernel is a thread of control that does nothing that is not recorded: whoever
// kills and counts the dead.
const Kernel = "kernel"

// An Observer says what is recorded of a step of a machine, or that nothing is.
// It does not say Early.
type Observer[S comparable] func(from S, a Action, to S) (e Event, recorded bool)

// A ReplayError says where a record and a machine part.
type ReplayError struct {
	Index int      // of the first event that cannot be
	Event Event    // this one
	Could []string // what could have been recorded instead
	State string   // a state in which the machine may have been, as its Text
}

func (e *ReplayError) Error() string {
	return fmt.Sprintf("model: event %d, %v, cannot be; it could have been [%s]; perhaps in\n%s",
		e.Index, e.Event, strings.Join(e.Could, ", "), strings.TrimRight(e.State, "\n"))
}

// An UndecidedError says that a search was given up. Whether the machine can do what was
// recorded is not known: what comes at once, and in many orders, has too many states.
type UndecidedError struct {
	Index  int // of the event at which it was given up
	Events int // how many there are
}

func (e *UndecidedError) Error() string {
	return fmt.Sprintf("model: more than %d states, given up at event %d of %d", maxReplayed, e.Index, e.Events)
}

// Replay decides whether the machine can do what was recorded: it takes the
// actions that the events stand for, in their order and no others that are
// recorded, with any that are not in between. It returns how many events the
// machine can follow, and a [*ReplayError] if that is not all of them, or an
// [*UndecidedError].
func Replay[S comparable](m Machine[S], sees Observer[S], events []Event) (int, error) {
	return replay(m, sees, events, true)
}

// ReplayConcurrent is Replay for events that several threads of control have
// recorded at once. An action and its record are not one step: others act and
// record in between. So each thread may be one action ahead of its record, or
// behind it if that was early, and whoever records no more, because it has died
// or the record is over, may have done one thing of which there is no record; but
// not the [Kernel].
func ReplayConcurrent[S comparable](m Machine[S], sees Observer[S], events []Event) (int, error) {
	return replay(m, sees, events, false)
}

// maxThreads is how many threads of control one record may have.
const maxThreads = 64

// maxReplayed is how many places are looked at before the search is given up.
const maxReplayed = 1 << 20

// A place is where a machine may be in a record: how much is recorded, its state,
// and which threads have acted without having recorded it, or recorded it without
// having acted.
type place[S comparable] struct {
	at            int
	state         S
	ahead, behind uint64
}

// A life is one thread of control.
type life struct {
	who    string
	before int
}

// A replayer is one search. It goes on from the places that are furthest in the
// record, and from the ones that took the fewest actions first: what a run did is
// mostly what had to be done, and the rest is tried where that leads nowhere.
type replayer[S comparable] struct {
	Machine[S]
	sees   Observer[S]
	events []Event
	exact  bool

	thread map[life]int
	own    [maxThreads][]int // indices of the events of each
	known  map[place[S]]bool
	todo   [][]place[S] // by how much is recorded
	way    *way[S]      // if it is asked for
}

func replay[S comparable](m Machine[S], sees Observer[S], events []Event, exact bool) (int, error) {
	return follow(m, sees, events, exact, nil)
}

func follow[S comparable](m Machine[S], sees Observer[S], events []Event, exact bool, way *way[S]) (int, error) {
	r := &replayer[S]{
		Machine: m, sees: sees, events: events, exact: exact,
		thread: map[life]int{}, known: map[place[S]]bool{}, todo: make([][]place[S], len(events)+1),
		way: way,
	}
	for i, e := range events {
		t, err := r.threadOf(e)
		if err != nil {
			return 0, err
		}
		r.own[t] = append(r.own[t], i)
	}
	for _, s := range m.Init {
		r.reach(place[S]{state: s})
	}
	furthest := 0
	for at := 0; at >= 0; {
		if at == len(events) {
			r.way.arrive(r.todo[at])
			return at, nil
		}
		if len(r.todo[at]) == 0 {
			at--
			continue
		}
		p := r.todo[at][0]
		r.todo[at] = r.todo[at][1:]
		passed, err := r.goOn(p)
		if err != nil {
			return furthest, err
		}
		if passed {
			at++
			furthest = max(furthest, at)
		}
	}
	return furthest, r.parted(furthest)
}

// threadOf numbers the threads of control.
func (r *replayer[S]) threadOf(e Event) (int, error) {
	key := life{e.Who, e.Life}
	t, known := r.thread[key]
	if !known {
		if t = len(r.thread); t == maxThreads {
			return 0, fmt.Errorf("model: a record of more than %d threads of control", maxThreads)
		}
		r.thread[key] = t
	}
	return t, nil
}

// reach notes a place to go on from, if it is new.
func (r *replayer[S]) reach(p place[S]) {
	if !r.known[p] {
		r.known[p] = true
		r.todo[p.at] = append(r.todo[p.at], p)
	}
}

// goOn reaches all places that are one step away, and reports whether that may
// have passed the next event.
func (r *replayer[S]) goOn(p place[S]) (bool, error) {
	passed := false
	if q, ok := r.records(p); ok {
		passed = true
		r.way.note(r.known, p, q, Action{})
		r.reach(q)
	}
	for _, a := range r.Actions(p.state) {
		q, _, ok, err := r.acts(p, a)
		if err != nil {
			return false, err
		}
		if ok {
			passed = passed || q.at > p.at
			r.way.note(r.known, p, q, a)
			r.reach(q)
		}
	}
	if len(r.known) > maxReplayed {
		return false, &UndecidedError{p.at, len(r.events)}
	}
	return passed, nil
}

// records is what the next event's record makes of a place, if its action may be
// done by now, or is yet to come.
func (r *replayer[S]) records(p place[S]) (place[S], bool) {
	if r.exact {
		return p, false // the action records
	}
	e := r.events[p.at]
	t, _ := r.threadOf(e)
	bit := uint64(1) << t
	p.at++
	if e.Early {
		may := p.ahead&bit == 0 && p.behind&bit == 0
		p.behind |= bit
		return p, may
	}
	may := p.ahead&bit != 0
	p.ahead &^= bit
	return p, may
}

// acts is where an action leads from a place, what is recorded of it, and whether
// it may happen there.
func (r *replayer[S]) acts(p place[S], a Action) (q place[S], e Event, ok bool, err error) {
	q = p
	q.state = r.Next(p.state, a)
	e, recorded := r.sees(p.state, a, q.state)
	if !recorded {
		return q, e, true, nil
	}
	t, err := r.threadOf(e)
	if err != nil {
		return q, e, false, err
	}
	own, bit := r.own[t], uint64(1)<<t
	coming := sort.SearchInts(own, p.at)
	if r.exact {
		q.at++
		return q, e, coming < len(own) && own[coming] == p.at && r.events[p.at].Name == e.Name, nil
	}
	r.forget(&q, e)
	switch {
	case p.behind&bit != 0:
		q.behind &^= bit
		return q, e, r.events[own[coming-1]].Name == e.Name, nil
	case p.ahead&bit != 0:
		return q, e, false, nil
	}
	q.ahead |= bit
	if coming == len(own) {
		return q, e, e.Who != Kernel, nil
	}
	next := r.events[own[coming]]
	return q, e, !next.Early && next.Name == e.Name, nil
}

// forget forgets what the former lives of a thread have left unrecorded: they act
// no more. Whatever it was, the rest of the record is the same.
func (r *replayer[S]) forget(q *place[S], e Event) {
	for before := e.Life - 1; before >= 0 && q.ahead|q.behind != 0; before-- {
		t, known := r.thread[life{e.Who, before}]
		if own := r.own[t]; known && (len(own) == 0 || own[len(own)-1] < q.at) {
			q.ahead &^= 1 << t
			q.behind &^= 1 << t
		}
	}
}

// parted says where the record and the machine have.
func (r *replayer[S]) parted(at int) error {
	could := map[string]bool{}
	state := ""
	for p := range r.known {
		if p.at != at {
			continue
		}
		if text := r.Text(p.state); state == "" || text < state {
			state = text
		}
		for _, a := range r.Actions(p.state) {
			if e, recorded := r.sees(p.state, a, r.Next(p.state, a)); recorded {
				could[e.String()] = true
			}
		}
	}
	return &ReplayError{at, r.events[at], slices.Sorted(maps.Keys(could)), state}
}
