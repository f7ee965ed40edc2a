package tandemgrpc

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"

	"github.com/tandem-ipc/tandem/ipc"
)

// AuthInfo says which process is at the other side of a connection over a pair, as the
// kernel named it when it attached. On a server it is the AuthInfo of peer.FromContext,
// in interceptors and handlers; on a client, that of the peer which grpc.Peer fills in.
//
// Its security level is PrivacyAndIntegrity, the same that gRPC's own local credentials
// give a Unix socket: the bytes never leave the memory of the two processes, and the
// kernel has told each side the user of the other, which had to be an allowed one
// before anything was said. So credentials such as tokens may be sent. It does not
// protect from others of the same user, nor from root, who can read the memory of both.
type AuthInfo struct {
	credentials.CommonAuthInfo

	// UID is the user of the process. It can be relied upon: memory is not handed on
	// between users.
	UID uint32

	// PID is the number of the process, 0 if it is in a namespace that cannot be seen from
	// here. Another process of the same user can have taken its place since.
	PID int
}

// AuthType returns Scheme.
func (AuthInfo) AuthType() string { return Scheme }

// ValidateAuthority lets calls name any authority: the user of the peer was checked, and
// a path has no names.
func (AuthInfo) ValidateAuthority(string) error { return nil }

// ErrNotAPair is the end of a connection of another kind, as TCP, where no credentials for
// it were given.
var ErrNotAPair = errors.New("tandemgrpc: the connection is not over a pair, and there are no credentials for others")

// NewCredentials returns transport credentials for connections over pairs. Their
// AuthInfo is an AuthInfo. All other connections, as of a server that listens on TCP
// too, go to remote, which may be insecure.NewCredentials(); if it is nil, they end with
// ErrNotAPair.
func NewCredentials(remote credentials.TransportCredentials) credentials.TransportCredentials {
	return transportCredentials{remote}
}

type transportCredentials struct {
	remote credentials.TransportCredentials
}

// authInfoOf returns who is at the other side, if that is a connection over a pair.
func authInfoOf(c net.Conn) (AuthInfo, bool) {
	over, ours := c.(interface{ Peer() ipc.Peer })
	if !ours {
		return AuthInfo{}, false
	}
	who := over.Peer()
	return AuthInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, who.UID, who.PID}, true
}

func (t transportCredentials) ClientHandshake(ctx context.Context, authority string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if info, ours := authInfoOf(c); ours {
		return c, info, nil
	}
	if t.remote == nil {
		return nil, nil, ErrNotAPair
	}
	return t.remote.ClientHandshake(ctx, authority, c)
}

func (t transportCredentials) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if info, ours := authInfoOf(c); ours {
		return c, info, nil
	}
	if t.remote == nil {
		return nil, nil, ErrNotAPair
	}
	return t.remote.ServerHandshake(c)
}

// Info is that of remote. It is not "insecure", which would keep grpc.NewClient from
// sending tokens over pairs; over an insecure connection the transport refuses them.
func (t transportCredentials) Info() credentials.ProtocolInfo {
	info := credentials.ProtocolInfo{}
	if t.remote != nil {
		info = t.remote.Info()
	}
	if info.SecurityProtocol == "" || info.SecurityProtocol == "insecure" {
		info.SecurityProtocol = Scheme
	}
	return info
}

func (t transportCredentials) Clone() credentials.TransportCredentials {
	if t.remote == nil {
		return t
	}
	return transportCredentials{t.remote.Clone()}
}

// OverrideServerName is deprecated in gRPC, and only passed on.
func (t transportCredentials) OverrideServerName(name string) error {
	if t.remote == nil {
		return nil
	}
	return t.remote.OverrideServerName(name) //nolint:staticcheck // the interface wants it
}
