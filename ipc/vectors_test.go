//go:build linux && (amd64 || arm64)

package ipc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The bytes in testdata/vectors.txt are for whoever writes another implementation from
// docs/PROTOCOL.md. They are compared with what each side writes, and each side reads them.

// vectors are the bytes of the file, by the name in the line above them.
func vectors(t *testing.T) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	all, name := map[string][]byte{}, ""
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(strings.TrimSuffix(line, "\n"), "#")
		switch {
		case strings.TrimSpace(line) == "":
		case line[0] != ' ':
			name = strings.TrimSpace(line)
		default:
			some, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			all[name] = append(all[name], some...)
		}
	}
	return all
}

// vectorRing is the size of the rings that the vectors are of.
const vectorRing = 1 << 16

// vectorPackets are the packets that the vectors are of.
func vectorPackets() map[string]packet {
	common := packet{Magic: packetMagic, Version: protocolVersion, Fingerprint: layoutFingerprint(), PageSize: 4096}
	hello, grant, refuse, ready := common, common, common, common
	hello.Type, hello.Reason = packetHello, 100_000
	grant.Type, grant.Reason, grant.PID, grant.Generation, grant.Attachment = packetGrant, 100_000, 4711, 3, 2
	grant.ToServerSize, grant.ToClientSize = vectorRing, 2*vectorRing
	refuse.Type, refuse.Reason, refuse.PID = packetRefuse, reasonClientRunning, 4712
	ready.Type = packetReady
	return map[string]packet{"hello": hello, "grant": grant, "refuse": refuse, "ready": ready}
}

func TestVectorsOfPackets(t *testing.T) {
	all := vectors(t)
	for name, p := range vectorPackets() {
		written, err := binary.Append(nil, binary.LittleEndian, p)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(written, all[name]) {
			t.Errorf("%s is written as\n% x, the vector is\n% x", name, written, all[name])
		}
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = unix.Write(ends[1], all[name])
		if got, _, e := (&conn{fd: ends[0]}).receive(0); err != nil || e != nil || got != p {
			t.Errorf("%s is read as %+v, %v, %v", name, got, err, e)
		}
		closeAll(ends[:])
	}
}

// onThisMachine is a packet of the vectors as it is with this machine's pages.
func onThisMachine(vector []byte) []byte {
	vector = bytes.Clone(vector)
	binary.LittleEndian.PutUint32(vector[24:], uint32(os.Getpagesize()))
	return vector
}

// A server understands the hello and the ready of the vectors, and its grant is that of the
// vectors but for the four numbers that are its own.
func TestVectorsOfAClientAreUnderstood(t *testing.T) {
	all, path := vectors(t), testPath(t)
	server := listenHere(t, path, &Options{ToServerSize: vectorRing, ToClientSize: 2 * vectorRing})
	client := rawConnect(t, path)
	if _, err := unix.Write(client.fd, onThisMachine(all["hello"])); err != nil {
		t.Fatal(err)
	}
	grant, files, err := client.receive(3)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(files)
	grant.PID, grant.Generation, grant.Attachment = 4711, 3, 2
	got, err := binary.Append(nil, binary.LittleEndian, grant)
	if want := onThisMachine(all["grant"]); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v, the grant is\n% x, the vector is\n% x", err, got, want)
	}
	if _, err := unix.Write(client.fd, onThisMachine(all["ready"])); err != nil {
		t.Fatal(err)
	}
	nextEvent(t, server, EventAttached)
}

// A client says the hello of the vectors, and understands their refusal.
func TestVectorsOfAServerAreUnderstood(t *testing.T) {
	all, path := vectors(t), testPath(t)
	hello := make(chan []byte, 1)
	rawServe(t, path, func(c *conn) {
		data := make([]byte, packetSize+1)
		n, _ := unix.Read(c.fd, data)
		hello <- data[:max(n, 0)]
		_, _ = unix.Write(c.fd, onThisMachine(all["refuse"]))
	})
	_, err := Dial(testContext(t), path, nil)
	if got, want := <-hello, onThisMachine(all["hello"]); !bytes.Equal(got, want) {
		t.Errorf("the hello is\n% x, the vector is\n% x", got, want)
	}
	if running, ok := err.(*RunningError); !ok || running.PID != 4712 {
		t.Errorf("the refusal is %v, want that process 4712 is attached", err)
	}
}

