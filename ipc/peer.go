package ipc

import "fmt"

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
