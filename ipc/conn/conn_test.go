//go:build linux && (amd64 || arm64)

package conn

import (
	"net"
	"testing"

	"golang.org/x/net/nettest"
)

func TestConnIsANetConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		p := newPair(t, nil)
		server, client := p.connect()
		return server, client, p.close, nil
	})
}
