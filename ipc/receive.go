package ipc

import (
	"context"
	"iter"
)

// Receive returns the next message as a view, waiting for it until ctx ends. The
// message must be released. See Endpoint for the errors that tell of the peer's
// end.
func (e *Endpoint) Receive(ctx context.Context) (Message, error) {
	return e.receive(ctx, nil, true)
}

// TryReceive is Receive without waiting: ErrEmpty if no message waits, or if
// another goroutine is just receiving. It returns ErrViewsHeld too: who only polls may
// be the one that leaves the peer no space.
func (e *Endpoint) TryReceive() (Message, error) { return e.tryReceive(nil, true) }

// ReceiveInto copies the next message into buf and releases it. If buf is too
// small it returns a *ShortBufferError, and the message stays.
func (e *Endpoint) ReceiveInto(ctx context.Context, buf []byte) (Message, error) {
	return e.receiveInto(ctx, buf)
}

// TryReceiveInto is ReceiveInto without waiting.
func (e *Endpoint) TryReceiveInto(buf []byte) (Message, error) {
	return e.tryReceive(buf, false)
}

// ReceiveBatch waits for at least one message and returns as many views as it finds and
// as fit into the slice. It finds what had been committed at its last look at the sender,
// and looks again only if it has nothing: what came since then comes with the next call. An
// empty slice has room for none, and nothing is waited for. All that it returns counts
// as delivered: if this process dies before it has released them they come again, marked.
func (e *Endpoint) ReceiveBatch(ctx context.Context, into []Message) (int, error) {
	return e.receiveBatch(ctx, nil, into, true)
}

// TryReceiveBatch is ReceiveBatch without waiting.
func (e *Endpoint) TryReceiveBatch(into []Message) (int, error) {
	return e.tryReceiveBatch(nil, into, true)
}

// ReceiveBatchInto waits for at least one message and copies as many as it finds, as
// ReceiveBatch does, and as fit into buf, one behind the other. If not even the first fits it returns a
// *ShortBufferError, and the messages stay.
func (e *Endpoint) ReceiveBatchInto(ctx context.Context, buf []byte, into []Message) (int, error) {
	return e.receiveBatch(ctx, buf, into, false)
}

// TryReceiveBatchInto is ReceiveBatchInto without waiting.
func (e *Endpoint) TryReceiveBatchInto(buf []byte, into []Message) (int, error) {
	return e.tryReceiveBatch(buf, into, false)
}

// Messages returns the messages as they come, as views that the loop's body
// releases. At a server, the end of a client is yielded as an error and the
// sequence goes on; every other error ends it.
func (e *Endpoint) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return e.messages(func() (Message, error) { return e.Receive(ctx) })
}

// MessagesInto is Messages with each message copied into buf, which the next
// one overwrites.
func (e *Endpoint) MessagesInto(ctx context.Context, buf []byte) iter.Seq2[Message, error] {
	return e.messages(func() (Message, error) { return e.ReceiveInto(ctx, buf) })
}

func (e *Endpoint) messages(next func() (Message, error)) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			m, err := next()
			if !yield(m, err) || err != nil && !(e.Role() == RoleServer && ended(err)) {
				return
			}
		}
	}
}
