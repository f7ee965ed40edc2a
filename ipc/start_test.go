//go:build linux && (amd64 || arm64)

package ipc

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/tandem-ipc/tandem/internal/step"
)

// The hook gets the same steps and values wherever the positions of a generation begin.
func TestTheHookGetsTheDistanceFromTheStart(t *testing.T) {
	steps := func(start uint64) (seen []string) {
		var mu sync.Mutex
		hook := func(at step.ID, value uint64) {
			mu.Lock()
			defer mu.Unlock()
			if at < step.Beaten && at != step.Sleeping && at != step.Woken { // how often it sleeps is the machine's affair
				seen = append(seen, fmt.Sprint(at, " ", value))
			}
		}
		path := testPath(t)
		server := listenHere(t, path, step.WatchedFrom(&Options{ToServerSize: os.Getpagesize(), ToClientSize: os.Getpagesize(), Spin: NoSpin}, start, hook))
		client := dialHere(t, path, nil)
		nextEvent(t, server, EventAttached)
		for kind := range uint32(20) {
			sendAll(t, server, kind)
			sendAll(t, client, kind)
			for _, e := range []*Endpoint{server, client} {
				if m, err := e.Receive(testContext(t)); err != nil || m.Release() != nil {
					t.Fatal(err)
				}
			}
		}
		if at := server.in.cursor - start; at == 0 {
			t.Error("nothing was sent")
		}
		return seen
	}
	want := steps(0)
	for _, start := range []uint64{1 << 40, 1<<64 - 8, 1<<64 - 256} {
		if got := steps(start); !slices.Equal(got, want) {
			t.Errorf("from %d the hook got %v, want %v", start, got, want)
		}
	}
	if len(want) < 100 {
		t.Errorf("%d steps", len(want))
	}
}
