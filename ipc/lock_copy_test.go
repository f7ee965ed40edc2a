//go:build linux && (amd64 || arm64)

package ipc

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A process that is killed while it starts another leaves a copy of its lock in that, until
// the other has come to its exec. The next server waits for that.
func TestL3ACopyThatIsGoneAtOnceKeepsNobodyOut(t *testing.T) {
	for name, c := range map[string]struct {
		suffix string
		at     int64
	}{"of the server lock": {lockSuffix, serverByte}, "of the token": {tokenSuffix, tokenByte}} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			former := startActor(t, actorArgument{Path: path})
			former.ask("listening 1", "listen")
			client := startActor(t, actorArgument{Path: path})
			client.ask("attached", "dial")
			former.kill()
			client.kill()
			copied, err := unix.Open(path+c.suffix, unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := setLock(copied, c.at, unix.F_WRLCK); err != nil || !ok {
				t.Fatal(ok, err)
			}
			listenHere(t, path, &Options{hook: func(at step.ID, _ uint64) {
				if at == step.LockFileOpened {
					time.AfterFunc(copyGrace/10, func() { _ = unix.Close(copied) }) // it comes to its exec
				}
			}})
		})
	}
}
