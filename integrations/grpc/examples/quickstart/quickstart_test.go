//go:build linux && (amd64 || arm64)

package quickstart

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	greeter "google.golang.org/grpc/examples/helloworld/helloworld"
	guide "google.golang.org/grpc/examples/route_guide/routeguide"
	"google.golang.org/grpc/status"

	tandemgrpc "github.com/tandem-ipc/tandem/integrations/grpc"
)

// watchdog bounds every wait of a test. It is a watchdog's bound, not a claim.
const watchdog = 2 * time.Minute

// asWorker in the environment is the address at which the test binary serves.
const asWorker = "TANDEM_TEST_AS_WORKER"

func TestMain(m *testing.M) {
	address, found := os.LookupEnv(asWorker)
	if !found {
		os.Exit(m.Run())
	}
	go func() { // nobody else holds the other end: the test is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(4)
	}()
	if err := serve(address); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve is the worker's main function.
func serve(address string) error {
	listener, err := tandemgrpc.Listen(context.Background(), address, nil)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.Creds(tandemgrpc.NewCredentials(nil)))
	greeter.RegisterGreeterServer(server, hello{})
	guide.RegisterRouteGuideServer(server, routes{})
	fmt.Println("serving")
	return server.Serve(listener)
}

type hello struct {
	greeter.UnimplementedGreeterServer
}

func (hello) SayHello(_ context.Context, request *greeter.HelloRequest) (*greeter.HelloReply, error) {
	return &greeter.HelloReply{Message: fmt.Sprintf("Hello %s, from %d", request.GetName(), os.Getpid())}, nil
}

// routes is the route guide over features that are computed: every tenth point of the
// diagonal has a name.
type routes struct {
	guide.UnimplementedRouteGuideServer
}

func featureAt(point *guide.Point) *guide.Feature {
	feature := &guide.Feature{Location: point}
	if n := point.GetLatitude(); n == point.GetLongitude() && n%10 == 0 {
		feature.Name = fmt.Sprintf("milestone %d", n)
	}
	return feature
}

func diagonal(n int32) *guide.Point { return &guide.Point{Latitude: n, Longitude: n} }

func (routes) GetFeature(_ context.Context, point *guide.Point) (*guide.Feature, error) {
	return featureAt(point), nil
}

func (routes) ListFeatures(area *guide.Rectangle, stream grpc.ServerStreamingServer[guide.Feature]) error {
	for n := area.GetLo().GetLatitude(); n <= area.GetHi().GetLatitude(); n++ {
		if feature := featureAt(diagonal(n)); feature.GetName() != "" {
			if err := stream.Send(feature); err != nil {
				return err
			}
		}
	}
	return nil
}

func (routes) RecordRoute(stream grpc.ClientStreamingServer[guide.Point, guide.RouteSummary]) error {
	var summary guide.RouteSummary
	for {
		point, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&summary)
		}
		if err != nil {
			return err
		}
		summary.PointCount++
		if featureAt(point).GetName() != "" {
			summary.FeatureCount++
		}
	}
}

// RouteChat answers each note with all that were left at its point, this one included.
func (routes) RouteChat(stream grpc.BidiStreamingServer[guide.RouteNote, guide.RouteNote]) error {
	notes := map[int32][]*guide.RouteNote{}
	for {
		note, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		at := note.GetLocation().GetLatitude()
		notes[at] = append(notes[at], note)
		for _, earlier := range notes[at] {
			if err := stream.Send(earlier); err != nil {
				return err
			}
		}
	}
}

// startWorker starts a worker in a process of its own, and waits until it serves.
func startWorker(t *testing.T, address string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asWorker+"="+address)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	timer := time.AfterFunc(watchdog, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "serving\n" {
		t.Fatalf("the worker says %q, %v", line, err)
	}
	return cmd
}

