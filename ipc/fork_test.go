//go:build linux && (amd64 || arm64)

package ipc

import (
	"os"
	"os/exec"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
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

// copiesOf copies the descriptors of a file, as a child that is just being started
// does for a moment.
func copiesOf(t *testing.T, path string) (copies int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err != nil || target != path {
			continue
		}
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		if fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		copies++
	}
	return copies
}

// The same with copies that stay.
func TestCloseFreesItsLocksBesideCopiesOfItsDescriptors(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	for range 2 {
		server, err := Listen(ctx, path, nil)
		if err != nil {
			t.Fatalf("Listen behind Close: %v", err)
		}
		for range 2 {
			client, err := Dial(ctx, path, nil)
			if err != nil {
				t.Fatalf("Dial behind Close: %v", err)
			}
			if copiesOf(t, path+".lock") < 1 || copiesOf(t, path+tokenSuffix) < 2 {
				t.Fatal("the lock file, and the two descriptions of the token, are not found: nothing is tested")
			}
			if err := client.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
