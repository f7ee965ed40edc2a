// Package tandemgrpc carries gRPC over a tandem pair: through shared memory, between
// two processes on one machine. A worker is addressed as tandem:PATH, beside gRPC's
// own unix: and dns:, so that moving it to another machine is a change of address.
//
// # Use
//
//	listener, err := tandemgrpc.Listen(ctx, "tandem:/run/app/worker", nil) // in the worker
//	server := grpc.NewServer(grpc.Creds(tandemgrpc.NewCredentials(nil)))
//	err = server.Serve(listener)
//
//	cc, err := grpc.NewClient("tandem:/run/app/worker", tandemgrpc.DialOptions(nil)...) // in the service
//
// With Options.Remote the same options also serve every other target, as
// dns:///workers.example.com:443, and the same server also serves other listeners.
//
// # Targets
//
// A target is tandem:PATH or tandem:///ABSOLUTE/PATH. Several paths with commas between
// them, tandem:/run/app/0,/run/app/1, are several workers: what gRPC does with them its
// load balancing says, pick_first or round_robin, as for the addresses of a DNS name. As
// in every URL, %2F is a slash; a path that has a comma cannot be named.
//
// # Deaths
//
// When the worker dies, calls that it has not answered end with codes.Unavailable, and
// the status says that the peer has died. Whether the worker has run them is not known:
// gRPC itself sends again only what certainly was not started. What the worker had
// answered before it died is received. The connection then goes to the next worker that
// listens on the path. When the service dies, the contexts of its calls end in
// the worker, which goes on with the next service.
//
// A call that is made while no worker listens waits for one, up to a second, and longer
// with grpc.WaitForReady. Then it ends with codes.Unavailable, and gRPC tries again
// with the pauses of grpc.ConnectParams. A worker that is there and does not answer is
// waited for as over TCP: as long as ConnectParams say.
//
// A peer that is alive and silent is not an end. Use deadlines; keepalive works too.
//
// # Limits
//
// A path has one client process at a time (L2). All connections of one process to one
// path share an attachment, if they have the same Options.Conn. It ends with
// the last connection: with ClientConn.Close, or when gRPC becomes idle. A second
// process is refused meanwhile, and its calls end with codes.Unavailable, which
// names the first.
//
// Linux only. On other systems the package compiles, and listening and dialing fail
// with errors.ErrUnsupported.
package tandemgrpc
