//go:build linux && (amd64 || arm64)

package ipc

import (
	"os/exec"
	"testing"
)

// A child has copies of all descriptors between its fork and its exec, those of
// the lock file and of the token among them. A Close that has returned has freed
// the locks all the same.
func TestCloseFreesItsLocksBesideAChildThatStarts(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		started := 0
		for {
			select {
			case <-stop:
				done <- started
				return
			default:
				if exec.Command("/proc/self/exe", "-test.run=^$").Run() == nil {
					started++
				}
			}
		}
	}()
	for round := range 100 {
		server, err := Listen(ctx, path, nil)
		if err != nil {
			t.Errorf("round %d: Listen behind Close: %v", round, err)
			break
		}
		client, err := Dial(ctx, path, nil)
		if err != nil {
			t.Errorf("round %d: Dial: %v", round, err)
		} else if err := client.Close(); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		// The next client is admitted at once, and with it the server closes.
		if client, err = Dial(ctx, path, nil); err != nil {
			t.Errorf("round %d: Dial behind Close: %v", round, err)
		} else if err := client.Close(); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if err := server.Close(); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
	close(stop)
	if started := <-done; started == 0 {
		t.Error("no child was started: nothing was tested")
	}
}
