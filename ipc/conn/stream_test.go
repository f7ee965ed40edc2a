//go:build linux && (amd64 || arm64)

package conn

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// A timer whose function has begun can be stopped no more: it must find that another deadline was set.
func TestADeadlineThatWasTakenBackDoesNotExpire(t *testing.T) {
	var mu sync.Mutex
	for range 20 {
		var d deadline
		mu.Lock()
		d.set(time.Now().Add(time.Millisecond), &mu, func() {})
		timer := d.timer
		time.Sleep(3 * time.Millisecond) // sleep: the function is to wait for the mutex
		if timer.Stop() {
			mu.Unlock()
			continue
		}
		d.set(time.Time{}, &mu, func() {})
		mu.Unlock()
		for range 1000 {
			runtime.Gosched()
			mu.Lock()
			expired := d.expired
			mu.Unlock()
			if expired {
				t.Fatal("it has expired")
			}
		}
	}
}

// keepView has a connection hold bytes that have come in a view.
func keepView(t *testing.T, server, client *Conn, sent []byte) {
	t.Helper()
	readers := func(more int) {
		server.mu.Lock()
		defer server.mu.Unlock()
		server.readers += more
	}
	readers(1) // as a Read that waits, and has not run yet
	if _, err := client.Write(sent); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a view is kept", func() bool {
		server.mu.Lock()
		defer server.mu.Unlock()
		return len(server.received.rest) == len(sent)
	})
	readers(-1)
}

// A view holds up the ring for all connections: it lasts until the Read for which it was kept
// has run, whatever that returns.
func TestNoViewOutlastsTheReadThatItIsFor(t *testing.T) {
	const ring = 64 << 10
	sent := bytes.Repeat([]byte("8 bytes."), worthAView/8)
	for name, end := range map[string]func(*testing.T, *Conn){
		"its deadline": func(t *testing.T, c *Conn) {
			_ = c.SetReadDeadline(time.Now().Add(-time.Second))
			_, err := c.Read(make([]byte, 1))
			wantError(t, err, os.ErrDeadlineExceeded)
			_ = c.SetReadDeadline(time.Time{})
		},
		"Close":            func(_ *testing.T, c *Conn) { _ = c.Close() },
		"less than it has": func(t *testing.T, c *Conn) { mustRead(t, c, "8 bytes.") },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, &Options{IPC: &ipc.Options{ToServerSize: ring}})
			server, client := p.connect()
			keepView(t, server, client, sent)
			end(t, server)
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
			if name != "Close" {
				mustRead(t, server, string(sent[len(sent)-8:]))
			}
		})
	}
}

func TestAViewIsOnlyTakenWhereNoBytesWait(t *testing.T) {
	p := newPair(t, nil)
	server, client := p.connect()
	first, second := bytes.Repeat([]byte("a"), worthAView), bytes.Repeat([]byte("b"), worthAView)
	keepView(t, server, client, first)
	server.mu.Lock()
	server.readers++ // it has still not run
	server.mu.Unlock()
	if _, err := client.Write(second); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both are there", func() bool { return server.unread() == 2*worthAView })
	server.mu.Lock()
	server.readers--
	server.mu.Unlock()
	mustRead(t, server, string(first)+string(second))
}

// Close stops a Write, and is waited for: its frame stands after the last byte.
func TestACloseBesideAWriteComesAfterIt(t *testing.T) {
	p := newPair(t, nil)
	server, client := p.connect()
	otherServer, otherClient := p.connect()
	client.writing.Lock() // as a Write that has claimed its bytes
	closed := make(chan error, 1)
	go func() { closed <- client.Close() }()
	eventually(t, "Close has begun", func() bool {
		client.mu.Lock()
		defer client.mu.Unlock()
		return client.closed
	})
	for range 100 {
		mustWrite(t, otherClient, "beside it")
		mustRead(t, otherServer, "beside it")
	}
	server.mu.Lock()
	ended := server.peerEnded
	server.mu.Unlock()
	client.writing.Unlock()
	if ended {
		t.Fatal("the close comes before the end of a Write")
	}
	if err := within(t, "Close", func() error { return <-closed }); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("read %d, %v, want io.EOF", n, err)
	}
}

func TestAWriteToAPeerThatClosesFails(t *testing.T) {
	p := newPair(t, &Options{WindowSize: 1000})
	server, client := p.connect()
	failed := make(chan error, 1)
	go func() {
		_, err := client.Write(make([]byte, 2000))
		failed <- err
	}()
	eventually(t, "the window is full", func() bool { return server.unread() == 1000 })
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	wantError(t, within(t, "the Write", func() error { return <-failed }), syscall.EPIPE)
}

func TestADeathWakesWhoWaits(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	client := start(t, "hasty client", path) // it has a window of 1000 bytes, and reads nothing
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 2)
	go func() {
		_, err := accepted.Read(make([]byte, 1))
		failed <- err
	}()
	go func() {
		_, err := accepted.Write(make([]byte, 2000))
		failed <- err
	}()
	c := accepted.(*Conn)
	eventually(t, "both wait", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.readers == 1 && c.credit == 0
	})
	client.kill()
	for range 2 {
		wantError(t, within(t, "a call beside a death", func() error { return <-failed }), ipc.ErrPeerDied)
	}
}

