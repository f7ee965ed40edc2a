//go:build linux && (amd64 || arm64)

package ipc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tandem-ipc/tandem/ipc"
)

// A server asks and a client answers. They would be two processes; here they are
// two goroutines, which makes no difference to the calls.
func Example() {
	ctx := context.Background()
	directory, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(directory)
	path := filepath.Join(directory, "socket")

	server, err := ipc.Listen(ctx, path, nil)
	if err != nil {
		panic(err)
	}
	go func() {
		client, err := ipc.Dial(ctx, path, nil)
		if err != nil {
			panic(err)
		}
		defer client.Close()
		for m, err := range client.Messages(ctx) {
			if err != nil {
				return // the server has ended: client.Redial, or leave
			}
			answer := fmt.Appendf(nil, "%s, answered", m.Data)
			if err := client.Send(ctx, m.Kind, answer); err != nil {
				return
			}
			_ = m.Release() // after the answer: else a death in between loses it
		}
	}()

	if err := server.Send(ctx, 7, []byte("question")); err != nil {
		panic(err)
	}
	m, err := server.Receive(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println(m.Kind, string(m.Data))
	_ = m.Release()
	fmt.Println(server.Close())
	// Output:
	// 7 question, answered
	// <nil>
}

// At a server the end of a client is an error in the stream of messages, behind
// the last one that this client sent. The server goes on with the next client.
func ExampleEndpoint_Receive() {
	directory, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(directory)
	ctx, path := context.Background(), filepath.Join(directory, "socket")
	server, err := ipc.Listen(ctx, path, nil)
	if err != nil {
		panic(err)
	}
	defer server.Close()
	go func() {
		for i := range uint32(2) {
			client, err := ipc.Dial(ctx, path, &ipc.Options{Wait: true})
			if err != nil {
				panic(err)
			}
			_ = client.Send(ctx, i, nil)
			_ = client.Close()
		}
	}()
	for ends := 0; ends < 2; {
		m, err := server.Receive(ctx)
		switch {
		case errors.Is(err, ipc.ErrPeerDied), errors.Is(err, ipc.ErrPeerClosed):
			ends++
			fmt.Println(err)
		case err != nil:
			panic(err)
		default:
			fmt.Println("message", m.Kind)
			_ = m.Release()
		}
	}
	// Output:
	// message 0
	// ipc: the peer has closed: what it committed is received first, Unreleased has what it did not release: a client must Redial, a server goes on
	// message 1
	// ipc: the peer has closed: what it committed is received first, Unreleased has what it did not release: a client must Redial, a server goes on
}

// A buffer grows to what the messages need.
func ExampleShortBufferError() {
	directory, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(directory)
	ctx, path := context.Background(), filepath.Join(directory, "socket")
	server, err := ipc.Listen(ctx, path, nil)
	if err != nil {
		panic(err)
	}
	defer server.Close()
	client, err := ipc.Dial(ctx, path, nil)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	if err := client.Send(ctx, 1, []byte("more than eight bytes")); err != nil {
		panic(err)
	}

	buffer := make([]byte, 8)
	m, err := server.ReceiveInto(ctx, buffer)
	if short := (*ipc.ShortBufferError)(nil); errors.As(err, &short) {
		buffer = make([]byte, short.Size)
		m, err = server.ReceiveInto(ctx, buffer)
	}
	fmt.Println(string(m.Data), err)
	// Output:
	// more than eight bytes <nil>
}
