package chaos

import (
	"encoding/binary"
	"fmt"
)

// An ID names a message of a run. It stands in the message itself, so that one
// that is lost, repeated, torn or of another generation is recognised by itself.
type ID struct {
	Generation uint32 `json:"generation"` // that it was sent in
	Lane       uint16 `json:"lane"`       // one goroutine of one sender that sends in order
	Number     uint32 `json:"number"`     // in its lane, growing
}

func (id ID) String() string { return fmt.Sprintf("%d.%d.%d", id.Generation, id.Lane, id.Number) }

// idSize is what a payload has at least: the ID, and the size that it was sent
// with.
const idSize = 4 + 2 + 4 + 4

// payload is the content of a message, of at least idSize bytes.
func payload(id ID, size int) []byte {
	data := make([]byte, max(size, idSize))
	binary.LittleEndian.PutUint32(data, id.Generation)
	binary.LittleEndian.PutUint16(data[4:], id.Lane)
	binary.LittleEndian.PutUint32(data[6:], id.Number)
	binary.LittleEndian.PutUint32(data[10:], uint32(len(data)))
	state := fillOf(id)
	for i := idSize; i < len(data); i++ {
		data[i] = next(&state)
	}
	return data
}

// identify returns the ID of a payload, and says what is wrong with it if it is
// not whole (M4).
func identify(data []byte) (id ID, damage string) {
	if len(data) < idSize {
		return id, fmt.Sprintf("%d bytes are no message", len(data))
	}
	id = ID{binary.LittleEndian.Uint32(data), binary.LittleEndian.Uint16(data[4:]), binary.LittleEndian.Uint32(data[6:])}
	if size := binary.LittleEndian.Uint32(data[10:]); int(size) != len(data) {
		return id, fmt.Sprintf("%d bytes instead of %d", len(data), size)
	}
	state := fillOf(id)
	for i := idSize; i < len(data); i++ {
		if want := next(&state); data[i] != want {
			return id, fmt.Sprintf("byte %d is %#x instead of %#x", i, data[i], want)
		}
	}
	return id, ""
}

// fillOf seeds the content behind the ID, differently for each message.
func fillOf(id ID) uint32 {
	return id.Number*2654435761 ^ uint32(id.Lane)<<16 ^ id.Generation*40503 | 1
}

func next(state *uint32) byte {
	*state ^= *state << 13
	*state ^= *state >> 17
	*state ^= *state << 5
	return byte(*state)
}

// recordSize is the space that a payload takes up in a ring: docs/PROTOCOL.md.
func recordSize(size int) uint64 { return (8 + uint64(size) + 7) &^ 7 }
