// Package conn gives the processes of an ipc pair net.Conns: a net.Listener in
// the server, a dialer in the client, and any number of connections between them,
// many at a time. What speaks over a net.Conn, as net/http does, then speaks
// through shared memory.
//
// # Use
//
//	listener, err := conn.Listen(ctx, "/run/app/worker", nil) // in one process
//	err = server.Serve(listener)
//
//	dialer := conn.NewDialer("/run/app/worker", nil) // in the other
//	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
//
// # What is promised
//
// A connection is what a Unix socket's is: a stream of bytes each way, in order,
// with deadlines, with a half-close (Conn.CloseWrite), and with back-pressure. A
// reader that does not read stops its own writer, and no other connection.
//
// A connection lives as long as both processes. When the peer dies, or leaves
// without closing it, Read first returns what the peer had written (M5), and then
// an error that is ipc.ErrPeerDied or ipc.ErrPeerClosed. It returns io.EOF only if
// the peer has ended the stream itself: a stream that a death has cut never looks
// complete. What the peer had not yet read is lost with the connection.
//
// The Listener outlives its clients (L7), and the Dialer its servers: the next Dial
// attaches to the next server. Connections of one attachment are never mixed with those
// of another, although the messages of a former client can still be in the rings:
// each attachment has a number, its stamp, which the client draws at random and
// which stands in every message. The receiver drops messages with another stamp.
//
// Memory is bounded (M8): by Options.WindowSize for each connection and
// Options.ConnLimit connections, whatever the peer does (T1). A peer that breaks
// the protocol loses its connections with ErrProtocol.
//
// # Concurrency
//
// All methods may be called from any goroutine at any time. An attachment costs
// each process two goroutines, and a connection none.
//
// # Limits
//
// Only the client dials. One Dialer is for all connections of its process to one
// path: a second one is a second client, and is refused (L2). A process that is alive
// and silent is not an end: use deadlines; so ipc.Options.FailOnHang has no effect.
package conn
