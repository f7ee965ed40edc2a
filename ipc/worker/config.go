package worker

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/bits"
	"os/exec"
	"slices"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// Defaults and limits of Config.
const (
	DefaultConcurrency    = 4
	DefaultMaxMessage     = 1 << 20
	MaxMaxMessage         = ipc.MaxRingSize / 2
	DefaultMaxAttempts    = 3
	DefaultMaxAsks        = 16
	DefaultGrace          = 2 * time.Second
	DefaultStartTimeout   = 10 * time.Second
	DefaultStopTimeout    = 5 * time.Second
	DefaultHangTimeout    = 10 * time.Second
	DefaultMinUptime      = 8 * time.Second
	DefaultMaxQuickDeaths = 5
	DefaultMinPause       = 20 * time.Millisecond
	DefaultMaxPause       = 5 * time.Second
)

const maxMaxAsks = 1<<16 - 1

// Config configures a pool. Only Command is needed; a zero means the default.
type Config struct {
	// Command makes the command of a worker; it is called for each start, and for each worker
	// that comes back, see Adopt. The pool
	// adds to its environment, puts it into a process group of its own, has the
	// kernel kill it when the service dies (but see Outlive), and reads its standard output and
	// standard error unless they are set.
	Command func() *exec.Cmd

	// Size is how many workers run; 1 if 0.
	Size int

	// Concurrency is how many calls a worker has at a time.
	Concurrency int

	// MaxMessage is the largest request and the largest answer, in bytes. Each
	// worker has two rings, each of the next power of two.
	MaxMessage int

	// MaxAttempts is how many workers may die of a call, alone, before it is
	// ErrPoison.
	MaxAttempts int

	// Handlers are what the handlers of a worker can ask for, see Ask, and tell, see Tell. They
	// run in the service, each in a goroutine of its own, and must expect any request: it comes from
	// a process that may be out of order. The context of a handler that answers an Ask ends with the
	// worker; that of one that takes a Tell ends after Close has waited StopTimeout for it. They must not call
	// Close, which waits for them, nor Replace, which waits for the worker that asks. MaxAsks
	// is how many run at a time for one worker.
	Handlers Handlers
	MaxAsks  int

	// AtMostOnce lists methods that are never started twice: if their worker dies
	// meanwhile, the call ends with ErrOutcomeUnknown.
	AtMostOnce []string

	// Timeout is how long a call may be with a worker, each time, also with one that does
	// not take it; not counted is how long it waits for one. After it the call ends with an error that is
	// context.DeadlineExceeded. No limit if 0; the deadline of a call's context holds anyway.
	Timeout time.Duration

	// Grace is how long a handler may go on after the end of its call's context,
	// before its worker is killed. Negative: for ever.
	Grace time.Duration

	// Outlive has the kernel not kill the workers when the service dies: they leave by
	// themselves, as their Serve is told, see Drain. A process that does not serve at that
	// moment, or that does not look, stays. As long as one lives, no pool starts in the same Dir.
	Outlive bool

	// Adopt has the pool take over the workers that a former pool in the same Dir has left, and
	// that wait with Await, instead of starting processes. Adopt is how long Start waits for
	// such workers to end what they have begun; it fails if they have not. Then each place
	// waits as long for one to come back, and starts a process if none does. They look
	// twenty times a second, so a second is ample. It needs Outlive and Dir.
	//
	// A worker is taken over if its MaxMessage, MaxAsks, and Command's path and arguments are those of this pool,
	// and if the kernel proves that it is the process that attached; else it is told to leave. It runs
	// the program that it was started with: Replace puts fresh processes in their places. What is counted
	// of a process begins anew. It is no child of this one: how it ends is not known, and its output
	// goes nowhere, unless Command had set it.
	Adopt time.Duration

	// StartTimeout is how long a process may take until it serves.
	StartTimeout time.Duration

	// StopTimeout is how long a worker that is told to leave may take for what it
	// has begun. Then comes SIGTERM, and after half of it again SIGKILL.
	StopTimeout time.Duration

	// HangTimeout is how long a process may show no life at all before it is killed, one
	// that was stopped, say, or may take nothing of what it was sent. It is not about
	// handlers, see Grace.
	HangTimeout time.Duration

	// MinUptime is the age at which a worker that serves has proven itself. One that ends
	// earlier, or has never served, with nothing answered and no call to blame, has died quickly: the
	// pool waits between MinPause and MaxPause before it starts the next, each
	// time about twice as long. From MaxQuickDeaths in a row on, calls fail with
	// ErrWorkerDown instead of waiting for it.
	MinUptime          time.Duration
	MaxQuickDeaths     int
	MinPause, MaxPause time.Duration

	// MaxCalls is how many calls a worker gets at most; no limit if 0. A fresh process
	// replaces it as Replace does; it is started when the worker has had seven
	// eighths of them. MaxMemory is how many bytes of resident memory a worker may have: one with
	// more is replaced in the same way; with half as much again it is killed. No limit if 0.
	MaxCalls  int
	MaxMemory int64

	// Dir is the directory of the sockets, which must exist. If it is empty the pool makes a
	// private one, below os.TempDir, and removes it at its end.
	Dir string

	// Output gets what the workers write to their standard output and standard error, line by line
	// with a prefix, one Write for each line, one at a time; the standard error of this process if
	// nil. With a Logger the lines go there instead, several at a time.
	Output io.Writer
	Logger *slog.Logger

	// OnEvent is called with each event, one after the other, and never beside itself. Nobody waits
	// for it but Close, which it must not call; so a call may fail before OnEvent has
	// the death that it failed of. While OnEvent is behind, up to 1024 events
	// wait; then the oldest is dropped, and Event.Missed counts it.
	OnEvent func(Event)
}

