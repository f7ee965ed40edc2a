//go:build linux && (amd64 || arm64)

package ipc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A clientInC is a process of examples/c/client.c, which follows docs/PROTOCOL.md and shares no
// code with this package.
type clientInC struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

// buildClientInC compiles the program.
func buildClientInC(t *testing.T) (program string) {
	t.Helper()
	needsRealKernel(t, "the compiler makes a program for another machine")
	const source = "../examples/c/client.c"
	if _, err := os.Stat(source); err != nil { // so the go command knows that this test depends on it
		t.Fatal(err)
	}
	program = filepath.Join(t.TempDir(), "client")
	build := exec.Command("gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", source, "-o", program)
	if _, err := exec.LookPath("gcc"); err != nil && os.Getenv("CI") != "true" {
		t.Skipf("NOT RUN: %v", err)
	}
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, out)
	}
	return program
}

func startClientInC(t *testing.T, program string, arguments ...string) *clientInC {
	t.Helper()
	c := &clientInC{cmd: exec.CommandContext(testContext(t), program, arguments...)}
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stderr
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	return c
}

// ends waits for the process, and checks its exit status and what it says.
func (c *clientInC) ends(t *testing.T, status int, says string) {
	t.Helper()
	_ = c.cmd.Wait()
	if got := c.cmd.ProcessState.ExitCode(); got != status || !strings.Contains(c.stdout.String()+c.stderr.String(), says) {
		t.Errorf("the client has ended with status %d, want %d and %q:\n%s%s", got, status, says, &c.stdout, &c.stderr)
	}
}

// payloadInC is the payload of message i: of each size that the ring can hold, now and then.
func payloadInC(i, ringSize int) []byte {
	size := i * 7919 % 300
	if i%50 == 0 {
		size = i * 7919 % (ringSize - headerSize + 1)
	}
	data := make([]byte, size)
	for k := range data {
		data[k] = byte(i + 31*k)
	}
	return data
}

// echoes sends so many messages and receives what comes back until all have, or the client's
// end is told. It returns how often each came back.
func echoes(t *testing.T, server *Endpoint, count int, seen func(total int)) (times map[uint32]int, end error) {
	t.Helper()
	const ringSize = 1 << 16
	sent := make(chan error, 1)
	go func() {
		for i := range count {
			if err := server.Send(testContext(t), uint32(i), payloadInC(i, ringSize)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	times = map[uint32]int{}
	total := 0
	for len(times) < count && end == nil {
		m, err := server.Receive(testContext(t))
		if err != nil {
			end = err
			break
		}
		if !bytes.Equal(m.Data, payloadInC(int(m.Kind), ringSize)) {
			t.Fatalf("M4 NoTear: message %d came back as %d other bytes", m.Kind, len(m.Data))
		}
		if err := m.Release(); err != nil {
			t.Fatal(err)
		}
		times[m.Kind]++
		total++
		seen(total)
	}
	if end == nil {
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	return times, end
}

// A client in another language keeps the contract beside a server in Go.
func TestAClientInCKeepsTheContract(t *testing.T) {
	program := buildClientInC(t)
	listen := func(t *testing.T) *Endpoint {
		t.Helper()
		return listenHere(t, testPath(t), &Options{ToServerSize: 1 << 16, ToClientSize: 1 << 16})
	}
	t.Run("messages of all sizes come back, and a Close is told", func(t *testing.T) {
		server := listen(t)
		client := startClientInC(t, program, server.Path())
		if times, end := echoes(t, server, 3000, func(int) {}); end != nil || len(times) != 3000 {
			t.Errorf("%d messages have come back, and then %v", len(times), end)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		client.ends(t, 0, "the server has closed")
	})
	t.Run("it closes in good order", func(t *testing.T) {
		server := listen(t)
		client := startClientInC(t, program, server.Path(), "5")
		if _, end := echoes(t, server, 5, func(int) {}); end != nil {
			t.Error(end)
		}
		if _, err := server.Receive(testContext(t)); !errors.Is(err, ErrPeerClosed) {
			t.Errorf("its end is %v, want ErrPeerClosed", err)
		}
		client.ends(t, 0, "echoed 5")
	})
	for at := range 5 {
		t.Run(fmt.Sprintf("it is killed, and its successor goes on, %d", at), func(t *testing.T) {
			const messages = 2000
			server := listen(t)
			first := startClientInC(t, program, server.Path())
			times, end := echoes(t, server, messages, func(total int) {
				if total == 1+at*300 {
					_ = first.cmd.Process.Kill()
				}
			})
			var died *PeerError
			if !errors.As(end, &died) || !errors.Is(end, ErrPeerDied) {
				t.Fatalf("its end is %v, want ErrPeerDied", end)
			}
			_ = first.cmd.Wait()
			nextEvent(t, server, EventAttached)
			seen := nextEvent(t, server, EventDied).Redeliverable
			second := startClientInC(t, program, server.Path())
			again := 0
			for len(times) < messages {
				m, err := server.Receive(testContext(t))
				if err != nil {
					t.Fatal(err)
				}
				if times[m.Kind]++; times[m.Kind] > 1 {
					again++
				}
				if !bytes.Equal(m.Data, payloadInC(int(m.Kind), 1<<16)) {
					t.Fatalf("M4 NoTear: message %d came back as %d other bytes", m.Kind, len(m.Data))
				}
				if err := m.Release(); err != nil {
					t.Fatal(err)
				}
			}
			if err := server.Close(); err != nil {
				t.Error(err)
			}
			second.ends(t, 0, "the server has closed")
			if marked := strings.Count(second.stderr.String(), "redelivered: "); marked != seen || again > marked {
				t.Errorf("the first may have seen %d messages that come again, the second found %d marked, and %d came back twice", seen, marked, again)
			}
		})
	}
	t.Run("beside another it is refused", func(t *testing.T) {
		server := listen(t)
		first := startClientInC(t, program, server.Path())
		nextEvent(t, server, EventAttached)
		startClientInC(t, program, server.Path()).ends(t, 1, fmt.Sprintf("another client is attached to %s: process %d", server.Path(), first.cmd.Process.Pid))
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		first.ends(t, 0, "the server has closed")
	})
	t.Run("it sees the death of its server", func(t *testing.T) {
		path := testPath(t)
		server := startActor(t, actorArgument{Path: path})
		server.ask("listening", "listen")
		client := startClientInC(t, program, path)
		server.ask("sent 1", "send 1")
		server.ask("got 1", "receive 1")
		server.kill()
		client.ends(t, 1, "the server has died")
	})
}
