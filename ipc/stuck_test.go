//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// oldKernel plays a kernel before Linux 6.16, which takes any descriptor.
func oldKernel(s *scene) {
	if err := deny(unix.SYS_SETSOCKOPT, unix.ENOPROTOOPT, argument{1, unix.SOL_SOCKET}, argument{2, soPassRights}); err != nil {
		s.fail("%v", err)
	}
}

// A server in a process of its own. It says what ends, and closes when it is told.
func serveStuck(s *scene, allow []uint32) {
	serveWith(s, &Options{AllowUIDs: allow})
}

func serveWith(s *scene, options *Options) {
	options.HandshakeTimeout = 200 * time.Millisecond
	server, err := Listen(s.ctx, s.path, options)
	if err != nil {
		s.fail("listen: %v", err)
	}
	s.say("listening")
	go func() {
		for event := range server.Events() {
			s.say("event %v", event.Kind)
		}
	}()
	s.next()
	if err := server.Close(); err != nil {
		s.fail("close: %v", err)
	}
	s.say("closed")
	s.next()
}

var (
	_ = sceneOf("serve this user", func(s *scene) { serveStuck(s, nil) })
	_ = sceneOf("serve this user as an old kernel", func(s *scene) { oldKernel(s); serveStuck(s, nil) })
	_ = sceneOf("serve nobody here", func(s *scene) { serveStuck(s, []uint32{uint32(os.Geteuid()) + 1}) })
	_ = sceneOf("serve nobody here as an old kernel", func(s *scene) {
		oldKernel(s)
		serveStuck(s, []uint32{uint32(os.Geteuid()) + 1})
	})
)

// This server accepts one connection, and goes on when it closes.
var _ = sceneOf("serve the backlog late as an old kernel", func(s *scene) {
	oldKernel(s)
	closing := make(chan struct{})
	first := sync.OnceFunc(func() { s.say("accepted") })
	serveWith(s, &Options{hook: func(at step.ID, _ uint64) {
		switch at {
		case step.ConnectionAccepted:
			first()
			<-closing
		case step.CloseBegun:
			close(closing)
		}
	}})
})

func TestT1T2APoisonedBacklogHoldsUpNoClose(t *testing.T) {
	path := testPath(t)
	server := start(t, "scene", sceneArgument{"serve the backlog late as an old kernel", path})
	server.expect("listening")
	first := rawConnect(t, path)
	defer first.hangUp()
	server.expect("accepted")
	for range 40 {
		poison(t, rawConnect(t, path), newPacket(packetHello))
	}
	server.tell("close")
	server.expect("closed")
}

// poison sends a packet with descriptors that block in their last close, and keeps
// none. A kernel that refuses them leaves nothing to be poisoned.
func poison(t *testing.T, c *conn, p packet) {
	t.Helper()
	fd, _ := stuck(t)
	if err := c.send(p, fd); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		t.Fatal(err)
	}
	closeAside(fd)
}

func TestT1T2PoisonedConnectionsBlockNoServer(t *testing.T) {
	const many = 12
	for name, attack := range map[string]struct {
		serves string
		do     func(t *testing.T, path string, server *process)
	}{
		"from a user that is excluded": {"serve nobody here", func(t *testing.T, path string, _ *process) {
			for range many {
				poison(t, rawConnect(t, path), newPacket(packetHello))
			}
		}},
		"from an allowed one": {"serve this user", func(t *testing.T, path string, server *process) {
			for range many {
				poison(t, rawConnect(t, path), newPacket(packetHello))
			}
			exchangeAttachment(t, path, server)
		}},
		"behind a hello": {"serve this user", func(t *testing.T, path string, server *process) {
			c := rawConnect(t, path)
			if err := c.send(newPacket(packetHello)); err != nil {
				t.Fatal(err)
			}
			poison(t, c, newPacket(packetReady))
			_, files, _ := c.receive(3)
			closeAll(files)
			c.hangUp()
			exchangeAttachment(t, path, server)
		}},
		"from an attached one": {"serve this user", func(t *testing.T, path string, server *process) {
			client := rawAttach(t, path)
			server.expect("event attached")
			for range many {
				poison(t, client.conn, newPacket(packetReady))
			}
			client.own.control.attachment.Store(client.grant.Attachment)
			client.leave()
			server.expect("event died")
			exchangeAttachment(t, path, server)
		}},
	} {
		for _, kernel := range []string{"", " as an old kernel"} {
			t.Run(name+kernel, func(t *testing.T) {
				path := testPath(t)
				server := start(t, "scene", sceneArgument{attack.serves + kernel, path})
				server.expect("listening")
				attack.do(t, path, server)
				server.tell("close")
				server.expect("closed")
			})
		}
	}
}

// exchangeAttachment is an honest client that comes and goes.
func exchangeAttachment(t *testing.T, path string, server *process) {
	t.Helper()
	client, err := Dial(testContext(t), path, nil)
	if err != nil {
		t.Fatalf("an honest client: %v", err)
	}
	server.expect("event attached")
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	server.expect("event closed")
}

func TestT1AHostileServerHoldsUpNeitherDialNorClose(t *testing.T) {
	three := func(t *testing.T) []int {
		var fds []int
		for range 3 {
			fd, _ := stuck(t)
			fds = append(fds, fd)
		}
		return fds
	}
	for name, answer := range map[string]func(*testing.T, *conn) error{
		"a grant of sockets": func(t *testing.T, c *conn) error {
			fds := three(t)
			defer closeAll(fds) // none is the last copy
			return c.send(newPacket(packetGrant), fds...)
		},
		"one too many": func(t *testing.T, c *conn) error {
			fds := append(three(t), three(t)...)
			defer closeAll(fds) // none is the last copy
			return c.send(newPacket(packetGrant), fds...)
		},
		"a refusal that carries": func(t *testing.T, c *conn) error {
			fds := three(t)
			defer closeAll(fds) // none is the last copy
			return c.send(newPacket(packetRefuse), fds...)
		},
		"garbage that carries": func(t *testing.T, c *conn) error {
			fds := three(t)
			defer closeAll(fds) // none is the last copy
			return unix.Sendmsg(c.fd, []byte("x"), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			sent := make(chan struct{})
			once := sync.OnceFunc(func() { close(sent) })
			rawServe(t, path, func(c *conn) {
				_, _, _ = c.receive(0)
				if err := answer(t, c); err != nil {
					t.Error(err)
				}
				once()
			})
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := Dial(ctx, path, &Options{hook: func(at step.ID, _ uint64) {
					if at == step.HelloSent {
						<-sent // the last copies are on their way
					}
				}})
				ended <- err
			}()
			select {
			case err := <-ended:
				if err == nil {
					t.Error("Dial has attached")
				}
			case <-time.After(watchdog):
				t.Fatalf("Dial does not end\n%s", stacks())
			}
		})
	}
	t.Run("behind the grant", func(t *testing.T) {
		path, behind := testPath(t), testPath(t)
		listenHere(t, path, nil)
		raw := rawAttach(t, path)
		hangUp := make(chan struct{})
		rawServe(t, behind, func(c *conn) {
			_, _, _ = c.receive(0)
			if err := c.send(raw.grant, raw.files...); err != nil {
				t.Error(err)
			}
			poison(t, c, newPacket(packetReady))
			<-hangUp
		})
		client := dialHere(t, behind, nil)
		closed := make(chan error, 1)
		go func() { closed <- client.Close() }()
		select {
		case <-closed:
		case <-time.After(watchdog):
			t.Errorf("Close does not end\n%s", stacks())
		}
		close(hangUp)
	})
}
