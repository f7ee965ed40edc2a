//go:build linux && (amd64 || arm64)

package conn_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/tandem-ipc/tandem/ipc/conn"
)

// HTTP over a pair. The server and the client would be two processes; here they are
// two goroutines, which makes no difference to the calls.
func Example() {
	directory, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(directory)
	path := filepath.Join(directory, "socket")

	listener, err := conn.Listen(context.Background(), path, nil)
	if err != nil {
		panic(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s, answered", r.URL.Path)
	})}
	go func() { _ = server.Serve(listener) }()

	dialer := conn.NewDialer(path, nil)
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
	response, err := client.Get("http://worker/question") // the name leads nowhere: one path, one server
	if err != nil {
		panic(err)
	}
	answer, err := io.ReadAll(response.Body)
	fmt.Println(string(answer), err)

	_ = dialer.Close()
	_ = server.Close()
	<-listener.Closed()
	// Output: /question, answered <nil>
}

// A half-close says that the question is complete.
func ExampleConn_CloseWrite() {
	directory, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(directory)
	path := filepath.Join(directory, "socket")
	listener, err := conn.Listen(context.Background(), path, nil)
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func(c net.Conn) {
				defer c.Close()
				question, err := io.ReadAll(c)
				if err != nil {
					return // the client has died: the question is not complete
				}
				fmt.Fprintf(c, "%d bytes", len(question))
			}(c)
		}
	}()

	dialer := conn.NewDialer(path, nil)
	c, err := dialer.Dial(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Fprint(c, "how long is this?")
	_ = c.CloseWrite()
	answer, err := io.ReadAll(c)
	fmt.Println(string(answer), err)
	_ = c.Close()

	_ = dialer.Close()
	_ = listener.Close()
	// Output: 17 bytes <nil>
}
