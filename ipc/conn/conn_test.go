//go:build linux && (amd64 || arm64)

package conn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/tandem-ipc/tandem/ipc"
)

func TestConnIsANetConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		p := newPair(t, nil)
		server, client := p.connect()
		return server, client, p.close, nil
	})
}

// callOfIPC matches the calls of an ipc.Endpoint, of its messages and its reservations, that
// neither a connection nor what makes it has.
var callOfIPC = func() *regexp.Regexp {
	ours := map[string]bool{}
	for _, of := range []any{(*Conn)(nil), (*Listener)(nil), (*Dialer)(nil)} {
		for i := range reflect.TypeOf(of).NumMethod() {
			ours[reflect.TypeOf(of).Method(i).Name] = true
		}
	}
	var calls []string
	for _, of := range []any{(*ipc.Endpoint)(nil), ipc.Message{}, ipc.Reservation{}} {
		for i := range reflect.TypeOf(of).NumMethod() {
			if name := reflect.TypeOf(of).Method(i).Name; !ours[name] {
				calls = append(calls, name)
			}
		}
	}
	return regexp.MustCompile(`\b(` + strings.Join(calls, "|") + `)\b`)
}()

// An error of a connection advises no call that its user does not have.
func TestEndsAreToldInTheWordsOfThisPackage(t *testing.T) {
	for _, call := range []string{"Redial", "Unreleased", "Release", "Flush", "Commit", "TrySend"} {
		if callOfIPC.FindString("x: "+call) != call {
			t.Fatalf("%s is not looked for: the test is blind", call)
		}
	}
	corrupt := &ipc.CorruptError{Invariant: "I1", Detail: "readPos 8 went back"}
	for _, end := range []error{ipc.ErrPeerDied, ipc.ErrPeerClosed, ipc.ErrClosed, corrupt} {
		for _, err := range []error{end, fmt.Errorf("%w: more", end), &ipc.PeerError{Err: end}} {
			own := ownWords(err)
			want := end
			if end == ipc.ErrClosed {
				want = net.ErrClosed
			}
			if !errors.Is(own, want) || callOfIPC.MatchString(own.Error()) || strings.Contains(own.Error(), "ipc") {
				t.Errorf("%v became %v, which is to be %v in words of its own", err, own, want)
			}
			var peer *ipc.PeerError
			if had := errors.As(err, &peer); want == end && errors.As(own, &peer) != had {
				t.Errorf("%v has lost its *ipc.PeerError", own)
			}
		}
	}
	if other := errors.New("other"); ownWords(other) != other || ownWords(nil) != nil {
		t.Error("what is no end of a peer is changed")
	}
}

// wantError checks an error that comes from a connection.
func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
	var fault *net.OpError
	if !errors.As(err, &fault) || fault.Net != Network {
		t.Fatalf("%v is a %T, want a *net.OpError", err, err)
	}
	if fault.Timeout() != (want == os.ErrDeadlineExceeded) {
		t.Fatalf("%v: Timeout is %v", err, fault.Timeout())
	}
	if call := callOfIPC.FindString(err.Error()); call != "" {
		t.Fatalf("%v: it speaks of %s, which this package does not have", err, call)
	}
}

func mustWrite(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// mustRead reads as many bytes as text has.
func mustRead(t testing.TB, c net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("read %q, %v, want %q", got, err, text)
	}
}

// pattern is a stream whose every byte depends on its place.
func pattern(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func TestAddressesAreThePath(t *testing.T) {
	p := newPair(t, nil)
	server, client := p.connect()
	for _, address := range []net.Addr{server.LocalAddr(), server.RemoteAddr(), client.LocalAddr(), client.RemoteAddr(), p.listener.Addr()} {
		if address.Network() != "tandem" || address.String() != p.dialer.path {
			t.Errorf("address %s %s", address.Network(), address)
		}
	}
}

func TestHalfCloseLeavesTheOtherDirection(t *testing.T) {
	p := newPair(t, nil)
	server, client := p.connect()
	mustWrite(t, client, "question")
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if question, err := io.ReadAll(server); err != nil || string(question) != "question" {
		t.Fatalf("read %q, %v", question, err)
	}
	mustWrite(t, server, "answer")
	mustRead(t, client, "answer")
	_, err := client.Write([]byte("more"))
	wantError(t, err, net.ErrClosed)
	wantError(t, client.CloseWrite(), net.ErrClosed)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(client); err != nil || len(rest) > 0 {
		t.Fatalf("read %q, %v, want the end", rest, err)
	}
}

func TestCloseLetsThePeerReadWhatWasWritten(t *testing.T) {
	p := newPair(t, nil)
	server, client := p.connect()
	mustWrite(t, server, "never read")
	mustWrite(t, client, "last words")
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	mustRead(t, server, "last words")
	if n, err := server.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("read %d, %v, want io.EOF", n, err)
	}
	_, err := server.Write([]byte("x"))
	wantError(t, err, syscall.EPIPE)
	_, err = client.Read(make([]byte, 1))
	wantError(t, err, net.ErrClosed)
	_, err = client.Write([]byte("x"))
	wantError(t, err, net.ErrClosed)
	wantError(t, client.SetDeadline(time.Time{}), net.ErrClosed)
	wantError(t, client.Close(), net.ErrClosed)
}

