package chaos

import (
	"context"
	"errors"
	"fmt"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// A party is a process of a pair, or what stands for one.
type party interface {
	// do does what it is told. The error is errEnded if the party has died
	// before it could answer, and the context's.
	do(ctx context.Context, c command) (reply, error)

	// arm makes somebody die at a step of the party from now on.
	arm(f fuse)

	// disarm takes that back. If the step was reached before, it waits until the
	// victim is dead.
	disarm(ctx context.Context)

	// awaitVictim waits until the victim is dead, if the step was reached. Whoever
	// has seen a sign of that death finds it reached.
	awaitVictim(ctx context.Context)

	// gone is closed when the party is dead, as the kernel knows it.
	gone() <-chan struct{}

	// bury lets go of what the party holds. Nobody uses it any more.
	bury()
}

// errEnded is what there is instead of an answer when the process has ended.
var errEnded = errors.New("the process has ended")

// A fuse says at which step who dies: when the clock, which is a party, reaches
// its n-th step from now on.
type fuse struct {
	n      int
	victim *member
}

// A member is a party in its role, as the world sees it.
type member struct {
	party
	role   ipc.Role
	number int // of the parties with this role
	w      *world

	// Guarded by w.mu:
	generation uint32
	life       int    // of a client: its attachment; of a server: 1
	next       uint32 // number of its next message
	clock      int    // steps since the clock was set
	last       step.ID
	attached   bool // a client that the server will tell about
	goodbye    bool // it said goodbye
	farewell   bool // its peer was told of its end
	lives      bool // it has a part in the ledgers
	open       bool // it has an endpoint that it has not closed
	mourned    bool // its death is known to the script
	trail      []step.ID
	cues       map[step.ID]*cue
}

// A cue is what is to happen, once, when a member reaches a step.
type cue struct {
	act   func()
	given chan struct{} // closed when the step was reached
}

func (m *member) String() string { return fmt.Sprintf("%v %d", m.role, m.number) }

// dead reports whether the member is dead.
func (m *member) dead() bool {
	select {
	case <-m.gone():
		return true
	default:
		return false
	}
}

// up reports whether the member is alive and has an endpoint.
func (m *member) up() bool {
	if m == nil || m.dead() {
		return false
	}
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	return m.open
}
