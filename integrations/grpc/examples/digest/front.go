package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"

	tandemgrpc "github.com/tandem-ipc/tandem/integrations/grpc"
	"github.com/tandem-ipc/tandem/integrations/grpc/examples/digest/digestpb"
)

// balanced sends calls to the workers in turn, and a call that has met the death of one
// to another. That is right for Sum, because it does no harm to do it twice.
const balanced = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"methodConfig": [{
		"name": [{"service": "tandem.examples.digest.v1.Digest"}],
		"waitForReady": true,
		"timeout": "30s",
		"retryPolicy": {
			"maxAttempts": 4, "initialBackoff": "0.01s", "maxBackoff": "0.5s", "backoffMultiplier": 3,
			"retryableStatusCodes": ["UNAVAILABLE"]
		}
	}]
}`

const bodyLimit = 1 << 20

// front answers POST with the digest of the body, until ctx ends.
func front(ctx context.Context, address, workers string, remote remote) error {
	secured, err := remote.credentials()
	if err != nil {
		return err
	}
	cc, err := grpc.NewClient(workers, append(tandemgrpc.DialOptions(&tandemgrpc.Options{Remote: secured}),
		grpc.WithDefaultServiceConfig(balanced))...)
	if err != nil {
		return err
	}
	defer cc.Close()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: digest(digestpb.NewDigestClient(cc)), ReadHeaderTimeout: 10 * time.Second}
	shut := make(chan error, 1)
	context.AfterFunc(ctx, func() { shut <- server.Shutdown(context.Background()) })
	fmt.Println("answering on", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-shut
}

// digest is the front's only answer.
func digest(workers digestpb.DigestClient) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply, err := workers.Sum(r.Context(), &digestpb.SumRequest{Data: data})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, "%x by %s\n", reply.GetSha256(), reply.GetWorker())
	})
	return mux
}