func TestWritesAreNotMixed(t *testing.T) {
	const size, each = 5000, 20
	p := newPair(t, &Options{WindowSize: 1000})
	server, client := p.connect()
	var writers sync.WaitGroup
	for _, letter := range []string{"a", "b", "c"} {
		writers.Add(1)
		go func() {
			defer writers.Done()
			for range each {
				if _, err := client.Write(bytes.Repeat([]byte(letter), size)); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	got := make([]byte, size)
	for range 3 * each {
		if _, err := io.ReadFull(server, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, bytes.Repeat(got[:1], size)) {
			t.Error("two Writes are mixed")
			break
		}
	}
	_ = server.Close() // if they are mixed
	writers.Wait()
}

// A Read or Write of nothing does not wait, whatever is there.
func TestNothingIsReadAndWrittenAtOnce(t *testing.T) {
	p := newPair(t, &Options{WindowSize: 1000})
	server, client := p.connect()
	mustWrite(t, client, string(make([]byte, 1000)))
	within(t, "a Write of nothing, and a Read", func() any {
		if n, err := client.Write(nil); n != 0 || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		if n, err := client.Read(nil); n != 0 || err != nil {
			t.Errorf("read %d, %v", n, err)
		}
		return nil
	})
	_ = server.Close()
}

// While there is no room for what a connection owes, more is added to it.
func TestCreditIsOwedUntilThereIsRoom(t *testing.T) {
	p := newPair(t, &Options{WindowSize: 1000})
	server, client := p.connect()
	whole := string(make([]byte, 1000))
	mustWrite(t, client, whole)
	postponed := func(now bool) {
		server.mu.Lock()
		defer server.mu.Unlock()
		server.postponed = now // as if the ring had been full
		server.pay()
	}
	postponed(true)
	mustRead(t, server, whole[:500])
	mustRead(t, server, whole[:500])
	postponed(false)
	within(t, "a window more", func() any { mustWrite(t, client, whole); return nil })
}

// No part of a stream keeps the other connections waiting for long.
func TestNoPartIsLargerThanAChunk(t *testing.T) {
	path := testPath(t)
	endpoint, err := ipc.Listen(testContext(t), path, &ipc.Options{ToServerSize: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer endpoint.Close()
	dialer := NewDialer(path, nil)
	defer dialer.Close()
	written := make(chan error, 1)
	go func() {
		c, err := dialer.Dial(testContext(t))
		if err == nil {
			_, err = c.Write(make([]byte, 1<<20))
		}
		written <- err
	}()
	server := &rawPeer{t, endpoint, hear(t, endpoint)}
	server.send(helloFrame, 0, words(version, 2<<20, 5)...)
	for total := 0; total < 1<<20; {
		m, err := endpoint.Receive(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if f, ok := parse(m); ok && f.kind == dataFrame {
			if total += len(f.body); len(f.body) > maxChunk {
				t.Fatalf("a part of %d bytes", len(f.body))
			}
		}
		_ = m.Release()
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}

func TestAStoreIsAQueue(t *testing.T) {
	const limit = 100
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		var s store
		var want []byte
		next := byte(0)
		for range 50 {
			b := make([]byte, random.IntN(limit-len(want)+1))
			for i := range b {
				b[i] = next
				next++
			}
			s.write(b, limit)
			want = append(want, b...)
			got := make([]byte, random.IntN(limit+1))
			n := s.read(got, limit)
			if n != min(len(got), len(want)) || !bytes.Equal(got[:n], want[:n]) {
				t.Fatalf("seed %d: read % x of % x", seed, got[:n], want)
			}
			want = want[n:]
		}
	}
}

func TestTheStoreIsNoLargerThanTheWindow(t *testing.T) {
	p := newPair(t, &Options{WindowSize: 1000})
	server, client := p.connect()
	for _, size := range []int{1, 699, 300} {
		before := server.unread()
		mustWrite(t, client, string(make([]byte, size)))
		eventually(t, "they have come", func() bool { return server.unread() == before+size })
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	if size := len(server.received.ring); size > 1000 {
		t.Errorf("it has %d bytes", size)
	}
}

// fillRing leaves no room in the ring to the peer, not even for a frame without a body.
func (a *attachment) fillRing(number uint64) {
	for a.trySend(dataFrame, number, make([]byte, 100)) == nil || a.trySend(dataFrame, number, nil) == nil {
	}
}

// Close does not wait for room in the ring: what it says is sent later.
func TestACloseThatFindsNoRoomIsSentLater(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, &Options{IPC: &ipc.Options{ToClientSize: 4096}})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	client := newRawClient(t, path)
	client.send(helloFrame, 0, words(version, 1<<20, 1)...)
	client.send(openFrame, 1)
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server := accepted.(*Conn)
	server.a.fillRing(1)
	if err := within(t, "Close", server.Close); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := client.endpoint.Receive(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		f, ok := parse(m)
		_ = m.Release()
		if ok && f.kind == closeFrame {
			break
		}
	}
	client.leave()
}
