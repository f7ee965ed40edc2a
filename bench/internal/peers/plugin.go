//go:build linux

package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/tandem-ipc/tandem/internal/measure"
)

const pluginVersion = "github.com/hashicorp/go-plugin v1.8.0"

var handshake = plugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "TANDEM_BENCH_PLUGIN", MagicCookieValue: "echo"}

// echoPlugin is the service for go-plugin.
type echoPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	done func()
}

func (p echoPlugin) GRPCServer(_ *plugin.GRPCBroker, server *grpc.Server) error {
	server.RegisterService(echoService(p.done), nil)
	return nil
}

func (echoPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, cc *grpc.ClientConn) (any, error) {
	return cc, nil
}

// A reattach is what the client has to know of the plugin, which the harness has started.
type reattach struct {
	Network, Address string
	PID              int
}

func overPlugin() *measure.Transport {
	return &measure.Transport{
		Name: "go-plugin",
		Unsupported: func(s *measure.Setup) string {
			if s.Work == measure.Survive {
				return "its host starts the plugin itself"
			}
			return onlyDefault(s)
		},
		Version:  func(*measure.Setup) string { return pluginVersion },
		Settings: func(*measure.Setup) string { return "gRPC over a Unix socket, attached to again" },
		Serve:    servePlugin,
		Call:     callPlugin,
	}
}

func servePlugin(s *measure.Setup, ready func()) error {
	ended, attach := make(chan struct{}), make(chan *plugin.ReattachConfig, 1)
	if err := os.Setenv(plugin.EnvUnixSocketDir, s.Dir); err != nil {
		return err
	}
	go plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: handshake, GRPCServer: plugin.DefaultGRPCServer, Logger: hclog.NewNullLogger(),
		Plugins: plugin.PluginSet{"echo": echoPlugin{done: sync.OnceFunc(func() { close(ended) })}},
		Test:    &plugin.ServeTestConfig{Context: context.Background(), ReattachConfigCh: attach},
	})
	config := <-attach
	text, err := json.Marshal(reattach{config.Addr.Network(), config.Addr.String(), os.Getpid()})
	if err == nil {
		err = os.WriteFile(filepath.Join(s.Dir, "reattach"), text, 0o600)
	}
	if err != nil {
		return err
	}
	ready()
	<-ended
	time.Sleep(afterLast)
	return nil
}

func callPlugin(s *measure.Setup) (measure.Caller, error) {
	text, err := os.ReadFile(filepath.Join(s.Dir, "reattach"))
	if err != nil {
		return nil, err
	}
	var where reattach
	if err := json.Unmarshal(text, &where); err != nil {
		return nil, err
	}
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: handshake, Plugins: plugin.PluginSet{"echo": echoPlugin{}}, Logger: hclog.NewNullLogger(),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Reattach: &plugin.ReattachConfig{
			Protocol: plugin.ProtocolGRPC, ProtocolVersion: 1, Pid: where.PID, Test: true,
			Addr: &net.UnixAddr{Name: where.Address, Net: where.Network},
		},
	})
	protocol, err := client.Client()
	if err != nil {
		return nil, err
	}
	dispensed, err := protocol.Dispense("echo")
	if err != nil {
		return nil, err
	}
	cc, is := dispensed.(*grpc.ClientConn)
	if !is {
		return nil, fmt.Errorf("the plugin gives a %T", dispensed)
	}
	return caller{cc, cc.Close}, nil
}
