//go:build linux && (amd64 || arm64)

package tandemgrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/tandem-ipc/tandem/ipc"
	"github.com/tandem-ipc/tandem/ipc/conn"
)

// A service is gRPC's own test service, whose unary call also does what the tests ask
// for in the metadata.
type service struct {
	testgrpc.TestServiceServer
	report func(format string, arguments ...any) // what has happened to a call
}

// asked is the key of what a call asks for.
const asked = "ask"

func (s *service) UnaryCall(ctx context.Context, request *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	switch what := md.Get(asked); {
	case len(what) == 0:
	case what[0] == "wait":
		s.report("waiting")
		<-ctx.Done()
		s.report("ended: %v", ctx.Err())
		return nil, ctx.Err()
	case what[0] == "linger": // until it is told, as work that is nearly done
		s.report("lingering")
		<-told["answer"]
	case what[0] == "who":
		return &testpb.SimpleResponse{Payload: &testpb.Payload{Body: []byte(fmt.Sprint(os.Getpid()))}}, nil
	}
	return s.TestServiceServer.UnaryCall(ctx, request)
}

// ask makes a call that asks for something.
func ask(ctx context.Context, cc *grpc.ClientConn, what string, options ...grpc.CallOption) (string, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, asked, what)
	response, err := testgrpc.NewTestServiceClient(cc).UnaryCall(ctx, &testpb.SimpleRequest{}, options...)
	return string(response.GetPayload().GetBody()), err
}

// tellPeer is an interceptor that answers who has called, as a handler finds it.
func tellPeer(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	p, _ := peer.FromContext(ctx)
	text := fmt.Sprint(p.AuthInfo.AuthType())
	if who, ours := p.AuthInfo.(AuthInfo); ours {
		text = fmt.Sprintf("uid %d pid %d %v", who.UID, who.PID, who.SecurityLevel)
	}
	if err := grpc.SetHeader(ctx, metadata.Pairs("peer", text)); err != nil {
		return nil, err
	}
	return handler(ctx, request)
}

func newServer(report func(format string, arguments ...any)) *grpc.Server {
	server := grpc.NewServer(grpc.Creds(NewCredentials(insecure.NewCredentials())),
		grpc.MaxRecvMsgSize(math.MaxInt32), grpc.UnaryInterceptor(tellPeer))
	testgrpc.RegisterTestServiceServer(server, &service{interop.NewTestServer(), report})
	return server
}

// waiting are the options of those who come while another is about to leave.
var waiting = &Options{Conn: &conn.Options{IPC: &ipc.Options{Wait: true}}}

// It serves until it is told, and then stops gracefully.
var _ = part("worker", func(arguments []string) {
	listener, err := Listen(context.Background(), arguments[0], waiting)
	check(err)
	server := newServer(say)
	go func() {
		<-told["stop"]
		say("stopping")
		server.GracefulStop()
	}()
	say("listening")
	check(server.Serve(listener))
	if pair, ours := listener.(*conn.Listener); ours {
		<-pair.Closed()
	}
	say("stopped")
})

// startWorker starts a worker that listens at an address.
func startWorker(t testing.TB, address string) *process {
	t.Helper()
	worker := start(t, "worker", address)
	worker.expect("listening")
	return worker
}

// serveHere serves in this process until the test ends, and reports into a channel.
func serveHere(t testing.TB, address string, o *Options) (net.Listener, <-chan string) {
	t.Helper()
	listener, err := Listen(testContext(t), address, o)
	if err != nil {
		t.Fatal(err)
	}
	reports := make(chan string, 100)
	server := newServer(func(format string, arguments ...any) { reports <- fmt.Sprintf(format, arguments...) })
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := within(t, "Serve", func() error { return <-served }); err != nil {
			t.Error(err)
		}
		if pair, ours := listener.(*conn.Listener); ours {
			within(t, "the pair closes", func() bool { <-pair.Closed(); return true })
		}
	})
	return listener, reports
}

// newClient makes a client that is closed with the test.
func newClient(t testing.TB, target string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(target, append(DialOptions(nil), options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// mustCall makes a call that succeeds, and returns the number of the process that has
// answered. The call waits for a server.
func mustCall(t testing.TB, cc *grpc.ClientConn) string {
	t.Helper()
	pid, err := ask(testContext(t), cc, "who", grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func wantCode(t testing.TB, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Fatalf("%v: code %v, want %v", err, got, want)
	}
}

// wantUnavailable makes a call that does not wait for a server, and wants to be told
// why there is none. On a busy machine an attempt can end before it knows.
func wantUnavailable(t testing.TB, cc *grpc.ClientConn, why string) {
	t.Helper()
	eventually(t, "a call says: "+why, func() bool {
		_, err := ask(testContext(t), cc, "who")
		wantCode(t, err, codes.Unavailable)
		return strings.Contains(err.Error(), why)
	})
}

func hearReport(t testing.TB, reports <-chan string) string {
	t.Helper()
	return within(t, "a report", func() string { return <-reports })
}

// endOf receives until a stream ends, and returns how often it was, and the end.
func endOf[T any](receive func() (T, error)) (int, error) {
	for count := 0; ; count++ {
		if _, err := receive(); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return count, err
		}
	}
}
