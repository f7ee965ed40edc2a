package chaos

import "github.com/tandem-ipc/tandem/internal/step"

// onlyForked are the steps at which layer 1 kills nobody, each with the reason.
// At every other step it does, in every run.
var onlyForked = map[step.ID]string{
	step.ClientKilled: "a server kills its client's process there, which in layer 1 is its own",
}

// cover fails a report that says of no death at one of the steps.
func (r *Report) cover(steps []step.ID) {
	for _, s := range steps {
		r.mu.Lock()
		covered := len(r.Steps[s.String()]) > 0
		r.mu.Unlock()
		if !covered {
			r.Fail("harness", "go test ./chaos -run 'Enumerator|Forked'", "nobody died at step %v", s)
		}
	}
}

// enumerated are the steps at which layer 1 has to kill.
func enumerated() (steps []step.ID) {
	for _, s := range step.All() {
		if onlyForked[s] == "" {
			steps = append(steps, s)
		}
	}
	return steps
}

// forkedOnly are the others, which are left to layer 2.
func forkedOnly() (steps []step.ID) {
	for _, s := range step.All() {
		if onlyForked[s] != "" {
			steps = append(steps, s)
		}
	}
	return steps
}
