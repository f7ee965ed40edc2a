//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// The requests of FUSE that are answered here, from linux/fuse.h.
const (
	fuseLookup  = 1
	fuseGetattr = 3
	fuseOpen    = 14
	fuseFlush   = 25
	fuseInit    = 26

	fuseHeader = 40
)

// A slowToken is a file of a file system that answers what it takes to open it, and
// nothing else: another process that asks it anything more waits until this one ends.
// It lies in a queue, for a process that ends and has it open would wait for itself.
type slowToken struct{ in, out *conn }

// newSlowToken mounts the file system. It is only for processes that play a part, in
// mounts of their own.
func newSlowToken(directory string) (slowToken, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return slowToken{}, err
	}
	token := slowToken{&conn{fd: pair[0]}, &conn{fd: pair[1]}}
	file, err := mountFUSE(directory)
	if err == nil {
		err = token.put(file)
	}
	return token, err
}

func (k slowToken) put(file int) error {
	err := k.in.send(newPacket(packetGrant), file)
	_ = unix.Close(file)
	return err
}

// use calls f with the file.
func (k slowToken) use(f func(file int)) error {
	fds, err := k.out.rights(1, 0)
	if err != nil || len(fds) != 1 {
		return fmt.Errorf("%d descriptors, %w", len(fds), err)
	}
	f(fds[0])
	return k.put(fds[0])
}

func mountFUSE(directory string) (file int, err error) {
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device)
	if err := unix.Mount("tandem", directory, "fuse", unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
		return -1, err
	}
	go func() {
		request := make([]byte, 1<<17+4096)
		for {
			n, err := unix.Read(device, request)
			if err == nil && n >= fuseHeader {
				answerFUSE(device, request[:n])
			}
		}
	}()
	return unix.Open(filepath.Join(directory, "f"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

func answerFUSE(device int, request []byte) {
	order := binary.LittleEndian
	attributes := func(node uint64) []byte { // struct fuse_attr
		b, mode := make([]byte, 88), uint32(unix.S_IFREG|0o644)
		if node == 1 {
			mode = unix.S_IFDIR | 0o755
		}
		order.PutUint64(b, node)
		order.PutUint32(b[60:], mode)
		order.PutUint32(b[64:], 1)
		return b
	}
	var out []byte
	switch node := order.Uint64(request[16:]); order.Uint32(request[4:]) {
	case fuseInit: // protocol 7.31, locks are asked of it
		out = make([]byte, 64)
		order.PutUint32(out, 7)
		order.PutUint32(out[4:], 31)
		order.PutUint32(out[12:], 1<<1) // FUSE_POSIX_LOCKS
		order.PutUint32(out[20:], 4096)
	case fuseLookup:
		out = append(make([]byte, 40), attributes(2)...)
		order.PutUint64(out, 2)
		order.PutUint64(out[16:], 3600)
		order.PutUint64(out[24:], 3600)
	case fuseGetattr:
		out = append(make([]byte, 16), attributes(node)...)
		order.PutUint64(out, 3600)
	case fuseOpen:
		out = make([]byte, 16)
	case fuseFlush:
		if !exists(fmt.Sprintf("/proc/self/task/%d", order.Uint32(request[32:]))) {
			return // another process asks
		}
	default:
		return
	}
	header := make([]byte, 16, 16+len(out))
	order.PutUint32(header, uint32(16+len(out)))
	order.PutUint64(header[8:], order.Uint64(request[8:]))
	_, _ = unix.Write(device, append(header, out...))
}

// A server whose grant is sound but for its token: a file of a file system that
// answers nothing that is asked of it. It is told what to do with a client: "many" grants 250 of these, "hang up" hangs up behind the grant, and
// "stay" keeps the connection.
var _ = sceneOf("a server whose token does not close", func(s *scene) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		s.forbidden("private mounts", err)
	}
	directory := s.path + ".fuse"
	if err := os.Mkdir(directory, 0o700); err != nil {
		s.fail("%v", err)
	}
	token, err := newSlowToken(directory)
	if err != nil {
		s.forbidden("FUSE", err)
	}
	page := uint64(os.Getpagesize())
	memory := func(role Role) int {
		m, err := newSegment(role, 1, page, positions{}, nil)
		if err != nil {
			s.fail("%v", err)
		}
		return m.file
	}
	files := []int{memory(RoleServer), memory(RoleClient)}
	listener, err := newSocket(0)
	if err == nil {
		err = errors.Join(unix.Bind(listener, &unix.SockaddrUnix{Name: s.path}), unix.Listen(listener, 64))
	}
	if err != nil {
		s.fail("%v", err)
	}
	end := func() error { return unix.Unmount(directory, unix.MNT_FORCE|unix.MNT_DETACH) } // who waits goes on
	time.AfterFunc(2*watchdog, func() {                                                    // a process that waits cannot be killed, nor let this one go
		_ = end()
		os.Exit(1)
	})
	s.say("ready")
	go token.serve(s, s.next(), listener, files)
	s.next()
	if err := end(); err != nil {
		s.fail("unmount: %v", err)
	}
	s.say("ended")
	s.next()
})

