//go:build linux && (amd64 || arm64)

package conn

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// watchdog bounds every wait of a test. It is a watchdog's bound, not a claim.
var watchdog = func() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("TANDEM_TEST_WATCHDOG")); err == nil {
		return d // of a test that is to fail
	}
	return 60 * time.Second
}()

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	t.Cleanup(cancel)
	return ctx
}

// testPath is a fresh path for a socket, short enough for its address.
func testPath(t testing.TB) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "tandem")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	return filepath.Join(directory, "s")
}

// eventually waits until the condition holds; the watchdog bounds it.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(watchdog); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s\n%s", what, stacks())
		}
	}
}

// within returns what f returns, and fails the test if it does not return.
func within[T any](t testing.TB, what string, f func() T) T {
	t.Helper()
	returned := make(chan T, 1)
	go func() { returned <- f() }()
	select {
	case value := <-returned:
		return value
	case <-time.After(watchdog):
		t.Fatalf("does not return: %s\n%s", what, stacks())
		panic("unreachable")
	}
}

func stacks() string {
	buffer := make([]byte, 1<<20)
	return string(buffer[:runtime.Stack(buffer, true)])
}

// A pair is a listener and a dialer in this process.
type pair struct {
	t        testing.TB
	listener *Listener
	dialer   *Dialer
}

func newPair(t testing.TB, o *Options) *pair {
	t.Helper()
	path := testPath(t)
	listener, err := Listen(testContext(t), path, o)
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{t, listener, NewDialer(path, o)}
	t.Cleanup(p.close)
	return p
}

// connect returns the two ends of a connection, the server's first.
func (p *pair) connect() (server, client *Conn) {
	p.t.Helper()
	client, err := p.dialer.Dial(testContext(p.t))
	if err != nil {
		p.t.Fatal(err)
	}
	return p.accept(), client
}

func (p *pair) accept() *Conn {
	p.t.Helper()
	return within(p.t, "Accept", func() *Conn {
		c, err := p.listener.Accept()
		if err != nil {
			p.t.Error(err)
			return nil
		}
		return c.(*Conn)
	})
}

func (p *pair) close() {
	if err := p.dialer.Close(); err != nil {
		p.t.Error(err)
	}
	if err := p.listener.Abort(); err != nil {
		p.t.Error(err)
	}
}
