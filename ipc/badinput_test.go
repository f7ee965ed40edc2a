//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// With Options.FailFast nobody waits where no server listens, and the error says what is
// there; without it the error of the context says what was waited for.
func TestDialFailsFastWhereNoServerListens(t *testing.T) {
	empty, stale := testPath(t), testPath(t)
	a := startActor(t, actorArgument{Path: stale})
	a.ask("listening", "listen")
	a.kill()
	ended, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	for name, at := range map[string]struct{ path, says string }{
		"nothing":      {empty, "no server listens"},
		"stale socket": {stale, "no server listens"},
		"no directory": {empty + "/s", "directory"},
	} {
		e, err := Dial(testContext(t), at.path, &Options{FailFast: true, Wait: true})
		if e != nil || !errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), at.path) || !strings.Contains(err.Error(), at.says) {
			t.Errorf("%s: %v, want %v, %s and %q", name, err, ErrNoServer, at.path, at.says)
		}
		if name == "no directory" {
			continue
		}
		_, err = Dial(ended, at.path, nil)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), at.path) {
			t.Errorf("%s, waited for: %v", name, err)
		}
	}
	short, stop := context.WithCancel(context.Background())
	tries := 0
	hook := func(at step.ID, _ uint64) {
		if at == step.DialBegun {
			if tries++; tries == 3 {
				stop()
			}
		}
	}
	if _, err := Dial(short, empty, &Options{hook: hook}); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "no server listens") {
		t.Errorf("a Dial that has waited: %v, want it to say for what", err)
	}

	b := startActor(t, actorArgument{Path: empty})
	b.ask("listening", "listen")
	client := dialHere(t, empty, &Options{FailFast: true})
	b.kill()
	<-client.Done()
	if e, err := client.Redial(testContext(t)); e != nil || !errors.Is(err, ErrNoServer) {
		t.Errorf("Redial: %v, want %v", err, ErrNoServer)
	}
}

// refuses checks an error of Listen or Dial: what it is, what its text says, and
// that nothing is left of the attempt.
func refuses(t *testing.T, what string, path string, before footprint, err error, is error, says ...string) {
	t.Helper()
	if err == nil || is != nil && !errors.Is(err, is) {
		t.Errorf("%s gave %v, want %v", what, err, is)
		return
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s says %q, which does not tell %q", what, err, text)
		}
	}
	nothingLeft(t, path, before)
}

