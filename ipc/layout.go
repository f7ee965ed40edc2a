package ipc

import (
	"fmt"
	"hash/fnv"
	"os"
	"runtime"
	"structs"
	"sync"
	"sync/atomic"
	"unsafe"
)

// protocolVersion is raised by every change to what two processes say to each
// other: the handshake, the control page or the records.
const protocolVersion = 1

// segmentMagic opens each segment: "tandem" and two zero bytes, little endian.
const segmentMagic = 0x6d65646e6174

// group is the distance between words of different writers or purposes: two
// cache lines, because processors fetch them in pairs.
const group = 128

const cacheLine = 64

// A control is the first page of a segment. Each word is written only by the
// process that owns the segment; the peer reads it through a read-only mapping.
// docs/PROTOCOL.md lists the same fields, and a test compares the two.
type control struct {
	_ structs.HostLayout

	// Written once, when the segment is formatted.
	magic       atomic.Uint64
	version     atomic.Uint64 // protocolVersion, and the role << 32
	fingerprint atomic.Uint64 // of this layout
	generation  atomic.Uint64
	ringSize    atomic.Uint64
	_           [group - 5*8]byte

	// writePos is the end of what the owner has committed to its ring.
	// I1: the peer's readPos <= writePos <= the peer's readPos + ringSize.
	writePos atomic.Uint64
	_        [group - 8]byte

	// readPos is the end of what the owner has released of the peer's ring.
	// It only grows.
	readPos atomic.Uint64
	_       [group - 8]byte

	// deliveredPos is the end of what the owner has ever handed out. It only
	// grows, whoever owns the segment (W7). I2: readPos <= deliveredPos.
	deliveredPos atomic.Uint64
	_            [group - 8]byte

	// dataWaitFor is the peer's writePos that the owner last waited for (W1).
	dataWaitFor atomic.Uint64
	_           [group - 8]byte

	// spaceWaitFor is the peer's readPos that the owner last waited for (W1).
	spaceWaitFor atomic.Uint64
	_            [group - 8]byte

	// beat grows while the owner's process runs.
	beat atomic.Uint64
	_    [group - 8]byte

	// attachment is the number of the client's stay, stored when it has mapped
	// the memory and before it uses it. The server's is 0.
	attachment atomic.Uint64
	_          [group - 8]byte

	// goodbye tells a clean end from a death: the owner stores the number of
	// the attachment, or of the generation, that it ends by Close.
	goodbye atomic.Uint64
	_       [group - 8]byte
}

// The build fails if the compiler lays control out in any other size.
var _ = [1]struct{}{}[unsafe.Sizeof(control{})-9*group]

// layoutFields names each shared word with its offset, in the order of the page.
var layoutFields = []struct {
	name   string
	offset uintptr
}{
	{"magic", unsafe.Offsetof(control{}.magic)},
	{"version", unsafe.Offsetof(control{}.version)},
	{"fingerprint", unsafe.Offsetof(control{}.fingerprint)},
	{"generation", unsafe.Offsetof(control{}.generation)},
	{"ringSize", unsafe.Offsetof(control{}.ringSize)},
	{"writePos", unsafe.Offsetof(control{}.writePos)},
	{"readPos", unsafe.Offsetof(control{}.readPos)},
	{"deliveredPos", unsafe.Offsetof(control{}.deliveredPos)},
	{"dataWaitFor", unsafe.Offsetof(control{}.dataWaitFor)},
	{"spaceWaitFor", unsafe.Offsetof(control{}.spaceWaitFor)},
	{"beat", unsafe.Offsetof(control{}.beat)},
	{"attachment", unsafe.Offsetof(control{}.attachment)},
	{"goodbye", unsafe.Offsetof(control{}.goodbye)},
}

// layoutFingerprint tells two layouts apart whose version was not raised.
var layoutFingerprint = sync.OnceValue(func() uint64 {
	h := fnv.New64a()
	for _, f := range layoutFields {
		fmt.Fprintf(h, "%s@%d ", f.name, f.offset)
	}
	fmt.Fprintf(h, "header %d align %d", headerSize, recordAlign)
	return h.Sum64()
})

// controlSize is the size of the control area: one page, so that the ring
// behind it can be mapped by itself.
func controlSize() int { return os.Getpagesize() }

// controlOf returns the control words at the start of mem.
//
// Preconditions: mem is aligned to 8 bytes and holds a control.
func controlOf(mem []byte) *control {
	_ = mem[unsafe.Sizeof(control{})-1]
	return (*control)(unsafe.Pointer(&mem[0]))
}

// wordAt returns the word at the given offset, which is a multiple of 8.
func wordAt(mem []byte, offset uint64) *atomic.Uint64 {
	_ = mem[offset+7]
	return (*atomic.Uint64)(unsafe.Pointer(&mem[offset]))
}

// putWord stores a word that a later store of a position publishes, as the
// payload is: it needs no order of its own. offset is a multiple of 8.
func putWord(mem []byte, offset, value uint64) {
	_ = mem[offset+7]
	*(*uint64)(unsafe.Pointer(&mem[offset])) = value
}

// storeFenced stores a word that the peer looks at, before this process looks at
// one of the peer's: all that was stored before it is seen before it, and no load
// behind it is made before the store is seen (W4). It swaps, because a Store is not
// enough everywhere: built with -race for amd64, an atomic store to memory that is not
// Go's own is a plain MOV. Without -race the two are the same instruction there.
// Built with -race for arm64 it is the other way round: a swap is a plain one, with
// the fence behind it, and only a store has one before it.
func storeFenced(word *atomic.Uint64, value uint64) {
	if !swapsPublish {
		word.Store(value)
	}
	word.Swap(value)
}

// putPosition stores a position that needs no fence behind it: the stores of this
// process become visible in program order up to the next atomic one, and a death
// undoes none of them.
//
//go:norace
func putPosition(word *atomic.Uint64, value uint64) {
	*(*uint64)(unsafe.Pointer(word)) = value
}

// putOwn stores a word of this process's own memory, which others read: what was
// stored before is seen by who sees it. On amd64 every store does that; the language
// has none that is as cheap.
func putOwn(word *atomic.Uint64, value uint64) {
	if runtime.GOARCH == "amd64" {
		putPosition(word, value)
		return
	}
	word.Store(value)
}

// lowHalf returns the low 32 bits of a position, which is what a futex compares.
// Both supported architectures are little endian.
func lowHalf(word *atomic.Uint64) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(word))
}
