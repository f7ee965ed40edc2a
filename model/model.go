package model

import (
	"fmt"
	"strings"
)

// An Action is one step that a machine may take. Name is the action's name in
// the TLA+ module; Args tells apart its parameters and choices, such as "P" or
// "k=2", and is empty where there are none. Together they are so exact that
// there is one successor.
type Action struct {
	Name, Args string
}

// String returns the action as Name or Name(Args).
func (a Action) String() string {
	if a.Args == "" {
		return a.Name
	}
	return a.Name + "(" + a.Args + ")"
}

// An Invariant is something that holds in every state. Its name is the one that
// it has in the TLA+ module.
type Invariant[S comparable] struct {
	Name  string
	Holds func(S) bool
}

// A Machine is a set of initial states, and which state follows which. Equal
// states are equal by ==. Its functions do not change it, and may be called
// from several goroutines.
type Machine[S comparable] struct {
	Init       []S
	Actions    func(S) []Action  // what may happen in a state, in a fixed order
	Next       func(S, Action) S // the successor; it panics if the action may not happen
	Invariants []Invariant[S]
	Text       func(S) string // the state as TLC prints it: a line "/\ name = value" for each variable
	Fair       []Fairness[S]  // what is not put off for ever; only Live asks
	Temporal   []LeadsTo[S]   // what must come in the end; several of one name are one property
}

// Do returns the successor of s by the action, or a [*NotAllowedError].
func (m Machine[S]) Do(s S, a Action) (S, error) {
	allowed := m.Actions(s)
	for _, b := range allowed {
		if a == b {
			return m.Next(s, a), nil
		}
	}
	return s, &NotAllowedError{Action: a, Allowed: allowed, State: m.Text(s)}
}

// A NotAllowedError says that a machine does not do what it was asked to. The
// state that it is in has not changed.
type NotAllowedError struct {
	Action  Action
	Allowed []Action // what it would do
	State   string   // where, as the machine's Text
}

func (e *NotAllowedError) Error() string {
	return fmt.Sprintf("model: %v is not allowed, only %v, in\n%s", e.Action, e.Allowed, strings.TrimRight(e.State, "\n"))
}

// A rule is one action: do reports whether it may happen, and if so it has
// changed the state. What it leaves behind when it may not does not matter.
type rule[S comparable] struct {
	Action
	do func(*S) bool
}

// machine returns the machine with these rules. No two rules are of the same
// action.
func machine[S comparable](init []S, rules []rule[S], invariants []Invariant[S], text func(S) string) Machine[S] {
	byAction := make(map[Action]rule[S], len(rules))
	for _, r := range rules {
		if _, twice := byAction[r.Action]; twice {
			panic(fmt.Sprintf("model: two rules for %v", r.Action))
		}
		byAction[r.Action] = r
	}
	return Machine[S]{
		Init: init,
		Actions: func(s S) []Action {
			all := make([]Action, 0, 8)
			scratch := s
			for i := range rules {
				if rules[i].do(&scratch) {
					all = append(all, rules[i].Action)
				}
				scratch = s
			}
			return all
		},
		Next: func(s S, a Action) S {
			r, known := byAction[a]
			next := s
			if !known || !r.do(&next) {
				panic(fmt.Sprintf("model: %v is not allowed in\n%s", a, text(s)))
			}
			return next
		},
		Invariants: invariants,
		Text:       text,
	}
}