// works checks that a server and a client come together on the path.
func works(t *testing.T, path string) {
	t.Helper()
	server, err := Listen(testContext(t), path, nil)
	if err != nil {
		t.Fatalf("listen behind a failure: %v", err)
	}
	client, err := Dial(testContext(t), path, nil)
	if err != nil {
		t.Fatalf("dial behind a failure: %v", err)
	}
	for _, e := range []*Endpoint{client, server} {
		sendAll(t, e, 1, 2)
	}
	for _, e := range []*Endpoint{client, server} {
		for kind := range uint32(2) {
			m, err := e.Receive(testContext(t))
			if err != nil || m.Kind != kind+1 || checkPattern(m) != nil {
				t.Fatalf("received %+v, %v", m, err)
			}
			_ = m.Release()
		}
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAPathThatCannotNameASocketIsRefused(t *testing.T) {
	directory := filepath.Dir(testPath(t))
	long := filepath.Join(directory, strings.Repeat("x", maxPathSize-len(directory)))
	before := footprintOf(filepath.Join(directory, "s"))
	for _, c := range []struct{ path, says string }{
		{"", "empty"},
		{long, "use a shorter one"},
		{filepath.Join(directory, "a\x00b"), "zero byte"},
		{"@abstract", "./@abstract"},
		{filepath.Join(directory, "a.lock"), "ends in .lock"},
		{filepath.Join(directory, "a.token"), "ends in .token"},
		{filepath.Join(directory, "a.token.new"), "ends in .token.new"},
		{directory + "/", "names a directory"},
		{directory + "/.", "names a directory"},
		{directory + "/..", "names a directory"},
		{"/", "names a directory"},
		{".", "names a directory"},
		{"..", "names a directory"},
	} {
		_, err := Listen(t.Context(), c.path, nil)
		refuses(t, "Listen", filepath.Join(directory, "s"), before, err, nil, c.says)
		_, err = Dial(t.Context(), c.path, nil)
		refuses(t, "Dial", filepath.Join(directory, "s"), before, err, nil, c.says)
	}
	works(t, long[:maxPathSize]) // the longest that fits
}

func TestAMissingDirectoryIsToldAtOnce(t *testing.T) {
	path := filepath.Join(filepath.Dir(testPath(t)), "missing", "s")
	before := footprintOf("")
	_, err := Listen(testContext(t), path, nil)
	refuses(t, "Listen", "", before, err, fs.ErrNotExist, "create the directory")
	_, err = Dial(testContext(t), path, nil)
	refuses(t, "Dial", "", before, err, fs.ErrNotExist, "create it first")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	works(t, path)
}

func TestADirectoryThatIsAFileIsToldAtOnce(t *testing.T) {
	file := testPath(t)
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := footprintOf(file)
	_, err := Listen(testContext(t), filepath.Join(file, "s"), nil)
	refuses(t, "Listen", file, before, err, unix.ENOTDIR, file)
	_, err = Dial(testContext(t), filepath.Join(file, "s"), nil)
	refuses(t, "Dial", file, before, err, unix.ENOTDIR, file)
}

// What is advised can help: to try again does not, where the path itself leads nowhere.
func TestAPathThatLeadsNowhereIsToldWithWhatHelps(t *testing.T) {
	directory := filepath.Dir(testPath(t))
	within := func(name string) string { return filepath.Join(directory, name) }
	for link, to := range map[string]string{"loop": within("loop"), "long": strings.Repeat("n", 300)} {
		if err := os.Symlink(to, within(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(within("file"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path         string
		errno        error
		listen, dial string // what the error says; nothing where it waits, or says something else
	}{
		{within("file/s"), unix.ENOTDIR, "not a directory: use another", "not a directory: use another"},
		{within("file/below/s"), unix.ENOTDIR, "not a directory: use another", "not a directory: use another"},
		{"/dev/null/s", unix.ENOTDIR, "not a directory: use another", "not a directory: use another"},
		{within("loop/s"), unix.ELOOP, "lead in a circle", "lead in a circle"},
		{within("loop"), unix.ELOOP, "", "lead in a circle"},
		{within("long/s"), unix.ENAMETOOLONG, "too long: use another", "too long: use another"},
		{"/proc/s", unix.ENOENT, "the file system of /proc seems to take no such file", ""},
		{"/proc/self/s", unix.ENOENT, "the file system of /proc/self seems to take no such file", ""},
	} {
		for name, open := range map[string]func(context.Context, string, *Options) (*Endpoint, error){"Listen": Listen, "Dial": Dial} {
			says := map[string]string{"Listen": c.listen, "Dial": c.dial}[name]
			if says == "" {
				continue
			}
			before := footprintOf(within("file"))
			_, err := open(testContext(t), c.path, nil)
			refuses(t, name, within("file"), before, err, c.errno, says)
			for _, useless := range []string{"try again", "create the", "create it"} {
				if err != nil && strings.Contains(err.Error(), useless) {
					t.Errorf("%s on %s: %v: to %q does not help", name, c.path, err, useless)
				}
			}
		}
	}
	for _, name := range []string{"file", "loop", "long"} {
		if err := os.Remove(within(name)); err != nil {
			t.Error(err)
		}
	}
}

// Where a file system takes no files, a directory that may be written is not what lacks.
func TestAFileSystemWithoutFilesOfItsUsersIsNamed(t *testing.T) {
	for _, directory := range []string{"/sys/kernel", "/dev/pts"} {
		if unix.Faccessat(unix.AT_FDCWD, directory, unix.W_OK|unix.X_OK, unix.AT_EACCESS) != nil {
			continue // this user may not write there: that is told
		}
		before := footprintOf("")
		_, err := Listen(testContext(t), directory+"/s", nil)
		refuses(t, "Listen", "", before, err, fs.ErrPermission, "the file system of "+directory+" seems to take no such file")
	}
}

func TestAPathThatIsNotASocketIsForeignAndUntouched(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"regular file": func(path string) error { return os.WriteFile(path, []byte("mine"), 0o644) },
		"directory":    func(path string) error { return os.Mkdir(path, 0o755) },
		"fifo":         func(path string) error { return unix.Mkfifo(path, 0o644) },
		"symlink to a file": func(path string) error {
			if err := os.WriteFile(path+".target", []byte("mine"), 0o644); err != nil {
				return err
			}
			return os.Symlink(path+".target", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			old, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			before := footprintOf(path)
			_, err = Listen(testContext(t), path, nil)
			refuses(t, "Listen", path, before, err, ErrForeign, path, "not a socket")
			for _, suffix := range []string{lockSuffix, tokenSuffix} {
				if exists(path + suffix) {
					t.Errorf("a Listen that failed has left %s", path+suffix)
				}
			}
			_, err = Dial(testContext(t), path, nil)
			refuses(t, "Dial", path, before, err, ErrForeign, path, "not a socket")
			if now, err := os.Lstat(path); err != nil || !os.SameFile(old, now) || now.Mode() != old.Mode() || now.Size() != old.Size() {
				t.Errorf("what was at the path has changed: %+v, %v", now, err)
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			works(t, path)
		})
	}
}

func TestADanglingSymlinkIsForeignToAServer(t *testing.T) {
	path := testPath(t)
	if err := os.Symlink(path+".target", path); err != nil {
		t.Fatal(err)
	}
	before := footprintOf(path)
	_, err := Listen(testContext(t), path, nil)
	refuses(t, "Listen", path, before, err, ErrForeign, "not a socket")
}

func TestAClientFollowsASymlinkThroughTheDeathOfItsServer(t *testing.T) {
	path := testPath(t)
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	// A stale socket, as a server leaves it that was killed.
	_ = unix.Close(rawListen(t, path, unix.SOCK_SEQPACKET))
	dialled := make(chan error)
	go func() {
		client, err := Dial(testContext(t), link, nil)
		if err == nil {
			err = client.Close()
		}
		dialled <- err
	}()
	server := listenHere(t, path, nil)
	if err := <-dialled; err != nil {
		t.Errorf("dial through a symlink to a stale socket, then to a server: %v, want it to wait for the server", err)
	}
	_ = server.Close()
}

func TestAFileBesideThePathThatIsNotOursIsUntouched(t *testing.T) {
	for _, suffix := range []string{".lock", tokenSuffix, newTokenSuffix} {
		t.Run(suffix, func(t *testing.T) {
			path := testPath(t)
			for name, make := range map[string]func(string) error{
				"file":      func(p string) error { return os.WriteFile(p, []byte("somebody else's file"), 0o600) },
				"directory": func(p string) error { return os.Mkdir(p, 0o700) },
				"symlink":   func(p string) error { return os.Symlink(path+".elsewhere", p) },
				"fifo":      func(p string) error { return unix.Mkfifo(p, 0o600) },
			} {
				if err := make(path + suffix); err != nil {
					t.Fatal(err)
				}
				before := footprintOf(path)
				_, err := Listen(testContext(t), path, nil)
				refuses(t, "Listen with a foreign "+name, path, before, err, ErrForeign, path+suffix)
				if name == "file" {
					if content, err := os.ReadFile(path + suffix); err != nil || string(content) != "somebody else's file" {
						t.Errorf("the foreign file now reads %q, %v", content, err)
					}
				}
				if _, err := os.Lstat(path + ".elsewhere"); err == nil {
					t.Error("the target of a symlink was made")
				}
				if err := os.Remove(path + suffix); err != nil {
					t.Fatal(err)
				}
			}
			works(t, path)
		})
	}
}

func TestAnEmptyLockFileIsTakenOver(t *testing.T) {
	path := testPath(t)
	if err := os.WriteFile(path+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	works(t, path)
}

func TestTheSocketOfAnotherProgramIsForeign(t *testing.T) {
	for name, kind := range map[string]int{"stream": unix.SOCK_STREAM, "datagram": unix.SOCK_DGRAM} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			fd := rawListen(t, path, kind)
			before := footprintOf(path)
			_, err := Listen(testContext(t), path, nil)
			refuses(t, "Listen", path, before, err, ErrForeign, path, "another program")
			_, err = Dial(testContext(t), path, nil)
			refuses(t, "Dial", path, before, err, ErrForeign, path, "another program")
			_ = unix.Close(fd)
			works(t, path)
		})
	}
}

func TestASocketThatAnswersGarbageIsForeign(t *testing.T) {
	magicOnly := newPacket(packetGrant)
	for name, answer := range map[string]func(*conn) error{
		"a few bytes":        func(c *conn) error { return unix.Send(c.fd, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), 0) },
		"the size of ours":   func(c *conn) error { return unix.Send(c.fd, make([]byte, packetSize), 0) },
		"a byte more":        func(c *conn) error { return unix.Send(c.fd, make([]byte, packetSize+1), 0) },
		"very much":          func(c *conn) error { return unix.Send(c.fd, make([]byte, 1<<16), 0) },
		"a grant of nothing": func(c *conn) error { return c.send(magicOnly) },
		"a hello":            func(c *conn) error { return c.send(newPacket(packetHello)) },
		"files and no grant": func(c *conn) error { return c.send(newPacket(packetReady), 0, 0, 0) },
		"too few files":      func(c *conn) error { return c.send(magicOnly, 0, 0) },
		"too many files":     func(c *conn) error { return c.send(magicOnly, 0, 0, 0, 0, 0, 0, 0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			path := testPath(t)
			rawServe(t, path, func(c *conn) {
				_, _, _ = c.receive(0)
				if err := answer(c); err != nil {
					t.Error(err)
				}
				_, _, _ = c.receive(0) // the client hangs up
			})
			before := footprintOf(path)
			_, err := Dial(testContext(t), path, nil)
			if !errors.Is(err, ErrForeign) && !errors.Is(err, unix.EMFILE) {
				t.Errorf("Dial gave %v, want ErrForeign", err)
			}
			nothingLeft(t, path, before)
		})
	}
}

func TestAServerThatGrantsForeignFilesIsCorrupt(t *testing.T) {
	for name, grant := range map[string]func(c *conn, p packet) error{
		"no memfd":        func(c *conn, p packet) error { return c.send(p, 0, 0, 0) },
		"ring of 0":       func(c *conn, p packet) error { p.ToClientSize = 0; return c.send(p, 0, 0, 0) },
		"ring too large":  func(c *conn, p packet) error { p.ToServerSize = MaxRingSize * 2; return c.send(p, 0, 0, 0) },
		"ring not 2^n":    func(c *conn, p packet) error { p.ToServerSize = 12288; return c.send(p, 0, 0, 0) },
		"ring below page": func(c *conn, p packet) error { p.ToServerSize = 8; return c.send(p, 0, 0, 0) },
		"unsealed memory": func(c *conn, p packet) error {
			fd, err := unix.MemfdCreate("foreign", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return c.send(p, fd, fd, fd)
		},
		"memory of another size": func(c *conn, p packet) error {
			s, err := newSegment(RoleServer, 1, 2*uint64(os.Getpagesize()), positions{}, nil)
			if err != nil {
				return err
			}
			defer s.release()
			return c.send(p, s.file, s.file, s.file)
		},
		"memory of another role": func(c *conn, p packet) error {
			s, err := newSegment(RoleServer, 1, p.ToClientSize, positions{}, nil)
			if err != nil {
				return err
			}
			defer s.release()
			return c.send(p, s.file, s.file, s.file)
		},
		"memory of another generation (L4)": func(c *conn, p packet) error {
			s, err := newSegment(RoleServer, 2, p.ToClientSize, positions{}, nil)
			if err != nil {
				return err
			}
			defer s.release()
			return c.send(p, s.file, s.file, s.file)
		},
	} {
		t.Run(name, func(t *testing.T) {
			needsRealKernel(t, cutOffLeaks)
			path := testPath(t)
			rawServe(t, path, func(c *conn) {
				_, _, _ = c.receive(0)
				p := newPacket(packetGrant)
				p.Generation, p.Attachment, p.ToServerSize, p.ToClientSize = 1, 1, uint64(os.Getpagesize()), uint64(os.Getpagesize())
				if err := grant(c, p); err != nil {
					t.Error(err)
				}
				_, _, _ = c.receive(0)
			})
			before := footprintOf(path)
			_, err := Dial(testContext(t), path, nil)
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
				t.Errorf("Dial gave %v, want a CorruptError, or why the memory cannot be checked or mapped", err)
			}
			nothingLeft(t, path, before)
		})
	}
}

func TestASocketThatAnswersNothingIsWaitedForUntilTheContextEnds(t *testing.T) {
	path := testPath(t)
	rawListen(t, path, unix.SOCK_SEQPACKET) // it never accepts
	before := footprintOf(path)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := Dial(ctx, path, &Options{HandshakeTimeout: 20 * time.Millisecond})
	refuses(t, "Dial", path, before, err, context.DeadlineExceeded, path)
	ctx, cancel = context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := Dial(ctx, path, &Options{HandshakeTimeout: time.Hour, hook: cancelAt(step.HelloSent, cancel)})
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-time.After(watchdog):
		t.Fatalf("Dial goes on after the end of its context\n%s", stacks())
	}
	refuses(t, "Dial that is cancelled while it waits for the answer", path, before, err, context.Canceled, path)
	_, err = Listen(testContext(t), path, nil)
	refuses(t, "Listen", path, before, err, ErrServerRunning, path)
}

// otherVersions make a packet one of somebody with another version.
var otherVersions = map[string]func(*packet){
	"other version":   func(p *packet) { p.Version++ },
	"older version":   func(p *packet) { p.Version-- },
	"other layout":    func(p *packet) { p.Fingerprint ^= 1 << 63 },
	"other page size": func(p *packet) { p.PageSize *= 4 },
}

func TestAServerTellsAClientOfAnotherVersion(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, nil)
	for name, change := range otherVersions {
		before := footprintOf(path)
		hello := newPacket(packetHello)
		change(&hello)
		c := rawConnect(t, path)
		if err := c.send(hello); err != nil {
			t.Fatal(err)
		}
		p, files, err := c.receive(3)
		if err != nil || len(files) != 0 || p.Type != packetRefuse || p.Reason != reasonVersion {
			t.Errorf("%s: answered with %+v, %d descriptors, %v; want a refusal for the version, and no memory", name, p, len(files), err)
		}
		if p.compatible() != nil {
			t.Errorf("%s: the refusal does not tell the server's own version: %+v", name, p)
		}
		c.hangUp()
		nothingLeft(t, path, before)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	works(t, path)
}

func TestAClientTellsAServerOfAnotherVersion(t *testing.T) {
	for name, change := range otherVersions {
		for kind, with := range map[string]int{"refusal": 0, "grant": 3} {
			t.Run(name+" in a "+kind, func(t *testing.T) {
				path := testPath(t)
				rawServe(t, path, func(c *conn) {
					_, _, _ = c.receive(0)
					p := newPacket(packetRefuse)
					p.Reason = reasonVersion
					if with != 0 {
						p = newPacket(packetGrant)
					}
					change(&p)
					_ = c.send(p, make([]int, with)...)
					_, _, _ = c.receive(0)
				})
				before := footprintOf(path)
				_, err := Dial(testContext(t), path, nil)
				theirs := newPacket(packetGrant)
				change(&theirs)
				var version *VersionError
				if !errors.As(err, &version) || version.Theirs != theirs.Version || version.TheirLayout != theirs.Fingerprint || version.TheirPageSize != theirs.PageSize {
					t.Fatalf("Dial gave %v (%+v), want a VersionError that names what the server has", err, version)
				}
				if version.Ours != protocolVersion || version.OurLayout != layoutFingerprint() || version.OurPageSize != uint32(os.Getpagesize()) {
					t.Errorf("the error names %+v as our own", version)
				}
				refuses(t, "Dial", path, before, err, nil, "build")
			})
		}
	}
}

func TestAnotherVersionIsToldEvenIfItsPacketsHaveAnotherSize(t *testing.T) {
	path := testPath(t)
	for _, size := range []int{packetSize - 16, packetSize + 1, packetSize + 64} {
		other := newPacket(packetHello)
		other.Version = protocolVersion + 1
		data := make([]byte, 2*packetSize)
		encode(t, data, other)
		server := listenHere(t, path, nil)
		c := rawConnect(t, path)
		if err := unix.Send(c.fd, data[:size], 0); err != nil {
			t.Fatal(err)
		}
		if p, _, err := c.receive(0); err != nil || p.Reason != reasonVersion {
			t.Errorf("a hello of %d bytes and another version: %+v, %v; want a refusal for the version", size, p, err)
		}
		c.hangUp()
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		t.Run("", func(t *testing.T) {
			path := testPath(t)
			rawServe(t, path, func(c *conn) {
				_, _, _ = c.receive(0)
				_ = unix.Send(c.fd, data[:size], 0)
				_, _, _ = c.receive(0)
			})
			var version *VersionError
			if _, err := Dial(testContext(t), path, nil); !errors.As(err, &version) || version.Theirs != protocolVersion+1 {
				t.Errorf("an answer of %d bytes and another version: %v, want a VersionError", size, err)
			}
		})
	}
}

func TestAHelloThatIsNoneGetsNoMemory(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, &Options{HandshakeTimeout: 50 * time.Millisecond})
	for name, say := range map[string]func(*conn) error{
		"nothing":             func(*conn) error { return nil },
		"an end":              func(c *conn) error { return unix.Shutdown(c.fd, unix.SHUT_WR) },
		"an empty packet":     func(c *conn) error { return unix.Send(c.fd, nil, 0) },
		"garbage":             func(c *conn) error { return unix.Send(c.fd, []byte("hello"), 0) },
		"a page of garbage":   func(c *conn) error { return unix.Send(c.fd, make([]byte, 4096), 0) },
		"a wrong magic":       func(c *conn) error { p := newPacket(packetHello); p.Magic++; return c.send(p) },
		"a ready":             func(c *conn) error { return c.send(newPacket(packetReady)) },
		"a grant":             func(c *conn) error { return c.send(newPacket(packetGrant)) },
		"a hello with a file": func(c *conn) error { return c.send(newPacket(packetHello), 0) },
		"a hello with many":   func(c *conn) error { return c.send(newPacket(packetHello), make([]int, 200)...) },
	} {
		before := footprintOf(path)
		c := rawConnect(t, path)
		if err := say(c); err != nil && !errors.Is(err, unix.EPERM) { // since Linux 6.16 nobody can send a file
			t.Fatalf("%s: %v", name, err)
		}
		if p, files, err := c.receive(3); err == nil && (p.Type == packetGrant || len(files) > 0) {
			t.Errorf("%s was answered with %+v and %d descriptors, want the end", name, p, len(files))
		}
		c.hangUp()
		nothingLeft(t, path, before)
	}
	if got := server.Stats().Attachments; got != 0 {
		t.Errorf("%d attachments counted, want none", got)
	}
	client := dialHere(t, path, nil)
	nextEvent(t, server, EventAttached)
	_ = client.Close()
}

func TestOptionsOutOfRangeAreRefusedWithTheRange(t *testing.T) {
	path := testPath(t)
	page := os.Getpagesize()
	before := footprintOf(path)
	for name, c := range map[string]struct {
		options Options
		says    []string
	}{
		"size below a page":      {Options{ToServerSize: page / 2}, []string{"ToServerSize", "power of two from"}},
		"negative size":          {Options{ToClientSize: -page}, []string{"ToClientSize", "power of two from"}},
		"size not a power of 2":  {Options{ToClientSize: 3 * page}, []string{"ToClientSize", "power of two from"}},
		"size beyond the limit":  {Options{ToServerSize: 2 * MaxRingSize}, []string{"ToServerSize", "1073741824"}},
		"negative spin":          {Options{Spin: -time.Second}, []string{"Spin", "NoSpin"}},
		"negative heartbeat":     {Options{HeartbeatInterval: -1}, []string{"HeartbeatInterval", "negative"}},
		"heartbeat too short":    {Options{HeartbeatInterval: time.Microsecond}, []string{"HeartbeatInterval", "millisecond"}},
		"negative hang timeout":  {Options{HangTimeout: -1}, []string{"HangTimeout", "negative"}},
		"hang timeout too short": {Options{HangTimeout: 200 * time.Millisecond}, []string{"HangTimeout", "three heartbeats"}},
		"negative handshake":     {Options{HandshakeTimeout: -1}, []string{"HandshakeTimeout", "negative"}},
		"negative close timeout": {Options{CloseTimeout: -1}, []string{"CloseTimeout", "negative"}},
	} {
		_, err := Listen(t.Context(), path, &c.options)
		refuses(t, "Listen with "+name, path, before, err, nil, c.says...)
		_, err = Dial(t.Context(), path, &c.options)
		refuses(t, "Dial with "+name, path, before, err, nil, c.says...)
	}
	if _, err := os.Lstat(path + ".lock"); err == nil {
		t.Error("a Listen with wrong options has made the lock file")
	}
	for _, size := range []int{page, 2 * page, 64 << 20} {
		server, client := listenHere(t, path, &Options{ToServerSize: size, ToClientSize: page}), dialHere(t, path, nil)
		if err := client.Send(testContext(t), 1, make([]byte, size-headerSize)); err != nil {
			t.Errorf("a message as large as a ring of %d: %v", size, err)
		}
		if err := client.TrySend(1, make([]byte, size-headerSize+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a message larger than a ring of %d: %v, want ErrTooLarge", size, err)
		}
		_ = client.Close()
		_ = server.Close()
	}
	nothingLeft(t, path, before)
}
