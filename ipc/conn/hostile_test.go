//go:build linux && (amd64 || arm64)

package conn

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// A rawPeer speaks frames by hand.
type rawPeer struct {
	t        testing.TB
	endpoint *ipc.Endpoint
	stamp    uint64
}

func newRawClient(t testing.TB, path string) *rawPeer {
	t.Helper()
	endpoint, err := ipc.Dial(testContext(t), path, &ipc.Options{Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = endpoint.Close() })
	return &rawPeer{t, endpoint, 77}
}

func (p *rawPeer) send(kind frameKind, number uint64, body ...byte) {
	p.t.Helper()
	data := make([]byte, headerSize)
	putHeader(data, p.stamp, number)
	if err := p.endpoint.Send(testContext(p.t), uint32(kind), append(data, body...)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *rawPeer) leave() {
	p.t.Helper()
	if err := p.endpoint.Close(); err != nil {
		p.t.Fatal(err)
	}
}

func words(values ...uint32) (body []byte) {
	for _, value := range values {
		body = binary.LittleEndian.AppendUint32(body, value)
	}
	return body
}

func count(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

const smallWindow, fewConns = 1000, 3

// breaks are what a client can do against the protocol. Each comes behind a hello,
// and connection 5, which is open.
var breaks = map[string]func(*rawPeer){
	"a message of another program": func(p *rawPeer) { _ = p.endpoint.Send(context.Background(), 1, []byte("x")) },
	"a frame without a header":     func(p *rawPeer) { _ = p.endpoint.Send(context.Background(), uint32(dataFrame), make([]byte, 15)) },
	"another stamp":                func(p *rawPeer) { p.stamp++; p.send(dataFrame, 5, 1) },
	"a second hello":               func(p *rawPeer) { p.send(helloFrame, 0, words(version, 1, 1)...) },
	"a hello for a connection":     func(p *rawPeer) { p.send(helloFrame, 5, words(version, 1, 1)...) },
	"an unknown connection":        func(p *rawPeer) { p.send(dataFrame, 6, 1) },
	"connection 0":                 func(p *rawPeer) { p.send(openFrame, 0) },
	"data for connection 0":        func(p *rawPeer) { p.send(dataFrame, 0, 1) },
	"the same connection again":    func(p *rawPeer) { p.send(openFrame, 5) },
	"an earlier connection":        func(p *rawPeer) { p.send(openFrame, 4) },
	"too many connections": func(p *rawPeer) {
		p.send(openFrame, 6)
		p.send(openFrame, 7)
		p.send(openFrame, 8)
	},
	"more than the window":         func(p *rawPeer) { p.send(dataFrame, 5, make([]byte, smallWindow+1)...) },
	"more than the window, by one": func(p *rawPeer) { p.send(dataFrame, 5, make([]byte, smallWindow)...); p.send(dataFrame, 5, 1) },
	"data behind a finish":         func(p *rawPeer) { p.send(finishFrame, 5); p.send(dataFrame, 5, 1) },
	"data behind a close":          func(p *rawPeer) { p.send(closeFrame, 5); p.send(dataFrame, 5, 1) },
	"two ends":                     func(p *rawPeer) { p.send(finishFrame, 5); p.send(finishFrame, 5) },
	"a finish behind a close":      func(p *rawPeer) { p.send(closeFrame, 5); p.send(finishFrame, 5) },
	"credit for nothing":           func(p *rawPeer) { p.send(creditFrame, 5, count(1)...) },
	"all the credit there is":      func(p *rawPeer) { p.send(creditFrame, 5, count(1<<64-1)...) },
	"an expulsion":                 func(p *rawPeer) { p.send(expelFrame, 0) },
	"credit of half a number":      func(p *rawPeer) { p.send(creditFrame, 5, 1, 0, 0, 0) },
}

func TestABreakOfTheProtocolEndsTheClientsConnectionsOnly(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, &Options{WindowSize: smallWindow, ConnLimit: fewConns})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	for name, violate := range breaks {
		t.Run(name, func(t *testing.T) {
			client := newRawClient(t, path)
			client.send(helloFrame, 0, words(version, 2000, 1)...)
			client.send(openFrame, 5)
			accepted, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			violate(client)
			eventually(t, "the attachment ends", func() bool { return listener.expelled() })
			_, err = accepted.Write([]byte("x"))
			wantError(t, err, ErrProtocol)
			client.send(openFrame, 100) // it is not heard any more
			_ = accepted.Close()
			client.leave()
			wantServed(t, listener, path)
		})
	}
}

// expelled reports whether the attachment that is there has ended.
func (l *Listener) expelled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.attachment != nil && l.attachment.ctx.Err() != nil && errors.Is(l.attachment.why(), ErrProtocol)
}

// wantServed checks that the listener serves an honest client, and nobody else's connections.
func wantServed(t testing.TB, listener *Listener, path string) {
	t.Helper()
	dialer := NewDialer(path, &Options{IPC: &ipc.Options{Wait: true}})
	defer dialer.Close()
	p := &pair{t, listener, dialer}
	client, err := dialer.Dial(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, client, "honest")
	for {
		server := p.accept()
		got := make([]byte, 6)
		if _, err := io.ReadFull(server, got); err == nil && string(got) == "honest" {
			_ = server.Close()
			return
		}
		_ = server.Close() // of one that has gone
	}
}

