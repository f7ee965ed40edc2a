//go:build linux && (amd64 || arm64)

package tandemproto_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	tandemproto "github.com/tandem-ipc/tandem/integrations/protobuf"
	"github.com/tandem-ipc/tandem/ipc/worker"
)

// The methods that service and worker share.
var (
	shout     = worker.Method[*wrapperspb.StringValue, *wrapperspb.StringValue]{Name: "shout", Codec: tandemproto.Codec}
	reverse   = worker.Method[*structpb.Struct, *structpb.ListValue]{Name: "reverse", Codec: tandemproto.Codec}
	double    = worker.Method[*durationpb.Duration, *durationpb.Duration]{Name: "double", Codec: tandemproto.Codec}
	count     = worker.Method[*wrapperspb.Int64Value, *wrapperspb.Int64Value]{Name: "count", Codec: tandemproto.Codec}
	greet     = worker.Method[*emptypb.Empty, *wrapperspb.StringValue]{Name: "greet", Codec: tandemproto.Codec}
	name      = worker.Method[*emptypb.Empty, *wrapperspb.StringValue]{Name: "name", Codec: tandemproto.Codec}
	report    = worker.Method[*wrapperspb.StringValue, *emptypb.Empty]{Name: "report", Codec: tandemproto.Codec}
	flaky     = worker.Method[*structpb.Struct, *structpb.Struct]{Name: "flaky", Codec: tandemproto.Codec}
	nothing   = worker.Method[*emptypb.Empty, *emptypb.Empty]{Name: "nothing", Codec: tandemproto.Codec}
	malformed = worker.Method[*emptypb.Empty, *structpb.Struct]{Name: "malformed", Codec: tandemproto.Codec}
)

// The test binary plays the worker: the pool starts it again, and it serves.
func TestMain(m *testing.M) {
	if worker.IsWorker() {
		if err := worker.Serve(context.Background(), handlers); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var handlers = worker.Handlers{
	shout.Name: shout.Handler(func(_ context.Context, text *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		if text.GetValue() == "" {
			return nil, errors.New("there is no text")
		}
		return wrapperspb.String(strings.ToUpper(text.GetValue())), nil
	}),
	reverse.Name: reverse.Handler(func(_ context.Context, s *structpb.Struct) (*structpb.ListValue, error) {
		list := s.GetFields()["list"].GetListValue().GetValues()
		answer := &structpb.ListValue{}
		for i := range list {
			answer.Values = append(answer.Values, list[len(list)-1-i])
		}
		return answer, nil
	}),
	double.Name: double.Handler(func(_ context.Context, d *durationpb.Duration) (*durationpb.Duration, error) {
		return durationpb.New(2 * d.AsDuration()), nil
	}),
	count.Name: count.StreamHandler(func(_ context.Context, n *wrapperspb.Int64Value, send func(*wrapperspb.Int64Value) error) error {
		if n.GetValue() < 0 {
			return send(nil)
		}
		for i := range n.GetValue() {
			if err := send(wrapperspb.Int64(i)); err != nil {
				return err
			}
		}
		return nil
	}),
	greet.Name: greet.Handler(func(ctx context.Context, _ *emptypb.Empty) (*wrapperspb.StringValue, error) {
		whom, err := name.Ask(ctx, &emptypb.Empty{})
		if err != nil {
			return nil, err
		}
		return wrapperspb.String("Hello, " + whom.GetValue() + "!"), nil
	}),
	// report goes back to the service as it came.
	report.Name: report.Handler(func(ctx context.Context, text *wrapperspb.StringValue) (*emptypb.Empty, error) {
		return &emptypb.Empty{}, report.Tell(ctx, text)
	}),
	flaky.Name: flaky.Handler(func(ctx context.Context, s *structpb.Struct) (*structpb.Struct, error) {
		if worker.Attempt(ctx) == 1 {
			os.Exit(1)
		}
		return s, nil
	}),
	nothing.Name: nothing.Handler(func(context.Context, *emptypb.Empty) (*emptypb.Empty, error) { return nil, nil }),
	malformed.Name: func(_ context.Context, r *worker.Request) ([]byte, error) {
		return []byte{0xff}, r.Send([]byte{0xff})
	},
	"malformed answer": func(context.Context, *worker.Request) ([]byte, error) { return []byte{0xff}, nil },
}

// A service is a pool, and what came to its handlers.
type service struct {
	*worker.Pool
	reports chan string

	mu     sync.Mutex
	deaths []worker.Death
}

// watchdog bounds each wait of a test; it claims nothing.
const watchdog = time.Minute

func start(t *testing.T) (*service, context.Context) {
	t.Helper()
	s := &service{reports: make(chan string, 1)}
	pool, err := worker.Start(context.Background(), worker.Config{
		Command: func() *exec.Cmd {
			cmd := worker.Self()()
			// The race detector would have each worker sleep for a second at its exit.
			cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
			return cmd
		},
		Output: io.Discard,
		Handlers: worker.Handlers{
			name.Name: name.Handler(func(context.Context, *emptypb.Empty) (*wrapperspb.StringValue, error) {
				return wrapperspb.String("world"), nil
			}),
			report.Name: report.Handler(func(_ context.Context, text *wrapperspb.StringValue) (*emptypb.Empty, error) {
				s.reports <- text.GetValue()
				return &emptypb.Empty{}, nil
			}),
		},
		OnEvent: func(event worker.Event) {
			if event.Kind == worker.EventEnded {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.deaths = append(s.deaths, *event.Death)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Pool = pool
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	t.Cleanup(func() {
		cancel()
		if err := pool.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s, ctx
}

// nobodyDied checks that the worker still serves, and does so to its end.
func (s *service) nobodyDied(t *testing.T, ctx context.Context) {
	t.Helper()
	if got, err := shout.Call(ctx, s.Pool, wrapperspb.String("on")); err != nil || got.GetValue() != "ON" {
		t.Errorf("then a call ends with %v, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.deaths) != 1 || s.deaths[0].Reason != worker.ReasonStopped {
		t.Errorf("deaths %+v", s.deaths)
	}
}
