package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// Await has Serve wait, when the service dies, for the next one in the same Config.Dir, and
// go on there with all that this process has in its memory, if that one has Config.Adopt. First the contexts of the
// handlers end, with Drain after its limit, and Serve waits until all have returned. Nobody
// gets their answers. No service starts in that Dir before.
//
// After the limit, or if the next service does not take this worker over, Serve returns the error that is
// ipc.ErrPeerDied. The limit counts from the end of the contexts, anew for each death.
//
// It has its effect in a pool with Config.Outlive and Config.Dir. SIGPIPE is ignored, as with Drain.
func Await(limit time.Duration) ServeOption { return func(w *server) { w.patience = limit } }

// comesBack reports whether the end of the service is one after which it waits for the next.
func (w *server) comesBack(ctx context.Context, end error) bool {
	return w.patience > 0 && w.terms != "" && errors.Is(end, ipc.ErrPeerDied) && ctx.Err() == nil
}

// comeBack leaves the channel of a service that has died, and attaches to the next one, which
// gives it a new start. All that belongs to the old one stays behind with its server: a handler of
// then that went on could reach nobody.
func (w *server) comeBack(ctx context.Context, died error) (*ipc.Endpoint, uint64, error) {
	limited, cancel := context.WithTimeout(ctx, w.patience)
	defer cancel()
	select {
	case <-w.idle():
	case <-limited.Done():
		died = fmt.Errorf("%w: a handler goes on %v after its context's end", died, w.patience)
	}
	if err := errors.Join(w.endpoint.Close(), limited.Err()); err != nil { // no server starts before
		return nil, 0, orEnded(ctx, died)
	}
	path := strings.TrimSuffix(w.path, secondSuffix)
	for {
		endpoint, start, err := w.task.comeTo(limited, path)
		if err == nil {
			return endpoint, start, nil
		}
		wait := errors.Is(err, ipc.ErrPeerDied) || errors.Is(err, ipc.ErrPeerClosed) || errors.Is(err, fs.ErrNotExist)
		if wait {
			select {
			case <-time.After(comeBackPause):
			case <-limited.Done():
			}
		}
		if !wait || limited.Err() != nil {
			return nil, 0, orEnded(ctx, fmt.Errorf("%w: and then: %w", died, err))
		}
	}
}

// comeBackPause is between two attempts to attach to a service that goes away at once.
const comeBackPause = 20 * time.Millisecond

// orEnded returns the error of a context that has ended, else the other one.
func orEnded(ctx context.Context, other error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return other
}

// comeTo attaches to a service and asks it to adopt this process.
func (t *task) comeTo(ctx context.Context, path string) (_ *ipc.Endpoint, start uint64, err error) {
	endpoint, err := ipc.Dial(ctx, path, nil)
	if err != nil {
		return nil, 0, err
	}
	if start, err = t.askToServe(ctx, endpoint); err != nil {
		_ = endpoint.Close()
		return nil, 0, err
	}
	return endpoint, start, nil
}

// askToServe says to a service who is there, and returns the start that it gives.
func (t *task) askToServe(ctx context.Context, endpoint *ipc.Endpoint) (start uint64, err error) {
	number := comingBack | endpoint.Attachment()
	if err := transmit(ctx, endpoint, kindReturn, header{start: number, id: wireVersion}, "", []byte(t.terms)); err != nil {
		return 0, err
	}
	for m, err := range endpoint.Messages(ctx) {
		if err != nil {
			return 0, err
		}
		h, err := parseHeader(m.Kind, m.Data)
		if err := errors.Join(err, m.Release()); err != nil {
			return 0, err
		}
		switch {
		case h.start != number: // for another one
		case m.Kind == kindAdopted:
			return h.id, nil
		default:
			return 0, errTurnedAway
		}
	}
	return 0, ipc.ErrClosed
}
