// Package worker runs a service's work in other processes, and makes calls that
// survive the deaths of those processes.
//
// # Use
//
// The service starts a pool. The main function of the worker serves:
//
//	pool, err := worker.Start(ctx, worker.Config{Command: func() *exec.Cmd { return exec.Command("thumbnailer") }, Size: 4})
//	answer, err := pool.Call(ctx, "thumbnail", request)
//	for page, err := range pool.Stream(ctx, "pages", request) { ... }
//
//	err := worker.Serve(ctx, worker.Handlers{"thumbnail": thumbnail})
//	font, err := worker.Ask(ctx, "font", name) // in a handler: it asks the service, see Config.Handlers
//
// Each worker is one process with a shared-memory channel of its own: the service
// is the channel's server, the worker its client. A worker that dies is started
// again, and its handlers serve again; the service has nothing to set up anew.
//
// # What is promised
//
//   - Answer: a call ends with the handler's answer, or with an error that says whether it
//     may be made again. It ends at the latest with its context.
//   - Blame: a worker says which call it starts before it starts it. After a death,
//     calls that it answered are answered, and calls that it had not started go to
//     another worker without blame. Those started and not answered are suspects:
//     each runs again alone in a worker. A call that MaxAttempts workers have died of
//     alone is ErrPoison. So a call that is innocent is not named for another's deed.
//   - AtMostOnce: such a call is started once, or never. It ends with
//     ErrOutcomeUnknown if its worker dies of it, or beside it.
//   - Stream: the parts of a stream come in order, each once. As long as none has come it
//     is a call like others; after the first part it is not started again.
//   - Drain: what a worker had committed before it died is received first.
//   - Bounded: a worker gets at most Concurrency calls at a time, and holds at most
//     that many answers of MaxMessage bytes in the service. The parts of a stream
//     there are less than twice MaxMessage, and its handler waits when its reader is behind. What
//     the caller's code or memory breaks off, by a panic, a fault or the end of its goroutine, keeps no place
//     and no credit. Events wait for OnEvent, at most 1024, and nobody waits for it but Close.
//   - Ask: the handlers of a worker can call the service's, see Ask. At most MaxAsks of them
//     run for one worker, and what they were started with ends with it.
//   - Notify: a notification is handled at most once, and those of one sender in order. What a
//     process had not handled when it died is lost; what it had sent is not, see Notify and Tell.
//   - Replace: a worker that is replaced, also for MaxCalls or MaxMemory, goes on until the
//     fresh process serves, and then ends what it has begun. No call fails because of it.
//   - Trust: whatever a worker sends, it can at most fail its own calls.
//   - Leave: a worker does not outlive its service, unless Config.Outlive lets it end what
//     it has begun, or wait for the next one with Await, nor a pool its Close.
//
// A death that comes from outside, such as a kill by an operator or by the
// kernel for want of memory, looks like the deed of the call that it hits. It takes MaxAttempts
// of them, each on the same call, to name an innocent one.
//
// # Limits
//
// A worker that leaves processes of its own behind leaves them to the system. A
// service that is killed leaves its private directory behind; its workers leave.
//
// Of workers that wait for the next service, each goes to the place that it had: a smaller
// pool adopts fewer, and the others leave at the end of their time. A pool that adopts and finds nobody
// waits for Config.Adopt before it starts its first processes.
package worker
