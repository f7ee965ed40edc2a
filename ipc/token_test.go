//go:build linux && (amd64 || arm64)

package ipc

import (
	"testing"

	"golang.org/x/sys/unix"
)

// tokenIsTaken looks at the token file that the path names.
func tokenIsTaken(t testing.TB, path string) bool {
	t.Helper()
	fd, err := unix.Open(path+tokenSuffix, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	taken, err := isLocked(fd, tokenByte)
	if err != nil {
		t.Fatal(err)
	}
	return taken
}

// A former client may keep its descriptor of a token file and lock whatever it
// likes of it, as soon as it can. It holds up nobody by that: no other client, no
// other server, and nobody takes its lock for another's.
func TestT2AFormerClientHoldsNothing(t *testing.T) {
	path := testPath(t)
	server := startActor(t, actorArgument{Path: path})
	server.ask("listening 1", "listen")
	former := rawAttach(t, path)
	kept, err := unix.FcntlInt(uintptr(former.files[2]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(kept) })
	if _, err := setLock(kept, tokenByte, unix.F_UNLCK); err != nil {
		t.Fatal(err)
	}
	former.leave()
	next := dialHere(t, path, nil)
	lock := func() {
		everything := unix.Flock_t{Type: unix.F_RDLCK, Whence: unix.SEEK_SET} // as far as it can
		if err := unix.FcntlFlock(uintptr(kept), unix.F_OFD_SETLK, &everything); err != nil {
			t.Fatalf("a former client cannot lock its own token file: %v: nothing is tested", err)
		}
	}
	lock()
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	next = dialHere(t, path, nil) // admitted beside those locks
	nextEvent(t, next, EventAttached)
	server.kill()
	if event := nextEvent(t, next, EventDied); event.Err == nil {
		t.Errorf("the server was killed, and its client is told %+v", event)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	works(t, path) // and so is the next server
}

// The same with the token of the last client: it has left, and locks it again.
func TestT2AFormerClientDoesNotKeepTheNextServerOut(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, server *process){
		"closed": func(t *testing.T, server *process) { server.ask("closed", "close") },
		"killed": func(t *testing.T, server *process) { server.kill() },
	} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			server := startActor(t, actorArgument{Path: path})
			server.ask("listening 1", "listen")
			former := rawAttach(t, path)
			kept, err := unix.FcntlInt(uintptr(former.files[2]), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Close(kept) })
			var its, now unix.Stat_t
			if err := unix.Fstat(kept, &its); err != nil {
				t.Fatal(err)
			}
			if _, err := setLock(kept, tokenByte, unix.F_UNLCK); err != nil {
				t.Fatal(err)
			}
			former.leave()
			eventually(t, "the server is done with that token", func() bool {
				return unix.Stat(path+tokenSuffix, &now) == nil && now.Ino != its.Ino
			})
			if ok, err := setLock(kept, tokenByte, unix.F_RDLCK); !ok {
				t.Fatal(err)
			}
			leave(t, server)
			works(t, path)
		})
	}
}
