package ipc

import (
	"errors"
	"fmt"
)

// Each error below says whether the call may be tried again. An error of the
// caller's context, which Listen and Dial wrap with what they waited for, means:
// nothing was committed or taken, try again whenever you like.
var (
	// ErrServerRunning is returned by Listen while another server lives on the
	// path. Try again when it has gone, or set Options.Wait. If the text says that a
	// copy of its lock lives on, a process that the server has forked without exec
	// keeps the path: end that.
	ErrServerRunning = errors.New("ipc: a server is running on this path: nothing was started: try again when it has gone, or set Options.Wait")

	// ErrClientRunning is returned by Listen while a client of an earlier
	// server still lives, and by Dial while another client is attached. Try
	// again when it has gone, or set Options.Wait.
	ErrClientRunning = errors.New("ipc: a client is running on this path: until it has gone no other attaches and no server starts: try again then, or set Options.Wait")

	// ErrRefused is returned by Dial when the server does not let this user
	// attach. Trying again does not help; Options.AllowUIDs does. If it is a directory on
	// the way to the path that does not let the user through, the text names that.
	ErrRefused = errors.New("ipc: the server refuses this user: nothing was attached: list the user in the server's Options.AllowUIDs")

	// ErrNoServer is returned by Dial and Redial with Options.FailFast when no server
	// listens on the path; the text says what was found there. Try again when one has
	// started. Without the option they wait, and the error of the context says for what.
	ErrNoServer = errors.New("ipc: there is no server on this path: nothing was attached: start one, or wait for it without Options.FailFast")

	// ErrServerUser is returned by Dial when the process that listens on the path
	// is neither of this user nor root's. Nothing was sent to it. Find out who it
	// is, or list its user in Options.ServerUIDs. Trying again helps only if another
	// server has taken the path.
	ErrServerUser = errors.New("ipc: somebody else's server is on this path: nothing was sent: find out whose it is, or list its user in Options.ServerUIDs")

	// ErrForeign is returned by Listen and Dial when what is at the path is
	// not ours: not a socket, or one that does not speak this protocol. It is
	// left untouched. Use another path.
	ErrForeign = errors.New("ipc: the path belongs to something else: it was left untouched: use another path")

	// ErrTooLarge is returned for a message that the ring can never hold.
	// None of it was committed; send less at a time, or listen with a larger ring.
	ErrTooLarge = errors.New("ipc: message larger than the ring: none of it was committed: send less at a time, or listen with a larger ring")

	// ErrFull is returned by the Try forms of sending when there is no room
	// now, or another goroutine is just sending, has a reservation open, or copies for
	// Unreleased. What did not fit was not committed; try again when the peer has
	// released, or the other is done.
	ErrFull = errors.New("ipc: ring full, or another goroutine is just sending: what did not fit was not committed: try again when the peer has released, or the other is done")

	// ErrEmpty is returned by the Try forms of receiving when no message
	// waits, or another goroutine is just receiving. Try again later.
	ErrEmpty = errors.New("ipc: no message waiting, or another goroutine is just receiving: nothing was taken: try again later")

	// ErrShortBuffer is returned by the Into forms of receiving when the next
	// message does not fit the buffer, as a *ShortBufferError that has its size. The
	// message stays where it is. Try again with a larger buffer.
	ErrShortBuffer = errors.New("ipc: buffer too small: nothing was taken: give a larger one for the next message")

	// ErrViewsHeld is returned by receiving when the peer waits for space that
	// only the caller's unreleased messages occupy, so that both would wait
	// for ever. Release some, the oldest if there is a choice, then try again. While
	// nothing changes it is told again after a heartbeat, then after twice as long, and so
	// on; a call in between waits like any other, for a peer can also lie about its
	// waiting. Where other goroutines have released while a call waited, the first is told
	// after a heartbeat too, in which nothing was released: then it may be for views that
	// only others hold. The Try forms tell it after a heartbeat too, and return ErrEmpty
	// until then. A peer that only tries to send does not wait, and nobody is told.
	ErrViewsHeld = errors.New("ipc: unreleased messages leave the sender no space: both would wait for ever: release some, then try again")

	// ErrReleased is returned by the second release of a message and by the
	// second end of a reservation. Nothing happened.
	ErrReleased = errors.New("ipc: already released: nothing happened: release a message, or end a reservation, only once")

	// ErrNotReserved is returned by Commit for more bytes than were reserved, and
	// if Data was made to lie elsewhere, as append does that finds no room. Nothing
	// was committed, and the reservation stays open: commit what fits, or abort.
	ErrNotReserved = errors.New("ipc: commit of what was not reserved: nothing was committed, and the reservation stays open: commit what fits, or abort")

	// ErrClosed is returned by every call on an endpoint after its Close, and
	// means that the call did no more than it reports. What a client had committed
	// before stays so, and what it had not released comes again to the next
	// client, marked; a server's Close ends the generation, see there.
	ErrClosed = errors.New("ipc: endpoint closed: the call did no more than it reports: listen or dial again")

	// ErrPeerClosed says that the peer left in good order. At a client it is
	// final: Redial. At a server, Receive returns it once, behind the last
	// message of that client, and goes on with the next client: each end once, in their
	// order. It is told as a *PeerError, which says whose end it was.
	ErrPeerClosed = errors.New("ipc: the peer has closed: what it committed is received first, Unreleased has what it did not release: a client must Redial, a server goes on")

	// ErrPeerDied says that the peer's process died. Everything that it had
	// committed has been received by then; Unreleased tells which messages to
	// it were not released. At a client it is final: call Unreleased, then Redial,
	// which closes the endpoint; until then no server can start. At a server,
	// Receive returns it once and goes on with the next client; see ErrPeerClosed
	// for several ends at once, each of which has an Event of its own. It is told as a
	// *PeerError.
	ErrPeerDied = errors.New("ipc: the peer has died: what it committed is received first, Unreleased has what it did not release: a client must Redial, a server goes on")

	// ErrPeerHung is returned with Options.FailOnHang by a call that would
	// wait for a peer that lives and does nothing. What waited was neither
	// committed nor taken; try again, or have the peer killed.
	ErrPeerHung = errors.New("ipc: the peer is alive but silent: what waited for it was neither committed nor taken: try again, or have it killed")
)

