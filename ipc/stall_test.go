//go:build linux && (amd64 || arm64)

package ipc

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// What a seccomp filter needs that asks a supervisor, from linux/seccomp.h.
const (
	seccompNewListener    = 8
	seccompTSyncESRCH     = 16
	seccompReturnAsk      = 0x7fc00000
	seccompReceiveRequest = 0xc0502100
	seccompSendAnswer     = 0xc0182101
	seccompContinue       = 1
)

// A request is struct seccomp_notif.
type request struct {
	id        uint64
	thread    uint32
	_         uint32
	number    int32
	arch      uint32
	at        uint64
	arguments [6]uint64
}

// An answer is struct seccomp_notif_resp.
type answer struct {
	id     uint64
	value  int64
	errno  int32
	action uint32
}

// A slowFile stalls one kind of call about one path, as a file system does that does
// not answer: that of the first thread that makes it, until resume. It is only for
// processes that play a part.
type slowFile struct {
	path    string
	skip    uintptr       // where the path stands in what the second argument points to
	stalled chan struct{} // closed when a call is stalled
	fd      int

	mu      sync.Mutex
	thread  uint32 // the one that is stalled, once there is one
	waiting uint64 // its request; it comes again when a signal interrupts the call
	resumed bool
}

// stall begins to stall a call about the path, which its second argument leads to.
func stall(call uint32, path string) (*slowFile, error) {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	filter := []unix.SockFilter{
		load(seccompNumber),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: seccompReturnAsk},
		{Code: unix.BPF_RET | unix.BPF_K, K: seccompReturnAllow},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("no new privileges: %w", err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, seccompSetModeFilter,
		seccompFilterTSync|seccompNewListener|seccompTSyncESRCH, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return nil, fmt.Errorf("seccomp with a supervisor: %w", errno)
	}
	runtime.KeepAlive(filter)
	s := &slowFile{path: path, stalled: make(chan struct{}), fd: int(fd)}
	if call == unix.SYS_CONNECT {
		s.skip = unsafe.Offsetof(unix.RawSockaddrUnix{}.Path)
	}
	go s.supervise()
	return s, nil
}

// supervise answers the process's own requests. It makes no call that asks.
func (s *slowFile) supervise() {
	for {
		var r request
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), seccompReceiveRequest, uintptr(unsafe.Pointer(&r)))
		if errno != 0 {
			continue // the call was interrupted meanwhile
		}
		s.mu.Lock()
		name := unix.BytePtrToString((*byte)(unsafe.Add(*(*unsafe.Pointer)(unsafe.Pointer(&r.arguments[1])), s.skip))) // the caller waits
		hold := name == s.path && !s.resumed && (s.thread == 0 || s.thread == r.thread)
		if hold && s.thread == 0 {
			s.thread = r.thread
			close(s.stalled)
		}
		if hold {
			s.waiting = r.id
		} else {
			s.proceed(r.id)
		}
		s.mu.Unlock()
	}
}

// proceed lets a call go on.
func (s *slowFile) proceed(id uint64) {
	a := answer{id: id, action: seccompContinue}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(s.fd), seccompSendAnswer, uintptr(unsafe.Pointer(&a)))
}

// resume ends the stall.
func (s *slowFile) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resumed = true
	s.proceed(s.waiting)
}

// onAStalledPath listens and dials, stalls the path, and waits until a look has met
// that.
func (s *scene) onAStalledPath(o *Options) (server, client *Endpoint, slow *slowFile) {
	server, client = s.pair(o)
	slow, err := stall(unix.SYS_NEWFSTATAT, s.path)
	if err != nil {
		s.say("skip %v", err)
		s.next()
	}
	<-slow.stalled
	return server, client, slow
}

