//go:build linux && (amd64 || arm64)

package conn

import (
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// stuffed returns a listener whose client has opened one connection and takes nothing, and
// that connection, with no room in the ring to the client.
func stuffed(t *testing.T, closeTimeout time.Duration, accepts bool) (*Listener, *rawPeer, *Conn) {
	t.Helper()
	path := testPath(t)
	listener, err := Listen(testContext(t), path, &Options{IPC: &ipc.Options{ToClientSize: 4096, CloseTimeout: closeTimeout}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Abort() })
	client := newRawClient(t, path)
	client.send(helloFrame, 0, hello{MaxWindowSize, 1}.encode()...)
	client.send(openFrame, 1)
	eventually(t, "the connection is there", func() bool { return len(listener.waiting()) == 1 })
	server := listener.waiting()[0]
	if accepts {
		if accepted, err := listener.Accept(); err != nil || accepted != server {
			t.Fatal(accepted, err)
		}
	}
	// The answer to the hello goes first: else the clerk would send it into a full ring.
	m, err := client.endpoint.Receive(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = m.Release()
	server.a.fillRing(1)
	return listener, client, server
}

func TestAClientThatTakesNothingKeepsNoListener(t *testing.T) {
	for name, accepts := range map[string]bool{"accepted": true, "not accepted": false} {
		t.Run(name, func(t *testing.T) {
			listener, client, server := stuffed(t, 10*time.Millisecond, accepts)
			if accepts {
				if err := server.Close(); err != nil {
					t.Fatal(err)
				}
			}
			_ = listener.Close() // nil, or that the client is still there
			within(t, "the pair closes", func() any { <-listener.Closed(); return nil })
			for {
				m, err := client.endpoint.Receive(testContext(t))
				if err != nil {
					if !errors.Is(err, ipc.ErrPeerClosed) {
						t.Errorf("the client sees %v, want %v", err, ipc.ErrPeerClosed)
					}
					return
				}
				_ = m.Release()
			}
		})
	}
}

// An hour is so long that what ends before it has not waited for it.
func TestACloseOfTheListenerWaitsForACloseThatFindsNoRoom(t *testing.T) {
	listener, client, server := stuffed(t, time.Hour, true)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for ended := false; !ended; {
		select {
		case <-listener.Closed():
			t.Fatal("the pair is closed, and the client could not yet know of the connection's end")
		default:
		}
		m, err := client.endpoint.Receive(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		f, ok := parse(m)
		ended = ok && f.kind == closeFrame
		_ = m.Release()
	}
	client.leave()
	within(t, "the pair closes", func() any { <-listener.Closed(); return nil })
}

// A client could else open one connection after the other, and keep the Listener with each.
func TestNobodyWaitsForAConnectionThatCameAfterClose(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, &Options{IPC: &ipc.Options{ToClientSize: 4096, CloseTimeout: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	client := newRawClient(t, path)
	client.send(helloFrame, 0, hello{MaxWindowSize, 3}.encode()...)
	client.send(openFrame, 1)
	first, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	a := first.(*Conn).a
	a.fillRing(1)
	client.send(openFrame, 2)
	client.send(openFrame, 3)
	eventually(t, "only the first is waited for", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.lastNumber == 3 && a.talking == 1
	})
	client.leave()
}

// The client that is there goes on also when what goes last is a former client's.
func TestACloseOfAFormerClientsConnectionEndsNoOther(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	process := start(t, "echo client", path)
	former, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	process.kill()
	_, err = io.Copy(io.Discard, former)
	wantError(t, err, ipc.ErrPeerDied)
	dialer := NewDialer(path, patient())
	defer dialer.Close()
	server, client := (&pair{t, listener, dialer}).connect()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := former.Close(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		runtime.Gosched()
		mustWrite(t, client, "question")
		mustRead(t, server, "question")
		mustWrite(t, server, "answer")
		mustRead(t, client, "answer")
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, "the pair closes", func() any { <-listener.Closed(); return nil })
}
