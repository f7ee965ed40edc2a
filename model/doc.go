// Package model holds tandem's specification as plain Go: machines whose states
// are values and whose steps are functions, with no clock and no goroutine.
//
// Each machine equals the TLA+ module of the same name in tla/: the same states,
// the same actions, the same properties, the same mutants. That is not a manner
// of speaking: the tests let the checker of TLA+ write down every state and every
// labelled edge of a configuration, and compare them with what [Explore] finds.
// So whatever is judged by a machine is judged by the specification.
//
//   - [Channel] is what the user of one direction is promised.
//   - [Ring] is one direction at the grain of one shared load or store.
//   - [Gate] is several goroutines of one process that wait on one direction.
//   - [Lifecycle] is who lives on a path.
//
// # Three uses
//
// As a model that is explored: [Explore] goes through all states, breadth first,
// and returns the shortest way to one that breaks an invariant; [Live] asks of all
// that was found what must come in the end, and returns a loop in which it does not,
// though whatever has to go on does.
//
// As an oracle: [Machine.Do] takes a state and an action by its name and returns
// the successor, or says that the machine does not allow it. A property test keeps
// a state beside the real thing and does to both what happens; a porcupine model
// has Do as its Step, with == for equality.
//
//	m := model.Channel(model.ChannelConfig{Bound: 4, Batch: 4, Client: model.Consumer, MaxMsg: 1000, MaxGen: 9, MaxDeaths: 9})
//	s := m.Init[0]
//	s, err := m.Do(s, model.Commit(2))  // a batch of two was sent
//	s, err = m.Do(s, model.Deliver(2))
//	s, err = m.Do(s, model.HandOut(2))  // and received: s.View is what it must have been
//
// As a judge of traces: [Replay] takes the steps that a run has recorded and
// decides whether the machine can take them in that order, doing what is not
// recorded in between, and if not, at which event it first cannot. Processes that
// run at once do not record in the order in which they act: [ReplayConcurrent]
// knows how far the two may be apart.
//
//	config := model.RingConfig{Cap: 4, MaxMsg: 30, MaxGen: 1, Client: model.Producer, KillP: 1, Batch: 4, Hold: 4, Idle: true}
//	n, err := model.ReplayConcurrent(model.Ring(config), model.RingSteps(config), model.RingEvents(recorded))
//
// The faults that a configuration permits should be those of the run: what may
// have happened unseen makes the search longer, and the judge milder.
//
// Nothing in here imports the packages that are judged.
package model
