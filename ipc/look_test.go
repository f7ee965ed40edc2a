//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ioctls of userfaultfd(2), from linux/userfaultfd.h, and its register mode for pages
// that are missing.
const (
	uffdAPI        = 0xc018aa3f
	uffdRegister   = 0xc020aa00
	uffdVersion    = 0xaa
	uffdMissing    = 1
	uffdMessageLen = 32
)

// holdAnEpoll makes an epoll whose lock is held for ever: the kernel holds it while it
// writes an event into memory, and the page of that never comes. userfaultfd asks for a
// privilege where a page of a FUSE file would ask for none.
func holdAnEpoll() error {
	fault, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		return errno
	}
	page := uintptr(os.Getpagesize())
	mem, err := unix.MmapPtr(-1, 0, nil, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	api, register := [3]uint64{uffdVersion}, [4]uint64{uint64(uintptr(mem)), uint64(page), uffdMissing}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fault, uffdAPI, uintptr(unsafe.Pointer(&api))); errno != 0 {
		return errno
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fault, uffdRegister, uintptr(unsafe.Pointer(&register))); errno != 0 {
		return errno
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	event, err := unix.Eventfd(1, unix.EFD_CLOEXEC)
	if err != nil {
		return err
	}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		return err
	}
	go func() {
		_, _, _ = unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(mem), 1, ^uintptr(0), 0, 0)
	}()
	_, err = unix.Read(int(fault), make([]byte, uffdMessageLen)) // it has come to the page
	return err
}

var _ = sceneOf("a client with an epoll that is held", func(s *scene) {
	if err := holdAnEpoll(); err != nil {
		s.forbidden("userfaultfd", err)
	}
	if _, err := Dial(s.ctx, s.path, nil); err != nil {
		s.fail("dial: %v", err)
	}
	s.say("attached")
	s.untilStdinEnds()
})

var _ = sceneOf("a process with an epoll that is held", func(s *scene) {
	if err := holdAnEpoll(); err != nil {
		s.forbidden("userfaultfd", err)
	}
	s.say("holds")
	s.untilStdinEnds()
})

// What the kernel says of an epoll waits for its lock, which a client can hold for ever.
func TestT1AnEpollThatIsHeldKeepsNobodyFromKilling(t *testing.T) {
	needsRealKernel(t, "qemu-user has no userfaultfd")
	for _, how := range []string{"KillPeer", "KillOnClose", "KillOrphan"} {
		t.Run(how, func(t *testing.T) {
			path := testPath(t)
			options := &Options{CloseTimeout: time.Millisecond, KillOnClose: how == "KillOnClose", KillOrphan: true}
			server := listenHere(t, path, options)
			client := start(t, "scene", sceneArgument{"a client with an epoll that is held", path})
			client.says("attached")
			nextEvent(t, server, EventAttached)
			switch how {
			case "KillPeer":
				if err := server.KillPeer(); err != nil {
					t.Error(err)
				}
			case "KillOnClose":
				if err := server.Close(); err != nil {
					t.Error(err)
				}
			default:
				_ = server.Close() // its client does not leave
				listenHere(t, path, options)
			}
			if signal := client.wait(); signal != syscall.SIGKILL {
				t.Errorf("the client ended with signal %v", signal)
			}
		})
	}
}

// A server that looks for a copy of the token looks at every process, also at those that
// never were clients.
func TestT1AnEpollThatIsHeldKeepsNobodyOut(t *testing.T) {
	needsRealKernel(t, "qemu-user has no userfaultfd")
	path := testPath(t)
	server := listenHere(t, path, nil)
	client, token := handsOn(t, "hand on the token", path)
	nextEvent(t, server, EventAttached)
	start(t, "scene", sceneArgument{"a process with an epoll that is held", path}).says("holds")
	client.kill()
	nextEvent(t, server, EventDied)
	if _, err := Dial(testContext(t), path, nil); !errors.Is(err, ErrClientRunning) {
		t.Errorf("beside a copy of the token: %v", err)
	}
	letGo(token)
	if _, end := receiveAll(t, server); !errors.Is(end, ErrPeerDied) {
		t.Errorf("of the first client: %v", end)
	}
	checkNextClient(t, server, path)
	if err := server.Close(); err != nil {
		t.Error(err)
	}
}

// A look that does not come back is left behind, and there are never more of them than
// maxLooks.
func TestT1ALookThatDoesNotComeBackIsNotWaitedFor(t *testing.T) {
	release, under := make(chan struct{}), make(chan struct{})
	stuck := func(string) (bool, error) {
		under <- struct{}{}
		<-release
		return true, nil
	}
	var waiting sync.WaitGroup
	ctx, cancel := context.WithCancel(testContext(t))
	for range maxLooks {
		waiting.Go(func() {
			if is, err := eachDescriptor(ctx, os.Getpid(), stuck); is || !errors.Is(err, errNoEvidence) {
				t.Errorf("found %v, %v", is, err)
			}
		})
	}
	for range maxLooks {
		<-under
	}
	cancel()
	waiting.Wait()
	brief, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := eachDescriptor(brief, os.Getpid(), func(string) (bool, error) { t.Errorf("more than %d look", maxLooks); return true, nil })
	if !errors.Is(err, errNoEvidence) {
		t.Error(err)
	}
	close(release)
	if is, err := eachDescriptor(testContext(t), os.Getpid(), func(string) (bool, error) { return true, nil }); !is || err != nil {
		t.Errorf("when all have come back: %v, %v", is, err)
	}
}
