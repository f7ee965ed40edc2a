package ipc

import (
	"context"
	"errors"
)

// A nil Endpoint, and one that neither Listen nor Dial has made, is closed, and says
// so. On the way of every message that costs nothing: a nil one is taken for a zero
// one, whose gates are shut.
var (
	unopened Endpoint
	noEvents = closed[Event]()
	isDone   = closed[struct{}]()
)

func closed[T any]() <-chan T {
	c := make(chan T)
	close(c)
	return c
}

// orUnopened returns an endpoint that is not nil.
func (e *Endpoint) orUnopened() *Endpoint {
	if e == nil {
		return &unopened
	}
	return e
}

// isOpened reports whether Listen or Dial has made the endpoint.
func (e *Endpoint) isOpened() bool { return e != nil && e.options != nil }

var errNoContext = errors.New("ipc: the context is nil: nothing was done: pass context.Background()")

func checkContext(ctx context.Context) error {
	if ctx == nil {
		return errNoContext
	}
	return nil
}
