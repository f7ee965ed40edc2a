package tandemgrpc

import (
	"context"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/tandem-ipc/tandem/ipc/conn"
)

// Options configures DialOptions and Listen. The zero value, and nil, mean the
// defaults. An Options is not changed.
type Options struct {
	// Conn configures the pairs; nil means its defaults. In one process, connections to
	// one path share an attachment only with the same pointer.
	Conn *conn.Options

	// Remote are the transport credentials of a client for targets with other schemes,
	// as dns:. If nil, such targets cannot be connected to.
	Remote credentials.TransportCredentials
}

func (o *Options) get() Options {
	if o == nil {
		return Options{}
	}
	return *o
}

// DialOptions returns the options with which grpc.NewClient takes targets of this
// scheme. They set the dialer and the transport credentials, so they work beside any
// options but those. Targets with other schemes are connected to over TCP or Unix sockets
// as without them, except that no proxy is taken from the environment.
func DialOptions(o *Options) []grpc.DialOption {
	options := o.get()
	return []grpc.DialOption{
		grpc.WithResolvers(builder{}),
		grpc.WithTransportCredentials(NewCredentials(options.Remote)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			if path, ours := strings.CutPrefix(address, prefix); ours {
				return dialPath(ctx, key{path, options.Conn})
			}
			network, address := networkOf(address)
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}),
	}
}

// Listen listens on tandem:PATH, on unix:PATH, or, for an address without a scheme, as
// HOST:PORT, on TCP. ctx bounds Listen only. Of a pair the listener is a
// *conn.Listener, with the errors of conn.Listen: its Closed tells when, after
// GracefulStop or Stop, the path is free again.
func Listen(ctx context.Context, address string, o *Options) (net.Listener, error) {
	if path, ours := strings.CutPrefix(address, prefix); ours {
		l, err := conn.Listen(ctx, path, o.get().Conn)
		if err != nil {
			return nil, err // and not a nil *conn.Listener
		}
		return l, nil
	}
	network, address := networkOf(address)
	return (&net.ListenConfig{}).Listen(ctx, network, address)
}

// networkOf splits an address of another scheme as gRPC gives it to dialers: unix:PATH,
// unix:///PATH, an abstract name, which begins with @ or a zero byte, or HOST:PORT.
func networkOf(address string) (network, rest string) {
	if path, unix := strings.CutPrefix(address, "unix:"); unix {
		return "unix", strings.TrimPrefix(path, "//")
	}
	if strings.HasPrefix(address, "@") || strings.HasPrefix(address, "\x00") {
		return "unix", address
	}
	return "tcp", address
}
