//go:build linux && (amd64 || arm64)

package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/tandem-ipc/tandem/ipc/worker"
)

// Length is a method with types, which service and worker share.
var Length = worker.Method[string, int]{Name: "length"}

func init() { worker.ServeExamples = serve }

// serve is the main function of a worker.
func serve() error {
	return worker.Serve(context.Background(), worker.Handlers{
		"shout": func(_ context.Context, r *worker.Request) ([]byte, error) {
			return bytes.ToUpper(r.Data), nil
		},
		"crash": func(context.Context, *worker.Request) ([]byte, error) {
			panic("a bug")
		},
		"flaky": func(_ context.Context, r *worker.Request) ([]byte, error) {
			if r.Attempt == 1 {
				os.Exit(1)
			}
			return fmt.Appendf(nil, "done at attempt %d", r.Attempt), nil
		},
		"slow": func(ctx context.Context, _ *worker.Request) ([]byte, error) {
			<-ctx.Done() // the caller's deadline
			return nil, ctx.Err()
		},
		"greet": func(ctx context.Context, r *worker.Request) ([]byte, error) {
			name, err := worker.Ask(ctx, "name", r.Data)
			return fmt.Appendf(nil, "Hello, %s!", name), err
		},
		"work": func(ctx context.Context, _ *worker.Request) ([]byte, error) {
			for _, part := range []string{"first half", "second half"} {
				if err := worker.Tell(ctx, "done", []byte(part)); err != nil {
					return nil, err
				}
			}
			return nil, nil
		},
		"reload": func(ctx context.Context, r *worker.Request) ([]byte, error) {
			// It would read the file again here.
			return nil, worker.Tell(ctx, "reloaded", r.Data)
		},
		"words": func(_ context.Context, r *worker.Request) ([]byte, error) {
			for word := range bytes.FieldsSeq(r.Data) {
				if err := r.Send(word); err != nil {
					return nil, err // the reader has gone
				}
				if string(word) == "boom" {
					os.Exit(1)
				}
			}
			return nil, nil
		},
		Length.Name: Length.Handler(func(_ context.Context, text string) (int, error) {
			if text == "" {
				return 0, errors.New("there is no text")
			}
			return len(text), nil
		}),
	})
}

// quiet is a configuration that shows nothing of what the workers write.
var quiet = worker.Config{Command: worker.Self(), Output: io.Discard}

// A program that is both: the pool starts it again as a worker, whose main function
// calls Serve where worker.IsWorker reports so.
func Example() {
	ctx := context.Background()
	pool, err := worker.Start(ctx, worker.Config{Command: worker.Self(), Size: 2})
	if err != nil {
		panic(err)
	}
	answer, err := pool.Call(ctx, "shout", []byte("hello"))
	fmt.Println(string(answer), err)
	fmt.Println(pool.Close())
	// Output:
	// HELLO <nil>
	// <nil>
}

// A call that its workers die of is named. Others do not notice.
func ExamplePool_Call_poison() {
	ctx := context.Background()
	pool, err := worker.Start(ctx, quiet)
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	_, err = pool.Call(ctx, "crash", nil)
	var death *worker.DeathError
	if errors.As(err, &death) {
		fmt.Println(errors.Is(err, worker.ErrPoison), death.Attempts, death.Death.ExitCode)
		fmt.Println(strings.HasPrefix(death.Death.Stderr[0], "panic: a bug"))
	}
	answer, err := pool.Call(ctx, "flaky", nil)
	fmt.Println(string(answer), err)
	// Output:
	// true 3 2
	// true
	// done at attempt 2 <nil>
}

// Work that must not be done twice is started at most once.
func ExampleAtMostOnce() {
	ctx := context.Background()
	pool, err := worker.Start(ctx, quiet)
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	_, err = pool.Call(ctx, "flaky", nil, worker.AtMostOnce())
	fmt.Println(errors.Is(err, worker.ErrOutcomeUnknown))
	// Output: true
}

// A handler can send many answers. If its worker dies, those that it sent come,
// and then the error.
func ExamplePool_Stream() {
	ctx := context.Background()
	pool, err := worker.Start(ctx, quiet)
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	for _, text := range []string{"one by one", "and then boom comes"} {
		for word, err := range pool.Stream(ctx, "words", []byte(text)) {
			if err != nil {
				fmt.Println(errors.Is(err, worker.ErrOutcomeUnknown))
				break
			}
			fmt.Println(string(word))
		}
	}
	// Output:
	// one
	// by
	// one
	// and
	// then
	// boom
	// true
}

// A handler asks the service for what only the service knows.
func ExampleAsk() {
	ctx := context.Background()
	pool, err := worker.Start(ctx, worker.Config{
		Command: worker.Self(),
		Handlers: worker.Handlers{"name": func(_ context.Context, r *worker.Request) ([]byte, error) {
			return []byte("number " + string(r.Data)), nil
		}},
	})
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	answer, err := pool.Call(ctx, "greet", []byte("4711"))
	fmt.Println(string(answer), err)
	// Output: Hello, number 4711! <nil>
}

// A handler says how far it is. Nobody answers.
func ExampleTell() {
	ctx := context.Background()
	done := make(chan string)
	pool, err := worker.Start(ctx, worker.Config{
		Command: worker.Self(),
		Handlers: worker.Handlers{"done": func(_ context.Context, r *worker.Request) ([]byte, error) {
			done <- string(r.Data)
			return nil, nil
		}},
	})
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	if _, err := pool.Call(ctx, "work", nil); err != nil {
		panic(err)
	}
	fmt.Println(<-done)
	fmt.Println(<-done)
	// Output:
	// first half
	// second half
}

// After an update of the program, fresh processes take the places of the old ones. Calls go on
// meanwhile.
func ExamplePool_Replace() {
	ctx := context.Background()
	pool, err := worker.Start(ctx, quiet)
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	fmt.Println(pool.Replace(ctx))
	fmt.Println(pool.Stats().Starts)
	// Output:
	// <nil>
	// 2
}

func ExampleTimeout() {
	ctx := context.Background()
	pool, err := worker.Start(ctx, quiet)
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	_, err = pool.Call(ctx, "slow", nil, worker.Timeout(time.Millisecond))
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output: true
}

func ExampleMethod() {
	ctx := context.Background()
	pool, err := worker.Start(ctx, quiet)
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	fmt.Println(Length.Call(ctx, pool, "four"))
	fmt.Println(Length.Call(ctx, pool, ""))
	// Output:
	// 4 <nil>
	// 0 length: there is no text
}
