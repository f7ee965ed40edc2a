package ipc

import "time"

// A Message is one received message, or one to send.
//
// Received as a view, Data lies in shared memory until Release: reading it costs
// no copy, appending to it is safe, writing to it faults, and a hostile peer can
// change it under the reader's eyes. Received with an Into form, Data lies in
// the caller's buffer, nobody can change it, and the message is released.
type Message struct {
	Data []byte

	// Kind is the sender's number for the sort of message; it means nothing
	// to this package.
	Kind uint32

	// Redelivered says that an earlier client may have seen this message: it
	// died, or closed, between delivery and release (M3).
	Redelivered bool

	// Attachment is the number of a client, by the server's count. At a server: of the
	// client that has committed the message. At a client: its own, if the server has
	// committed the message since this client came. What waited there before may have
	// been meant for another one, and has 0.
	Attachment uint64

	from *consumer
	seq  uint64
}

// Release gives the message's space back to the sender. Messages may be released
// in any order, from any goroutine; space is reused in order. Data must not be
// used afterwards. It returns ErrReleased the second time and for messages that
// an Into form returned, and ErrClosed after Close: the message then counts as
// not released, and one that a client held comes again to the next client.
func (m Message) Release() error {
	if m.from == nil {
		return ErrReleased
	}
	return m.from.release(m.seq)
}

// ReleaseBatch releases messages that came from one endpoint, and returns the
// first error; it goes on after one.
func ReleaseBatch(messages []Message) error {
	var first error
	for len(messages) > 0 {
		n := 1
		for n < len(messages) && messages[n].from == messages[0].from {
			n++
		}
		err := ErrReleased
		if c := messages[0].from; c != nil {
			err = c.releaseAll(messages[:n])
		}
		if first == nil {
			first = err
		}
		messages = messages[n:]
	}
	return first
}

// An Unreleased is a message that this side committed and the other has not
// released (M6).
type Unreleased struct {
	Data []byte // a copy
	Kind uint32

	// Delivered says that a peer may have seen it: it was handed out and not
	// released.
	Delivered bool
}

// An EventKind says what happened to the peer.
type EventKind uint8

const (
	EventAttached          EventKind = iota + 1 // a client attached; at a client: this one did
	EventClosed                                 // the peer left in good order
	EventDied                                   // the peer's process died, on the kernel's word (L5)
	EventHung                                   // the peer lives and is silent
	EventRecovered                              // a hung peer beats again
	EventPathLost                               // the path no longer names this server's socket: no client can come
	EventAdmissionFailed                        // this server cannot admit anybody, by no doing of the client; told once, until it can again
	EventLockFileLost                           // the lock file or the token file was deleted or replaced: close, and listen again
	EventInsecureDirectory                      // Options.SharedDirectory: others can replace what is at the path
	EventStalled                                // the peer beats, and has taken and released nothing for Options.StallTimeout, though that is waited for
	EventResumed                                // a stalled peer has taken something, or nothing waits any more
)

var eventNames = [...]string{"", "attached", "closed", "died", "hung", "recovered", "path lost", "admission failed", "lock file lost", "insecure directory", "stalled", "resumed"}

func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return "unknown event"
}

// An Event is something that happened to the peer.
type Event struct {
	Kind       EventKind
	Time       time.Time
	Generation uint64 // of the server
	Attachment uint64 // of the client, counted by the server from 1
	PID        int    // of the peer; 0 if unknown
	Err        error  // with EventClosed and EventDied the *PeerError or *CorruptError that Receive returns for it; also what a server lacks

	// Unreleased, with EventClosed and EventDied, is how many messages to the
	// peer were not released, and Redeliverable how many of them it may have
	// seen (M6). The method Unreleased has the messages.
	Unreleased, Redeliverable int

	// Missed is how many events before this one were dropped, because nobody
	// received them and the channel was full.
	Missed int
}
