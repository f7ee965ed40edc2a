//go:build linux && (amd64 || arm64)

package conn

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tandem-ipc/tandem/ipc"
)

// It writes on one connection until it is killed.
var _ = part("endless client", func(path string) {
	d := NewDialer(path, nil)
	c, err := d.Dial(context.Background())
	check(err)
	_, err = io.Copy(c, endless{})
	check(err)
})

// endless is a stream of the pattern, again and again.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return copy(b, block), nil }

var block = pattern(32 << 10)

// checkBlocks reads until the stream fails, and returns how much it was, and why.
func checkBlocks(t testing.TB, r io.Reader, atMost int) (int, error) {
	t.Helper()
	total, buffer := 0, make([]byte, len(block))
	for total < atMost {
		n, err := io.ReadFull(r, buffer)
		if !bytes.Equal(buffer[:n], block[:n]) {
			t.Fatalf("the block behind byte %d differs", total)
		}
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// It opens a connection without waiting for the server's hello.
var _ = part("hasty client", func(path string) {
	endpoint, err := ipc.Dial(context.Background(), path, &ipc.Options{Wait: true})
	check(err)
	for _, f := range []frame{{kind: helloFrame, body: hello{1000, 1}.encode()}, {kind: openFrame, number: 1}} {
		data := make([]byte, headerSize)
		putHeader(data, uint64(os.Getpid()), f.number)
		check(endpoint.Send(context.Background(), uint32(f.kind), append(data, f.body...)))
	}
	say("opened")
	select {}
})

func TestAConnectionKnowsWhoMadeItAlsoBehindADeath(t *testing.T) {
	path := testPath(t)
	endpoint, err := ipc.Listen(testContext(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	listener := newListener(endpoint, must(t, (*Options)(nil).read))
	first := start(t, "hasty client", path)
	first.expect("opened")
	first.kill()
	second := start(t, "hasty client", path)
	second.expect("opened") // it is attached, and nobody has heard of the first one yet
	go listener.serve()
	defer listener.Abort()
	defer second.kill() // Abort would wait for it
	for number, want := range []*process{first, second} {
		accepted, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got := accepted.(*Conn).Peer()
		if got.PID != want.cmd.Process.Pid || got.UID != uint32(os.Geteuid()) || got.Attachment != uint64(number+1) {
			t.Errorf("connection %d is of %+v, want process %d", number+1, got, want.cmd.Process.Pid)
		}
	}
}

func TestAClientKnowsTheServersProcess(t *testing.T) {
	path := testPath(t)
	server := start(t, "endless server", path)
	server.expect("listening")
	dialer := NewDialer(path, nil)
	defer dialer.Close()
	c, err := dialer.Dial(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Peer(); got.PID != server.cmd.Process.Pid || got.UID != uint32(os.Geteuid()) {
		t.Errorf("the server is %+v, want process %d", got, server.cmd.Process.Pid)
	}
}

func TestAKilledClientsConnectionsEndWithItsDeathAndTheNextOnesBegin(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		client := start(t, "endless client", path)
		accepted, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := checkBlocks(t, accepted, 5<<20); err != nil {
			t.Fatal(err)
		}
		client.kill()
		rest, err := checkBlocks(t, onlyReader{accepted}, 1<<30)
		wantError(t, err, ipc.ErrPeerDied)
		t.Logf("%d bytes after the kill", rest)
		_, err = accepted.Write([]byte("x"))
		wantError(t, err, ipc.ErrPeerDied)
		if err := accepted.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = listener.Accept()
	wantError(t, err, net.ErrClosed)
	wantNothingLeft(t, path)
}

// An onlyReader keeps io.ReadFull from turning an error in mid-block into its own.
type onlyReader struct{ io.Reader }

// wantNothingLeft checks that only the two small files are in the directory (L8).
func wantNothingLeft(t testing.TB, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if want := []string{"s.lock", "s.token"}; !slices.Equal(names, want) {
		t.Fatalf("left behind: %v, want %v", names, want)
	}
}

// It says how much it has written, and waits to be killed, with all of it unread.
var _ = part("last words client", func(path string) {
	d := NewDialer(path, nil)
	whole, err := d.Dial(context.Background())
	check(err)
	_, err = whole.Write(pattern(100_000))
	check(err)
	check(whole.CloseWrite())
	cut, err := d.Dial(context.Background())
	check(err)
	_, err = cut.Write(pattern(200_000))
	check(err)
	say("written")
	select {}
})

func TestWhatADeadClientWroteIsReadFirst(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	client := start(t, "last words client", path)
	client.expect("written")
	client.kill()
	next := NewDialer(path, nil)
	defer next.Close()
	if _, err := next.Dial(testContext(t)); err != nil { // so the listener knows that the former is dead
		t.Fatal(err)
	}
	for _, stream := range []struct {
		size int
		end  error
	}{{100_000, io.EOF}, {200_000, ipc.ErrPeerDied}} {
		accepted, err := listener.Accept() // also behind the death
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, stream.size)
		if _, err := io.ReadFull(accepted, got); err != nil || !bytes.Equal(got, pattern(stream.size)) {
			t.Fatalf("read other bytes, or %v", err)
		}
		if n, err := accepted.Read(got); n != 0 || !errors.Is(err, stream.end) {
			t.Fatalf("read %d, %v, want %v", n, err, stream.end)
		}
	}
}

// It dials one connection, says what it reads first, and reads no more.
var _ = part("first words client", func(path string) {
	d := NewDialer(path, nil)
	c, err := d.Dial(context.Background())
	check(err)
	_, err = c.Write([]byte("hello"))
	check(err)
	got := make([]byte, 5)
	_, err = io.ReadFull(c, got)
	check(err)
	say("read %s", got)
	select {}
})

func TestWhatWasMeantForADeadClientDoesNotReachTheNext(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, &Options{WindowSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	for range 3 {
		client := start(t, "first words client", path)
		accepted, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		mustRead(t, accepted, "hello")
		mustWrite(t, accepted, "early")
		client.expect("read early")
		client.freeze()
		// The same number of a connection, the same allowance: only the stamp differs.
		mustWrite(t, accepted, string(bytes.Repeat([]byte("stale"), 20_000)))
		client.kill()
		_, err = accepted.Read(make([]byte, 1))
		wantError(t, err, ipc.ErrPeerDied)
	}
}

// It serves an endless stream on each connection.
var _ = part("endless server", func(path string) {
	listener, err := Listen(context.Background(), path, &Options{IPC: &ipc.Options{Wait: true}})
	check(err)
	say("listening")
	for {
		c, err := listener.Accept()
		check(err)
		go func() { _, _ = io.Copy(c, endless{}) }()
	}
})

func TestADialerGoesOnWithTheNextServer(t *testing.T) {
	path := testPath(t)
	dialer := NewDialer(path, nil)
	for range 3 {
		server := start(t, "endless server", path)
		server.expect("listening")
		first, err := dialer.Dial(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		second, err := dialer.Dial(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := checkBlocks(t, first, 5<<20); err != nil {
			t.Fatal(err)
		}
		server.kill()
		for _, c := range []*Conn{first, second} {
			_, err := checkBlocks(t, onlyReader{c}, 1<<30)
			wantError(t, err, ipc.ErrPeerDied)
			_, err = c.Write([]byte("x"))
			wantError(t, err, ipc.ErrPeerDied)
		}
	}
	if err := dialer.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := dialer.Dial(testContext(t))
	wantError(t, err, net.ErrClosed)
}

func TestDialGivesUpWithItsContext(t *testing.T) {
	dialer := NewDialer(testPath(t), nil)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := dialer.Dial(ctx)
		failed <- err
	}()
	cancel()
	wantError(t, within(t, "Dial", func() error { return <-failed }), context.Canceled)
	go func() {
		_, err := dialer.Dial(context.Background())
		failed <- err
	}()
	if err := dialer.Close(); err != nil {
		t.Fatal(err)
	}
	wantError(t, within(t, "Dial beside Close", func() error { return <-failed }), net.ErrClosed)
}

func TestLeavingEndsConnectionsAtTheOtherSide(t *testing.T) {
	p := newPair(t, nil)
	server, client := p.connect()
	mustWrite(t, client, "last words")
	if err := p.dialer.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := client.Read(make([]byte, 1))
	wantError(t, err, net.ErrClosed)
	mustRead(t, server, "last words")
	_, err = server.Read(make([]byte, 1))
	wantError(t, err, ipc.ErrPeerClosed)

	p = newPair(t, nil)
	server, client = p.connect()
	mustWrite(t, server, "last words")
	if err := p.listener.Abort(); err != nil {
		t.Fatal(err)
	}
	mustRead(t, client, "last words")
	_, err = client.Read(make([]byte, 1))
	wantError(t, err, ipc.ErrPeerClosed)
	_, err = server.Read(make([]byte, 1))
	wantError(t, err, net.ErrClosed)
}

func TestACloseOfTheListenerLetsConnectionsGoOn(t *testing.T) {
	p := newPair(t, nil)
	server, client := p.connect()
	unaccepted, err := p.dialer.Dial(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second connection arrives", func() bool { return len(p.serverConns()) == 2 })
	if err := p.listener.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := unaccepted.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("a connection that nobody accepted: %v, want io.EOF", err)
	}
	late, err := p.dialer.Dial(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := late.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("a connection that came later: %v, want io.EOF", err)
	}
	mustWrite(t, client, "question")
	mustRead(t, server, "question")
	mustWrite(t, server, "answer")
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	mustRead(t, client, "answer")
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("read %v, want io.EOF", err)
	}
	within(t, "the pair closes", func() bool { <-p.listener.Closed(); return true })
	next, err := Listen(testContext(t), p.dialer.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := p.dialer.Dial(testContext(t)); err != nil {
		t.Fatal(err)
	} else if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.dialer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOptionsOutOfRangeAreErrors(t *testing.T) {
	for _, o := range []*Options{{WindowSize: -1}, {WindowSize: MaxWindowSize + 1}, {ConnLimit: -1}, {ConnLimit: MaxConnLimit + 1}} {
		if _, err := Listen(testContext(t), testPath(t), o); err == nil {
			t.Errorf("Listen took %+v", o)
		}
		if _, err := NewDialer(testPath(t), o).Dial(testContext(t)); err == nil {
			t.Errorf("Dial took %+v", o)
		}
	}
}

// must returns what f does if that is no error.
func must[T any](t testing.TB, f func() (T, error)) T {
	t.Helper()
	value, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// What the caller does with an Options later is his own affair, at the first server and
// at each that comes after it.
func TestOptionsAreReadOnce(t *testing.T) {
	path, uid := testPath(t), uint32(os.Geteuid())
	o := &Options{WindowSize: 1000, IPC: &ipc.Options{ServerUIDs: []uint32{uid}, AllowUIDs: []uint32{uid}}}
	dialer := NewDialer(path, o)
	defer dialer.Close()
	change := func() {
		o.WindowSize, o.IPC.ServerUIDs[0], o.IPC.AllowUIDs[0], o.IPC.HandshakeTimeout = -1, uid+1, uid+1, -1
	}
	change()
	for range 2 {
		*o.IPC, o.WindowSize = ipc.Options{AllowUIDs: []uint32{uid}, ServerUIDs: []uint32{uid}, Wait: true}, 2000
		listener, err := Listen(testContext(t), path, o)
		if err != nil {
			t.Fatal(err)
		}
		change()
		server, client := (&pair{t, listener, dialer}).connect()
		if server.a.peer.windowSize != 1000 || client.a.peer.windowSize != 2000 {
			t.Errorf("the windows are %d and %d, want 1000 and 2000", server.a.peer.windowSize, client.a.peer.windowSize)
		}
		if err := listener.Abort(); err != nil {
			t.Fatal(err)
		}
	}
}

// Options that make no sense are an error of each Dial, also of one that would have
// nothing to wait for.
func TestADialWithWrongOptionsWaitsForNothing(t *testing.T) {
	dialer := NewDialer(testPath(t), &Options{WindowSize: -1})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 2 {
		if _, err := dialer.Dial(ctx); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("Dial: %v, want what is wrong with the options", err)
		}
	}
	if err := dialer.Close(); err != nil {
		t.Error(err)
	}
}

func TestAnAnswerToADeadClientsHelloIsNotTakenForOnesOwn(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	former := newRawClient(t, path)
	former.send(helloFrame, 0, words(version, 1000, 1)...)
	former.send(openFrame, 1)
	if _, err := former.endpoint.Receive(testContext(t)); err != nil { // the answer; without a release it comes again
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, accepted, "stale")
	former.leave()
	_, err = accepted.Read(make([]byte, 1))
	wantError(t, err, ipc.ErrPeerClosed)

	dialer := NewDialer(path, &Options{IPC: &ipc.Options{Wait: true}})
	defer dialer.Close()
	server, client := (&pair{t, listener, dialer}).connect()
	mustWrite(t, server, "fresh")
	mustRead(t, client, "fresh")
}
