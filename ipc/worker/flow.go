package worker

import (
	"context"
	"errors"
	"sync"
)

// A sender may send as long as it has more than no bytes left of what the receiver
// has allowed, so the receiver holds less than its window and one message more. The
// window is MaxMessage; both sides know it.

// messageCost is what a message counts beside its bytes, so that empty ones are bounded too.
const messageCost = 64

func costOf(data []byte) int { return len(data) + messageCost }

// An allowance is the sender's side.
type allowance struct {
	mu    sync.Mutex
	left  int
	grown chan struct{} // closed and replaced when left has grown or ended is set
	ended error
}

func newAllowance(window int) *allowance {
	return &allowance{left: window, grown: make(chan struct{})}
}

// errNoRoom says that nothing is left.
var errNoRoom = errors.New("worker: nothing is allowed now")

// tryTake takes what a message costs, if anything is left.
func (a *allowance) tryTake(cost int) (grown <-chan struct{}, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.ended != nil:
		return nil, a.ended
	case a.left <= 0:
		return a.grown, errNoRoom
	}
	a.left -= cost
	return nil, nil
}

// take waits until anything is left, and takes what a message costs.
func (a *allowance) take(ctx context.Context, cost int) error {
	for {
		grown, err := a.tryTake(cost)
		if err != errNoRoom {
			return err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *allowance) change(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
	close(a.grown)
	a.grown = make(chan struct{})
}

// spend takes what a message costs, and sends it. A message that is not sent costs nothing, also if
// the user's context or memory does not return.
func (a *allowance) spend(ctx context.Context, cost int, send func() error) (err error) {
	if err := a.take(ctx, cost); err != nil {
		return err
	}
	sent := false
	defer func() { a.refund(cost, sent) }()
	err = send()
	sent = err == nil
	return err
}

// refund gives back what a message costs that was not sent.
func (a *allowance) refund(cost int, sent bool) {
	if !sent {
		a.grow(cost)
	}
}

func (a *allowance) grow(bytes int) { a.change(func() { a.left += bytes }) }

// end has everybody who takes fail, now and later.
func (a *allowance) end(why error) { a.change(func() { a.ended = why }) }

// An intake is the receiver's side. What has come and was not allowed is its
// sender's fault.
type intake struct{ window, left, used int }

func newIntake(window int) intake { return intake{window: window, left: window} }

// accept takes a message in, or reports that it was not allowed.
func (i *intake) accept(cost int) bool {
	if i.left <= 0 {
		return false
	}
	i.left -= cost
	return true
}

// use says that a message is no longer held, and returns how much is to be allowed
// now: nothing, or at least half a window, so that credits are few.
func (i *intake) use(cost int) (credit int) {
	i.used += cost
	if 2*i.used < i.window {
		return 0
	}
	credit, i.used = i.used, 0
	i.left += credit
	return credit
}
