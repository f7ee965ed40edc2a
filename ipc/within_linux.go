//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// stallGrace is how long Listen and Dial wait after the end of their context for a
// call that is on its way. No wait of their own takes longer: only a file system does.
const stallGrace = 500 * time.Millisecond

// within makes a call, and comes back soon after ctx has ended, also if a file system
// does not. It reports whether the call came back; what that comes back with later is
// undone. Until it does, one goroutine waits in the kernel.
//
// The call is made in another goroutine also if ctx never ends. The caller may have
// locked its thread and changed it, so that a path leads elsewhere there than in all
// that the endpoint does later. Here it leads where it does for the process.
func within[T any](ctx context.Context, call func(*T), undo func(T)) (result T, back bool) {
	ended := ctx.Done() // once, and before there is anything to undo: a context may panic (T4)
	results, left := make(chan T), make(chan struct{})
	go func() {
		var made T
		defer func() { // also behind a Goexit in the call
			select {
			case results <- made:
			case <-left:
				undo(made)
			}
		}()
		call(&made)
	}()
	defer close(left)
	select {
	case result = <-results:
		return result, true
	case <-ended:
	}
	timer := time.NewTimer(stallGrace)
	defer timer.Stop()
	select {
	case result = <-results:
		return result, true
	case <-timer.C:
		return result, false
	}
}

// An outcome is how a call of callWithin came back: with an error or none, or as the hook
// has ended it.
type outcome struct {
	err error
	end *ending
}

// callWithin is within for a call that hooks are called in: how they end it goes on in the
// goroutine of the caller. If the caller has gone, what the call has done is undone
// only if it came back without an error.
func callWithin(ctx context.Context, call func() error, undo func()) (back bool, err error) {
	result, back := within(ctx, func(o *outcome) {
		o.end = endingOf(func() { o.err = call() })
	}, func(late outcome) {
		if late.err == nil && late.end == nil {
			undo()
		}
	})
	result.end.resume()
	return back, result.err
}

// errParted ends a start that nobody waits for any more.
var errParted = errors.New("ipc: nobody waits for this start any more: it is undone")

// startWithin starts the server, and comes back with ctx. As long as a call does not
// come back the server lock may be taken.
func (s *server) startWithin(ctx context.Context) error {
	back, err := callWithin(ctx, func() error { return s.startOrNothing(ctx) }, func() {
		_ = s.unlinkPath()
		s.abandon()
	})
	if !back {
		s.parted.Store(true)
		return fmt.Errorf("ipc: listen on %s: %w: a call to its file system does not come back: what it began is undone when it does", s.e.path, whyEnded(ctx))
	}
	return err
}

// startOrNothing leaves nothing of a start that fails, or panics.
func (s *server) startOrNothing(ctx context.Context) (err error) {
	started := false
	defer func() {
		if !started {
			_ = s.unlinkPath()
			s.abandon()
		}
	}()
	if err := s.start(ctx); err != nil {
		return err
	}
	started = true
	return nil
}

// connectWithin connects to the path, and comes back with ctx.
func connectWithin(ctx context.Context, path string) (*conn, error) {
	type attempt struct {
		conn *conn
		err  error
	}
	made, back := within(ctx, func(a *attempt) {
		a.conn, a.err = connect(path)
	}, func(late attempt) {
		if late.conn != nil {
			late.conn.hangUp()
		}
	})
	if !back {
		return nil, fmt.Errorf("ipc: dial %s: %w: a call to its file system does not come back: nothing was attached", path, whyEnded(ctx))
	}
	return made.conn, made.err
}

// checkEnded returns an error if ctx has ended before anything was begun.
func checkEnded(ctx context.Context, what, path string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("ipc: %s %s: %w: nothing was begun", what, path, err)
	}
	return nil
}
