//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// Two services of which one is named as the temporary file of the other may be.
func TestServersWithSimilarNamesLiveBesideEachOther(t *testing.T) {
	path := testPath(t)
	for _, suffix := range []string{".new", "", ".socket", ".lock.new"} {
		server := listenHere(t, path+suffix, nil)
		checkNextClient(t, server, path+suffix)
	}
}

// Whoever can write the directory may put anything at the path while the server
// starts. The server changes the mode of its own socket only.
func TestT2TheModeOfNoOtherFileIsSet(t *testing.T) {
	for name, put := range map[string]func(private, path string) error{
		"a link":      os.Symlink,
		"a hard link": os.Link,
	} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			private := path + ".private"
			if err := os.WriteFile(private, []byte("a key"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Listen(testContext(t), path, &Options{AllowUIDs: []uint32{uint32(os.Geteuid()), nobody}, hook: func(at step.ID, _ uint64) {
				if at == step.SocketBound {
					remove(t, path)
					if err := put(private, path); err != nil {
						t.Error(err)
					}
				}
			}})
			if !errors.Is(err, ErrForeign) {
				t.Errorf("Listen: %v, want %v", err, ErrForeign)
			}
			if info, err := os.Stat(private); err != nil || info.Mode() != 0o600 {
				t.Errorf("a private file has mode %v now, %v", info.Mode(), err)
			}
		})
	}
}

// Nor does it open another's socket to those that it lets in itself.
func TestT2TheModeOfNoOtherSocketIsSet(t *testing.T) {
	path := testPath(t)
	_, err := Listen(testContext(t), path, &Options{AllowUIDs: []uint32{nobody}, hook: func(at step.ID, _ uint64) {
		if at == step.SocketBound {
			remove(t, path)
			rawListen(t, path, unix.SOCK_SEQPACKET)
			if err := os.Chmod(path, 0o600); err != nil {
				t.Error(err)
			}
		}
	}})
	if !errors.Is(err, ErrForeign) {
		t.Errorf("Listen: %v, want %v", err, ErrForeign)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("another's socket has mode %v now, %v", info.Mode(), err)
	}
}

var _ = sceneOf("bind with a umask", func(s *scene) {
	var umask, user int
	if _, err := fmt.Sscanf(s.next(), "%o %d", &umask, &user); err != nil {
		s.fail("%v", err)
	}
	s.enter()
	if user != 0 {
		s.become(user)
	}
	unix.Umask(umask)
	server, err := Listen(s.ctx, s.path, &Options{AllowUIDs: s.others(), hook: func(at step.ID, _ uint64) {
		if at == step.SocketBound {
			s.say("bound")
			s.next()
		}
	}})
	if err != nil {
		s.fail("listen: %v", err)
	}
	if mask := unix.Umask(umask); mask != umask {
		s.fail("the umask of the process is %o now", mask)
	}
	s.say("listening")
	s.next()
	if err := server.Close(); err != nil {
		s.fail("close: %v", err)
	}
})

// enter makes the path one in the working directory: its parents may be closed to
// nobody, whom the scene becomes.
func (s *scene) enter() {
	if err := os.Chdir(filepath.Dir(s.path)); err != nil {
		s.fail("%v", err)
	}
	s.path = filepath.Base(s.path)
}

// others are the users that this scene's server lets in: of root's, another.
func (s *scene) others() []uint32 {
	if os.Geteuid() == 0 {
		return []uint32{nobody}
	}
	return nil
}

var _ = sceneOf("dial a socket that is not ready", func(s *scene) {
	s.enter()
	if os.Geteuid() == 0 {
		s.become(nobody)
	}
	attempts := 0
	client, err := Dial(s.ctx, s.path, &Options{ServerUIDs: []uint32{0, uint32(os.Geteuid())}, hook: func(at step.ID, _ uint64) {
		if at == step.DialBegun {
			if attempts++; attempts == 3 {
				s.say("two attempts")
			}
		}
	}})
	if err != nil {
		s.fail("dial: %v", err)
	}
	if err := client.Close(); err != nil {
		s.fail("close: %v", err)
	}
})

