package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	tandemgrpc "github.com/tandem-ipc/tandem/integrations/grpc"
	"github.com/tandem-ipc/tandem/integrations/grpc/examples/digest/digestpb"
	"github.com/tandem-ipc/tandem/ipc"
	"github.com/tandem-ipc/tandem/ipc/conn"
)

// A worker is the service itself. It does not know how calls come to it.
type worker struct {
	digestpb.UnimplementedDigestServer
	name string
}

func (w worker) Sum(_ context.Context, request *digestpb.SumRequest) (*digestpb.SumReply, error) {
	sum := sha256.Sum256(request.GetData())
	return &digestpb.SumReply{Sha256: sum[:], Worker: w.name}, nil
}

// age is how long a connection lives. A client learns of new workers behind a DNS name
// when it connects anew.
const age = 5 * time.Minute

// serve is a worker until ctx ends. It then answers what it has begun.
func serve(ctx context.Context, address, name string, remote remote) error {
	secured, err := remote.credentials()
	if err != nil {
		return err
	}
	if path, ours := strings.CutPrefix(address, "tandem:"); ours {
		// A volume that containers share is open to every user, and a pair refuses to
		// be in such a directory. So it gets one of its own in there.
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
	}
	// A worker that has been started again waits until its former client has noticed.
	listener, err := tandemgrpc.Listen(ctx, address, &tandemgrpc.Options{Conn: &conn.Options{IPC: &ipc.Options{Wait: true}}})
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.Creds(tandemgrpc.NewCredentials(secured)),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: age}))
	digestpb.RegisterDigestServer(server, worker{name: cmp.Or(name, address)})
	healthpb.RegisterHealthServer(server, health.NewServer())
	defer context.AfterFunc(ctx, server.GracefulStop)()
	fmt.Println("serving on", listener.Addr())
	err = server.Serve(listener)
	server.GracefulStop() // waits for what is under way
	if pair, ours := listener.(*conn.Listener); ours {
		<-pair.Closed()
	}
	return err
}
