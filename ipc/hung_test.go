//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A client that froze before it was ready is called hung, and killed. Nobody is
// attached then, so nobody is hung, and its successor has not recovered.
func TestL6AHangEndsWithAClientThatWasNeverReady(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	options := quickOptions()
	options.FailOnHang = true
	endpoint := listenHere(t, path, options)
	client := startActor(t, actorArgument{Path: path, Options: quick, DieAt: step.SegmentsMapped.String(), Signal: syscall.SIGSTOP})
	client.tell("dial")
	nextEvent(t, endpoint, EventHung)
	client.kill() // by somebody else: KillPeer forgets the hang at once
	eventually(t, "the end of the client is settled", func() bool {
		endpoint.mu.Lock()
		defer endpoint.mu.Unlock()
		return endpoint.life.(*server).current == nil
	})
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := endpoint.Receive(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Receive with nobody attached: %v, want it to wait", err)
	}
	next := startActor(t, actorArgument{Path: path, Options: quick})
	next.ask("attached 1 2", "dial")
	if event := <-endpoint.Events(); event.Kind != EventAttached {
		t.Errorf("the successor's first event is %v, want %v", event.Kind, EventAttached)
	}
	next.ask("sent", "send 1")
	if m, err := endpoint.Receive(ctx); err != nil || m.Kind != 1 {
		t.Errorf("the successor's message: %d, %v", m.Kind, err)
	}
}
