//go:build linux && (amd64 || arm64)

package tandemproto_test

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	tandemproto "github.com/tandem-ipc/tandem/integrations/protobuf"
	"github.com/tandem-ipc/tandem/ipc/worker"
)

// Twice is a method that service and worker share. Its worker's main function has
//
//	worker.Serve(ctx, worker.Handlers{Twice.Name: Twice.Handler(twice)})
var Twice = worker.Method[*durationpb.Duration, *durationpb.Duration]{Name: "twice", Codec: tandemproto.Codec}

func twice(_ context.Context, d *durationpb.Duration) (*durationpb.Duration, error) {
	return durationpb.New(2 * d.AsDuration()), nil
}

func init() { handlers[Twice.Name] = Twice.Handler(twice) }

func Example() {
	ctx := context.Background()
	pool, err := worker.Start(ctx, worker.Config{Command: worker.Self()})
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	answer, err := Twice.Call(ctx, pool, &durationpb.Duration{Seconds: 21})
	fmt.Println(answer.GetSeconds(), err)
	// Output: 42 <nil>
}
