package ipc

import (
	"errors"
	"fmt"
)

// A Role is one of the two sides.
type Role uint8

const (
	RoleServer Role = iota + 1
	RoleClient
)

func (r Role) String() string {
	if r == RoleServer || r == RoleClient {
		return roleNames[r]
	}
	return fmt.Sprintf("Role(%d)", uint8(r))
}

// A PeerState is the peer as this side sees it.
type PeerState uint8

const (
	PeerAbsent   PeerState = iota // no client has attached yet, or none since the last one left
	PeerAttached                  // it is there and beats
	PeerHung                      // it is there and silent
	PeerDied                      // its process died, on the kernel's word
	PeerClosed                    // it left in good order
)

var peerStateNames = [...]string{"absent", "attached", "hung", "died", "closed"}

func (s PeerState) String() string {
	if int(s) < len(peerStateNames) {
		return peerStateNames[s]
	}
	return "unknown"
}

// A Peer describes the other side.
type Peer struct {
	State      PeerState
	PID        int    // 0 if unknown
	UID        uint32 // of the process, as the kernel knows it
	Attachment uint64 // of the client
}

// merge returns the error that tells two ends, or more, as the worse.
func merge(earlier, later error) error {
	worse := later
	if gravity(earlier) > gravity(later) {
		worse = earlier
	}
	var first, last, told *PeerError
	if !errors.As(worse, &told) || !errors.As(earlier, &first) || !errors.As(later, &last) {
		return worse // one was told before, or the memory was corrupt
	}
	both := *told
	both.Ends, both.First, both.Last = first.Ends+last.Ends, first.First, last.Last
	return &both
}

// newPeerError tells the end of the client with the given number, or of the server.
//
// Preconditions: e.mu is held, and the peer's account is taken.
func (e *Endpoint) newPeerError(err error, number uint64, pid int, a account) *PeerError {
	return &PeerError{
		Err: err, PID: pid, Attachment: number, Generation: e.generation,
		UnreleasedBytes: a.writePos - a.readPos, Ends: 1, First: number, Last: number,
	}
}
