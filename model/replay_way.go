package model

import "slices"

// A Passage is one action that a machine took.
type Passage[S comparable] struct {
	From   S
	Action Action
	To     S
}

// ReplayWay is ReplayConcurrent, and returns one way by which the machine can have
// done what was recorded: every action that it took, recorded or not.
func ReplayWay[S comparable](m Machine[S], sees Observer[S], events []Event) ([]Passage[S], error) {
	w := &way[S]{from: map[place[S]]hop[S]{}}
	if _, err := follow(m, sees, events, false, w); err != nil {
		return nil, err
	}
	var all []Passage[S]
	for at := w.end; ; {
		h, known := w.from[at]
		if !known {
			slices.Reverse(all)
			return all, nil
		}
		if h.by != (Action{}) {
			all = append(all, Passage[S]{h.from.state, h.by, at.state})
		}
		at = h.from
	}
}

// A way is how each place was reached first.
type way[S comparable] struct {
	from map[place[S]]hop[S]
	end  place[S]
}

// A hop is where a place was reached from, and by which action; none if by a
// record alone.
type hop[S comparable] struct {
	from place[S]
	by   Action
}

// note notes how q was reached, if it is new.
func (w *way[S]) note(known map[place[S]]bool, p, q place[S], by Action) {
	if w != nil && !known[q] {
		w.from[q] = hop[S]{p, by}
	}
}

func (w *way[S]) arrive(at []place[S]) {
	if w != nil {
		w.end = at[0]
	}
}
