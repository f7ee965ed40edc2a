//go:build linux && (amd64 || arm64)

package conn

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// Rows of docs/FAILURES.md that no other file shows, and the times that it names.

// A second Dialer is a second client, also in another process. It is served once the
// first has left.
func TestASecondDialerIsRefusedUntilTheFirstHasLeft(t *testing.T) {
	p := newPair(t, nil)
	p.connect()
	second := start(t, "second dialer", p.dialer.path)
	second.expect("refused")
	if err := p.dialer.Close(); err != nil {
		t.Fatal(err)
	}
	second.expect("dialed")
	mustRead(t, p.accept(), "hello")
}

var _ = part("second dialer", func(path string) {
	d := NewDialer(path, nil)
	_, err := d.Dial(context.Background())
	if !errors.Is(err, ipc.ErrClientRunning) {
		check(errors.Join(errors.New("not refused"), err))
	}
	say("refused")
	for {
		c, err := d.Dial(context.Background())
		if errors.Is(err, ipc.ErrClientRunning) {
			<-time.After(time.Millisecond)
			continue
		}
		check(err)
		_, err = c.Write([]byte("hello"))
		check(err)
		say("dialed")
		select {}
	}
})

// A peer that is stopped ends no connection: what it has not said comes when it goes on.
func TestAFrozenPeerEndsNoConnection(t *testing.T) {
	path := testPath(t)
	soon := &ipc.Options{HeartbeatInterval: 5 * time.Millisecond, HangTimeout: 50 * time.Millisecond, FailOnHang: true}
	listener, err := Listen(testContext(t), path, &Options{IPC: soon})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	client := start(t, "echo client", path)
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	mustRead(t, accepted, "hello")
	client.freeze()
	eventually(t, "it is hung", func() bool { return listener.endpoint.Peer().State == ipc.PeerHung })
	mustWrite(t, accepted, "are you there?")
	client.thaw()
	mustRead(t, accepted, "are you there?")
}

// What docs/FAILURES.md says of times is printed here; none of it is asserted.
func TestTheTimesOfADeathArePrinted(t *testing.T) {
	path := testPath(t)
	listener, err := Listen(testContext(t), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Abort()
	var times []time.Duration
	for range 20 {
		client := start(t, "echo client", path)
		accepted, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		mustRead(t, accepted, "hello")
		killed := time.Now()
		_ = client.cmd.Process.Kill()
		_, err = accepted.Read(make([]byte, 1))
		times = append(times, time.Since(killed))
		wantError(t, err, ipc.ErrPeerDied)
		client.kill()
	}
	slices.Sort(times)
	t.Logf("SIGKILL of the client to Read's ErrPeerDied: least %v, median %v, most %v of %d",
		times[0], times[len(times)/2], times[len(times)-1], len(times))
}
