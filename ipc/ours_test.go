//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// lockText is what a lock file says.
func lockText(generation uint64) string {
	return fmt.Sprintf(recordFormat, generation, os.Getpid(), 1, os.Getpid(), 1, 0, 0, 0, 0)
}

// What stands in the lock file decides nothing: whatever a power cut, or a fault of
// ours, has left of it, the next server starts.
func TestTheLockFileHeals(t *testing.T) {
	whole := lockText(41)
	for name, c := range map[string]struct {
		content    string
		generation uint64 // of the next server
	}{
		"empty":                    {"", 1},
		"zeros":                    {strings.Repeat("\x00", len(whole)), 1},
		"a page of zeros":          {strings.Repeat("\x00", maxOursSize), 1},
		"a letter":                 {"t", 1},
		"half the first line":      {whole[:9], 1},
		"the first line":           {whole[:17], 1},
		"half the number":          {whole[:40], 1},
		"half the processes":       {whole[:90], 42},
		"whole":                    {whole, 42},
		"garbage behind":           {whole + strings.Repeat("garbage ", 400), 42},
		"garbage, and long":        {whole[:16] + strings.Repeat("\xff\x00\n ", 1000), 1},
		"no number":                {strings.Replace(whole, "00000000000000000041", "-0000000000000000041", 1), 1},
		"a number beyond":          {strings.Replace(whole, "00000000000000000041", "99999999999999999999", 1), 1},
		"the last number":          {lockText(math.MaxUint64), 1},
		"the last but one":         {lockText(math.MaxUint64 - 1), math.MaxUint64},
		"a process that cannot be": {strings.Replace(whole, "server 0", "server -", 1), 42},
	} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			if err := os.WriteFile(path+lockSuffix, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			server := listenHere(t, path, nil)
			if server.Generation() != c.generation {
				t.Errorf("generation %d, want %d", server.Generation(), c.generation)
			}
			if _, err := Listen(testContext(t), path, nil); !errors.Is(err, ErrServerRunning) {
				t.Errorf("a second server: %v, want %v", err, ErrServerRunning)
			}
			checkNextClient(t, server, path)
			want := fmt.Sprintf("tandem lock file\ngeneration %020d\nserver %010d started ", c.generation, os.Getpid())
			if got := readFile(t, path+lockSuffix); !strings.HasPrefix(got, want) || int64(len(got)) != textSize {
				t.Errorf("the lock file reads %q, want %q and so on", got, want)
			}
		})
	}
}

// A lock file that cannot be read is not taken for an empty one: it stays as it is, and
// the next server counts on.
func TestALockFileThatCannotBeReadIsNotBelieved(t *testing.T) {
	path, content := testPath(t), lockText(41)
	if err := os.WriteFile(path+lockSuffix, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	playScene(t, "listen without the lock file to read", path)
	if got := readFile(t, path+lockSuffix); got != content {
		t.Errorf("the lock file reads %q, want %q", got, content)
	}
	if server := listenHere(t, path, nil); server.Generation() != 42 {
		t.Errorf("generation %d, want 42", server.Generation())
	}
}

// A file beside the path that cannot be of ours is not touched, and not believed.
func TestT2AFileThatOthersMadeOrCanChangeIsForeign(t *testing.T) {
	for _, suffix := range []string{lockSuffix, tokenSuffix} {
		for name, c := range map[string]struct {
			content string
			make    func(string) error
			root    bool
		}{
			"text":               {"somebody else's", nil, false},
			"almost ours":        {"tandem lick file\n", nil, false},
			"large":              {strings.Repeat("\x00", maxOursSize+1), nil, false},
			"a second name":      {"", func(p string) error { return os.Link(p, p+".link") }, false},
			"written by a group": {"", func(p string) error { return os.Chmod(p, 0o620) }, false},
			"written by all":     {"", func(p string) error { return os.Chmod(p, 0o602) }, false},
			"another user's":     {"", func(p string) error { return os.Chown(p, nobody, nobody) }, true},
		} {
			t.Run(suffix+" "+name, func(t *testing.T) {
				if c.root && os.Geteuid() != 0 {
					t.Skip("a file of another user needs root")
				}
				path := testPath(t)
				if err := os.WriteFile(path+suffix, []byte(c.content), 0o600); err != nil {
					t.Fatal(err)
				}
				if c.make != nil {
					if err := c.make(path + suffix); err != nil {
						t.Fatal(err)
					}
				}
				before := footprintOf(path)
				_, err := Listen(testContext(t), path, nil)
				refuses(t, "Listen", path, before, err, ErrForeign, path+suffix)
				if got := readFile(t, path+suffix); got != c.content {
					t.Errorf("the file reads %q now", got)
				}
			})
		}
	}
}

// Whoever can write the directory can put another socket at the path.
func TestT2ADirectoryThatOthersCanWriteIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		mode  os.FileMode
		owner int
		fine  bool
	}{
		"own":               {0o755, os.Geteuid(), true},
		"a group's too":     {0o770, os.Geteuid(), true},
		"everybody's":       {0o777, os.Geteuid(), false},
		"everybody's, /tmp": {0o777 | os.ModeSticky, os.Geteuid(), false},
		"another user's":    {0o755, nobody, false},
	} {
		t.Run(name, func(t *testing.T) {
			if c.owner != os.Geteuid() && os.Geteuid() != 0 {
				t.Skip("a directory of another user needs root")
			}
			path := testPath(t)
			if err := errors.Join(os.Chmod(filepath.Dir(path), c.mode), os.Chown(filepath.Dir(path), c.owner, -1)); err != nil {
				t.Fatal(err)
			}
			if c.fine {
				works(t, path)
				return
			}
			before := footprintOf(path)
			_, err := Listen(testContext(t), path, nil)
			refuses(t, "Listen", path, before, err, nil, "nothing was started", "SharedDirectory", filepath.Dir(path))
			if insecure := new(insecureError); !errors.As(err, &insecure) {
				t.Errorf("Listen gave %v, want an error about the directory", err)
			}
			server := listenHere(t, path, &Options{SharedDirectory: true})
			event := nextEvent(t, server, EventInsecureDirectory)
			if event.Err == nil || !strings.Contains(event.Err.Error(), filepath.Dir(path)) || strings.Contains(event.Err.Error(), "nothing was started") {
				t.Errorf("event %+v, want who can write there, and nothing of a refusal", event)
			}
			checkNextClient(t, server, path)
		})
	}
}

