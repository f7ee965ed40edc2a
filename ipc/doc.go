// Package ipc is a message channel through shared memory between exactly two
// processes on one Linux machine, a server and a client, with a promise about
// what happens when one of them is killed.
//
// # Use
//
// The server calls [Listen] with the path of a Unix socket, the client calls
// [Dial] with the same path. Both get an [Endpoint], which sends with Send,
// SendBatch or Reserve and receives with Receive (a view into shared memory, to
// be released) or ReceiveInto (a copy). Either side may send at any time. Flush waits
// until the peer has released what was sent.
//
// # What is promised
//
// At most one server and one client live on a path at a time (L1, L2). A server
// starts only when no server and no client of an earlier generation lives (L3),
// so that nothing an old process wrote is ever seen in a new generation (L4). A
// peer is called dead only on the kernel's word; one that is merely silent is
// called hung (L5, L6). When a client dies the server goes on, and the next
// client attaches to the same memory, where both directions continue (L7). When
// both are gone nothing is left but the lock file, the token file and a stale socket
// (L8).
//
// A message is committed when Send returns nil. It then survives its sender
// (M1), arrives in order (M2) and whole (M4), exactly once, unless its receiver
// died or closed between delivery and release: then the next client gets it again,
// first, with Redelivered set (M3). After a death the survivor still receives all that
// the dead one committed, and only then the error (M5), and it can say exactly
// which of its own messages the dead one had released (M6). Nobody waits for
// ever for something that has happened (M7), and memory is fixed: a full ring
// blocks, or is ErrFull (M8).
//
// A peer that scribbles over its memory can cause no more than a [CorruptError]
// and its own disconnection (T1). Only the configured users attach (T2). A kill hits
// only the process that provably holds the token (T3). A fault in the caller's memory,
// or a panic in its contexts, leaves no lock taken and nothing half done (T4).
//
// # Concurrency
//
// All methods of an Endpoint, a Message and a Reservation may be called from any
// goroutine at any time, also during and after Close; no order of calls faults,
// but for a write to a Reservation's Data behind both its end and Close.
// Several goroutines that send are served one at a time, in no particular
// order; so are several that receive. Sending and receiving do not disturb each
// other. A call that can wait takes a context, which it looks at only when it
// has to wait. No call allocates memory for each message; one that waits with
// another context than the last wait in its direction allocates a little.
//
// The package starts two goroutines for an endpoint: one blocks in the kernel
// for the end of the peer, one beats and watches the peer's heartbeat. A server
// has one more, which accepts connections, and one for each connection under way. A look
// at the path, every now and then, has one for as long as it takes, and so has the close
// of a descriptor that a peer has chosen. A waiting call blocks one thread.
//
// # Limits
//
// The promise is about processes, not about power: nothing is on disk. The lock
// file and the token file must not be deleted while a server or client lives. A client that hands
// its descriptors to a third process keeps its token alive with them. See
// docs/PROTOCOL.md for the protocol and docs/TESTING.md for the evidence.
//
// A death counts from the end of the process (L6). The kernel writes a core dump
// before that: meanwhile the process is silent, and maybe called hung.
// Options.DumpRings puts the rings into it; they are left out otherwise.
//
// On other systems than Linux on amd64 or arm64 the package compiles, and Listen
// and Dial return an error that is [errors.ErrUnsupported].
package ipc
