package chaos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/bits"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// What a hostile peer knows of the protocol: what docs/PROTOCOL.md says, written
// down once more. It shares no code with package ipc, so that it can break every
// rule of it.

const (
	rawMagic        = 0x31746d646e6174 // of a packet
	rawSegmentMagic = 0x6d65646e6174
	rawVersion      = 1
	rawPacketSize   = 72
	rawControl      = 4096 // the control page, where pages have that size
)

// Types of packets.
const (
	rawHello = iota + 1
	rawGrant
	rawRefuse
	rawReady
)

// A rawWord is a word of the control page, by its offset.
type rawWord int

const (
	wordMagic       rawWord = 0x000
	wordVersion     rawWord = 0x008
	wordFingerprint rawWord = 0x010
	wordGeneration  rawWord = 0x018
	wordRingSize    rawWord = 0x020
	wordWritePos    rawWord = 0x080
	wordReadPos     rawWord = 0x100
	wordDelivered   rawWord = 0x180
	wordDataWait    rawWord = 0x200
	wordSpaceWait   rawWord = 0x280
	wordBeat        rawWord = 0x300
	wordAttachment  rawWord = 0x380
	wordGoodbye     rawWord = 0x400
)

var rawWords = []struct {
	name string
	at   rawWord
}{
	{"magic", wordMagic}, {"version", wordVersion}, {"fingerprint", wordFingerprint}, {"generation", wordGeneration}, {"ringSize", wordRingSize},
	{"writePos", wordWritePos}, {"readPos", wordReadPos}, {"deliveredPos", wordDelivered}, {"dataWaitFor", wordDataWait}, {"spaceWaitFor", wordSpaceWait},
	{"beat", wordBeat}, {"attachment", wordAttachment}, {"goodbye", wordGoodbye},
}

// rawFingerprint is that of the layout.
func rawFingerprint() uint64 {
	h := fnv.New64a()
	for _, w := range rawWords {
		fmt.Fprintf(h, "%s@%d ", w.name, int(w.at))
	}
	fmt.Fprintf(h, "header %d align %d", 8, 8)
	return h.Sum64()
}

// A rawPacket is a packet of the handshake.
type rawPacket struct {
	Magic                       uint64
	Type, Version               uint32
	Fingerprint                 uint64
	PageSize, Reason            uint32
	PID, Generation, Attachment uint64
	ToServerSize, ToClientSize  uint64
}

func newRawPacket(kind uint32) rawPacket {
	return rawPacket{Magic: rawMagic, Type: kind, Version: rawVersion, Fingerprint: rawFingerprint(), PageSize: uint32(os.Getpagesize())}
}

func (p rawPacket) bytes() []byte {
	data, _ := binary.Append(nil, binary.LittleEndian, p)
	return data
}

// rawSend sends bytes and descriptors, whatever they are.
func rawSend(conn int, data []byte, files ...int) error {
	var control []byte
	if len(files) > 0 {
		control = unix.UnixRights(files...)
	}
	return unix.Sendmsg(conn, data, control, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
}

// rawReceive waits for a packet with its descriptors.
func rawReceive(conn int) (p rawPacket, files []int, err error) {
	data, control := make([]byte, 256), make([]byte, 1024)
	n, size, _, _, err := unix.Recvmsg(conn, data, control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return p, nil, err
	}
	messages, _ := unix.ParseSocketControlMessage(control[:size])
	for i := range messages {
		rights, _ := unix.ParseUnixRights(&messages[i])
		files = append(files, rights...)
	}
	if n < rawPacketSize {
		closeFiles(files)
		return p, nil, fmt.Errorf("a packet of %d bytes", n)
	}
	_, err = binary.Decode(data[:rawPacketSize], binary.LittleEndian, &p)
	return p, files, err
}

func closeFiles(files []int) {
	for _, fd := range files {
		_ = unix.Close(fd)
	}
}

// rawPatience bounds a call on a socket.
const rawPatience = 5 * time.Second

// rawSocket makes a socket whose calls end.
func rawSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		bound := unix.NsecToTimeval(int64(rawPatience))
		err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &bound),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &bound))
	}
	return fd, err
}