func TestVectorsOfSegments(t *testing.T) {
	all := vectors(t)
	for name, s := range map[string]struct {
		owner Role
		ring  uint64
	}{"server segment": {RoleServer, 2 * vectorRing}, "client segment": {RoleClient, vectorRing}} {
		mem := make([]byte, uint64(controlSize())+2*s.ring)
		made := lay(mem, s.ring, -1)
		made.format(s.owner, 3, positions{})
		vector := all[name]
		if len(vector) == 0 || !bytes.Equal(mem[:len(vector)], vector) || len(bytes.Trim(mem[len(vector):], "\x00")) > 0 {
			t.Errorf("a %s begins with\n% x, the vector is\n% x", name, mem[:64], vector)
		}
		clear(mem)
		copy(mem, vector)
		if err := made.check(s.owner, 3); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// vectorMessages are the messages whose records the vectors are of: three at position 0, and
// one across the end of the ring.
func vectorMessages() (first []Message, last Message) {
	return []Message{{Kind: 0, Data: nil}, {Kind: 1, Data: []byte("8 bytes.")}, {Kind: 1<<32 - 1, Data: []byte("thirteen byte")}},
		Message{Kind: 2, Data: []byte("it goes on at the start.")}
}

// vectorEnd is where the last record begins: its header and eight bytes before the end.
const vectorEnd = vectorRing - 16

func TestVectorsOfRecords(t *testing.T) {
	all, path := vectors(t), testPath(t)
	server := listenHere(t, path, &Options{ToServerSize: vectorRing, ToClientSize: vectorRing})
	client := rawAttach(t, path)
	firstBytes, lastBytes := all["records at 0"], all[fmt.Sprint("record at ", vectorEnd)]
	first, last := vectorMessages()
	filler := make([]byte, vectorEnd-len(firstBytes)-headerSize)
	at := func(mem []byte, pos int, size int) []byte { return mem[pos : pos+size] } // rings are mapped twice

	// What the server writes.
	written := client.peer.ring.mem
	for _, m := range first {
		if err := server.Send(testContext(t), m.Kind, m.Data); err != nil {
			t.Fatal(err)
		}
	}
	if got := at(written, 0, len(firstBytes)); !bytes.Equal(got, firstBytes) {
		t.Errorf("the records are\n% x, the vector is\n% x", got, firstBytes)
	}
	if got := client.peer.control.writePos.Load(); got != uint64(len(firstBytes)) {
		t.Errorf("they end at %d, want %d", got, len(firstBytes))
	}
	if err := server.Send(testContext(t), 0, filler); err != nil {
		t.Fatal(err)
	}
	client.own.control.deliveredPos.Store(vectorEnd)
	client.own.control.readPos.Store(vectorEnd)
	if err := server.Send(testContext(t), last.Kind, last.Data); err != nil {
		t.Fatal(err)
	}
	if got := at(written, vectorEnd, len(lastBytes)); !bytes.Equal(got, lastBytes) {
		t.Errorf("the record is\n% x, the vector is\n% x", got, lastBytes)
	}
	if got := client.peer.control.writePos.Load(); got != uint64(vectorEnd+len(lastBytes)) {
		t.Errorf("it ends at %d, want %d", got, vectorEnd+len(lastBytes))
	}

	// What the server reads.
	receives := func(wants ...Message) {
		t.Helper()
		for _, want := range wants {
			m, err := server.Receive(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			if m.Kind != want.Kind || !bytes.Equal(m.Data, want.Data) {
				t.Errorf("received kind %d, % x, want kind %d, % x", m.Kind, m.Data, want.Kind, want.Data)
			}
			if err := m.Release(); err != nil {
				t.Error(err)
			}
		}
	}
	put := client.own.ring.mem
	copy(put, firstBytes)
	client.own.control.writePos.Store(uint64(len(firstBytes)))
	receives(first...)
	binary.LittleEndian.PutUint64(put[len(firstBytes):], uint64(len(filler)))
	client.own.control.writePos.Store(vectorEnd)
	receives(Message{Data: filler})
	copy(at(put, vectorEnd, len(lastBytes)), lastBytes)
	client.own.control.writePos.Store(uint64(vectorEnd + len(lastBytes)))
	receives(last)
}
