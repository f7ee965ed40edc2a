//go:build linux && (amd64 || arm64)

package tandemgrpc

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	testpb "google.golang.org/grpc/interop/grpc_testing"
)

// endless asks for parts of an answer until somebody ends it.
var endless = &testpb.StreamingOutputCallRequest{ResponseParameters: slices.Repeat([]*testpb.ResponseParameters{{Size: 1000}}, 1<<16)}

// inMidCall are calls of the four kinds that are under way when they return: end waits
// for the end.
var inMidCall = map[string]func(ctx context.Context, t *testing.T, cc *grpc.ClientConn) (end func() error){
	"unary": func(ctx context.Context, _ *testing.T, cc *grpc.ClientConn) func() error {
		ended := make(chan error, 1)
		go func() {
			_, err := ask(ctx, cc, "wait")
			ended <- err
		}()
		return func() error { return <-ended }
	},
	"server streaming": func(ctx context.Context, t *testing.T, cc *grpc.ClientConn) func() error {
		stream, err := testgrpc.NewTestServiceClient(cc).StreamingOutputCall(ctx, endless)
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		return func() error {
			_, err := endOf(stream.Recv)
			return err
		}
	},
	"client streaming": func(ctx context.Context, t *testing.T, cc *grpc.ClientConn) func() error {
		stream, err := testgrpc.NewTestServiceClient(cc).StreamingInputCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		mustCall(t, cc) // it comes after the stream's beginning: the worker has that, else gRPC would begin it again elsewhere
		return func() error {
			for stream.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, 1000)}}) == nil {
			}
			_, err := stream.CloseAndRecv() // which says why a Send has failed
			return err
		}
	},
	"both streaming": func(ctx context.Context, t *testing.T, cc *grpc.ClientConn) func() error {
		stream, err := testgrpc.NewTestServiceClient(cc).FullDuplexCall(ctx)
		if err == nil {
			err = stream.Send(endless)
		}
		if err == nil {
			_, err = stream.Recv()
		}
		if err != nil {
			t.Fatal(err)
		}
		return func() error {
			_, err := endOf(stream.Recv)
			return err
		}
	},
}

func TestAKilledWorkersCallsAreUnavailableAndTheNextWorkerIsFound(t *testing.T) {
	for kind, begin := range inMidCall {
		t.Run(kind, func(t *testing.T) {
			target := "tandem:" + testPath(t)
			cc := newClient(t, target)
			for range 3 {
				worker := startWorker(t, target)
				if got, want := mustCall(t, cc), fmt.Sprint(worker.cmd.Process.Pid); got != want {
					t.Fatalf("process %s has answered, want %s", got, want)
				}
				end := begin(testContext(t), t, cc)
				if kind == "unary" {
					worker.expect("waiting")
				}
				worker.kill()
				err := within(t, "the call", end)
				wantCode(t, err, codes.Unavailable)
				if !strings.Contains(err.Error(), "the peer has died") {
					t.Errorf("the call ended with %v, which names no death", err)
				}
			}
		})
	}
}

// It has a call under way until it is killed.
var _ = part("service in mid-call", func(arguments []string) {
	cc, err := grpc.NewClient(arguments[0], DialOptions(waiting)...)
	check(err)
	_, err = ask(context.Background(), cc, "wait", grpc.WaitForReady(true))
	check(err)
})

func TestAKilledServicesCallsEndInTheWorkerAndTheNextServiceIsServed(t *testing.T) {
	target := "tandem:" + testPath(t)
	_, reports := serveHere(t, target, nil)
	for range 3 {
		service := start(t, "service in mid-call", target)
		if got := hearReport(t, reports); got != "waiting" {
			t.Fatal(got)
		}
		service.kill()
		if got := hearReport(t, reports); got != "ended: context canceled" {
			t.Fatal(got)
		}
	}
	mustCall(t, newClient(t, target))
}

func TestACancelledCallEndsInTheWorker(t *testing.T) {
	target := "tandem:" + testPath(t)
	worker := startWorker(t, target)
	cc := newClient(t, target)
	ctx, cancel := context.WithCancel(testContext(t))
	end := inMidCall["unary"](ctx, t, cc)
	worker.expect("waiting")
	cancel()
	wantCode(t, within(t, "the call", end), codes.Canceled)
	worker.expect("ended: context canceled")
	mustCall(t, cc)
}

