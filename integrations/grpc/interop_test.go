//go:build linux && (amd64 || arm64)

package tandemgrpc

import (
	"context"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// An interopCase is one of gRPC's own. What it finds wrong ends the process.
type interopCase struct {
	name string
	run  func(ctx context.Context, cc *grpc.ClientConn)
}

// interopCases are those that are about the transport.
var interopCases = []interopCase{
	{"empty_unary", testCase(interop.DoEmptyUnaryCall)},
	{"large_unary", testCase(interop.DoLargeUnaryCall)},
	{"client_streaming", testCase(interop.DoClientStreaming)},
	{"server_streaming", testCase(interop.DoServerStreaming)},
	{"ping_pong", testCase(interop.DoPingPong)},
	{"empty_stream", testCase(interop.DoEmptyStream)},
	{"timeout_on_sleeping_server", testCase(interop.DoTimeoutOnSleepingServer)},
	{"cancel_after_begin", testCase(interop.DoCancelAfterBegin)},
	{"cancel_after_first_response", testCase(interop.DoCancelAfterFirstResponse)},
	{"custom_metadata", testCase(interop.DoCustomMetadata)},
	{"status_code_and_message", testCase(interop.DoStatusCodeAndMessage)},
	{"special_status_message", testCase(interop.DoSpecialStatusMessage)},
	{"unimplemented_method", func(ctx context.Context, cc *grpc.ClientConn) { interop.DoUnimplementedMethod(ctx, cc) }},
	{"unimplemented_service", func(ctx context.Context, cc *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(cc))
	}},
}

func testCase(run func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, cc *grpc.ClientConn) { run(ctx, testgrpc.NewTestServiceClient(cc)) }
}

// It runs one of the cases.
var _ = part("interop client", func(arguments []string) {
	cc, err := grpc.NewClient(arguments[0], DialOptions(nil)...)
	check(err)
	_, err = ask(context.Background(), cc, "who", grpc.WaitForReady(true)) // the cases do not wait
	check(err)
	i := slices.IndexFunc(interopCases, func(c interopCase) bool { return c.name == arguments[1] })
	interopCases[i].run(context.Background(), cc)
	check(cc.Close())
	say("passed")
})

func TestTheInteropCasesOfGRPCPass(t *testing.T) {
	target := "tandem:" + testPath(t)
	startWorker(t, target)
	for _, c := range interopCases {
		t.Run(c.name, func(t *testing.T) {
			client := start(t, "interop client", target, c.name)
			client.expect("passed")
			client.wait()
		})
	}
}
