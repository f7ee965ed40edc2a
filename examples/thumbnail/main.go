// Thumbnail makes small copies of pictures, in worker processes that may crash.
//
//	go run ./examples/thumbnail -to DIRECTORY FILE...
//
// The code that reads the pictures stands for a library with bugs: it panics, ends
// the process, or hangs on certain inputs. Every sound picture gets its thumbnail,
// and every other one is named.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tandem-ipc/tandem/ipc/worker"
)

// The worker.
func serve() error {
	return worker.Serve(context.Background(), worker.Handlers{"thumbnail": func(_ context.Context, r *worker.Request) ([]byte, error) {
		return thumbnail(r.Data)
	}})
}

// The service. done is called with what became of each picture.
func thumbnails(ctx context.Context, config worker.Config, pictures map[string][]byte, done func(name string, small []byte, err error)) error {
	pool, err := worker.Start(ctx, config)
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	for name, picture := range pictures {
		running.Add(1)
		go func() {
			defer running.Done()
			small, err := pool.Call(ctx, "thumbnail", picture, worker.Timeout(time.Second))
			done(name, small, err)
		}()
	}
	running.Wait()
	return pool.Close()
}

func main() {
	to := flag.String("to", ".", "the directory for the thumbnails")
	flag.Parse()
	work := func() error { return run(*to, flag.Args()) }
	if worker.IsWorker() {
		work = serve
	}
	if err := work(); err != nil {
		log.Fatal(err)
	}
}

func run(to string, files []string) error {
	pictures := map[string][]byte{}
	for _, file := range files {
		picture, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		pictures[file] = picture
	}
	config := worker.Config{Command: worker.Self(), Size: 2, Grace: 100 * time.Millisecond}
	return thumbnails(context.Background(), config, pictures, func(name string, small []byte, err error) {
		switch target := filepath.Join(to, "small-"+filepath.Base(name)); {
		case errors.Is(err, worker.ErrPoison):
			fmt.Printf("%s: workers die of it\n", name)
		case errors.Is(err, context.DeadlineExceeded):
			fmt.Printf("%s: takes for ever\n", name)
		case err != nil:
			fmt.Printf("%s: %v\n", name, err)
		default:
			if err := os.WriteFile(target, small, 0o600); err != nil {
				fmt.Println(err)
			}
		}
	})
}
