//go:build linux && (amd64 || arm64)

package conn

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/tandem-ipc/tandem/ipc"
)

// killClient has a real client write without end to a listener, and kills it in mid-stream. What it has
// written is still there, and the listener may not know of its death.
func killClient(t testing.TB, listener *Listener) net.Conn {
	t.Helper()
	client := start(t, "endless client", listener.Addr().String())
	accepted := within(t, "Accept", func() net.Conn { c, _ := listener.Accept(); return c })
	if accepted == nil {
		t.Fatal("no connection")
	}
	if _, err := checkBlocks(t, accepted, 1<<20); err != nil {
		t.Fatal(err)
	}
	client.kill()
	return accepted
}

// killServer has a real server write without end to a dialer, and kills it in mid-stream.
func killServer(t testing.TB, dialer *Dialer) net.Conn {
	t.Helper()
	server := start(t, "endless server", dialer.path)
	server.expect("listening")
	dialed, err := dialer.Dial(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := checkBlocks(t, dialed, 1<<20); err != nil {
		t.Fatal(err)
	}
	server.kill()
	return dialed
}

// wantCut reads what a process had written that was killed, and then finds its death.
func wantCut(t testing.TB, c net.Conn) {
	t.Helper()
	_, err := checkBlocks(t, onlyReader{c}, 1<<30)
	wantError(t, err, ipc.ErrPeerDied)
	_ = c.Close()
}

// patient options wait for a former process to be gone.
func patient() *Options { return &Options{IPC: &ipc.Options{Wait: true}} }

// A maker makes connections over an endpoint of this process that has lived through kills: each
// connection comes right after one.
type maker func(t *testing.T) (server, client *Conn, cut net.Conn, stop func())

// afterKilledClients has one listener, and a dialer after each killed client.
func afterKilledClients(t *testing.T) maker {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Abort() })
	return func(t *testing.T) (server, client *Conn, cut net.Conn, stop func()) {
		cut = killClient(t, listener)
		dialer := NewDialer(path, patient())
		server, client = (&pair{t, listener, dialer}).connect()
		return server, client, cut, func() {
			if err := dialer.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// afterKilledServers has one dialer, and a listener after each killed server.
func afterKilledServers(t *testing.T) maker {
	path := testPath(t)
	dialer := NewDialer(path, nil)
	t.Cleanup(func() { _ = dialer.Close() })
	return func(t *testing.T) (server, client *Conn, cut net.Conn, stop func()) {
		cut = killServer(t, dialer)
		listener, err := Listen(testContext(t), path, patient())
		if err != nil {
			t.Fatal(err)
		}
		server, client = (&pair{t, listener, dialer}).connect()
		return server, client, cut, func() {
			if err := listener.Abort(); err != nil {
				t.Error(err)
			}
		}
	}
}

// besideKills kills the client of another pair again and again, until it is stopped.
func besideKills(t *testing.T) (stop func()) {
	listener, err := Listen(testContext(t), testPath(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	var ending atomic.Bool
	ended := make(chan int)
	go func() {
		kills := 0
		defer func() { ended <- kills }()
		for !ending.Load() {
			wantCut(t, killClient(t, listener))
			kills++
		}
	}()
	return func() {
		ending.Store(true)
		t.Logf("%d kills beside it", <-ended)
		_ = listener.Abort()
	}
}

// Each case of nettest passes over an endpoint whose former peer was killed in mid-stream
// right before, while the client of another pair is killed again and again.
func TestConnIsANetConnUnderKills(t *testing.T) {
	for name, of := range map[string]func(*testing.T) maker{"clients": afterKilledClients, "servers": afterKilledServers} {
		t.Run(name, func(t *testing.T) {
			defer besideKills(t)()
			made, connect := 0, of(t)
			nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
				made++
				server, client, cut, stop := connect(t)
				if made%2 == 0 { // else nobody reads it as long as the case runs
					wantCut(t, cut)
				}
				return server, client, func() {
					stop()
					if made%2 == 1 {
						wantCut(t, cut)
					}
				}, nil
			})
			if made == 0 {
				t.Error("nettest has made no connection")
			}
		})
	}
}

// survivors is a pair whose listener has lived through kills.
func survivors(t *testing.T) *pair {
	t.Helper()
	path := testPath(t)
	listener, err := Listen(testContext(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{t, listener, NewDialer(path, patient())}
	t.Cleanup(p.close)
	for range 2 {
		cut := killClient(t, listener)
		t.Cleanup(func() {
			if err := cut.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
	}
	return p
}
