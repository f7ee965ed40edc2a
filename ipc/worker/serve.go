package worker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// A Handler does the work of one method. Its context ends with the call's deadline,
// when the caller gives up, and when the service dies. It may run beside
// others. A panic in it ends the process, as it does anywhere in Go: the pool
// starts another one.
type Handler func(ctx context.Context, r *Request) ([]byte, error)

// Handlers are a worker's handlers, by the name of their method.
type Handlers map[string]Handler

// A Request is a call as its handler sees it.
type Request struct {
	Method string
	Data   []byte // the handler's own

	// Attempt counts from 1 how often a handler was started for this call: from 2 on, an earlier worker
	// has ended meanwhile, and may have done part of the work.
	Attempt int

	out *outgoing // nil if the call has one answer
}

// A ServeOption changes Serve.
type ServeOption func(*server)

// Drain has Serve wait, when the service dies, for the handlers that have begun, up to a
// limit, before it ends their contexts and returns. Nobody gets their answers: it is for work that should not
// be broken off, such as a file that is half written. Request.Send, Ask and Tell fail at once.
//
// It has its effect in a pool with Config.Outlive; otherwise the kernel kills the process
// before. Since the readers of its output have gone, Serve has the process ignore SIGPIPE.
func Drain(limit time.Duration) ServeOption { return func(w *server) { w.drain = limit } }

// Serve is for the main function of a worker: it answers calls until the service
// tells it to leave, and then returns nil. It returns an error that is
// ipc.ErrPeerDied, at once, if the service dies, see Drain and Await. If ctx ends, it takes no more calls, waits for its
// handlers, whose contexts end with it, and returns the context's error.
//
// The process should end when Serve returns: the next service starts workers of its own.
func Serve(ctx context.Context, handlers Handlers, options ...ServeOption) error {
	t, err := readTask()
	if err != nil {
		return err
	}
	// The pool was there before this process. If nobody is there now, or another one, it has died since.
	endpoint, err := ipc.Dial(ctx, t.path, &ipc.Options{Wait: true, FailFast: t.terms != ""})
	if err != nil {
		return err
	}
	if t.terms != "" && endpoint.Generation() != t.generation {
		_ = endpoint.Close()
		return fmt.Errorf("%w: before this process served", ipc.ErrPeerDied)
	}
	for {
		w := newServer(ctx, endpoint, t, handlers, options)
		err := w.serve(ctx)
		w.cancel()
		if !w.comesBack(ctx, err) {
			_ = endpoint.Close()
			return err
		}
		if endpoint, t.start, err = w.comeBack(ctx, err); err != nil {
			return err
		}
	}
}

// newServer makes what serves one service.
func newServer(ctx context.Context, endpoint *ipc.Endpoint, t task, handlers Handlers, options []ServeOption) *server {
	w := &server{
		endpoint: endpoint, task: t, handlers: maps.Clone(handlers), calls: map[uint64]*begun{}, left: make(chan struct{}),
		allowance: newAllowance(t.maxMessage),
		asker:     asker{places: make(chan struct{}, t.maxAsks), open: map[uint64]chan reply{}},
	}
	for _, option := range options {
		option(w)
	}
	if w.drain > 0 || w.patience > 0 {
		signal.Ignore(syscall.SIGPIPE)
	}
	w.ctx, w.cancel = context.WithCancel(context.WithValue(ctx, serverKey{}, w))
	return w
}

// serve says hello, and returns when the service wants it to leave, or is gone.
func (w *server) serve(ctx context.Context) error {
	if err := transmit(ctx, w.endpoint, kindHello, header{start: w.start, id: wireVersion}, "", nil); err != nil {
		return err
	}
	err := w.receive(ctx)
	w.leftFor = cmp.Or(err, ErrClosed)
	close(w.left)
	if err == nil || ctx.Err() != nil {
		w.running.Wait()
	} else if w.drain > 0 {
		w.await(w.drain)
	}
	return err
}

