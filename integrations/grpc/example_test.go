//go:build linux && (amd64 || arm64)

package tandemgrpc_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	tandemgrpc "github.com/tandem-ipc/tandem/integrations/grpc"
	"github.com/tandem-ipc/tandem/ipc/conn"
)

// A call over a pair. The worker and the service would be two processes; here they
// are two goroutines, which makes no difference to the calls.
func Example() {
	directory, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(directory)
	address := "tandem:" + filepath.Join(directory, "worker")

	// The worker.
	listener, err := tandemgrpc.Listen(context.Background(), address, nil)
	if err != nil {
		panic(err)
	}
	server := grpc.NewServer(grpc.Creds(tandemgrpc.NewCredentials(nil)))
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()

	// The service.
	cc, err := grpc.NewClient(address, tandemgrpc.DialOptions(nil)...)
	if err != nil {
		panic(err)
	}
	answer, err := healthpb.NewHealthClient(cc).Check(context.Background(), &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	fmt.Println(answer.GetStatus(), err)

	_ = cc.Close()
	server.GracefulStop()
	<-listener.(*conn.Listener).Closed() // the path is free
	// Output: SERVING <nil>
}

// An interceptor lets some users call, and not others.
func ExampleAuthInfo() {
	directory, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(directory)
	address := "tandem:" + filepath.Join(directory, "worker")
	listener, err := tandemgrpc.Listen(context.Background(), address, nil)
	if err != nil {
		panic(err)
	}
	whoCalls := func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		p, _ := peer.FromContext(ctx)
		if who, ours := p.AuthInfo.(tandemgrpc.AuthInfo); ours {
			fmt.Println("this user:", who.UID == uint32(os.Geteuid()), "this process:", who.PID == os.Getpid())
		}
		return handler(ctx, request)
	}
	server := grpc.NewServer(grpc.Creds(tandemgrpc.NewCredentials(nil)), grpc.UnaryInterceptor(whoCalls))
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()

	cc, err := grpc.NewClient(address, tandemgrpc.DialOptions(nil)...)
	if err != nil {
		panic(err)
	}
	if _, err := healthpb.NewHealthClient(cc).Check(context.Background(), &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true)); err != nil {
		panic(err)
	}
	_ = cc.Close()
	server.Stop()
	<-listener.(*conn.Listener).Closed()
	// Output: this user: true this process: true
}

// The same server and the same client, over a pair and over TCP: only the addresses differ.
func ExampleDialOptions() {
	directory, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(directory)
	remote := insecure.NewCredentials() // between machines, credentials.NewTLS
	server := grpc.NewServer(grpc.Creds(tandemgrpc.NewCredentials(remote)))
	healthpb.RegisterHealthServer(server, health.NewServer())
	path := "tandem:" + filepath.Join(directory, "worker")
	overPair, err := tandemgrpc.Listen(context.Background(), path, nil)
	if err != nil {
		panic(err)
	}
	overTCP, err := tandemgrpc.Listen(context.Background(), "localhost:0", nil)
	if err != nil {
		panic(err)
	}
	go func() { _ = server.Serve(overPair) }()
	go func() { _ = server.Serve(overTCP) }()

	for _, target := range []string{path, "dns:///" + overTCP.Addr().String()} {
		cc, err := grpc.NewClient(target, tandemgrpc.DialOptions(&tandemgrpc.Options{Remote: remote})...)
		if err != nil {
			panic(err)
		}
		answer, err := healthpb.NewHealthClient(cc).Check(context.Background(), &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
		fmt.Println(answer.GetStatus(), err)
		_ = cc.Close()
	}
	server.Stop()
	<-overPair.(*conn.Listener).Closed()
	// Output:
	// SERVING <nil>
	// SERVING <nil>
}
