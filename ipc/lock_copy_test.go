//go:build linux && (amd64 || arm64)

package ipc

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A server that is killed as it starts a process leaves a copy of its lock in that, until it
// has come to its exec: the next server waits for that.
func TestL3ACopyOfTheServerLockThatIsGoneAtOnceKeepsNobodyOut(t *testing.T) {
	path := testPath(t)
	former := startActor(t, actorArgument{Path: path})
	former.ask("listening 1", "listen")
	former.kill()
	copied, err := unix.Open(path+".lock", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := setLock(copied, serverByte, unix.F_WRLCK); err != nil || !ok {
		t.Fatal(ok, err)
	}
	options := &Options{hook: func(at step.ID, _ uint64) {
		if at == step.LockFileOpened {
			time.AfterFunc(copyGrace/10, func() { _ = unix.Close(copied) }) // it comes to its exec
		}
	}}
	listenHere(t, path, options)
}
