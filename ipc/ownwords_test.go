//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// scribbledClient is a client whose memory is under somebody else's hand too: of a
// server that kept its mapping, or of a former client. It has sent one message.
func scribbledClient(t *testing.T) (client *Endpoint, serverHas, clientHas *segment, hangUp func()) {
	t.Helper()
	return scribbledSuccessor(t, 0)
}

// scribbledSuccessor is one whose predecessor has left so many bytes in the ring.
func scribbledSuccessor(t *testing.T, left uint64) (client *Endpoint, serverHas, clientHas *segment, hangUp func()) {
	t.Helper()
	path, page := testPath(t), uint64(os.Getpagesize())
	segmentOf := func(role Role, at positions) *segment {
		s, err := newSegment(role, 1, page, at, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.release)
		return s
	}
	serverHas, readOnly := segmentOf(RoleServer, positions{}), segmentOf(RoleClient, positions{writePos: left})
	clientHas, err := mapSegment(readOnly.file, page, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(clientHas.release)
	gone := make(chan struct{})
	rawServe(t, path, func(conn *conn) {
		_, _, _ = conn.receive(0)
		p := newPacket(packetGrant)
		p.Generation, p.Attachment, p.ToServerSize, p.ToClientSize = 1, 1, page, page
		token, _ := os.Open(os.DevNull)
		defer token.Close()
		if err := conn.send(p, serverHas.file, readOnly.file, int(token.Fd())); err != nil {
			t.Error(err)
		}
		<-gone
	})
	hung := new(atomic.Bool)
	hangUp = func() {
		if hung.CompareAndSwap(false, true) {
			close(gone)
		}
	}
	t.Cleanup(hangUp)
	options := hostileOptions()
	options.HandshakeTimeout = watchdog
	client, err = Dial(testContext(t), path, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hangUp(); _ = client.Close() })
	sendAll(t, client, 1)
	return client, serverHas, clientHas, hangUp
}

// A process writes its own shared words and never reads them back: who scribbles over
// them changes nothing that it knows of itself, nor makes it allocate or loop.
func TestT1OwnSharedWordsAreNeverReadBack(t *testing.T) {
	for _, corrupt := range []bool{false, true} {
		for _, value := range []uint64{0, 8, 7, 1 << 40, 1 << 48, 1 << 62, ^uint64(0)} {
			client, server, own, hangUp := scribbledClient(t)
			sent := client.Stats().SentBytes
			if corrupt {
				server.control.writePos.Store(7)
				var told *CorruptError
				if _, err := client.Receive(testContext(t)); !errors.As(err, &told) {
					t.Fatalf("Receive gave %v, want a *CorruptError", err)
				}
			}
			for _, word := range []*atomic.Uint64{&own.control.writePos, &own.control.readPos, &own.control.deliveredPos, &own.control.beat, &own.control.attachment} {
				word.Store(value)
			}
			if list, err := client.Unreleased(); err != nil || len(list) != 1 || list[0].Kind != 1 {
				t.Fatalf("corrupt %t, %#x in its own words: %d unreleased, %v; want the one that was sent", corrupt, value, len(list), err)
			}
			if s := client.Stats(); s.SentBytes != sent || s.UnreleasedBytes != sent || s.ReceivedBytes != 0 {
				t.Fatalf("corrupt %t, %#x in its own words: counts %+v, want %d bytes sent and unreleased", corrupt, value, s, sent)
			}
			hangUp() // what counts what is left, beside the application
			if err := client.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	}
}

// At a client the ring that it sends on lies in memory that others may write: an
// account of it ends, and has no more messages than were sent, whatever the headers
// say.
func TestT1AnAccountOfAScribbledRingIsBounded(t *testing.T) {
	for _, header := range []uint64{0, 1, 1<<32 - 1, 1<<32 - 8, 1<<32 - 16, 1 << 31, 4096, 4088, ^uint64(0)} {
		client, server, own, hangUp := scribbledClient(t)
		sent := client.Stats().SentBytes
		for at := uint64(0); at < own.ring.size; at += 8 {
			own.ring.header(at).Store(header)
		}
		list, err := client.Unreleased()
		var corrupt *CorruptError
		bytes := 0
		for _, u := range list {
			bytes += len(u.Data)
		}
		if err != nil && !errors.As(err, &corrupt) || len(list) > 1 || uint64(bytes) > sent {
			t.Errorf("headers %#x: %d unreleased of %d bytes, %v; %d bytes were sent", header, len(list), bytes, err, sent)
		}
		client.mu.Lock()
		a, _ := client.account()
		client.mu.Unlock()
		if unreleased, redeliverable := client.count(a); unreleased > 1 || redeliverable > 1 {
			t.Errorf("headers %#x: %d unreleased and %d redeliverable counted of one message", header, unreleased, redeliverable)
		}
		server.control.writePos.Store(7)
		hangUp()
		if _, err := client.Receive(testContext(t)); !errors.As(err, &corrupt) {
			t.Errorf("headers %#x: Receive gave %v", header, err)
		}
		if err := client.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// A client knows where its own messages begin: what stands before them is its
// predecessor's, and nothing lies on both sides.
func TestT1M6APredecessorsMessagesEndWhereTheOwnBegin(t *testing.T) {
	const left = 64
	client, _, own, _ := scribbledSuccessor(t, left)
	list, err := client.Unreleased()
	if err != nil || len(list) != left/headerSize+1 || list[left/headerSize].Kind != 1 {
		t.Fatalf("%d unreleased, %v; want %d empty ones and the own", len(list), err, left/headerSize)
	}
	own.ring.putHeader(0, 1, left-headerSize+int(client.Stats().SentBytes)) // it ends where the own do
	var corrupt *CorruptError
	if list, err := client.Unreleased(); !errors.As(err, &corrupt) || corrupt.Invariant != "I1" {
		t.Errorf("%d unreleased, %v; want I1: a record of the predecessor's reaches into the own", len(list), err)
	}
}

// The law behind it: no line of the package reads a word of its own segment, but the
// one that begins where a predecessor's heartbeat stood.
func TestT1NoLineReadsAnOwnSharedWord(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	own, found := regexp.MustCompile(`\bown(\.control)?\.\w*(Pos|WaitFor|beat|attachment|goodbye)\.(Load|Swap|Add|And|Or|CompareAndSwap)\(`), 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for number, line := range strings.Split(readFile(t, file), "\n") {
			if !own.MatchString(line) {
				continue
			}
			if found++; file != "heartbeat.go" || !strings.Contains(line, "beat := e.own.control.beat.Load()") {
				t.Errorf("%s:%d reads an own shared word: %s", file, number+1, strings.TrimSpace(line))
			}
		}
	}
	if found == 0 {
		t.Error("the pattern finds nothing: this test is blind")
	}
}
