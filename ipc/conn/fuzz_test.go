//go:build linux && (amd64 || arm64)

package conn

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/tandem-ipc/tandem/ipc"
)

// A message is a frame or none, and a hello says what can be, whatever its bytes are.
func FuzzParseFrame(f *testing.F) {
	header := make([]byte, headerSize)
	putHeader(header, 77, 5)
	for kind := helloFrame - 1; kind <= expelFrame+1; kind++ {
		f.Add(uint32(kind), header)
		f.Add(uint32(kind), header[:headerSize-1])
	}
	f.Add(uint32(helloFrame), append(header, hello{1000, 3}.encode()...))
	f.Add(uint32(helloFrame), append(header, hello{0, MaxConnLimit + 1}.encode()...))
	f.Fuzz(func(t *testing.T, kind uint32, data []byte) {
		got, ok := parse(ipc.Message{Kind: kind, Data: data})
		if want := len(data) >= headerSize && kind >= uint32(helloFrame) && kind <= uint32(expelFrame); ok != want {
			t.Fatalf("kind %#x, %d bytes: a frame %t", kind, len(data), ok)
		}
		if !ok {
			return
		}
		again := make([]byte, headerSize)
		putHeader(again, got.stamp, got.number)
		if !bytes.Equal(append(again, got.body...), data) {
			t.Fatalf("% x is read as %+v", data, got)
		}
		h, err := decodeHello(got.body)
		switch {
		case err != nil && !errors.Is(err, ErrProtocol):
			t.Fatalf("error %v", err)
		case err == nil && (h.windowSize < 1 || h.windowSize > MaxWindowSize || h.connLimit < 1 || h.connLimit > MaxConnLimit):
			t.Fatalf("a hello says %+v", h)
		case err == nil && !bytes.Equal(h.encode(), got.body):
			t.Fatalf("% x is read as %+v", got.body, h)
		}
	})
}

// A program is a row of frames: for each a kind, a connection, and how many bytes its
// body has. Few values make sense, so that many programs come far.
type program []byte

const operationSize = 3

func (p program) send(to *rawPeer) {
	for ; len(p) >= operationSize; p = p[operationSize:] {
		kind, number, size := helloFrame+frameKind(p[0]%8), uint64(p[1]%8), int(p[2])
		body := make([]byte, size)
		switch {
		case p[0] >= 128: // a kind, and a body, of this program's making
		case kind == creditFrame:
			body = count(uint64(size) << (p[1] / 8))
		case kind == dataFrame:
			body = make([]byte, size*(1+int(p[1]/16)))
		case kind == helloFrame:
			body = words(version, uint32(size), uint32(1+p[1]/8))
		default:
			body = nil
		}
		to.send(kind, number, body...)
	}
}

// The seeds are what each side may do, and ways to break that.
func addPrograms(f *testing.F) {
	const hello, open, data, credit, finish, gone, expel = 0, 1, 2, 3, 4, 5, 6
	for _, p := range []program{
		{},
		{open, 1, 0, data, 1, 100, finish, 1, 0, gone, 1, 0},
		{open, 1, 0, open, 2, 0, data, 2, 255, gone, 1, 0, open, 3, 0},
		{open, 1, 0, data, 1 + 5*16, 255}, {open, 1, 0, credit, 1, 1}, {open, 2, 0, open, 1, 0},
		{data, 1, 1}, {expel, 0, 0}, {hello, 0, 10}, {open, 1, 0, finish, 1, 0, data, 1, 1}, {7, 0, 0}, {200, 3, 9},
		{open, 1, 0, open, 2, 0, open, 3, 0, open, 4, 0},
	} {
		f.Add([]byte(p))
	}
}

// Whatever frames a client sends, the listener keeps no more than its windows of it, and
// serves the next client.
func FuzzFramesFromClient(f *testing.F) {
	addPrograms(f)
	listener, err := Listen(context.Background(), testPath(f), &Options{WindowSize: smallWindow, ConnLimit: fewConns})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = listener.Abort() })
	f.Fuzz(func(t *testing.T, operations []byte) {
		client := newRawClient(t, listener.Addr().String())
		client.send(helloFrame, 0, words(version, 2000, 1)...)
		program(operations[:min(len(operations), 64*operationSize)]).send(client)
		client.leave()
		eventually(t, "all of it is received", func() bool { s := listener.endpoint.Peer().State; return s == ipc.PeerClosed || s == ipc.PeerAbsent })
		conns := listener.waiting()
		if len(conns) > fewConns {
			t.Errorf("%d connections wait, and %d may", len(conns), fewConns)
		}
		for _, c := range conns {
			if n := c.unread(); n > smallWindow {
				t.Errorf("a connection holds %d bytes, and %d may", n, smallWindow)
			}
		}
		wantServed(t, listener, listener.Addr().String())
	})
}

// Whatever frames a server sends, a connection of the dialer ends or holds no more than
// its window, and the next server is reached.
func FuzzFramesFromServer(f *testing.F) {
	addPrograms(f)
	f.Fuzz(func(t *testing.T, operations []byte) {
		path := testPath(t)
		dialer := NewDialer(path, &Options{WindowSize: smallWindow})
		defer dialer.Close()
		for _, honest := range []bool{false, true} {
			endpoint, err := ipc.Listen(testContext(t), path, &ipc.Options{Wait: true, CloseTimeout: watchdog})
			if err != nil {
				t.Fatal(err)
			}
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
			if honest {
				server.send(dataFrame, 1, []byte("honest")...)
				mustRead(t, c, "honest")
			} else {
				program(operations[:min(len(operations), 64*operationSize)]).send(server)
			}
			if n := c.unread(); n > smallWindow {
				t.Errorf("a connection holds %d bytes, and %d may", n, smallWindow)
			}
			if err := endpoint.Close(); err != nil { // the dialer leaves when it has heard of that
				t.Fatal(err)
			}
		}
	})
}
