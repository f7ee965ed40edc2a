//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// stallGrace is how long Listen waits after the end of its context for a call that
// is on its way. No wait of its own takes longer: only a file system does.
const stallGrace = 500 * time.Millisecond

// An outcome is how a start came back: with an error or none, or by a panic or a
// Goexit of the hook, which go on in the goroutine of the caller.
type outcome struct {
	err      error
	panicked any
	goexit   bool
}

// errParted ends a start that nobody waits for any more.
var errParted = errors.New("ipc: nobody waits for this start any more: it is undone")

// startWithin starts the server, and comes back soon after ctx has ended, also if a
// file system does not. Whatever that comes back with later is undone then. Until it
// does, one goroutine waits in the kernel, and the server lock may be taken.
func (s *server) startWithin(ctx context.Context) error {
	if ctx.Done() == nil {
		return s.startOrNothing(ctx)
	}
	back := make(chan outcome, 1)
	go func() {
		result := outcome{goexit: true}
		defer func() {
			if result.goexit {
				result.panicked = recover()
			}
			if s.parted.CompareAndSwap(false, true) {
				back <- result
				return
			}
			if result.err == nil {
				_ = s.unlinkPath()
				s.abandon()
			}
		}()
		result.err = s.startOrNothing(ctx)
		result.goexit = false
	}()
	var result outcome
	select {
	case result = <-back:
	case <-ctx.Done():
		timer := time.NewTimer(stallGrace)
		defer timer.Stop()
		select {
		case result = <-back:
		case <-timer.C:
			if s.parted.CompareAndSwap(false, true) {
				return fmt.Errorf("ipc: listen on %s: %w: a call to its file system does not come back: what it began is undone when it does", s.e.path, ctx.Err())
			}
			result = <-back
		}
	}
	switch {
	case result.panicked != nil:
		panic(result.panicked)
	case result.goexit:
		runtime.Goexit()
	}
	return result.err
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