// The umask may leave a socket a mode, for the moment between its bind and its listen,
// that lets no client connect. A client that comes then is not told that it may not
// attach: it waits.
func TestT2AClientThatComesBeforeTheSocketIsReadyWaits(t *testing.T) {
	for name, c := range map[string]struct {
		umask, user int // 0: as the test
		mode        uint32
	}{
		"nothing taken away":            {0, 0, 0o666},
		"writing taken away":            {0o022, 0, 0o666},
		"everything taken away":         {0o777, 0, 0o666},
		"everything, of the own server": {0o777, nobody, 0o600},
	} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			if os.Geteuid() != 0 {
				c.user, c.mode = 0, 0o600
			} else if err := os.Chown(filepath.Dir(path), c.user, -1); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			server := start(t, "scene", sceneArgument{"bind with a umask", path})
			server.tell("%o %d", c.umask, c.user)
			server.expect("bound")
			client := start(t, "scene", sceneArgument{"dial a socket that is not ready", path})
			client.expect("two attempts")
			server.tell("go on")
			server.expect("listening")
			client.expect("ok")
			var stat unix.Stat_t
			if err := unix.Lstat(path, &stat); err != nil || stat.Mode != unix.S_IFSOCK|c.mode {
				t.Errorf("the socket has mode %o, %v, want %o", stat.Mode, err, c.mode)
			}
			server.tell("close")
			server.expect("ok")
		})
	}
}

// A process is its caller's: what Listen needs must not be seen in it. The kernel
// tells the children that a thread has started when that thread ends (Pdeathsig).
var _ = sceneOf("listen and look at the threads", func(s *scene) {
	unix.Umask(0o027)
	threads := func() map[string]bool {
		found := map[string]bool{}
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			s.fail("%v", err)
		}
		for _, entry := range entries {
			found[entry.Name()] = true
		}
		return found
	}
	for round := range 50 {
		before := threads()
		for _, ctx := range []context.Context{context.Background(), s.ctx} {
			server, err := Listen(ctx, s.path, nil)
			if err != nil {
				s.fail("listen: %v", err)
			}
			client, err := Dial(ctx, s.path, nil)
			if err != nil {
				s.fail("dial: %v", err)
			}
			s.closeBoth(server, client)
		}
		after := threads()
		for thread := range before {
			if !after[thread] {
				s.fail("T4: in round %d thread %s has ended", round, thread)
			}
		}
	}
	if err := os.Chdir("/"); err != nil {
		s.fail("%v", err)
	}
	for thread := range threads() {
		status, err := os.ReadFile("/proc/self/task/" + thread + "/status")
		if err != nil || !strings.Contains(string(status), "\nUmask:\t0027\n") {
			s.fail("T4: thread %s has another umask: %v, %s", thread, err, status)
		}
		if at, err := os.Readlink("/proc/self/task/" + thread + "/cwd"); at != "/" {
			s.fail("T4: thread %s is in %s, %v", thread, at, err)
		}
	}
})

func TestT4ListenAndDialSpendAndChangeNoThread(t *testing.T) {
	playScene(t, "listen and look at the threads", testPath(t))
}

var _ = sceneOf("a thread that is elsewhere", func(s *scene) {
	for _, directory := range []string{"here", "elsewhere"} {
		if err := os.Mkdir(filepath.Join(filepath.Dir(s.path), directory), 0o700); err != nil {
			s.fail("%v", err)
		}
	}
	here, elsewhere := filepath.Join(filepath.Dir(s.path), "here"), filepath.Join(filepath.Dir(s.path), "elsewhere")
	if err := os.Chdir(here); err != nil {
		s.fail("%v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked
		if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Chdir(elsewhere)); err != nil {
			s.forbidden("a thread in a directory of its own", err)
		}
		for _, ctx := range []context.Context{context.Background(), s.ctx} {
			server, err := Listen(ctx, "s", nil)
			if err != nil {
				s.fail("listen: %v", err)
			}
			if left, err := os.ReadDir(elsewhere); err != nil || len(left) > 0 {
				s.fail("Listen left %v beside this thread, %v", left, err)
			}
			if found, err := os.ReadDir(here); err != nil || len(found) != 3 {
				s.fail("Listen left %v, %v, want three files", found, err)
			}
			client, err := Dial(ctx, "s", nil)
			if err != nil {
				s.fail("dial: %v", err)
			}
			s.exchange(server, client)
			s.closeBoth(server, client)
		}
		if left, err := os.ReadDir(elsewhere); err != nil || len(left) > 0 {
			s.fail("Close left %v beside this thread, %v", left, err)
		}
		if _, err := os.Lstat(filepath.Join(here, "s")); !errors.Is(err, fs.ErrNotExist) {
			s.fail("Close left the socket: %v", err)
		}
	}()
	<-done
})