func TestTheGreeterAndTheRouteGuide(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	defer cancel()
	address := "tandem:" + t.TempDir() + "/worker"
	worker := startWorker(t, address)
	cc, err := grpc.NewClient(address, tandemgrpc.DialOptions(nil)...)
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()

	reply, err := greeter.NewGreeterClient(cc).SayHello(ctx, &greeter.HelloRequest{Name: "world"})
	if want := fmt.Sprintf("Hello world, from %d", worker.Process.Pid); err != nil || reply.GetMessage() != want {
		t.Errorf("SayHello: %q, %v, want %q", reply.GetMessage(), err, want)
	}
	client := guide.NewRouteGuideClient(cc)
	for _, call := range []struct {
		name string
		make func(context.Context, guide.RouteGuideClient) error
	}{
		{"GetFeature", getFeature}, {"ListFeatures", listFeatures}, {"RecordRoute", recordRoute}, {"RouteChat", routeChat},
	} {
		if err := call.make(ctx, client); err != nil {
			t.Errorf("%s: %v", call.name, err)
		}
	}
}

// The same streams, where the worker is killed in their middle: the next worker answers.
func TestARouteChatWhoseWorkerIsKilled(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	defer cancel()
	address := "tandem:" + t.TempDir() + "/worker"
	worker := startWorker(t, address)
	cc, err := grpc.NewClient(address, tandemgrpc.DialOptions(nil)...)
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	client := guide.NewRouteGuideClient(cc)
	stream, err := client.RouteChat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&guide.RouteNote{Location: diagonal(1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := worker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ends with %v, want %v", err, codes.Unavailable)
	}
	startWorker(t, address)
	if reply, err := greeter.NewGreeterClient(cc).SayHello(ctx, &greeter.HelloRequest{Name: "again"}, grpc.WaitForReady(true)); err != nil {
		t.Errorf("the next worker: %q, %v", reply.GetMessage(), err)
	}
	if err := routeChat(ctx, client); err != nil {
		t.Errorf("RouteChat with the next worker: %v", err)
	}
}

func getFeature(ctx context.Context, client guide.RouteGuideClient) error {
	for n := range int32(20) {
		feature, err := client.GetFeature(ctx, diagonal(n))
		if want := featureAt(diagonal(n)).GetName(); err != nil || feature.GetName() != want {
			return fmt.Errorf("at %d: %q, %w; want %q", n, feature.GetName(), err, want)
		}
	}
	return nil
}

func listFeatures(ctx context.Context, client guide.RouteGuideClient) error {
	stream, err := client.ListFeatures(ctx, &guide.Rectangle{Lo: diagonal(0), Hi: diagonal(999)})
	if err != nil {
		return err
	}
	for n := int32(0); ; n += 10 {
		feature, err := stream.Recv()
		if errors.Is(err, io.EOF) && n == 1000 {
			return nil
		}
		if want := featureAt(diagonal(n)).GetName(); err != nil || feature.GetName() != want {
			return fmt.Errorf("%q, %w; want %q", feature.GetName(), err, want)
		}
	}
}

func recordRoute(ctx context.Context, client guide.RouteGuideClient) error {
	stream, err := client.RecordRoute(ctx)
	if err != nil {
		return err
	}
	for n := range int32(1000) {
		if err := stream.Send(diagonal(n)); err != nil {
			return err
		}
	}
	summary, err := stream.CloseAndRecv()
	if err != nil || summary.GetPointCount() != 1000 || summary.GetFeatureCount() != 100 {
		return fmt.Errorf("%v, %w; want 1000 points and 100 features", summary, err)
	}
	return nil
}

// routeChat leaves three notes at each of a hundred points, and sends while it receives.
func routeChat(ctx context.Context, client guide.RouteGuideClient) error {
	stream, err := client.RouteChat(ctx)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		for i := range int32(300) {
			if err := stream.Send(&guide.RouteNote{Location: diagonal(i % 100), Message: fmt.Sprint(i)}); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	received := 0
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		received++
	}
	if err := <-sent; err != nil {
		return err
	}
	if want := 100 * (1 + 2 + 3); received != want {
		return fmt.Errorf("%d notes came back, want %d", received, want)
	}
	return nil
}