// serve grants the memories and the token to each client that comes.
func (k slowToken) serve(s *scene, mode string, listener int, files []int) {
	page := uint64(os.Getpagesize())
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err != nil {
			s.fail("accept: %v", err)
		}
		c := &conn{fd: fd}
		_, _, _ = c.receive(0)
		p := newPacket(packetGrant)
		p.Generation, p.Attachment, p.ToServerSize, p.ToClientSize = 1, 1, page, page
		err = k.use(func(file int) {
			granted := append(slices.Clone(files), file)
			if mode == "many" {
				granted = slices.Repeat([]int{file}, 250)
			}
			_ = c.send(p, granted...)
		})
		if err != nil {
			s.fail("%v", err)
		}
		if mode == "hang up" {
			_ = unix.Close(fd)
		}
	}
}

// serveToken starts that server, in the given mode. end ends it with its file system,
// and what is stuck goes on.
func serveToken(t *testing.T, mode string) (path string, end func()) {
	t.Helper()
	needsRealKernel(t, "a file system of its own is the kernel's")
	path = testPath(t)
	server := startIn(t, unix.CLONE_NEWNS, "scene", sceneArgument{"a server whose token does not close", path})
	server.expect("ready")
	server.tell("%s", mode)
	end = sync.OnceFunc(func() {
		server.tell("end")
		server.expect("ended")
		eventually(t, "everything is closed when its file system has gone", aside.idle)
	})
	t.Cleanup(end)
	return path, end
}

// A token is any file of the server's choice: no call asks its file system anything
// where somebody waits for the answer.
func TestT1ATokenWhoseFileSystemDoesNotAnswerHoldsUpNeitherDialNorClose(t *testing.T) {
	for _, mode := range []string{"many", "hang up", "stay"} {
		t.Run(mode, func(t *testing.T) {
			path, _ := serveToken(t, mode)
			ended := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
				defer cancel()
				client, err := Dial(ctx, path, &Options{CloseTimeout: 100 * time.Millisecond})
				if err == nil {
					err = client.Close()
				}
				ended <- err
			}()
			select {
			case err := <-ended:
				if mode != "hang up" && (err == nil) != (mode == "stay") { // there its ready may come in time
					t.Errorf("Dial and Close gave %v", err)
				}
			case <-time.After(watchdog):
				t.Fatalf("they do not end\n%s", stacks())
			}
			aside.mu.Lock()
			underWay := len(aside.parked) + aside.workers + aside.apart
			aside.mu.Unlock()
			if underWay > maxUnderWay {
				t.Errorf("%d descriptors are being closed", underWay)
			}
		})
	}
}

// A server that hangs up behind its grant is dialled again, and each time something is
// left that does not close. That has a bound, for the whole process, and Dial says so.
func TestT1ADialTakesNothingMoreWhileDescriptorsDoNotClose(t *testing.T) {
	path, end := serveToken(t, "hang up")
	var attempts int
	options := &Options{CloseTimeout: time.Millisecond, hook: func(at step.ID, _ uint64) {
		if at == step.Connected {
			attempts++
		}
	}}
	client, err := Dial(testContext(t), path, options)
	for err == nil { // its ready came before the end
		_ = client.Close()
		client, err = Dial(testContext(t), path, options)
	}
	if !errors.Is(err, errStuck) || attempts == 0 || attempts > maxUnderWay {
		t.Errorf("Dial gave %v after %d attempts, want that descriptors do not close, after %d at most", err, attempts, maxUnderWay)
	}
	honest := testPath(t)
	listenHere(t, honest, nil)
	if _, err := Dial(testContext(t), honest, nil); !errors.Is(err, errStuck) {
		t.Errorf("another Dial gave %v, want the same", err)
	}
	end()
	dialHere(t, honest, nil)
}

// An honest client's token is free when its Close returns, though others do not close.
func TestT1AnHonestTokenDoesNotWaitForThoseThatDoNotClose(t *testing.T) {
	path := testPath(t)
	listenHere(t, path, nil)
	attached := dialHere(t, path, nil)
	attached.life.(*client).prompt = false // as on a disk
	release := make(chan struct{})
	var jobs sync.WaitGroup
	for range 2 * maxAside {
		jobs.Add(1)
		aside.do(func() { defer jobs.Done(); <-release })
	}
	defer jobs.Wait()
	defer close(release)
	if err := attached.Close(); err != nil {
		t.Fatal(err)
	}
	token, err := openTokenFile(testContext(t), path)
	if err != nil {
		t.Fatal(err)
	}
	defer token.close()
	if taken, err := token.taken(); taken || err != nil {
		t.Errorf("behind Close the token is taken: %t, %v", taken, err)
	}
}
