//go:build linux && (amd64 || arm64)

package worker

import (
	"context"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkCall compares a call of 64 bytes with one of net/rpc over a Unix socket to
// a process of its own: the same work in the same run.
func BenchmarkCall(b *testing.B) {
	request := make([]byte, 64)
	for _, atOnce := range []int{1, 64} {
		b.Run(fmt.Sprintf("pool, %d at a time", atOnce), func(b *testing.B) {
			p, _ := startPool(b, Config{Concurrency: atOnce})
			mustCall(b, p, "echo", "")
			calls(b, atOnce, func() error {
				_, err := p.Call(context.Background(), "echo", request)
				return err
			})
		})
		b.Run(fmt.Sprintf("net rpc, %d at a time", atOnce), func(b *testing.B) {
			client := startRPC(b)
			calls(b, atOnce, func() error {
				var answer []byte
				return client.Call("Echo.Echo", request, &answer)
			})
		})
	}
}

func calls(b *testing.B, atOnce int, call func() error) {
	b.ReportAllocs()
	if atOnce == 1 {
		for b.Loop() {
			if err := call(); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	b.SetParallelism(atOnce / 2) // of two processors
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := call(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkStream is one part of 64 bytes, of a stream without end.
func BenchmarkStream(b *testing.B) {
	p, _ := startPool(b, Config{})
	mustCall(b, p, "echo", "")
	b.ReportAllocs()
	n := 0
	for _, err := range p.Stream(context.Background(), "endless", []byte("64")) {
		if err != nil {
			b.Fatal(err)
		}
		if n++; n > b.N {
			break
		}
	}
}

// Echo is the service of net/rpc.
type Echo struct{}

// Echo returns what it gets.
func (Echo) Echo(request []byte, answer *[]byte) error { *answer = request; return nil }

var _ = part("net rpc", func() {
	leave(rpc.Register(Echo{}))
	listener, err := net.Listen("unix", os.Getenv("TANDEM_TEST_DIR")+"/rpc")
	leave(err)
	fmt.Println("listening")
	connection, err := listener.Accept()
	leave(err)
	rpc.ServeConn(connection)
})

func startRPC(b *testing.B) *rpc.Client {
	dir := b.TempDir()
	cmd := command(b, "net rpc")()
	cmd.Env = append(cmd.Env, "TANDEM_TEST_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 16)); err != nil {
		b.Fatal(err)
	}
	client, err := rpc.Dial("unix", filepath.Join(dir, "rpc"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	return client
}
