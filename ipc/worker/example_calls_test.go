//go:build linux && (amd64 || arm64)

package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/tandem-ipc/tandem/ipc/worker"
)

// The main function of a program that is both: where a pool has started it, it serves.
func ExampleServe() {
	main := func() {
		if worker.IsWorker() {
			err := worker.Serve(context.Background(), worker.Handlers{
				"shout": func(_ context.Context, r *worker.Request) ([]byte, error) {
					return []byte(strings.ToUpper(string(r.Data))), nil
				},
			})
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
		fmt.Println("the service starts a pool with Command: worker.Self()")
	}
	main()
	fmt.Println(worker.Serve(context.Background(), nil)) // elsewhere it is an error
	// Output:
	// the service starts a pool with Command: worker.Self()
	// worker: this process was not started by a pool
}

// Events tell each start and each end, with its reason. What the workers print goes to a
// logger here.
func ExampleConfig() {
	ctx := context.Background()
	ended := make(chan worker.Death, 10)
	pool, err := worker.Start(ctx, worker.Config{
		Command: worker.Self(),
		Logger:  slog.New(slog.NewTextHandler(io.Discard, nil)),
		OnEvent: func(e worker.Event) {
			if e.Kind == worker.EventEnded {
				ended <- *e.Death
			}
		},
	})
	if err != nil {
		panic(err)
	}
	answer, err := pool.Call(ctx, "flaky", nil)
	fmt.Println(string(answer), err)
	fmt.Println(pool.Close())
	for range 2 {
		death := <-ended
		fmt.Println(death.Reason, death.ExitCode, len(death.Suspects))
	}
	// Output:
	// done at attempt 2 <nil>
	// <nil>
	// exited 1 1
	// stopped 0 0
}

// An error that the handler returned says that the work was done, and is its result.
func ExampleRemoteError() {
	ctx := context.Background()
	pool, err := worker.Start(ctx, quiet)
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	_, err = Length.Call(ctx, pool, "")
	var remote *worker.RemoteError
	if errors.As(err, &remote) {
		fmt.Println(remote.Method, "says:", remote.Message)
	}
	_, err = pool.Call(ctx, "missing", nil)
	fmt.Println(errors.Is(err, worker.ErrUnknownMethod))
	// Output:
	// length says: there is no text
	// true
}

// One death is enough to give a call up.
func ExampleMaxAttempts() {
	ctx := context.Background()
	pool, err := worker.Start(ctx, quiet)
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	_, err = pool.Call(ctx, "flaky", nil, worker.MaxAttempts(1))
	fmt.Println(errors.Is(err, worker.ErrPoison))
	// Output: true
}

// Any codec will do that turns values into bytes and back.
func ExampleCodec() {
	data, err := worker.Gob.Encode([]int{1, 2, 3})
	fmt.Println(err)
	var numbers []int
	fmt.Println(worker.Gob.Decode(data, &numbers), numbers)
	// Output:
	// <nil>
	// <nil> [1 2 3]
}

func ExamplePool_Stats() {
	ctx := context.Background()
	pool, err := worker.Start(ctx, quiet)
	if err != nil {
		panic(err)
	}
	_, _ = pool.Call(ctx, "flaky", nil)
	_ = pool.Close()
	stats := pool.Stats()
	fmt.Println(stats.Starts, "starts,", stats.Deaths, "ends,", stats.Answered, "answer")
	_, err = pool.Call(ctx, "shout", nil)
	fmt.Println(errors.Is(err, worker.ErrClosed), errors.Is(err, worker.ErrNotSent))
	// Output:
	// 2 starts, 2 ends, 1 answer
	// true true
}

// A notification goes to each worker that serves, and has no answer. Here its handler tells the
// service that it has run.
func ExamplePool_Notify() {
	ctx := context.Background()
	reloaded := make(chan string)
	config := quiet
	config.Handlers = worker.Handlers{"reloaded": func(_ context.Context, r *worker.Request) ([]byte, error) {
		reloaded <- string(r.Data)
		return nil, nil
	}}
	pool, err := worker.Start(ctx, config)
	if err != nil {
		panic(err)
	}
	answer, err := pool.Call(ctx, "shout", []byte("it serves"))
	fmt.Println(string(answer), err)
	told, err := pool.Notify(ctx, "reload", []byte("limits.conf"))
	fmt.Println(told, err)
	fmt.Println(<-reloaded)
	fmt.Println(pool.Close())
	// Output:
	// IT SERVES <nil>
	// 1 <nil>
	// limits.conf
	// <nil>
}

// A worker that is slow to warm up waits for the next service when its own dies, and goes on
// there. Both services are started like this one.
func ExampleAwait() {
	ctx := context.Background()
	if worker.IsWorker() {
		cache := map[string][]byte{} // it outlives the services
		err := worker.Serve(ctx, worker.Handlers{
			"cached": func(_ context.Context, r *worker.Request) ([]byte, error) { return cache[string(r.Data)], nil },
		}, worker.Await(time.Minute))
		fmt.Fprintln(os.Stderr, err)
		return
	}
	pool, err := worker.Start(ctx, worker.Config{
		Command: worker.Self(), Dir: "/run/thumbnails", Outlive: true, Adopt: time.Second,
		OnEvent: func(e worker.Event) {
			if e.Kind == worker.EventAdopted {
				fmt.Println("process", e.PID, "of the former service goes on")
			}
		},
	})
	if err != nil {
		panic(err)
	}
	defer pool.Close()
}
