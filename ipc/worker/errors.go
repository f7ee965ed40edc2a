package worker

import (
	"errors"
	"fmt"
)

// Each error answers one question: may the call be made again? An error of the
// caller's context is found in the error with errors.Is, beside ErrNotSent or
// ErrOutcomeUnknown.
var (
	// ErrNotSent says that no handler has started. Call again whenever you like.
	ErrNotSent = errors.New("worker: no handler has started")

	// ErrOutcomeUnknown says that a handler may have started, and that its answer
	// will not come. Call again only if it does no harm to do the work twice.
	ErrOutcomeUnknown = errors.New("worker: a handler may have started, and its outcome is unknown")

	// ErrPoison says that workers die of this call, alone, again and again. To
	// call again does not help. It comes as a *DeathError.
	ErrPoison = errors.New("worker: poison: workers die of this call")

	// ErrWorkerDown says that the workers die as soon as they start. Call again
	// later: the pool goes on trying. It comes as a *DeathError, with ErrNotSent
	// or ErrOutcomeUnknown beside it.
	ErrWorkerDown = errors.New("worker: no worker stays alive")

	// ErrNotReplaced is returned by Replace: the fresh process did not come to serve,
	// and the old one goes on. It comes as a *DeathError.
	ErrNotReplaced = errors.New("worker: not replaced")

	// ErrUnknownMethod says that the worker has no handler of this name. To call
	// again does not help.
	ErrUnknownMethod = errors.New("worker: no handler of this name")

	// ErrTooLarge says that a request or an answer is larger than MaxMessage. With
	// a request no handler has started, and ErrNotSent is beside it; with an
	// answer the handler has done its work. To call again does not help.
	ErrTooLarge = errors.New("worker: larger than MaxMessage")

	// ErrNoStream is returned by Request.Send in a handler whose caller used Call,
	// and so waits for one answer.
	ErrNoStream = errors.New("worker: the caller waits for one answer, not for a stream")

	// ErrClosed says that the pool is closed. ErrNotSent or ErrOutcomeUnknown is
	// beside it.
	ErrClosed = errors.New("worker: pool closed")

	// ErrNotAWorker is returned by Serve in a process that no pool has started.
	ErrNotAWorker = errors.New("worker: this process was not started by a pool")
)

// A RemoteError is an error that the handler returned: the work was done, and
// this is its result. Call again if the text says that it helps.
type RemoteError struct {
	Method  string
	Message string

	cause error
}

func (e *RemoteError) Error() string { return e.Method + ": " + e.Message }

// Unwrap returns the error of the handler's context, if that is what the handler
// returned; else nil.
func (e *RemoteError) Unwrap() error { return e.cause }

// A DeathError says that a call, or a Replace, failed with its worker.
type DeathError struct {
	Err      error  // ErrPoison, ErrWorkerDown, ErrOutcomeUnknown or ErrNotReplaced
	Method   string // empty with ErrNotReplaced
	Attempts int    // how often a handler was started for this call
	Death    Death

	also error // ErrNotSent, ErrOutcomeUnknown or ErrClosed
}

func (e *DeathError) Error() string {
	if e.Method == "" {
		return fmt.Sprintf("%v: %v", e.Err, e.Death)
	}
	return fmt.Sprintf("%v: %s, started %d times: %v", e.Err, e.Method, e.Attempts, e.Death)
}

// Unwrap returns what errors.Is finds in it.
func (e *DeathError) Unwrap() []error {
	if e.also == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.also}
}

// A qualifiedError says beside a cause what it means for the call. Its text is made when somebody
// asks for it: the cause may be of the user's context, and its methods must not run while
// the pool is locked.
type qualifiedError struct{ meaning, cause error }

func (e *qualifiedError) Error() string   { return fmt.Sprintf("%v: %v", e.meaning, e.cause) }
func (e *qualifiedError) Unwrap() []error { return []error{e.meaning, e.cause} }

// notSent adds ErrNotSent to a cause.
func notSent(cause error) error { return &qualifiedError{ErrNotSent, cause} }

// unknown adds ErrOutcomeUnknown to a cause.
func unknown(cause error) error { return &qualifiedError{ErrOutcomeUnknown, cause} }
