//go:build linux && (amd64 || arm64)

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	tandemgrpc "github.com/tandem-ipc/tandem/integrations/grpc"
	"github.com/tandem-ipc/tandem/ipc/worker"
)

// A caller makes one call: it returns what it was given, from another process.
type caller func(ctx context.Context, request []byte) ([]byte, error)

// peers are who is measured, each with a process of its own. They end with the test.
var peers = []struct {
	name string
	open func(t testing.TB) caller
}{
	{"gRPC, Unix socket", func(t testing.TB) caller { return overGRPC(t, "unix:") }},
	{"gRPC, tandem", func(t testing.TB) caller { return overGRPC(t, "tandem:") }},
	{"net/rpc, Unix socket", overNetRPC},
	{"go-plugin, gRPC", overPlugin},
	{"worker.Pool.Call", overPool},
}

// What this program is to be instead of the tests, and at which address.
const (
	roleVariable    = "TANDEM_BENCH_ROLE"
	addressVariable = "TANDEM_BENCH_ADDRESS"
)

func TestMain(m *testing.M) {
	go func() { // a timer: where a process has none, Go 1.26 can stop the world for a minute
		for range time.NewTicker(10 * time.Millisecond).C {
		}
	}()
	switch role := os.Getenv(roleVariable); {
	case worker.IsWorker():
		exitWith(worker.Serve(context.Background(), worker.Handlers{
			"echo": func(_ context.Context, r *worker.Request) ([]byte, error) { return r.Data, nil },
		}))
	case os.Getenv(handshake.MagicCookieKey) != "":
		plugin.Serve(&plugin.ServeConfig{
			HandshakeConfig: handshake, Plugins: plugin.PluginSet{"echo": echoPlugin{}}, GRPCServer: plugin.DefaultGRPCServer,
		})
		return
	case role == "grpc":
		go exitWithTheTest()
		exitWith(serveGRPC(os.Getenv(addressVariable)))
	case role == "net/rpc":
		go exitWithTheTest()
		exitWith(serveNetRPC(os.Getenv(addressVariable)))
	}
	os.Exit(m.Run())
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// exitWithTheTest ends a process when the test is gone: nobody else holds the other end
// of its standard input.
func exitWithTheTest() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(4)
}

// start starts this program in a role, and waits until it listens.
func start(t testing.TB, role, address string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role, addressVariable+"="+address)
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
	if _, err := io.ReadFull(stdout, make([]byte, 1)); err != nil {
		t.Fatalf("%s does not listen: %v", role, err)
	}
}

// testPath is a fresh path for a socket, short enough for its address.
func testPath(t testing.TB) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "bench")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	return filepath.Join(directory, "s")
}

// echo is the service for gRPC, the same for all who use it.
var echo = grpc.ServiceDesc{
	ServiceName: "bench.Echo", HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		message := new(wrapperspb.BytesValue)
		return message, decode(message)
	}}},
}

func callOver(cc *grpc.ClientConn) caller {
	return func(ctx context.Context, request []byte) ([]byte, error) {
		answer := new(wrapperspb.BytesValue)
		err := cc.Invoke(ctx, "/bench.Echo/Echo", wrapperspb.Bytes(request), answer, grpc.WaitForReady(true))
		return answer.GetValue(), err
	}
}

func serveGRPC(address string) error {
	listener, err := tandemgrpc.Listen(context.Background(), address, nil)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.Creds(tandemgrpc.NewCredentials(insecure.NewCredentials())))
	server.RegisterService(&echo, nil)
	fmt.Print("\n")
	return server.Serve(listener)
}

func overGRPC(t testing.TB, scheme string) caller {
	t.Helper()
	address := scheme + testPath(t)
	start(t, "grpc", address)
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if scheme == "tandem:" {
		options = tandemgrpc.DialOptions(nil)
	}
	cc, err := grpc.NewClient(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return callOver(cc)
}

// Echo is the service for net/rpc.
type Echo struct{}

// Echo answers with what it was given.
func (Echo) Echo(request []byte, answer *[]byte) error {
	*answer = request
	return nil
}

func serveNetRPC(path string) error {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	server := rpc.NewServer()
	if err := server.Register(Echo{}); err != nil {
		return err
	}
	fmt.Print("\n")
	server.Accept(listener)
	return nil
}

func overNetRPC(t testing.TB) caller {
	t.Helper()
	path := testPath(t)
	start(t, "net/rpc", path)
	client, err := rpc.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return func(_ context.Context, request []byte) (answer []byte, err error) {
		err = client.Call("Echo.Echo", request, &answer)
		return answer, err
	}
}

var handshake = plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "TANDEM_BENCH_PLUGIN", MagicCookieValue: "echo"}

// An echoPlugin is the service for go-plugin.
type echoPlugin struct{ plugin.NetRPCUnsupportedPlugin }

func (echoPlugin) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	server.RegisterService(&echo, nil)
	return nil
}

func (echoPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, cc *grpc.ClientConn) (any, error) {
	return callOver(cc), nil
}

func overPlugin(t testing.TB) caller {
	t.Helper()
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: handshake, Plugins: plugin.PluginSet{"echo": echoPlugin{}}, Cmd: exec.Command("/proc/self/exe"),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, Logger: hclog.NewNullLogger(),
	})
	t.Cleanup(client.Kill)
	protocol, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	dispensed, err := protocol.Dispense("echo")
	if err != nil {
		t.Fatal(err)
	}
	return dispensed.(caller)
}

func overPool(t testing.TB) caller {
	t.Helper()
	pool, err := worker.Start(context.Background(), worker.Config{Command: worker.Self(), Concurrency: 64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close() })
	return func(ctx context.Context, request []byte) ([]byte, error) { return pool.Call(ctx, "echo", request) }
}

// mustEcho makes one call.
func mustEcho(call caller, request []byte) error {
	answer, err := call(context.Background(), request)
	if err == nil && !bytes.Equal(answer, request) {
		err = errors.New("the answer is another")
	}
	return err
}

func TestEachPeerAnswersFromAnotherProcess(t *testing.T) {
	for _, peer := range peers {
		t.Run(peer.name, func(t *testing.T) {
			call := peer.open(t)
			for size := range 100 {
				if err := mustEcho(call, bytes.Repeat([]byte{byte(size)}, size)); err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
			}
		})
	}
}
