package chaos

import (
	"strings"

	"github.com/tandem-ipc/tandem/model"
)

// A guarded is a state of a machine, with how often each process was killed and
// how much of what it recorded in its life it has done.
//
// The machines know nothing of the record. They would kill a process that has yet
// to do what it recorded, or have one that never was do something of which there
// is no record; each is seen to be wrong only later, when much else has been tried.
type guarded[S comparable] struct {
	State        S
	lives, doing [guardedProcesses]int16
}

const guardedProcesses = 4

// A guard knows the record: of each process and life, how many events there are
// that are recorded behind their actions. Of a life that nothing tells of, there
// is nothing.
type guard map[[2]int]int

// guardedNames are the processes, of both machines, by their places.
var guardedNames = map[string]int{"P": 0, "C": 1, "R": 1, "s1": 0, "s2": 1, "c1": 2, "c2": 3}

// guardedOf is the process of a thread of control, as "c1.watch" or "Killed c1".
func guardedOf(who string) (process int, kill bool) {
	who, kill = strings.CutPrefix(who, "Killed ")
	if end := strings.IndexByte(who, '.'); end > 0 {
		who = who[:end]
	}
	return guardedNames[who], kill
}

func newGuard(events []model.Event) guard {
	g := guard{}
	var kills [guardedProcesses]int
	for _, e := range events {
		process, kill := guardedOf(e.Who)
		life := e.Life
		if kill {
			life = kills[process]
			kills[process]++
		}
		g[[2]int{process, life}] += count(!e.Early && !kill)
	}
	return g
}

// permits reports whether an action can be one of the recorded run.
func (g guard) permits(a model.Action, lives, doing [guardedProcesses]int16) bool {
	process, known := guardedNames[a.Args]
	if !known {
		return true
	}
	recorded, exists := g[[2]int{process, int(lives[process])}]
	switch a.Name {
	case "Killed", "KillServer", "KillClient", "KillIdle":
		return exists && int(doing[process]) >= recorded
	case "LockFileOpened", "Connected":
		return exists
	}
	return true
}

// guarding makes a machine do nothing that the record rules out at once.
func guarding[S comparable](m model.Machine[S], sees model.Observer[S], events []model.Event) (model.Machine[guarded[S]], model.Observer[guarded[S]], []model.Event) {
	g := newGuard(events)
	early := map[string]bool{}
	for _, e := range events {
		early[e.Name] = early[e.Name] || e.Early
	}
	with := model.Machine[guarded[S]]{
		Actions: func(s guarded[S]) []model.Action {
			all := m.Actions(s.State)
			kept := all[:0]
			for _, a := range all {
				if g.permits(a, s.lives, s.doing) {
					kept = append(kept, a)
				}
			}
			return kept
		},
		Next: func(s guarded[S], a model.Action) guarded[S] {
			from := s.State
			s.State = m.Next(from, a)
			if e, recorded := sees(from, a, s.State); recorded {
				switch process, kill := guardedOf(e.Who); {
				case kill:
					s.lives[process]++
					s.doing[process] = 0
				case !early[e.Name]:
					s.doing[process]++
				}
			}
			return s
		},
		Text: func(s guarded[S]) string { return m.Text(s.State) },
	}
	for _, s := range m.Init {
		with.Init = append(with.Init, guarded[S]{State: s})
	}
	return with, func(from guarded[S], a model.Action, to guarded[S]) (model.Event, bool) {
		return sees(from.State, a, to.State)
	}, events
}