// The thread of a caller may have a working directory, a root or mounts of its own.
// The server's goroutines run in others, and a path that is looked up here and there
// must be one.
func TestListenAndDialActForTheProcessAndNotForTheThread(t *testing.T) {
	playSceneIn(t, 0, "a thread that is elsewhere", testPath(t))
}

var _ = sceneOf("with an odd umask", func(s *scene) {
	s.enter()
	if os.Geteuid() == 0 {
		s.become(nobody) // root may open what nobody else may
	}
	unix.Umask(0o777)
	for range 2 { // the second time all files are there
		server, client := s.pair(nil)
		s.exchange(server, client)
		s.closeBoth(server, client)
	}
})

func TestAnUmaskThatForbidsEverythingForbidsNothingOfOurs(t *testing.T) {
	path := testPath(t)
	if os.Geteuid() == 0 {
		if err := os.Chown(path[:len(path)-2], nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	playScene(t, "with an odd umask", path)
}

var _ = sceneOf("files whose server died before it set their mode", func(s *scene) {
	s.enter()
	if os.Geteuid() == 0 {
		s.become(nobody)
	}
	leave := func(name, content string, mode fs.FileMode) {
		_ = os.Remove(name)
		if err := errors.Join(os.WriteFile(name, []byte(content), 0o600), os.Chmod(name, mode)); err != nil {
			s.fail("%v", err)
		}
	}
	for _, suffix := range []string{lockSuffix, tokenSuffix, newTokenSuffix} {
		for _, mode := range []fs.FileMode{0, 0o200, 0o400} {
			leave(s.path+suffix, "", mode)
			server, client := s.pair(nil)
			s.exchange(server, client)
			if info, err := os.Stat(s.path + lockSuffix); err != nil || info.Mode() != 0o600 {
				s.fail("the lock file has mode %v now, %v", info.Mode(), err)
			}
			s.closeBoth(server, client)
		}
	}
	for _, suffix := range []string{lockSuffix, tokenSuffix} { // nobody's half work
		for _, mode := range []fs.FileMode{0, 0o400, 0o444} {
			content := ""
			if mode != 0o444 {
				content = "somebody else's"
			}
			leave(s.path+suffix, content, mode)
			_, err := Listen(s.ctx, s.path, nil)
			s.must("Listen beside a file that it cannot write", err, fs.ErrPermission, s.path+suffix)
			if info, err := os.Stat(s.path + suffix); err != nil || info.Mode() != mode {
				s.fail("a file of somebody else's has mode %v now, %v", info.Mode(), err)
			}
			_ = os.Remove(s.path + suffix)
		}
	}
})

func TestL8AFileWhoseServerDiedBeforeItSetTheModeIsRepaired(t *testing.T) {
	path := testPath(t)
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Dir(path), nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	playScene(t, "files whose server died before it set their mode", path)
}

var _ = sceneOf("die with a socket that is not ready", func(s *scene) {
	s.enter()
	if os.Geteuid() == 0 {
		s.become(nobody)
	}
	unix.Umask(0o777)
	_, err := Listen(s.ctx, s.path, &Options{hook: signalAt(step.SocketBound, 1, unix.SIGKILL)})
	s.fail("listen: %v", err)
})

var _ = sceneOf("listen as nobody", func(s *scene) {
	s.enter()
	if os.Geteuid() == 0 {
		s.become(nobody)
	}
	server, client := s.pair(nil)
	s.exchange(server, client)
	s.closeBoth(server, client)
})

func TestL8ASocketWhoseServerDiedBeforeItWasReadyIsReplaced(t *testing.T) {
	path := testPath(t)
	if os.Geteuid() == 0 {
		if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Dir(path), nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	start(t, "scene", sceneArgument{"die with a socket that is not ready", path}).awaitDeath()
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil || stat.Mode&0o777 != 0 {
		t.Fatalf("the socket has mode %o, %v: the test is blind", stat.Mode, err)
	}
	playScene(t, "listen as nobody", path)
}