var _ = sceneOf("a stalled look", func(s *scene) {
	var beats atomic.Int64
	server, client, slow := s.onAStalledPath(&Options{HeartbeatInterval: 2 * time.Millisecond, HangTimeout: time.Hour, hook: func(at step.ID, _ uint64) {
		if at == step.Beaten {
			beats.Add(1)
		}
	}})
	s.say("stalled")
	for n := beats.Load() + 200; beats.Load() < n; { // of both, and more than a look lets pass
		time.Sleep(time.Millisecond) // sleep: between two looks at a counter
	}
	before := server.own.control.beat.Load()
	for server.own.control.beat.Load() < before+3*pathLookEvery {
		time.Sleep(time.Millisecond) // sleep: between two looks at a counter
	}
	s.exchange(server, client)
	s.closeBoth(server, client) // behind a look that is stuck still
	if !server.looking.Load() {
		s.fail("the look has come back: the scene is blind")
	}
	slow.resume()
	for server.looking.Load() {
		time.Sleep(time.Millisecond) // sleep: between two looks at a counter
	}
	for event := range server.Events() {
		if event.Kind == EventPathLost {
			s.fail("%v, of one's own Close", event.Kind)
		}
	}
})

var _ = sceneOf("a look beside Close", func(s *scene) {
	var server *Endpoint
	var slow *slowFile
	server, client, slow := s.onAStalledPath(&Options{HeartbeatInterval: 2 * time.Millisecond, HangTimeout: time.Hour, hook: func(at step.ID, _ uint64) {
		if at == step.PathUnlinked {
			slow.resume() // the look finds what Close has left: nothing
			for server.looking.Load() {
				time.Sleep(time.Millisecond) // sleep: between two looks at a counter
			}
		}
	}})
	s.say("stalled")
	s.closeBoth(server, client)
	for event := range server.Events() {
		if event.Kind == EventPathLost {
			s.fail("%v, of one's own Close", event.Kind)
		}
	}
})

// playStalled runs a scene that stalls the path, or skips the test.
func playStalled(t *testing.T, name string) {
	p := start(t, "scene", sceneArgument{name, testPath(t)})
	select {
	case line := <-p.lines:
		if len(line) > 4 && line[:4] == "skip" {
			t.Skipf("nothing can be stalled here: %s", line[5:])
		}
		if line != "stalled" {
			t.Fatalf("%s said %q", name, line)
		}
	case <-time.After(watchdog):
		t.Fatalf("no look at the path in %v", watchdog)
	}
	p.expect("ok")
}

func TestL6AFileSystemThatStallsHoldsUpNeitherTheBeatNorClose(t *testing.T) {
	playStalled(t, "a stalled look")
}

func TestC5ALookBesideOnesOwnCloseTellsNothing(t *testing.T) {
	playStalled(t, "a look beside Close")
}

func TestL6TheBeatWaitsForNoLock(t *testing.T) {
	server, client := pair(t, quickOptions(), quickOptions())
	for _, e := range []*Endpoint{server, client} {
		e.mu.Lock()
		before := e.own.control.beat.Load()
		for deadline := time.Now().Add(watchdog); e.own.control.beat.Load() < before+10; time.Sleep(time.Millisecond) { // sleep: between two looks at a counter
			if time.Now().After(deadline) {
				t.Errorf("the %v has beaten %d times in %v", e.role, e.own.control.beat.Load()-before, watchdog)
				break
			}
		}
		e.mu.Unlock()
	}
}

func TestL6AServerThatClosesSlowlyBeats(t *testing.T) {
	var server *Endpoint
	options := quickOptions()
	options.hook = func(at step.ID, _ uint64) {
		if at != step.PathUnlinked { // as if the file system took so long for it
			return
		}
		before := server.own.control.beat.Load()
		for deadline := time.Now().Add(watchdog); server.own.control.beat.Load() < before+10; time.Sleep(time.Millisecond) { // sleep: between two looks at a counter
			if time.Now().After(deadline) {
				t.Error("it does not beat")
				return
			}
		}
	}
	server = listenHere(t, testPath(t), options)
	if err := server.Close(); err != nil {
		t.Error(err)
	}
}
