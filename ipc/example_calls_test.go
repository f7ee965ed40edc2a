//go:build linux && (amd64 || arm64)

package ipc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// examplePair is a server and its client. They would be two processes.
func examplePair(o *ipc.Options) (server, client *ipc.Endpoint, remove func()) {
	path, remove := examplePath()
	server, err := ipc.Listen(context.Background(), path, o)
	if err != nil {
		panic(err)
	}
	if client, err = ipc.Dial(context.Background(), path, nil); err != nil {
		panic(err)
	}
	return server, client, remove
}

func examplePath() (path string, remove func()) {
	directory, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	return filepath.Join(directory, "socket"), func() { _ = os.RemoveAll(directory) }
}

// One server at a time: a second Listen fails at once, and names the process of the
// first. With Options.Wait it waits for that one to leave.
func ExampleListen() {
	ctx := context.Background()
	path, remove := examplePath()
	defer remove()
	first, err := ipc.Listen(ctx, path, &ipc.Options{ToServerSize: 4 << 20, ToClientSize: 4 << 20})
	if err != nil {
		panic(err)
	}
	_, err = ipc.Listen(ctx, path, nil)
	var running *ipc.RunningError
	if errors.As(err, &running) {
		fmt.Println(errors.Is(err, ipc.ErrServerRunning), running.PID == os.Getpid())
	}
	time.AfterFunc(time.Millisecond, func() { _ = first.Close() })
	second, err := ipc.Listen(ctx, path, &ipc.Options{Wait: true})
	if err != nil {
		panic(err)
	}
	fmt.Println(second.Generation(), second.Close())
	// Output:
	// true true
	// 2 <nil>
}

// Dial waits for a server until its context ends.
func ExampleDial() {
	path, remove := examplePath()
	defer remove()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err := ipc.Dial(ctx, path, nil)
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output: true
}

// A full ring is back-pressure: TrySend says so, and Send waits until the peer has
// released something, or its context ends. Nothing is dropped.
func ExampleEndpoint_Send() {
	server, client, remove := examplePair(&ipc.Options{ToClientSize: os.Getpagesize()})
	defer remove()
	half := make([]byte, os.Getpagesize()/2)
	fmt.Println(server.TrySend(1, half))
	fmt.Println(errors.Is(server.TrySend(2, half), ipc.ErrFull))

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	fmt.Println(errors.Is(server.Send(ctx, 2, half), context.DeadlineExceeded)) // not committed

	m, err := client.Receive(context.Background())
	fmt.Println(m.Kind, err, m.Release())
	fmt.Println(server.Send(context.Background(), 2, half))
	_, _ = client.Close(), server.Close()
	// Output:
	// <nil>
	// true
	// true
	// 1 <nil> <nil>
	// <nil>
}