// idle returns a channel that is closed when all handlers have returned.
func (w *server) idle() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		w.running.Wait()
		close(ended)
	}()
	return ended
}

// await waits for the handlers, but not for ever.
func (w *server) await(limit time.Duration) {
	select {
	case <-w.idle():
	case <-w.ctx.Done():
	case <-time.After(limit):
	}
}

// A task is what the pool has told this process.
type task struct {
	start      uint64
	maxMessage int
	maxAsks    int
	path       string
	terms      string // empty if no other pool can take it over
	generation uint64 // of the channel; 0 without terms
}

// readTask reads the task from the environment, and keeps it from this process's children.
func readTask() (task, error) {
	text, found := os.LookupEnv(variable)
	if !found {
		return task{}, ErrNotAWorker
	}
	fields := strings.SplitN(text, ":", 3)
	if len(fields) != 3 {
		return task{}, fmt.Errorf("%w: %s is %q", ErrNotAWorker, variable, text)
	}
	start, err1 := strconv.ParseUint(fields[0], 10, 64)
	maxMessage, err2 := strconv.Atoi(fields[1])
	// A service of an older version does not set it, and refuses the hello.
	maxAsks, err3 := strconv.ParseUint(cmp.Or(os.Getenv(asksVariable), "1"), 10, 16)
	if err := errors.Join(err1, err2, err3); err != nil {
		return task{}, fmt.Errorf("%w: %s is %q: %w", ErrNotAWorker, variable, text, err)
	}
	t := task{start: start, maxMessage: maxMessage, maxAsks: int(maxAsks), path: fields[2]}
	_, _ = fmt.Sscanf(os.Getenv(termsVariable), "%d:%s", &t.generation, &t.terms)
	return t, errors.Join(os.Unsetenv(variable), os.Unsetenv(asksVariable), os.Unsetenv(termsVariable))
}

// A server is the worker's side of the channel.
type server struct {
	task
	endpoint *ipc.Endpoint
	handlers Handlers
	asker    asker
	ctx      context.Context // of all handlers
	cancel   context.CancelFunc
	running  sync.WaitGroup
	left     chan struct{} // closed when nothing more is received
	leftFor  error
	drain    time.Duration // 0: it leaves at once when the service dies
	patience time.Duration // 0: it does not wait for the next

	allowance *allowance // of notifications to the service

	mu       sync.Mutex
	calls    map[uint64]*begun
	notices  []notice // that wait for their handlers
	noticing bool     // a handler of one runs
}

// A begun call is one that has a handler.
type begun struct {
	cancel    context.CancelFunc
	allowance *allowance // of parts; nil without a stream
}

// receive takes what the service sends. It releases each message at once: what
// happens to a call is the pool's to know, and not the channel's.
func (w *server) receive(ctx context.Context) error {
	for m, err := range w.endpoint.Messages(ctx) {
		if err != nil {
			return err
		}
		h, err := parseHeader(m.Kind, m.Data)
		var method string
		var data []byte
		if err == nil && h.start == w.start && len(m.Data) > headerSize {
			method = string(m.Data[headerSize : headerSize+h.methodSize])
			data = bytes.Clone(m.Data[headerSize+h.methodSize:])
		}
		if err := errors.Join(err, m.Release()); err != nil {
			return err
		}
		if h.start != w.start {
			continue // for a predecessor
		}
		switch m.Kind {
		case kindRequest, kindOpen:
			w.begin(h, &Request{Method: method, Data: data, Attempt: int(h.number)}, m.Kind == kindOpen)
			runtime.Gosched() // the handler runs now, not when the next wait has ceased to spin
		case kindCancel:
			if c := w.call(h.id); c != nil {
				c.cancel()
			}
		case kindCredit:
			if c := w.call(h.id); c != nil && c.allowance != nil {
				c.allowance.grow(int(h.number))
			} else if h.id == 0 {
				w.allowance.grow(int(h.number))
			}
		case kindNotice:
			w.noticed(&Request{Method: method, Data: data, Attempt: 1})
		case kindAnswer:
			if done := w.asker.end(h.id); done != nil {
				done <- reply{h.number, data}
			}
		case kindStop:
			return nil
		default:
			return &malformedError{fmt.Sprintf("kind %d from a service", m.Kind)}
		}
	}
	return ipc.ErrClosed
}

