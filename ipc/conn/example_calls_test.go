//go:build linux && (amd64 || arm64)

package conn_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
	"github.com/tandem-ipc/tandem/ipc/conn"
)

func examplePath() (path string, remove func()) {
	directory, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	return filepath.Join(directory, "socket"), func() { _ = os.RemoveAll(directory) }
}

// A server that echoes. It outlives its clients, so Accept fails only after Close.
func ExampleListen() {
	path, remove := examplePath()
	defer remove()
	listener, err := conn.Listen(context.Background(), path, nil)
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()

	dialer := conn.NewDialer(path, nil) // in the other process, one for all its connections
	for _, text := range []string{"one", "two"} {
		c, err := dialer.Dial(context.Background())
		if err != nil {
			panic(err)
		}
		fmt.Fprint(c, text)
		_ = c.CloseWrite()
		echo, err := io.ReadAll(c)
		fmt.Println(string(echo), err)
		_ = c.Close()
	}
	_ = dialer.Close()
	_ = listener.Close()
	// Output:
	// one <nil>
	// two <nil>
}

// Dial waits for a server until its context ends.
func ExampleDialer_Dial() {
	path, remove := examplePath()
	defer remove()
	dialer := conn.NewDialer(path, nil)
	defer dialer.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err := dialer.Dial(ctx)
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output: true
}

// A peer that is silent is no end: a deadline ends the wait. The connection goes on.
func ExampleConn_SetReadDeadline() {
	path, remove := examplePath()
	defer remove()
	listener, err := conn.Listen(context.Background(), path, nil)
	if err != nil {
		panic(err)
	}
	dialer := conn.NewDialer(path, nil)
	c, err := dialer.Dial(context.Background())
	if err != nil {
		panic(err)
	}
	silent, err := listener.Accept()
	if err != nil {
		panic(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err = c.Read(make([]byte, 1))
	fmt.Println(errors.Is(err, os.ErrDeadlineExceeded))

	_ = c.SetReadDeadline(time.Time{})
	fmt.Fprint(silent, "late")
	word := make([]byte, 4)
	_, err = io.ReadFull(c, word)
	fmt.Println(string(word), err)
	_, _ = dialer.Close(), listener.Abort()
	// Output:
	// true
	// late <nil>
}

// A stream that the peer has not ended itself never looks complete: its end is an error,
// and not io.EOF.
func ExampleListener_Accept() {
	path, remove := examplePath()
	defer remove()
	listener, err := conn.Listen(context.Background(), path, nil)
	if err != nil {
		panic(err)
	}
	dialer := conn.NewDialer(path, nil)
	c, err := dialer.Dial(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Fprint(c, "half of a")
	_ = dialer.Close() // or its process dies: then it is ipc.ErrPeerDied

	accepted, err := listener.Accept() // also after that
	if err != nil {
		panic(err)
	}
	text, err := io.ReadAll(accepted)
	fmt.Printf("%q %t\n", text, errors.Is(err, ipc.ErrPeerClosed))
	_ = accepted.Close()
	_ = listener.Close()
	// Output: "half of a" true
}

// Close lets the connections that are there go on; Closed tells when the last has ended
// and another process can listen.
func ExampleListener_Close() {
	path, remove := examplePath()
	defer remove()
	listener, err := conn.Listen(context.Background(), path, nil)
	if err != nil {
		panic(err)
	}
	dialer := conn.NewDialer(path, nil)
	c, err := dialer.Dial(context.Background())
	if err != nil {
		panic(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		panic(err)
	}
	_ = listener.Close()
	fmt.Fprint(accepted, "goodbye")
	_ = accepted.Close()
	text, err := io.ReadAll(c)
	fmt.Println(string(text), err)
	_, _ = c.Close(), dialer.Close()
	<-listener.Closed()
	// Output: goodbye <nil>
}
