package chaos

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tandem-ipc/tandem/model"
)

// A direction is one direction of the pair as the model has it: the machine of
// Channel, and what it does not say of a message or an end.
type direction struct {
	machine  model.Machine[model.ChannelState]
	s        model.ChannelState
	verdicts []string // of the ends that the consumer was not told of

	held     []int // places in the log of what the consumer holds, as the test releases it
	released []int // of these, released behind an older one that is not

	forgetful bool // planted: it does not know of redelivery
}

// Bounds of a run.
const (
	rapidMessages = 60 // in a generation, each way
	rapidBatch    = 4  // as many as a ring has room for
)

func newDirection(client model.Role) *direction {
	d := &direction{machine: model.Channel(model.ChannelConfig{
		Bound: traceSlots, Batch: rapidBatch, Client: client, MaxMsg: rapidMessages, MaxGen: 60, MaxDeaths: 300,
	})}
	d.s = d.machine.Init[0]
	return d
}

// may does what the model allows; a test that asks for anything else is wrong.
func (d *direction) may(actions ...model.Action) {
	for _, a := range actions {
		next, err := d.machine.Do(d.s, a)
		if err != nil {
			panic(err)
		}
		d.s = next
	}
}

func named(name string) model.Action { return model.Action{Name: name} }

const (
	producerSide = 0 // in ChannelState.Alive
	consumerSide = 1
)

// broken names the promises that do not hold.
func (d *direction) broken() (names []string) {
	for _, invariant := range d.machine.Invariants {
		if !invariant.Holds(d.s) {
			names = append(names, invariant.Name)
		}
	}
	return names
}

// more reports whether a run may send more messages in this generation.
func (d *direction) more() bool { return d.s.Log.Len()+rapidBatch <= rapidMessages }

// coming are the numbers that the next count messages will have, and how many of
// them there is room for. The others have none.
func (d *direction) coming(count int) (numbers []int, fit int) {
	numbers = make([]int, count)
	next := d.s
	for fit < count && next.Log.Len()-next.Rel < traceSlots {
		var err error
		if next, err = d.machine.Do(next, model.Commit(1)); err != nil {
			panic(err)
		}
		numbers[fit] = next.Log.At(next.Log.Len() - 1)
		fit++
	}
	return numbers, fit
}

// following is the number of the message that is committed next, once there is space.
func (d *direction) following() int {
	roomy := *d
	roomy.s.Rel, roomy.s.Kept = roomy.s.Log.Len(), ""
	numbers, _ := roomy.coming(1)
	return numbers[0]
}

// hasRoom reports whether a message fits.
func (d *direction) hasRoom() bool { return d.s.Log.Len()-d.s.Rel < traceSlots }

// idle reports whether there is nothing to be told, neither a message nor an end.
func (d *direction) idle() bool { return !d.endsHere() && d.s.Cur == d.s.Log.Len() }

func (d *direction) producerEnds(verdict string) {
	if d.s.Alive[consumerSide] {
		d.verdicts = append(d.verdicts, verdict)
	}
	d.may(named("ProducerDies"))
}

func (d *direction) consumerEnds() {
	d.may(named("ConsumerDies"))
	d.verdicts, d.held, d.released = nil, nil, nil
	if d.s.Alive[producerSide] {
		d.may(named("AccountTaken"))
	}
}

// restart begins a generation. In the model each begins with a client; where none
// has come, that one has to go as well.
func (d *direction) restart() {
	for side, death := range []string{"ProducerDies", "ConsumerDies"} {
		if d.s.Alive[side] {
			d.may(named(death))
		}
	}
	d.may(named("NewGeneration"))
	d.verdicts, d.held, d.released = nil, nil, nil
}

// next is what a consumer that asks now must be told, and takes it: a message, an
// end, or nothing. delivered and handed say how far the consumer lived to get.
func (d *direction) next(delivered, handed bool) string {
	switch {
	case d.endsHere():
		return d.verdicts[0]
	case d.s.Cur == d.s.Log.Len():
		return "empty"
	}
	text := fmt.Sprint(d.s.Log.At(d.s.Cur))
	if d.s.Cur < d.s.Mark && !d.forgetful {
		text += " again"
	}
	if delivered {
		d.may(model.Deliver(1))
	}
	if handed {
		d.held = append(d.held, d.s.Cur)
		d.may(model.HandOut(1))
	}
	return text
}

// endsHere reports whether the consumer must be told an end before any other message.
func (d *direction) endsHere() bool { return d.s.Fin.Len() > 0 && d.s.Fin.At(0) == d.s.Cur }

// told takes the end that next returned. A client's is final, and is told again.
func (d *direction) told(final bool) {
	if !final {
		d.may(named("EndTold"), named("EndTaken"))
		d.verdicts = d.verdicts[1:]
	}
}

// release releases what stands at a place of the log: the space follows the
// oldest that is held.
func (d *direction) release(place int) {
	d.held = slices.DeleteFunc(d.held, func(p int) bool { return p == place })
	d.released = append(d.released, place)
	oldest := d.s.Cur
	if len(d.held) > 0 {
		oldest = slices.Min(d.held)
	}
	if oldest > d.s.Rel {
		d.may(model.Release(oldest))
	}
}

// account is what the producer must be told now (M6).
func (d *direction) account() string {
	var text []string
	for place := d.s.Rel; place < d.s.Log.Len(); place++ {
		entry := fmt.Sprint(d.s.Log.At(place))
		if place < d.s.Dlv {
			entry += "d"
		}
		text = append(text, entry)
	}
	return "[" + strings.Join(text, " ") + "]"
}