func TestCloseWakesWhoWaits(t *testing.T) {
	p := newPair(t, nil)
	server, client := p.connect()
	var waiting sync.WaitGroup
	waiting.Add(2)
	failed := make(chan error, 2)
	go func() {
		waiting.Done()
		_, err := client.Read(make([]byte, 1))
		failed <- err
	}()
	go func() {
		waiting.Done()
		_, err := client.Write(make([]byte, 2*DefaultWindowSize))
		failed <- err
	}()
	waiting.Wait()
	eventually(t, "the window is full", func() bool { return server.unread() == DefaultWindowSize })
	if err := within(t, "Close", client.Close); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantError(t, within(t, "a call beside Close", func() error { return <-failed }), net.ErrClosed)
	}
}

// unread is how many bytes a connection holds.
func (c *Conn) unread() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.received.count()
}

func TestAReaderThatDoesNotReadStopsItsOwnWriterOnly(t *testing.T) {
	p := newPair(t, &Options{WindowSize: 1000, IPC: &ipc.Options{ToServerSize: 4096, ToClientSize: 4096}})
	server, client := p.connect()
	otherServer, otherClient := p.connect()
	stream := pattern(100_000)
	written := make(chan error, 1)
	go func() {
		_, err := client.Write(stream)
		written <- errors.Join(err, client.CloseWrite())
	}()
	eventually(t, "the window is full", func() bool { return server.unread() == 1000 })
	for range 100 {
		mustWrite(t, otherClient, "beside it")
		mustRead(t, otherServer, "beside it")
	}
	if server.unread() != 1000 {
		t.Fatalf("%d bytes are there, want the window", server.unread())
	}
	got, err := io.ReadAll(server)
	if err != nil || !bytes.Equal(got, stream) {
		t.Fatalf("read %d bytes, %v; the stream has %d", len(got), err, len(stream))
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}

func TestManyConnectionsBothWaysThroughOnePage(t *testing.T) {
	p := newPair(t, &Options{WindowSize: 3000, IPC: &ipc.Options{ToServerSize: 4096, ToClientSize: 4096}})
	go func() {
		for {
			c, err := p.listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	stream := pattern(200_000)
	var all sync.WaitGroup
	for range 20 {
		all.Add(1)
		go func() {
			defer all.Done()
			c, err := p.dialer.Dial(testContext(t))
			if err != nil {
				t.Error(err)
				return
			}
			go func() {
				_, _ = c.Write(stream)
				_ = c.CloseWrite()
			}()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, stream) {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
			_ = c.Close()
		}()
	}
	within(t, "twenty echoes", func() bool { all.Wait(); return true })
	eventually(t, "nothing is kept of closed connections", func() bool { return p.connsKept() == 0 })
}

// connsKept is how many connections both sides keep.
func (p *pair) connsKept() int {
	count := 0
	p.listener.mu.Lock()
	server := p.listener.attachment
	p.listener.mu.Unlock()
	for _, a := range []*attachment{server, p.dialer.current} {
		a.mu.Lock()
		count += len(a.conns) + len(a.owing)
		a.mu.Unlock()
	}
	return count
}

func TestDialWaitsWhileThereAreAsManyAsTheListenerTakes(t *testing.T) {
	p := newPair(t, &Options{ConnLimit: 2})
	_, first := p.connect()
	p.connect()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := p.dialer.Dial(ctx)
	wantError(t, err, context.Canceled)
	third := make(chan *Conn, 1)
	go func() {
		c, _ := p.dialer.Dial(testContext(t))
		third <- c
	}()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-third:
		t.Fatal("a third connection, and the server has not closed the first")
	default:
	}
	// The server has not: its side still counts. A server that closes makes room.
	go func() {
		for {
			c, err := p.listener.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	for _, c := range p.serverConns() {
		_ = c.Close()
	}
	c := within(t, "the third Dial", func() *Conn { return <-third })
	if c == nil {
		t.Fatal("no third connection")
	}
	_ = c.Close()
	for range 1000 { // none is lost on the way
		c, err := p.dialer.Dial(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
}

func (p *pair) serverConns() (conns []*Conn) {
	p.listener.mu.Lock()
	a := p.listener.attachment
	p.listener.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.conns {
		conns = append(conns, c)
	}
	return conns
}

func TestADeadlineEndsAWriteWhereverItWaits(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, &Options{IPC: &ipc.Options{ToClientSize: 4096}})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	client := start(t, "echo client", path)
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	mustRead(t, accepted, "hello")
	client.freeze() // so that the ring fills, which is smaller than the window
	_ = accepted.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	n, err := accepted.Write(make([]byte, 100_000))
	wantError(t, err, os.ErrDeadlineExceeded)
	if n == 0 || n >= 100_000 {
		t.Fatalf("wrote %d", n)
	}
	_, err = accepted.Write([]byte("x"))
	wantError(t, err, os.ErrDeadlineExceeded)
	_ = accepted.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err = accepted.Read(make([]byte, 1))
	wantError(t, err, os.ErrDeadlineExceeded)
	client.thaw()
	_ = accepted.SetDeadline(time.Time{}) // and it goes on
	if _, err := io.ReadFull(accepted, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, accepted, "again")
	mustRead(t, accepted, "again")
	client.freeze()
	_ = accepted.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	_, err = accepted.Write(make([]byte, 100_000))
	wantError(t, err, os.ErrDeadlineExceeded)
	within(t, "Close with a full ring", func() error { return accepted.Close() })
	client.thaw()
	client.expect("end")
}

// It says hello on one connection, and echoes until the stream ends.
var _ = part("echo client", func(path string) {
	d := NewDialer(path, nil)
	c, err := d.Dial(context.Background())
	check(err)
	_, err = c.Write([]byte("hello"))
	check(err)
	_, _ = io.Copy(c, c)
	say("end")
	check(d.Close())
})
