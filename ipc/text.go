package ipc

import (
	"fmt"
	"slices"
)

var roleNames = [...]string{"", "server", "client"}

// MarshalText returns what String does, nothing for the zero value, and an error for any
// other that is no role.
func (r Role) MarshalText() ([]byte, error) { return marshalName(roleNames[:], "role", uint8(r)) }

// UnmarshalText reads what MarshalText writes.
func (r *Role) UnmarshalText(text []byte) error {
	return unmarshalName(roleNames[:], "role", text, (*uint8)(r))
}

// MarshalText returns what String does. A state that is none is an error.
func (s PeerState) MarshalText() ([]byte, error) {
	return marshalName(peerStateNames[:], "state of a peer", uint8(s))
}

// UnmarshalText reads what MarshalText writes.
func (s *PeerState) UnmarshalText(text []byte) error {
	return unmarshalName(peerStateNames[:], "state of a peer", text, (*uint8)(s))
}

// MarshalText returns what String does, nothing for the zero value, and an error for any
// other that is no kind.
func (k EventKind) MarshalText() ([]byte, error) {
	return marshalName(eventNames[:], "kind of event", uint8(k))
}

// UnmarshalText reads what MarshalText writes.
func (k *EventKind) UnmarshalText(text []byte) error {
	return unmarshalName(eventNames[:], "kind of event", text, (*uint8)(k))
}

func marshalName(names []string, what string, value uint8) ([]byte, error) {
	if int(value) >= len(names) {
		return nil, fmt.Errorf("ipc: %d is no %s: it has no name to be written by", value, what)
	}
	return []byte(names[value]), nil
}

func unmarshalName(names []string, what string, text []byte, value *uint8) error {
	i := slices.Index(names, string(text))
	if i < 0 {
		return fmt.Errorf("ipc: %q is no %s: want one of %q", text, what, names)
	}
	*value = uint8(i)
	return nil
}