// call returns a call that has begun and not ended, or nil.
func (w *server) call(id uint64) *begun {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[id]
}

// begin runs a handler. The pool sends no more calls at a time than it wants to run.
func (w *server) begin(h header, r *Request, stream bool) {
	ctx, cancel := within(w.ctx, h.remaining)
	c := &begun{cancel: cancel}
	if stream {
		c.allowance = newAllowance(w.maxMessage)
		r.out = &outgoing{server: w, ctx: ctx, id: h.id, allowance: c.allowance}
	}
	w.mu.Lock()
	w.calls[h.id] = c
	w.mu.Unlock()
	w.running.Add(1)
	go func() {
		crashed := false
		defer func() {
			w.mu.Lock()
			delete(w.calls, h.id)
			w.mu.Unlock()
			cancel()
			if !crashed { // else Serve could return, and the process leave in good order
				w.running.Done()
			}
		}()
		w.handle(ctx, h, r, &crashed)
	}()
}

// handle calls the handler, after it has told the service so, and answers.
func (w *server) handle(ctx context.Context, h header, r *Request, crashed *bool) {
	handler := w.handlers[r.Method]
	if handler == nil {
		w.answer(h, statusUnknownMethod, nil)
		return
	}
	if transmit(w.ctx, w.endpoint, kindStarted, header{start: w.start, id: h.id}, "", nil) != nil {
		return // untold, it must not start; the service has gone, or this process is leaving
	}
	invoke(ctx, handler, r, w.maxMessage, func() { *crashed = true }, func(status uint32, payload []byte) {
		if r.out != nil {
			r.out.allowance.end(errEnded)
			if status == statusOK && payload == nil {
				status = statusEnd
			}
		}
		w.answer(h, status, payload)
	})
}

var errGoexit = errors.New("the handler has ended its goroutine")

// invoke calls a handler, and hands on how an answer says what it returns. A panic goes on, after
// crashed was called: of the handler, of its error's methods, or because its answer faults.
func invoke(ctx context.Context, handler Handler, r *Request, maxMessage int, crashed func(), done func(status uint32, payload []byte)) {
	returned := false
	defer func() {
		if v := recover(); v != nil {
			crashed()
			panic(v)
		}
		if !returned { // the handler, or a method of its error, has ended the goroutine
			done(resultOf(ctx, nil, errGoexit, maxMessage))
		}
	}()
	answer, err := handler(ctx, r)
	status, payload := resultOf(ctx, answer, err, maxMessage)
	returned = true
	done(status, payload)
}

// resultOf is how an answer says what a handler has returned.
func resultOf(ctx context.Context, answer []byte, err error, maxMessage int) (status uint32, payload []byte) {
	switch {
	case err != nil:
		text := err.Error()
		return statusOf(ctx, err), []byte(text[:min(len(text), maxMessage)])
	case len(answer) > maxMessage:
		return statusTooLarge, nil
	}
	return statusOK, answer
}

// statusOf tells a handler's own error from that of its context.
func statusOf(ctx context.Context, err error) uint32 {
	switch ended := ctx.Err(); {
	case ended == nil || !errors.Is(err, ended):
		return statusFailed
	case ended == context.DeadlineExceeded:
		return statusDeadline
	}
	return statusCanceled
}

// answer commits a call's result. It waits for space, which the service makes; if
// it fails the service has gone, and nobody waits for the answer.
func (w *server) answer(h header, status uint32, payload []byte) {
	_ = transmit(context.Background(), w.endpoint, kindAnswer, header{start: w.start, id: h.id, number: status}, "", payload)
}