// Behind a link, ".." is the parent of where the link leads. The directory that is
// judged is the one that the kernel goes to.
func TestT2TheDirectoryIsTheOneThatTheKernelUses(t *testing.T) {
	top := filepath.Dir(testPath(t))
	for _, c := range []struct {
		name string
		mode os.FileMode
	}{{"run", 0o755}, {"open", 0o777}, {"open/current", 0o755}} {
		if err := os.Mkdir(filepath.Join(top, c.name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(top, c.name), c.mode); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"run/link": "open/current", "open/current/back": "run"} {
		if err := os.Symlink(filepath.Join(top, target), filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	path := top + "/run/link/../s"
	_, err := Listen(testContext(t), path, nil)
	if insecure := new(insecureError); !errors.As(err, &insecure) || !strings.Contains(err.Error(), top+"/run/link/..") {
		t.Errorf("Listen in a directory that everybody can write: %v, want its name", err)
	}
	if files, err := os.ReadDir(filepath.Join(top, "open")); err != nil || len(files) != 1 {
		t.Errorf("it has left %v, %v", files, err)
	}
	server := listenHere(t, path, &Options{SharedDirectory: true})
	nextEvent(t, server, EventInsecureDirectory)
	works(t, top+"/open/current/back/../run//s") // a directory of this user's alone
	if err := os.Chmod(filepath.Join(top, "open"), 0o755); err != nil {
		t.Fatal(err)
	}
	works(t, top+"/run/link/../s2")
	_, err = Dial(testContext(t), top+"/missing/../s", nil)
	if !errors.Is(err, errNoDirectory) {
		t.Errorf("Dial through a directory that is not there: %v, want %v at once", err, errNoDirectory)
	}
}

func TestTheDirectoryOfAPathIsWhatStandsBeforeItsLastSlash(t *testing.T) {
	for path, want := range map[string]string{
		"s": ".", "./s": ".", "/s": "/", "a/s": "a", "a/../s": "a/..", "a/./b//s": "a/./b/", "../s": "..",
	} {
		if got := directoryOf(path); got != want {
			t.Errorf("the directory of %q is %q, want %q", path, got, want)
		}
	}
}

// Somebody may hold a lease of a file of ours. Listen waits for its end, up to that
// of its context.
func TestALeaseHoldsListenUpNoLongerThanItsContext(t *testing.T) {
	for _, suffix := range []string{lockSuffix, tokenSuffix} {
		path := testPath(t)
		works(t, path)
		file, err := os.Open(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
			t.Skipf("no leases here: %v", err)
		}
		ctx, cancel := context.WithTimeout(testContext(t), 20*time.Millisecond)
		_, err = Listen(ctx, path, nil)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "lease") {
			t.Errorf("Listen beside a lease of %s: %v", suffix, err)
		}
		_ = file.Close()
		works(t, path)
	}
}

// A file system may not come back from a call, which a hook that stays away stands
// for. Listen does, and what it began is undone later.
func TestListenEndsWithItsContextThoughItsFileSystemDoesNotAnswer(t *testing.T) {
	for _, at := range listenSteps {
		if t.Failed() {
			return // each failure takes its time
		}
		t.Run(at.String(), func(t *testing.T) {
			path := testPath(t)
			before := footprintOf(path)
			answer := make(chan struct{})
			ctx, cancel := context.WithCancel(testContext(t))
			_, err := Listen(ctx, path, &Options{hook: func(reached step.ID, _ uint64) {
				if reached == at {
					cancel()
					select {
					case <-answer:
					case <-time.After(20 * stallGrace):
						t.Errorf("at %v Listen waits for its file system", at)
					}
				}
			}})
			cancel()
			if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "file system") {
				t.Errorf("Listen: %v, want that it was cancelled", err)
			}
			close(answer)
			eventually(t, "what it began is undone", func() bool {
				server, err := Listen(testContext(t), path, nil)
				return err == nil && server.Close() == nil
			})
			nothingLeft(t, path, before)
			works(t, path)
		})
	}
}

// A hook that panics does so in the goroutine that called Listen, and leaves nothing.
func TestT4AHookThatPanicsInListenLeavesNothing(t *testing.T) {
	for _, ctx := range []context.Context{context.Background(), testContext(t)} {
		for _, at := range listenSteps {
			path := testPath(t)
			before := footprintOf(path)
			func() {
				defer func() {
					if p := recover(); p != "from the hook" {
						t.Errorf("at %v the panic is %v", at, p)
					}
				}()
				_, err := Listen(ctx, path, &Options{hook: func(reached step.ID, _ uint64) {
					if reached == at {
						panic("from the hook")
					}
				}})
				t.Errorf("at %v Listen came back with %v", at, err)
			}()
			nothingLeft(t, path, before)
			works(t, path)
		}
	}
}
