package conn

import (
	"errors"
	"fmt"
	"net"

	"github.com/tandem-ipc/tandem/ipc"
)

// An endError is the end of the peer, or of its memory, in the words of this package:
// those of ipc advise calls that a net.Conn has not.
type endError struct {
	text string
	err  error
}

func (e *endError) Error() string { return e.text }

func (e *endError) Unwrap() error { return e.err }

// ownWords returns an error of the endpoint as the users of connections know it.
// errors.Is and errors.As find in it what ipc says. This side's own close is
// net.ErrClosed, which net has a name for.
func ownWords(err error) error {
	var corrupt *ipc.CorruptError
	switch {
	case errors.Is(err, ipc.ErrClosed):
		return net.ErrClosed
	case errors.Is(err, ipc.ErrPeerDied):
		return &endError{"conn: the process of the peer has died: what it wrote can be read, what it had not read is lost: dial again, or accept the next connection", err}
	case errors.Is(err, ipc.ErrPeerClosed):
		return &endError{"conn: the peer has left with this connection open: what it wrote can be read, what it had not read is lost: dial again, or accept the next connection", err}
	case errors.As(err, &corrupt):
		return &endError{fmt.Sprintf("conn: the peer broke invariant %s of the shared memory: %s: its connections have ended: dial again, or accept the next connection",
			corrupt.Invariant, corrupt.Detail), err}
	}
	return err
}