func TestADeadlineEndsACallAtBothSides(t *testing.T) {
	target := "tandem:" + testPath(t)
	worker := startWorker(t, target)
	cc := newClient(t, target)
	begun := false
	for limit := 50 * time.Millisecond; !begun; limit *= 2 { // until one is not over before the worker has it
		ctx, cancel := context.WithTimeout(testContext(t), limit)
		_, err := ask(ctx, cc, "wait", grpc.WaitForReady(true))
		cancel()
		wantCode(t, err, codes.DeadlineExceeded)
		select {
		case line := <-worker.lines:
			if begun = line == "waiting"; !begun {
				t.Fatalf("the worker says %q", line)
			}
		default:
		}
	}
	for line := ""; !strings.HasPrefix(line, "ended: context "); {
		if line = worker.hear(); line == "" {
			t.Fatal("the worker has gone")
		}
	}
	mustCall(t, cc)
}

func TestADeadlineEndsACallToAFrozenWorker(t *testing.T) {
	target := "tandem:" + testPath(t)
	worker := startWorker(t, target)
	cc := newClient(t, target)
	before := mustCall(t, cc)
	worker.freeze()
	ctx, cancel := context.WithTimeout(testContext(t), 100*time.Millisecond)
	defer cancel()
	_, err := ask(ctx, cc, "who")
	wantCode(t, err, codes.DeadlineExceeded)
	worker.thaw()
	if after := mustCall(t, cc); after != before {
		t.Errorf("process %s has answered, and before %s", after, before)
	}
}

func TestAGracefulStopLetsCallsEnd(t *testing.T) {
	path := testPath(t)
	target := "tandem:" + path
	for range 3 {
		worker := startWorker(t, target)
		cc := newClient(t, target)
		mustCall(t, cc)
		ended := make(chan error, 1)
		go func() {
			_, err := ask(testContext(t), cc, "linger")
			ended <- err
		}()
		worker.expect("lingering")
		worker.tell("stop")
		worker.expect("stopping")
		worker.tell("answer")
		if err := within(t, "the call", func() error { return <-ended }); err != nil {
			t.Fatalf("the call that was under way: %v", err)
		}
		worker.expect("stopped")
		worker.wait()
		wantNothingLeft(t, path)
		if err := cc.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// wantNothingLeft checks that only the two small files are in the directory (L8).
func wantNothingLeft(t testing.TB, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if want := []string{"s.lock", "s.token"}; !slices.Equal(names, want) {
		t.Fatalf("left behind: %v, want %v", names, want)
	}
}

func TestACallWithoutAWorkerIsUnavailableOrWaits(t *testing.T) {
	target := "tandem:" + testPath(t)
	cc := newClient(t, target)
	wantUnavailable(t, cc, "no server listens")
	answered := make(chan string, 1)
	go func() {
		pid, err := ask(testContext(t), cc, "who", grpc.WaitForReady(true))
		answered <- fmt.Sprintf("%s, %v", pid, err)
	}()
	worker := startWorker(t, target)
	if got, want := within(t, "the call", func() string { return <-answered }), fmt.Sprintf("%d, <nil>", worker.cmd.Process.Pid); got != want {
		t.Errorf("answered %s, want %s", got, want)
	}
}

func TestACallWaitsForAWorkerThatIsThereAndSlow(t *testing.T) {
	target := "tandem:" + testPath(t)
	worker := startWorker(t, target)
	worker.freeze()
	answered := make(chan error, 1)
	go func() {
		_, err := ask(testContext(t), newClient(t, target), "who")
		answered <- err
	}()
	time.Sleep(2 * patience) // sleep: longer than one waits for a worker that is not there
	worker.thaw()
	if err := within(t, "the call", func() error { return <-answered }); err != nil {
		t.Error(err)
	}
}

// A stop that does not wait: the calls end, and the client goes on with the next worker.
func TestAClientOutlivesWorkersThatStop(t *testing.T) {
	path := testPath(t)
	cc := newClient(t, "tandem:"+path)
	for range 3 {
		worker := startWorker(t, "tandem:"+path)
		mustCall(t, cc)
		worker.tell("stop")
		worker.expect("stopping")
		worker.expect("stopped")
		worker.wait()
	}
	wantNothingLeft(t, path)
}

func TestStreamsBothWaysKeepTheirOrder(t *testing.T) {
	target := "tandem:" + testPath(t)
	startWorker(t, target)
	stream, err := testgrpc.NewTestServiceClient(newClient(t, target)).FullDuplexCall(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	const count = 2000
	sent := make(chan error, 1)
	go func() {
		for i := range count {
			request := &testpb.StreamingOutputCallRequest{ResponseParameters: []*testpb.ResponseParameters{{Size: int32(i)}}}
			if err := stream.Send(request); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	for i := range count {
		response, err := stream.Recv()
		if err != nil || len(response.GetPayload().GetBody()) != i {
			t.Fatalf("answer %d has %d bytes, %v", i, len(response.GetPayload().GetBody()), err)
		}
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Fatalf("behind the last: %v", err)
	}
	if err := within(t, "sending", func() error { return <-sent }); err != nil {
		t.Fatal(err)
	}
}
