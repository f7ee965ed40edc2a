//go:build linux && (amd64 || arm64)

package conn

import (
	"bytes"
	"io"
	"runtime/debug"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/ipc"
)

// unreadable is memory that faults.
func unreadable(t *testing.T, size int) []byte {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(mem) })
	return mem
}

// faults reports whether f panics because memory faults.
func faults(f func()) (did bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { did = recover() != nil }()
	f()
	return false
}

// What is not sent because it faults is no longer claimed: the next Write has all the
// credit that there was.
func TestAFaultInWriteCostsNoCredit(t *testing.T) {
	p := newPair(t, &Options{WindowSize: smallWindow})
	server, client := p.connect()
	if !faults(func() { _, _ = client.Write(unreadable(t, smallWindow)) }) {
		t.Fatal("the write does not fault")
	}
	within(t, "a Write behind a fault", func() any { mustWrite(t, client, "sound"); return nil })
	got := make([]byte, 5)
	if _, err := io.ReadFull(server, got); err != nil || string(got) != "sound" {
		t.Errorf("read %q, %v", got, err)
	}
}

// A Read that faults keeps no view, which would hold up the ring for all connections, and
// loses nothing.
func TestAFaultInReadHoldsNobodyUp(t *testing.T) {
	const ring = 64 << 10
	p := newPair(t, &Options{IPC: &ipc.Options{ToServerSize: ring}})
	server, client := p.connect()
	faulted := make(chan bool)
	go func() { faulted <- faults(func() { _, _ = server.Read(unreadable(t, ring)) }) }()
	eventually(t, "Read waits", func() bool {
		server.mu.Lock()
		defer server.mu.Unlock()
		return server.readers == 1
	})
	sent := bytes.Repeat([]byte("8 bytes."), worthAView/8)
	if _, err := client.Write(sent); err != nil {
		t.Fatal(err)
	}
	if !<-faulted {
		t.Fatal("the read does not fault")
	}
	otherServer, otherClient := p.connect()
	go func() { _, _ = io.Copy(io.Discard, otherServer) }()
	within(t, "more than the ring holds, over another connection", func() any {
		for range 8 {
			if _, err := otherClient.Write(make([]byte, ring/4)); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(server, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("what the fault had not read: %v, and it differs %t", err, !bytes.Equal(got, sent))
	}
}
