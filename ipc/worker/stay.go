package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// A stay is one process in a slot, from its start to its end, with the calls that
// it has.
type stay struct {
	slot    *slot
	start   uint64          // its number
	ctx     context.Context // ends with the process
	cancel  context.CancelFunc
	ready   chan struct{} // closed at its hello
	drained chan struct{} // closed when all that it had committed was received, after its end
	retire  chan struct{} // closed when it is to leave and has no calls

	allowance *allowance // of notifications to it

	// Guarded by the pool's mu.
	process   *process
	flights   map[uint64]*flight
	asks      map[uint64]*ask // that it has not been answered
	notified  []notice        // that it has not handled, the oldest first
	noticing  bool            // it has begun the oldest
	intake    intake          // of its notifications
	serving   bool            // it has said hello, and its process has not ended
	heard     bool            // a hello of it has come, so that no other counts
	over      bool            // its process has ended
	solitary  bool            // it has a suspect
	full      bool            // it has had MaxCalls calls
	recycled  bool            // it is to be replaced
	retiring  bool            // it gets no more calls, and leaves when it has none
	retired   bool            // retire is closed
	boarded   int
	answered  uint64
	reason    Reason // why it was killed or sent away; the first one counts
	cause     error
	stuck     *flight // what it was killed for
	leavesFor Reason  // why it was sent away, if it leaves in good order

	begun     time.Time
	fullSince atomic.Int64 // the age since when nobody has found space; 0 if the last one did
}

func newStay(s *slot, start uint64) *stay {
	y := &stay{
		slot: s, start: start, begun: time.Now(), flights: map[uint64]*flight{}, asks: map[uint64]*ask{},
		intake: newIntake(s.pool.config.MaxMessage), allowance: newAllowance(s.pool.config.MaxMessage),
		ready: make(chan struct{}), drained: make(chan struct{}), retire: make(chan struct{}),
	}
	y.ctx, y.cancel = context.WithCancel(context.Background())
	return y
}

// takesCalls reports whether it may be given one more call.
//
// Preconditions: mu is held.
func (y *stay) takesCalls() bool { return y.serving && !y.solitary && !y.full && !y.retiring }

// retireIfEmpty tells the supervisor that a worker that gets no more calls has none.
//
// Preconditions: mu is held.
func (y *stay) retireIfEmpty() {
	if y.retiring && !y.retired && len(y.flights) == 0 {
		y.retired = true
		close(y.retire)
	}
}

// send commits a frame to the channel. It waits for space as long as both ctx and
// the process last.
func (y *stay) send(ctx context.Context, kind uint32, h header, method string, payload []byte) error {
	r, err := y.reserve(ctx, frameSize(method, payload))
	if err != nil {
		return err
	}
	return commit(r, kind, h, method, payload)
}

// reserve finds space for a frame, as send does.
func (y *stay) reserve(ctx context.Context, size int) (ipc.Reservation, error) {
	r, err := y.slot.endpoint.TryReserve(size)
	if errors.Is(err, ipc.ErrFull) {
		r, err = y.awaitSpace(ctx, size)
	}
	if err == nil && y.fullSince.Load() != 0 {
		y.fullSince.Store(0)
	}
	return r, err
}

// awaitSpace waits for space. If nobody has found any for HangTimeout, since somebody
// found none, it kills the process: that may beat, and answer, and release nothing.
func (y *stay) awaitSpace(ctx context.Context, size int) (ipc.Reservation, error) {
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(y.ctx, cancel)()
	patience := y.slot.pool.config.HangTimeout
	for {
		left := patience - y.starved()
		if left <= 0 {
			y.kill(ReasonHung, nil)
			return y.slot.endpoint.Reserve(both, size) // until it has ended
		}
		r, err := y.reserveWithin(both, left, size)
		if err == nil || both.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return r, err
		}
	}
}

// starved is for how long nobody has found space, of those that have looked.
func (y *stay) starved() time.Duration {
	now, since := y.age(), y.fullSince.Load()
	if since == 0 { // this is the first, or another sender has found space since
		since = now
		y.fullSince.CompareAndSwap(0, since)
	}
	return time.Duration(now - since)
}

func (y *stay) reserveWithin(ctx context.Context, limit time.Duration, size int) (ipc.Reservation, error) {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return y.slot.endpoint.Reserve(within, size)
}

// age is how long it has been there, in nanoseconds, and never 0.
func (y *stay) age() int64 { return max(1, int64(time.Since(y.begun))) }

// kill ends the process, and records why, unless there is a reason already.
func (y *stay) kill(reason Reason, cause error) {
	p := y.slot.pool
	p.mu.Lock()
	process := y.doom(reason, cause)
	p.mu.Unlock()
	process.kill()
}

// killStuck ends the process because of a call that does not end.
func (y *stay) killStuck(f *flight) {
	p := y.slot.pool
	p.mu.Lock()
	var process *process
	if y.flights[f.id] == f && !y.over {
		if y.reason == 0 {
			y.stuck = f
		}
		process = y.doom(ReasonStuck, fmt.Errorf("%s goes on %v after its call's end", f.call.method, p.config.Grace))
	}
	p.mu.Unlock()
	process.kill()
}

// doom records why the process is to end, and gives it no more calls.
//
// Preconditions: mu is held.
func (y *stay) doom(reason Reason, cause error) *process {
	if y.reason == 0 {
		y.reason, y.cause = reason, cause
	}
	y.retiring = true
	return y.process
}
