//go:build linux && (amd64 || arm64)

package tandemgrpc

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	testpb "google.golang.org/grpc/interop/grpc_testing"
)

func TestManyCallsAtATimeGetTheirOwnAnswers(t *testing.T) {
	target := "tandem:" + testPath(t)
	startWorker(t, target)
	clients := []*grpc.ClientConn{newClient(t, target), newClient(t, target)}
	var all sync.WaitGroup
	for number := range 64 {
		all.Add(1)
		go func() {
			defer all.Done()
			draw := rand.New(rand.NewPCG(uint64(number), 0))
			service := testgrpc.NewTestServiceClient(clients[number%len(clients)])
			for range 50 {
				size := draw.IntN(20_000)
				response, err := service.UnaryCall(testContext(t), &testpb.SimpleRequest{
					ResponseSize: int32(size), Payload: &testpb.Payload{Body: make([]byte, draw.IntN(20_000))},
				})
				if err != nil || len(response.GetPayload().GetBody()) != size {
					t.Errorf("caller %d: %d bytes, %v; want %d", number, len(response.GetPayload().GetBody()), err, size)
					return
				}
			}
		}()
	}
	within(t, "all calls", func() bool { all.Wait(); return true })
}

// A message that is many times the ring and the windows.
func TestLargeMessagesGoBothWays(t *testing.T) {
	target := "tandem:" + testPath(t)
	startWorker(t, target)
	cc := newClient(t, target, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	const size = 32 << 20
	for range 3 {
		response, err := testgrpc.NewTestServiceClient(cc).UnaryCall(testContext(t), &testpb.SimpleRequest{
			ResponseSize: size, Payload: &testpb.Payload{Body: bytes.Repeat([]byte("x"), size)},
		})
		if err != nil || len(response.GetPayload().GetBody()) != size {
			t.Fatalf("%d bytes, %v; want %d", len(response.GetPayload().GetBody()), err, size)
		}
	}
}

const roundRobin = `{"loadBalancingConfig": [{"round_robin": {}}]}`

// Several paths are several workers. One that dies is left out, and comes back.
func TestSeveralPathsAreBalancedOverTheirWorkers(t *testing.T) {
	path := testPath(t)
	paths := []string{path + "0", path + "1", path + "2"}
	workers := make([]*process, len(paths))
	for i := range workers {
		workers[i] = startWorker(t, "tandem:"+paths[i])
	}
	cc := newClient(t, "tandem:"+strings.Join(paths, ","), grpc.WithDefaultServiceConfig(roundRobin))
	wantAll := func(workers ...*process) {
		t.Helper()
		left := map[string]bool{}
		for _, worker := range workers {
			left[fmt.Sprint(worker.cmd.Process.Pid)] = true
		}
		eventually(t, "each worker has answered", func() bool {
			pid, err := ask(testContext(t), cc, "who", grpc.WaitForReady(true))
			if err != nil {
				wantCode(t, err, codes.Unavailable) // it has met a death
			}
			delete(left, pid)
			return len(left) == 0
		})
	}
	wantAll(workers...)
	workers[1].kill()
	wantAll(workers[0], workers[2])
	workers[1] = startWorker(t, "tandem:"+paths[1])
	wantAll(workers...)
}
