//go:build linux

package peers

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tandem-ipc/tandem/internal/measure"
)

// largest is room for the largest message and what gRPC adds.
const largest = 16 << 20

// afterLast is time for the last answer to be written.
const afterLast = 25 * time.Millisecond

func socketPath(s *measure.Setup) string { return filepath.Join(s.Dir, "s") }

func grpcVersion(*measure.Setup) string { return "google.golang.org/grpc v" + grpc.Version }

// onlyDefault says that a contender has one way to wait, and copies.
func onlyDefault(s *measure.Setup) string {
	if s.Wait != measure.Default {
		return "it cannot wait so"
	}
	if s.Form != measure.Copy {
		return "it copies"
	}
	return ""
}

// echoService is the service of gRPC and of go-plugin. done is called by the last request.
func echoService(done func()) *grpc.ServiceDesc {
	unary := func(answer func(*wrapperspb.BytesValue) *wrapperspb.BytesValue) func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error) {
		return func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			request := new(wrapperspb.BytesValue)
			if err := decode(request); err != nil {
				return nil, err
			}
			return answer(request), nil
		}
	}
	return &grpc.ServiceDesc{
		ServiceName: "bench.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			{MethodName: "Echo", Handler: unary(func(request *wrapperspb.BytesValue) *wrapperspb.BytesValue {
				answer, last := measure.Echo(request.GetValue())
				if last {
					done()
				}
				return wrapperspb.Bytes(answer)
			})},
			{MethodName: "Never", Handler: unary(func(*wrapperspb.BytesValue) *wrapperspb.BytesValue { select {} })},
		},
	}
}

// A caller makes unary calls.
type caller struct {
	cc    grpc.ClientConnInterface
	close func() error
}

func (c caller) Call(request, _ []byte) ([]byte, error) {
	answer := new(wrapperspb.BytesValue)
	err := c.cc.Invoke(context.Background(), "/bench.Echo/Echo", wrapperspb.Bytes(request), answer)
	return answer.GetValue(), err
}

// Never makes a call that is not answered.
func (c caller) Never() error {
	return c.cc.Invoke(context.Background(), "/bench.Echo/Never", wrapperspb.Bytes(nil), new(wrapperspb.BytesValue))
}

func (c caller) Close() error { return c.close() }

func dialGRPC(s *measure.Setup) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix:"+socketPath(s), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largest), grpc.MaxCallSendMsgSize(largest)))
}

func listenUnix(s *measure.Setup) (net.Listener, error) {
	if err := os.Remove(socketPath(s)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", socketPath(s))
}

func overGRPC() *measure.Transport {
	return &measure.Transport{
		Name: "grpc", Unsupported: onlyDefault, Version: grpcVersion,
		Settings: func(*measure.Setup) string { return "unary calls over a Unix socket, messages of bytes" },
		Serve: func(s *measure.Setup, ready func()) error {
			l, err := listenUnix(s)
			if err != nil {
				return err
			}
			ended := make(chan struct{})
			server := grpc.NewServer(grpc.MaxRecvMsgSize(largest), grpc.MaxSendMsgSize(largest))
			server.RegisterService(echoService(sync.OnceFunc(func() { close(ended) })), nil)
			go func() { _ = server.Serve(l) }()
			ready()
			<-ended
			time.Sleep(afterLast)
			return nil
		},
		Call: func(s *measure.Setup) (measure.Caller, error) {
			cc, err := dialGRPC(s)
			if err != nil {
				return nil, err
			}
			return caller{cc, cc.Close}, nil
		},
	}
}

// stream is what both sides of a gRPC stream have.
type stream interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

type streamLink struct {
	stream
	out   []byte
	close func() error
}

func (l streamLink) Send(s *measure.Source, n int) error {
	for range n {
		s.Fill(l.out)
		if err := l.SendMsg(wrapperspb.Bytes(l.out)); err != nil {
			return err
		}
	}
	return nil
}

func (l streamLink) Receive(s *measure.Sink, n int) error {
	for ; n > 0 && !s.Ended; n-- {
		m := new(wrapperspb.BytesValue)
		if err := l.RecvMsg(m); err != nil {
			return err
		}
		s.Take(m.GetValue())
	}
	return nil
}

func (l streamLink) Close() error { return l.close() }

var streamDesc = grpc.StreamDesc{StreamName: "Stream", ServerStreams: true, ClientStreams: true}

type streamServer struct {
	server  *grpc.Server
	s       *measure.Setup
	streams chan streamLink
}

func (l streamServer) Accept() (measure.Link, error) { return <-l.streams, nil }

func (l streamServer) Close() error {
	l.server.GracefulStop()
	return nil
}

func overGRPCStream() *measure.Transport {
	return &measure.Transport{
		Name: "grpc-stream", Unsupported: onlyDefault, Version: grpcVersion,
		Settings: func(*measure.Setup) string { return "one stream both ways over a Unix socket, messages of bytes" },
		Listen: func(s *measure.Setup) (measure.Listener, error) {
			l, err := listenUnix(s)
			if err != nil {
				return nil, err
			}
			own := streamServer{grpc.NewServer(grpc.MaxRecvMsgSize(largest), grpc.MaxSendMsgSize(largest)), s, make(chan streamLink)}
			desc := streamDesc
			desc.Handler = func(_ any, stream grpc.ServerStream) error {
				ended := make(chan struct{})
				own.streams <- streamLink{stream, make([]byte, s.Size), sync.OnceValue(func() error { close(ended); return nil })}
				<-ended
				return nil
			}
			own.server.RegisterService(&grpc.ServiceDesc{ServiceName: "bench.Echo", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{desc}}, nil)
			go func() { _ = own.server.Serve(l) }()
			return own, nil
		},
		Dial: func(s *measure.Setup) (measure.Link, error) {
			cc, err := dialGRPC(s)
			if err != nil {
				return nil, err
			}
			stream, err := cc.NewStream(context.Background(), &streamDesc, "/bench.Echo/Stream", grpc.WaitForReady(true))
			if err != nil {
				return nil, errors.Join(err, cc.Close())
			}
			end := func() error { // not before the server has read all
				err := stream.CloseSend()
				for err == nil {
					err = stream.RecvMsg(new(wrapperspb.BytesValue))
				}
				return cc.Close()
			}
			return streamLink{stream, make([]byte, s.Size), end}, nil
		},
	}
}
