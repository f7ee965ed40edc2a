package conn

import (
	"context"
	"errors"
	"runtime"

	"github.com/tandem-ipc/tandem/ipc"
)

// An inlet is what the one goroutine that receives receives from.
type inlet struct {
	endpoint *ipc.Endpoint
	busy     bool // messages were handed on since others could run
}

// next returns the next message, or the end of the peer or of the endpoint.
//
// Before it waits, it lets those run to whom it has given something: they are next on
// this processor, where otherwise another one would have to come and take them over,
// while this one spins.
func (in *inlet) next() (ipc.Message, error) {
	for {
		m, err := in.endpoint.TryReceive()
		if errors.Is(err, ipc.ErrEmpty) {
			if in.busy {
				in.busy = false
				runtime.Gosched()
				continue
			}
			m, err = in.endpoint.Receive(context.Background())
		}
		if errors.Is(err, ipc.ErrViewsHeld) {
			runtime.Gosched() // a Read has one, and is about to run
			continue
		}
		in.busy = err == nil
		return m, err
	}
}