// A RunningError is an ErrServerRunning or ErrClientRunning that names the
// holder of the path.
type RunningError struct {
	Path string
	PID  int   // of the holder, or of one that has a copy; 0 if it cannot be seen from here
	Err  error // ErrServerRunning or ErrClientRunning
}

func (e *RunningError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%v: %s", e.Err, e.Path)
	}
	return fmt.Sprintf("%v: process %d on %s", e.Err, e.PID, e.Path)
}

func (e *RunningError) Unwrap() error { return e.Err }

// A ShortBufferError is an ErrShortBuffer that has the size of the message.
type ShortBufferError struct {
	Size int // of the next message, in bytes: what the buffer must hold
}

func (e *ShortBufferError) Error() string {
	return fmt.Sprintf("%v: it has %d bytes", ErrShortBuffer, e.Size)
}

func (e *ShortBufferError) Unwrap() error { return ErrShortBuffer }

// A PeerError is the end of a peer, ErrPeerDied or ErrPeerClosed, and what was known
// when it came. Receive, Flush, and at a client sending return it, and the Event of
// that end has it.
type PeerError struct {
	Err        error // ErrPeerDied or ErrPeerClosed, or more about it
	PID        int   // of the peer's process; 0 if unknown
	Attachment uint64
	Generation uint64

	// UnreleasedBytes is how much the peer has left unreleased of what was committed to
	// it, with headers and padding. Endpoint.Unreleased has the messages.
	UnreleasedBytes uint64

	// Ends is how many ends the error tells: 1, or more at a server where 1,024 ends wait
	// for Receive and further clients end without a message. The error is then the last of
	// the worst of them, and First and Last are the attachments of the first and the last.
	Ends        int
	First, Last uint64
}

func (e *PeerError) Error() string {
	if e.Ends > 1 {
		return fmt.Sprintf("%v: one of %d ends, of clients %d to %d", e.Err, e.Ends, e.First, e.Last)
	}
	return fmt.Sprint(e.Err) // nil in one that a test of the user's has made
}

func (e *PeerError) Unwrap() error { return e.Err }

// A VersionError says that the two processes were built with versions of this
// package that do not understand each other. Rebuild the older one.
type VersionError struct {
	Ours, Theirs               uint32 // protocol versions
	OurLayout, TheirLayout     uint64 // fingerprints of the memory layout
	OurPageSize, TheirPageSize uint32
}

func (e *VersionError) Error() string {
	if e.Ours != e.Theirs {
		return fmt.Sprintf("ipc: protocol version %d here, %d at the peer: nothing was attached: rebuild the older one", e.Ours, e.Theirs)
	}
	return fmt.Sprintf("ipc: memory layout %016x (pages of %d) here, %016x (pages of %d) at the peer: nothing was attached: build both from one version",
		e.OurLayout, e.OurPageSize, e.TheirLayout, e.TheirPageSize)
}

// A CorruptError says that the peer's shared memory breaks an invariant of
// docs/PROTOCOL.md. A server drops that client, gives the next one fresh memory
// and goes on; at a client it is final. Messages of the peer that were not yet
// received are lost with its memory.
type CorruptError struct {
	Invariant string // its name in docs/PROTOCOL.md, as I1
	Detail    string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("ipc: the peer broke invariant %s of the shared memory and was dropped: %s: what was not received of it is lost: a client must dial again, a server goes on",
		e.Invariant, e.Detail)
}

// ended reports whether err says that an attachment is over.
func ended(err error) bool {
	var corrupt *CorruptError
	return errors.Is(err, ErrPeerDied) || errors.Is(err, ErrPeerClosed) || errors.As(err, &corrupt)
}