// A message is made where it is sent from, without a copy.
func ExampleEndpoint_Reserve() {
	server, client, remove := examplePair(nil)
	defer remove()
	space, err := server.Reserve(context.Background(), 100) // the most that it may need
	if err != nil {
		panic(err)
	}
	n := copy(space.Data, "made in place")
	fmt.Println(space.Commit(7, n))

	m, err := client.Receive(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println(m.Kind, string(m.Data), m.Release())
	_, _ = client.Close(), server.Close()
	// Output:
	// <nil>
	// 7 made in place <nil>
}

// Many small messages cost less together. Views are released together too.
func ExampleEndpoint_SendBatch() {
	ctx := context.Background()
	server, client, remove := examplePair(nil)
	defer remove()
	n, err := server.SendBatch(ctx, []ipc.Message{{Kind: 1, Data: []byte("one")}, {Kind: 2, Data: []byte("two")}})
	fmt.Println(n, err)

	into := make([]ipc.Message, 16)
	n, err = client.ReceiveBatch(ctx, into)
	for _, m := range into[:n] {
		fmt.Println(m.Kind, string(m.Data))
	}
	fmt.Println(err, ipc.ReleaseBatch(into[:n]))
	_, _ = client.Close(), server.Close()
	// Output:
	// 2 <nil>
	// 1 one
	// 2 two
	// <nil> <nil>
}

// A copy cannot be changed by the peer afterwards, and needs no release. What does not
// fit the buffer stays where it is.
func ExampleEndpoint_ReceiveInto() {
	ctx := context.Background()
	server, client, remove := examplePair(nil)
	defer remove()
	_ = server.Send(ctx, 7, []byte("question"))

	_, err := client.ReceiveInto(ctx, make([]byte, 3))
	fmt.Println(errors.Is(err, ipc.ErrShortBuffer))
	m, err := client.ReceiveInto(ctx, make([]byte, 100))
	fmt.Println(m.Kind, string(m.Data), err)
	_, _ = client.Close(), server.Close()
	// Output:
	// true
	// 7 question <nil>
}

// What was sent is in the ring, and stays there if the receiver is behind. Flush waits until the
// receiver has released all of it: before a step that the receiver's work must come before.
func ExampleEndpoint_Flush() {
	ctx := context.Background()
	server, client, remove := examplePair(nil)
	defer remove()
	for _, job := range []string{"first", "second"} {
		if err := server.Send(ctx, 1, []byte(job)); err != nil {
			panic(err)
		}
	}
	brief, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	fmt.Println("nobody receives:", errors.Is(server.Flush(brief), context.DeadlineExceeded))
	go func() {
		for m, err := range client.Messages(ctx) {
			if err != nil {
				return
			}
			fmt.Printf("%s is done\n", m.Data)
			_ = m.Release()
		}
	}()
	fmt.Println("all is done:", server.Flush(ctx))
	fmt.Println(client.Close(), server.Close())
	// Output:
	// nobody receives: true
	// first is done
	// second is done
	// all is done: <nil>
	// <nil> <nil>
}

// A client that follows its servers: it answers until its server ends, and goes over to
// the next one.
func ExampleEndpoint_Redial() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	path, remove := examplePath()
	defer remove()
	left := make(chan error)
	go func() { // the client's process
		client, err := ipc.Dial(ctx, path, nil)
		for err == nil {
			for m, end := range client.Messages(ctx) {
				if end != nil {
					break // ErrPeerDied or ErrPeerClosed, or the end of ctx
				}
				_ = client.Send(ctx, m.Kind, bytes.ToUpper(m.Data))
				_ = m.Release()
			}
			next, redialled := client.Redial(ctx) // closes the old one, also if it fails
			client, err = next, redialled
		}
		left <- err
	}()
	for range 2 { // one server after the other
		server, err := ipc.Listen(ctx, path, &ipc.Options{CloseTimeout: time.Minute}) // the client may take so long to leave
		if err != nil {
			panic(err)
		}
		_ = server.Send(ctx, 1, []byte("hello"))
		answer, err := server.Receive(ctx)
		if err != nil {
			panic(err)
		}
		fmt.Printf("generation %d: %s\n", server.Generation(), answer.Data)
		_ = answer.Release()
		if err := server.Close(); err != nil {
			panic(err)
		}
	}
	cancel()
	fmt.Println(errors.Is(<-left, context.Canceled))
	// Output:
	// generation 1: HELLO
	// generation 2: HELLO
	// true
}

// After the end of a client the server knows which messages were not released, and
// which of them the client may have seen. The next client gets them first.
func ExampleEndpoint_Unreleased() {
	ctx := context.Background()
	server, client, remove := examplePair(nil)
	defer remove()
	for kind := range uint32(3) {
		_ = server.Send(ctx, kind, nil)
	}
	first, _ := client.Receive(ctx)
	_ = first.Release()
	_, _ = client.Receive(ctx) // seen, and not released
	_ = client.Close()

	_, err := server.Receive(ctx)
	fmt.Println(errors.Is(err, ipc.ErrPeerClosed))
	list, err := server.Unreleased()
	for _, u := range list {
		fmt.Printf("message %d, delivered %t\n", u.Kind, u.Delivered)
	}
	fmt.Println(err)

	next, err := ipc.Dial(ctx, server.Path(), nil)
	if err != nil {
		panic(err)
	}
	for range 2 {
		m, err := next.Receive(ctx)
		fmt.Printf("message %d, redelivered %t, %v\n", m.Kind, m.Redelivered, err)
		_ = m.Release()
	}
	_, _ = next.Close(), server.Close()
	// Output:
	// true
	// message 1, delivered true
	// message 2, delivered false
	// <nil>
	// message 1, redelivered true, <nil>
	// message 2, redelivered false, <nil>
}

// Events say what happens to the peer, whoever receives messages meanwhile. A server
// can have a client killed that is alive and silent.
func ExampleEndpoint_Events() {
	server, client, remove := examplePair(&ipc.Options{HangTimeout: time.Minute})
	defer remove()
	told := make(chan struct{})
	go func() {
		defer close(told)
		for event := range server.Events() { // closed by Close
			switch event.Kind {
			case ipc.EventHung:
				if err := server.KillPeer(); err != nil {
					fmt.Println("it cannot be killed:", err)
				}
			case ipc.EventDied, ipc.EventClosed:
				fmt.Println(event.Kind, "with", event.Unreleased, "messages not released")
			default:
				fmt.Println(event.Kind)
			}
		}
	}()
	_ = server.Send(context.Background(), 1, nil)
	_ = client.Close()
	_, _ = server.Receive(context.Background()) // the end of the client
	_ = server.Close()
	<-told
	// Output:
	// attached
	// closed with 1 messages not released
}