// withDefaults returns the configuration in force.
func (c Config) withDefaults() (Config, error) {
	if c.Command == nil {
		return c, errors.New("worker: Config.Command is missing")
	}
	for _, field := range []struct {
		name     string
		value    *int
		normally int
	}{
		{"Size", &c.Size, 1},
		{"Concurrency", &c.Concurrency, DefaultConcurrency},
		{"MaxMessage", &c.MaxMessage, DefaultMaxMessage},
		{"MaxAttempts", &c.MaxAttempts, DefaultMaxAttempts},
		{"MaxQuickDeaths", &c.MaxQuickDeaths, DefaultMaxQuickDeaths},
		{"MaxAsks", &c.MaxAsks, DefaultMaxAsks},
	} {
		if *field.value == 0 {
			*field.value = field.normally
		}
		if *field.value < 0 {
			return c, fmt.Errorf("worker: Config.%s is %d", field.name, *field.value)
		}
	}
	for _, field := range []struct {
		name     string
		value    *time.Duration
		normally time.Duration
	}{
		{"StartTimeout", &c.StartTimeout, DefaultStartTimeout},
		{"StopTimeout", &c.StopTimeout, DefaultStopTimeout},
		{"HangTimeout", &c.HangTimeout, DefaultHangTimeout},
		{"MinUptime", &c.MinUptime, DefaultMinUptime},
		{"MinPause", &c.MinPause, DefaultMinPause},
		{"MaxPause", &c.MaxPause, max(DefaultMaxPause, c.MinPause)},
		{"Adopt", &c.Adopt, 0},
	} {
		if *field.value == 0 {
			*field.value = field.normally
		}
		if *field.value < 0 {
			return c, fmt.Errorf("worker: Config.%s is %v", field.name, *field.value)
		}
	}
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	c.AtMostOnce, c.Handlers = slices.Clone(c.AtMostOnce), maps.Clone(c.Handlers)
	return c, c.check()
}

// check looks for what no single field tells.
func (c Config) check() error {
	switch {
	case c.MaxMessage > MaxMaxMessage:
		return fmt.Errorf("worker: Config.MaxMessage is %d, more than %d", c.MaxMessage, MaxMaxMessage)
	case c.MaxAsks > maxMaxAsks:
		return fmt.Errorf("worker: Config.MaxAsks is %d, more than %d", c.MaxAsks, maxMaxAsks)
	case c.MaxPause < c.MinPause:
		return fmt.Errorf("worker: Config.MaxPause is %v, less than MinPause, %v", c.MaxPause, c.MinPause)
	case c.Adopt > 0 && (!c.Outlive || c.Dir == ""):
		return errors.New("worker: Config.Adopt needs Outlive and Dir: else no former pool has left a worker here")
	case c.Timeout < 0:
		return fmt.Errorf("worker: Config.Timeout is %v", c.Timeout)
	case c.MaxCalls < 0 || c.MaxMemory < 0:
		return fmt.Errorf("worker: Config.MaxCalls is %d and MaxMemory %d: none may be negative", c.MaxCalls, c.MaxMemory)
	}
	return nil
}

// ringSize is the smallest ring that holds the largest frame.
func (c Config) ringSize() int {
	const recordHeader = 16
	largest := c.MaxMessage + headerSize + maxMethodSize + recordHeader
	return max(1<<16, 1<<bits.Len(uint(largest-1)))
}

func (c Config) options() *ipc.Options {
	return &ipc.Options{ToServerSize: c.ringSize(), ToClientSize: c.ringSize(), HangTimeout: c.HangTimeout}
}

// A CallOption changes one call.
type CallOption func(*call)

// AtMostOnce makes a call that is never started twice.
func AtMostOnce() CallOption { return func(c *call) { c.atMostOnce = true } }

// MaxAttempts is Config.MaxAttempts for one call.
func MaxAttempts(n int) CallOption { return func(c *call) { c.maxAttempts = max(n, 1) } }

// Timeout is Config.Timeout for one call.
func Timeout(d time.Duration) CallOption { return func(c *call) { c.timeout = max(d, 0) } }