// rawConnect connects to a server, and says nothing.
func rawConnect(path string) (int, error) {
	fd, err := rawSocket()
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// A rawMemory is a mapped segment.
type rawMemory []byte

func (m rawMemory) load(w rawWord) uint64 { return binary.LittleEndian.Uint64(m[w:]) }

// store is one instruction on what the protocol supports.
func (m rawMemory) store(w rawWord, value uint64) { binary.LittleEndian.PutUint64(m[w:], value) }

func (m rawMemory) ringSize() uint64 { return uint64(len(m)) - rawControl }

// header is the place of the record at a position.
func (m rawMemory) header(pos uint64) rawWord {
	return rawWord(rawControl + (pos&^7)&(m.ringSize()-1))
}

// fill copies into the ring, around its end.
func (m rawMemory) fill(pos uint64, data []byte) {
	ring := m[rawControl:]
	for i, b := range data {
		ring[(pos+uint64(i))&(m.ringSize()-1)] = b
	}
}

// A rawClient has attached by hand. It stores what it likes.
type rawClient struct {
	conn      int // -1 if it was closed
	grant     rawPacket
	files     []int // the server's memory, the client's memory, the token
	own, peer rawMemory
	diary     *diary

	before []uint64 // what its positions were, to come back to
}

// rawFiles are how many descriptors come with a grant, and which is which.
const (
	fileServer = iota
	fileClient
	fileToken
	rawFiles
)

var errRawRefused = errors.New("refused")

// rawAttach attaches to a server. With halfway it stops before it says so.
func rawAttach(path string, d *diary, halfway bool) (*rawClient, error) {
	conn, err := rawConnect(path)
	if err != nil {
		return nil, err
	}
	if err = rawSend(conn, newRawPacket(rawHello).bytes()); err != nil {
		_ = unix.Close(conn)
		return nil, err
	}
	grant, files, err := rawReceive(conn)
	if err == nil && (grant.Type != rawGrant || len(files) != rawFiles) {
		err = fmt.Errorf("%w: type %d, reason %d, %d descriptors", errRawRefused, grant.Type, grant.Reason, len(files))
	}
	if err == nil && (bits.OnesCount64(grant.ToServerSize) != 1 || bits.OnesCount64(grant.ToClientSize) != 1) {
		err = errors.New("it grants rings of no size")
	}
	c := &rawClient{conn: conn, grant: grant, files: files, diary: d}
	if err == nil {
		c.own, err = unix.Mmap(files[fileClient], 0, rawControl+int(grant.ToServerSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err == nil {
		c.peer, err = unix.Mmap(files[fileServer], 0, rawControl+int(grant.ToClientSize), unix.PROT_READ, unix.MAP_SHARED)
	}
	if err != nil {
		c.leave()
		return nil, err
	}
	d.attached(grant)
	for _, w := range []rawWord{wordWritePos, wordReadPos, wordDelivered} {
		c.before = append(c.before, c.own.load(w))
	}
	if halfway {
		return c, nil
	}
	c.own.store(wordAttachment, grant.Attachment)
	return c, rawSend(conn, newRawPacket(rawReady).bytes())
}

// position stores one of the own positions, and writes it into the diary before.
func (c *rawClient) position(w rawWord, value uint64) {
	c.diary.stores(w)
	if len(c.before) < 64 {
		c.before = append(c.before, c.own.load(w))
	}
	c.own.store(w, value)
}

// commit writes a record at the own position and commits it.
func (c *rawClient) commit(kind uint32, data []byte) {
	pos := c.own.load(wordWritePos)
	c.own.store(c.own.header(pos), uint64(kind)<<32|uint64(len(data)))
	c.own.fill(pos&^7+8, data)
	c.position(wordWritePos, pos+recordSize(len(data)))
}

// room is how many bytes the server has released of the own ring.
func (c *rawClient) room() uint64 {
	return c.peer.load(wordReadPos) + c.own.ringSize() - c.own.load(wordWritePos)
}

// take delivers and releases up to so many messages of the server's, as an honest
// client would.
func (c *rawClient) take(count int, release bool) {
	pos, end := c.own.load(wordReadPos), c.peer.load(wordWritePos)
	for ; count > 0 && end-pos-8 < c.peer.ringSize(); count-- {
		pos += recordSize(int(uint32(c.peer.load(c.peer.header(pos)))))
	}
	if end-pos > c.peer.ringSize() {
		return // another has moved the word meanwhile
	}
	c.position(wordDelivered, max(pos, c.own.load(wordDelivered)))
	if release {
		c.position(wordReadPos, pos)
	}
}

// closeConn and closeToken close one of the two that the server looks at.
func (c *rawClient) closeConn() {
	if c.conn >= 0 {
		_ = unix.Close(c.conn)
		c.conn = -1
	}
}

func (c *rawClient) closeToken() {
	if len(c.files) > fileToken {
		closeFiles(c.files[fileToken:])
		c.files = c.files[:fileToken]
	}
}

// lock sets or takes back a lock on a range of the token, if it has one.
func (c *rawClient) lock(kind int16, start, length int64) error {
	if len(c.files) <= fileToken {
		return os.ErrClosed
	}
	return rawLock(c.files[fileToken], kind, start, length)
}

func rawLock(fd int, kind int16, start, length int64) error {
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: length})
}

// part ends the attachment, and keeps the memory and all descriptors but the
// connection: it is a former client then.
func (c *rawClient) part() {
	_ = c.lock(unix.F_UNLCK, 0, 0)
	c.closeConn()
}

// leave is its death, as the kernel sees it.
func (c *rawClient) leave() {
	for _, memory := range []rawMemory{c.own, c.peer} {
		if memory != nil {
			_ = unix.Munmap(memory)
		}
	}
	c.own, c.peer = nil, nil
	closeFiles(c.files)
	c.files = nil
	c.closeConn()
}
