package conn

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tandem-ipc/tandem/ipc"
)

// ErrProtocol says that the peer broke the protocol of this package: it is hostile,
// or another program. All connections of its attachment have ended. Dialing again
// does not help.
var ErrProtocol = errors.New("conn: the peer does not speak the protocol")

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// A frame is one ipc message: its kind, then, in Data, the stamp of the
// attachment, the number of the connection, and the body. Numbers are 64 bits,
// little-endian.
type frame struct {
	kind          frameKind
	stamp, number uint64

	// body lies in shared memory, and a hostile peer can change it at any time:
	// each byte is read once.
	body []byte
}

const headerSize = 16

// A frameKind is the Kind of the message. The high bytes tell these messages from
// those of other programs.
type frameKind uint32

const (
	helloFrame  frameKind = 0x746e6400 + iota // the client draws its stamp, the server answers; number 0, body hello
	openFrame                                 // from the client; numbers only grow
	dataFrame                                 // body is the next part of the stream
	creditFrame                               // body is how many more bytes may come, 64 bits
	finishFrame                               // the stream ends here, the other direction goes on
	closeFrame                                // this side sends and takes nothing more; last of a connection
	expelFrame                                // from the server, if there is room: the client broke the protocol; number 0
)

// parse reports whether a message is a frame. It reads the header once.
func parse(m ipc.Message) (frame, bool) {
	kind := frameKind(m.Kind)
	if kind < helloFrame || kind > expelFrame || len(m.Data) < headerSize {
		return frame{}, false
	}
	return frame{
		kind:   kind,
		stamp:  binary.LittleEndian.Uint64(m.Data),
		number: binary.LittleEndian.Uint64(m.Data[8:]),
		body:   m.Data[headerSize:],
	}, true
}

// putHeader writes what stands before the body.
func putHeader(data []byte, stamp, number uint64) {
	binary.LittleEndian.PutUint64(data, stamp)
	binary.LittleEndian.PutUint64(data[8:], number)
}

// version is the first word of a hello; the rest of it may differ between versions.
const version = 1

// A hello says what one side takes.
type hello struct {
	windowSize int // of each connection at this side
	connLimit  int // of the listener
}

func (h hello) encode() []byte {
	body := make([]byte, 0, 12)
	body = binary.LittleEndian.AppendUint32(body, version)
	body = binary.LittleEndian.AppendUint32(body, uint32(h.windowSize))
	return binary.LittleEndian.AppendUint32(body, uint32(h.connLimit))
}

func decodeHello(body []byte) (hello, error) {
	var copied [12]byte
	if n := copy(copied[:], body); n < 4 {
		return hello{}, protocolError("a hello of %d bytes", n)
	}
	if theirs := binary.LittleEndian.Uint32(copied[:]); theirs != version {
		return hello{}, protocolError("it has version %d, this is %d: build both with the same", theirs, version)
	}
	windowSize := binary.LittleEndian.Uint32(copied[4:])
	connLimit := binary.LittleEndian.Uint32(copied[8:])
	if len(body) != len(copied) || windowSize == 0 || windowSize > MaxWindowSize || connLimit == 0 || connLimit > MaxConnLimit {
		return hello{}, protocolError("a hello of %d bytes, window %d, limit %d", len(body), windowSize, connLimit)
	}
	return hello{int(windowSize), int(connLimit)}, nil
}
