package ipc

import (
	"runtime"

	"github.com/tandem-ipc/tandem/internal/step"
)

// User code is Options.hook and the methods of a context. It may panic, and it may
// end its goroutine: runtime.Goexit, which t.FailNow calls too. No lock stays taken
// then, and nothing is half done (T4).
//
// In a call of the user's it ends that call. What the call has begun is undone in
// defers which look at a flag: recover sees neither a Goexit nor, in programs that ask
// for it (GODEBUG=panicnil=1), a panic with nil.
//
// Close, and the goroutines of the endpoint's own, have work to finish. There user
// code gets a goroutine to itself.

// apart calls user code in a goroutine of its own, and waits until that has ended. A
// panic ends the process, as in every goroutine.
func apart(f func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	<-ended
}

// An ending is how user code came back, if it did not return.
type ending struct {
	exited   bool // its goroutine ended
	panicked any
}

// endingOf calls user code apart, and returns nil if it returned.
func endingOf(f func()) *ending {
	end := &ending{exited: true}
	apart(func() {
		func() {
			defer func() {
				if end != nil {
					end.panicked = recover()
				}
			}()
			f()
			end = nil
		}()
		if end != nil {
			end.exited = false // a Goexit does not come as far as this
		}
	})
	return end
}

// resume goes on with it in this goroutine.
func (e *ending) resume() {
	switch {
	case e == nil:
	case e.exited:
		runtime.Goexit()
	default:
		panic(e.panicked)
	}
}

// shield calls what Close must not be stopped by. Close resumes the first ending when
// all is closed.
func (e *Endpoint) shield(f func()) {
	if end := endingOf(f); end != nil {
		e.caught.CompareAndSwap(nil, end)
	}
}

// hook reports a step to Options.hook.
func (e *Endpoint) hook(at step.ID, value uint64) {
	switch {
	case e.hookFunc == nil:
	case e.leaving.Load():
		e.shield(func() { e.hookFunc(at, value) })
	default:
		e.hookFunc(at, value)
	}
}

// hookApart is hook in a goroutine of the endpoint's own.
func (e *Endpoint) hookApart(at step.ID, value uint64) {
	if e.hookFunc != nil {
		apart(func() { e.hookFunc(at, value) })
	}
}