// badHellos begin no attachment.
var badHellos = map[string][]byte{
	"empty": nil, "short": words(version, 1), "long": words(version, 1, 1, 1), "another version": words(version+1, 1, 1),
	"no window": words(version, 0, 1), "too large a window": words(version, MaxWindowSize+1, 1),
	"no connections": words(version, 1, 0), "too many connections": words(version, 1, MaxConnLimit+1),
}

func TestABadHelloBeginsNothing(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	for name, body := range badHellos {
		t.Run(name, func(t *testing.T) {
			client := newRawClient(t, path)
			client.send(openFrame, 1) // before the hello: nobody's
			client.send(helloFrame, 0, body...)
			eventually(t, "the attachment ends", func() bool { return listener.expelled() })
			client.leave()
			wantServed(t, listener, path)
		})
	}
}

func TestADialerSaysWhyAServersHelloIsBad(t *testing.T) {
	for name, body := range badHellos {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			endpoint, err := ipc.Listen(testContext(t), path, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer endpoint.Close()
			dialer := NewDialer(path, nil)
			defer dialer.Close()
			failed := make(chan error, 1)
			go func() {
				_, err := dialer.Dial(testContext(t))
				failed <- err
			}()
			server := &rawPeer{t, endpoint, hear(t, endpoint)}
			server.send(helloFrame, 0, body...)
			wantError(t, within(t, "Dial", func() error { return <-failed }), ErrProtocol)
		})
	}
}

// hear receives a client's hello, and returns its stamp.
func hear(t testing.TB, endpoint *ipc.Endpoint) uint64 {
	t.Helper()
	m, err := endpoint.Receive(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	f, ok := parse(m)
	if !ok || f.kind != helloFrame {
		t.Fatalf("%+v is no hello", m)
	}
	return f.stamp
}

func TestAServersBreakOfTheProtocolEndsTheAttachment(t *testing.T) {
	for name, violate := range map[string]func(*rawPeer){
		"a connection of its own": func(p *rawPeer) { p.send(openFrame, 2) },
		"an unknown connection":   func(p *rawPeer) { p.send(dataFrame, 2, 1) },
		"more than the window":    func(p *rawPeer) { p.send(dataFrame, 1, make([]byte, smallWindow+1)...) },
		"an expulsion":            func(p *rawPeer) { p.send(expelFrame, 0) },
		"a second hello":          func(p *rawPeer) { p.send(helloFrame, 0, words(version, 1, 1)...) },
	} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			endpoint, err := ipc.Listen(testContext(t), path, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer endpoint.Close()
			dialer := NewDialer(path, &Options{WindowSize: smallWindow})
			defer dialer.Close()
			dialed := make(chan *Conn, 1)
			go func() {
				c, _ := dialer.Dial(testContext(t))
				dialed <- c
			}()
			server := &rawPeer{t, endpoint, hear(t, endpoint)}
			server.send(helloFrame, 0, words(version, 1000, 5)...)
			c := within(t, "Dial", func() *Conn { return <-dialed })
			if c == nil {
				t.Fatal("no connection")
			}
			_ = endpoint.Send(testContext(t), 1, []byte("of another program: dropped"))
			honest := *server
			server.stamp++
			violate(server) // for a former client: dropped
			honest.send(dataFrame, 1, 'x')
			mustRead(t, c, "x")
			violate(&honest)
			_, err = c.Read(make([]byte, 1))
			wantError(t, err, ErrProtocol)
		})
	}
}

func TestRandomFramesHarmNobody(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, &Options{WindowSize: smallWindow, ConnLimit: fewConns})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		client := newRawClient(t, path)
		client.send(helloFrame, 0, words(version, 1+random.Uint32N(5000), 1)...)
		for number := range uint64(1 + random.IntN(fewConns)) {
			client.send(openFrame, number+1)
		}
		for range random.IntN(40) {
			kind := openFrame + frameKind(random.UintN(6))
			client.send(kind, random.Uint64N(6), bytes.Repeat([]byte{0}, random.IntN(300))...)
		}
		client.leave()
	}
	wantServed(t, listener, path)
	for _, c := range listener.waiting() {
		if c.unread() > smallWindow {
			t.Errorf("a connection holds %d bytes", c.unread())
		}
	}
	if n := len(listener.waiting()); n > fewConns {
		t.Errorf("%d connections wait, and %d may", n, fewConns)
	}
}

func (l *Listener) waiting() []*Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pending
}

// A server that sends anything but its hello, and without end, holds no Dial up beyond
// its context.
func TestADialEndsWithItsContextThoughTheServerFloods(t *testing.T) {
	path := testPath(t)
	server, err := ipc.Listen(testContext(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	taken := 0
	options := step.Watched(&ipc.Options{}, func(at step.ID, _ uint64) {
		if at == step.Delivered && taken < 1000 {
			taken++
			cancel()
			if err := server.TrySend(1, nil); err != nil {
				t.Error(err)
			}
		}
	})
	if err := server.TrySend(1, nil); err != nil {
		t.Fatal(err)
	}
	dialer := NewDialer(path, &Options{IPC: options})
	defer dialer.Close()
	if _, err := dialer.Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial gave %v", err)
	}
	if taken != 1 {
		t.Errorf("behind the end of its context Dial took %d messages more", taken-1)
	}
}
