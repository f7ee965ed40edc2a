//go:build linux && (amd64 || arm64)

package conn

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

func TestADialThatGivesUpLeavesItsPlace(t *testing.T) {
	p := newPair(t, &Options{ConnLimit: 1})
	server, client := p.connect()
	_, _ = client.Close(), server.Close()
	eventually(t, "both have closed it", func() bool { return p.connsKept() == 0 })
	a := p.dialer.current
	a.opening <- struct{}{} // as another Dial that waits for room in the ring
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := p.dialer.Dial(ctx)
		failed <- err
	}()
	eventually(t, "it has a place", func() bool { return len(a.slots) == 1 })
	cancel()
	wantError(t, within(t, "Dial", func() error { return <-failed }), context.Canceled)
	<-a.opening
	within(t, "the next Dial", func() any { _, client = p.connect(); return nil })
	_ = client.Close()
}

// A Dial that waits for room in the ring keeps the next one from its number: the server takes
// only numbers that grow.
func TestManyDialsOpenInTheOrderOfTheirNumbers(t *testing.T) {
	path := testPath(t)
	endpoint, err := ipc.Listen(testContext(t), path, &ipc.Options{ToServerSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer endpoint.Close()
	dialer := NewDialer(path, nil)
	defer dialer.Close()
	dialed := make(chan *Conn, 3)
	dial := func() {
		c, err := dialer.Dial(testContext(t))
		if err != nil {
			t.Error(err)
		}
		dialed <- c
	}
	go dial()
	server := &rawPeer{t, endpoint, hear(t, endpoint)}
	server.send(helloFrame, 0, words(version, 1<<20, 5)...)
	first := within(t, "Dial", func() *Conn { return <-dialed })
	first.a.fillRing(1)
	number := func() uint64 {
		first.a.mu.Lock()
		defer first.a.mu.Unlock()
		return first.a.lastNumber
	}
	go dial()
	eventually(t, "the second waits for room", func() bool { return number() == 2 })
	go dial()
	eventually(t, "the third has a place", func() bool { return len(first.a.slots) == 3 })
	for range 1000 {
		runtime.Gosched()
	}
	if n := number(); n != 2 {
		t.Errorf("connection %d has a number, and the second is not open", n)
	}
	for last := uint64(1); last < 3; {
		m, err := endpoint.Receive(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if f, ok := parse(m); ok && f.kind == openFrame && f.number > 1 {
			if f.number != last+1 {
				t.Fatalf("connection %d is opened after %d", f.number, last)
			}
			last = f.number
		}
		_ = m.Release()
	}
	for range 2 {
		within(t, "Dial", func() *Conn { return <-dialed })
	}
}

func TestWhoIsExpelledIsTold(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	client := newRawClient(t, path)
	client.send(helloFrame, 0, words(version, 1000, 1)...)
	client.send(dataFrame, 5, 1)
	for {
		m, err := client.endpoint.Receive(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		f, ok := parse(m)
		_ = m.Release()
		if ok && f.kind == expelFrame && f.stamp == client.stamp {
			break
		}
	}
	client.leave()
}

// Of clients that have gone there wait no more connections than one may have, whoever
// accepts them.
func TestNoMoreConnectionsWaitThanTheLimit(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, &Options{ConnLimit: fewConns})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	for range 3 {
		client := newRawClient(t, path)
		client.send(helloFrame, 0, words(version, 1000, 1)...)
		for number := range uint64(fewConns) {
			client.send(openFrame, number+1)
		}
		client.leave()
		eventually(t, "it has gone", func() bool {
			s := listener.endpoint.Peer().State
			return s == ipc.PeerClosed || s == ipc.PeerAbsent
		})
	}
	client := newRawClient(t, path)
	client.send(helloFrame, 0, words(version, 1000, 1)...)
	client.send(openFrame, 1)
	client.send(finishFrame, 1)
	eventually(t, "all of it is received", func() bool {
		for _, c := range listener.waiting() {
			c.mu.Lock()
			ended := c.peerEnded
			c.mu.Unlock()
			if ended {
				return true
			}
		}
		return false
	})
	if n := len(listener.waiting()); n != fewConns {
		t.Errorf("%d connections wait, and %d may", n, fewConns)
	}
	client.leave()
}

// A client that sees a close may open the next connection before the server goes on, which must not
// count the closed one any more.
func TestAConnectionInThePlaceOfAClosedOneIsNotTooMany(t *testing.T) {
	path := testPath(t)
	var listener *Listener
	var closing atomic.Bool
	options := step.Watched(&ipc.Options{}, func(at step.ID, _ uint64) {
		if at == step.Notified && closing.CompareAndSwap(true, false) { // the close is there to be seen
			eventually(t, "the next connection comes", func() bool { return listener.opened() == 2 || listener.expelled() })
		}
	})
	listener, err := Listen(testContext(t), path, &Options{ConnLimit: 1, IPC: options})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	p := &pair{t, listener, NewDialer(path, nil)}
	defer p.dialer.Close()
	server, client := p.connect()
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); err == nil { // so that the server's close is the last word
		t.Fatal("no end")
	}
	closing.Store(true)
	closed := make(chan error, 1)
	go func() { closed <- server.Close() }()
	_, client = p.connect()
	if err := within(t, "Close", func() error { return <-closed }); err != nil {
		t.Error(err)
	}
	mustWrite(t, client, "in its place")
	_ = client.Close()
}

// opened is the last number that the client has opened.
func (l *Listener) opened() uint64 {
	l.mu.Lock()
	a := l.attachment
	l.mu.Unlock()
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lastNumber
}
