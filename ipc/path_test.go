//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/ipc/step"
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
			_, err := Listen(testContext(t), path, &Options{AllowUIDs: []uint32{uint32(os.Geteuid()), nobody}, Hook: func(at step.ID, _ uint64) {
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

// A client of another user that comes as soon as there is a socket is not told that
// it may not attach.
func TestT2TheSocketHasItsModeFromTheFirstMomentOn(t *testing.T) {
	path := testPath(t)
	var first, last unix.Stat_t
	server := listenHere(t, path, &Options{AllowUIDs: []uint32{nobody}, Hook: func(at step.ID, _ uint64) {
		if at == step.SocketBound {
			_ = unix.Lstat(path, &first)
		}
	}})
	_ = unix.Lstat(path, &last)
	if first.Mode != unix.S_IFSOCK|0o666 || last.Mode != first.Mode {
		t.Errorf("the socket has mode %o at first and %o at last, want 0666", first.Mode, last.Mode)
	}
	if mask := unix.Umask(0o22); mask == 0 {
		t.Error("the umask of the process has changed")
	}
	_ = server
}

var _ = sceneOf("with an odd umask", func(s *scene) {
	if err := os.Chdir(filepath.Dir(s.path)); err != nil {
		s.fail("%v", err)
	}
	s.path = filepath.Base(s.path) // the directory's parent may be closed to nobody
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
