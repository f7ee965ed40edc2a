//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// somebodyElse is a user that this process is not.
func somebodyElse() uint32 { return uint32(os.Geteuid()) + 1 }

func TestT2ARefusalReachesTheRefusedAtTheFirstTry(t *testing.T) {
	path := testPath(t)
	listenHere(t, path, &Options{AllowUIDs: []uint32{somebodyElse()}})
	for i := range 300 {
		var tries atomic.Int32
		_, err := Dial(testContext(t), path, &Options{hook: func(at step.ID, _ uint64) {
			if at == step.DialBegun {
				tries.Add(1)
			}
		}})
		if !errors.Is(err, ErrRefused) || tries.Load() != 1 {
			t.Fatalf("refusal %d took %d tries: %v; want %v at the first", i, tries.Load(), err, ErrRefused)
		}
	}
}

func TestT2NothingIsSaidToAnotherUsersServer(t *testing.T) {
	path := testPath(t)
	var said atomic.Bool
	listenHere(t, path, &Options{hook: func(at step.ID, _ uint64) {
		if at == step.HelloReceived {
			said.Store(true)
		}
	}})
	before := footprintOf(path)
	_, err := Dial(testContext(t), path, &Options{ServerUIDs: []uint32{somebodyElse()}})
	refuses(t, "Dial", path, before, err, ErrServerUser, path, "uid ")
	if said.Load() {
		t.Error("a hello was sent to a server that is not listed")
	}
	if err := dialHere(t, path, &Options{ServerUIDs: []uint32{somebodyElse(), uint32(os.Geteuid())}}).Close(); err != nil {
		t.Error(err)
	}
}

func TestT2TheOverflowUserIsNobody(t *testing.T) {
	for text, want := range map[string]bool{
		"         0          0 4294967295\n":                          true,
		"         0          0      65534\n 65534 65534 4294901761\n": true,
		"         0     100000      65536\n":                          false,
		"         0       1000          1\n":                          false,
		"":                                                            false,
		"garbage":                                                     false,
	} {
		if got := coversEverybody(text); got != want {
			t.Errorf("a uid_map of %q covers everybody: %t, want %t", text, got, want)
		}
	}
	if mapsEverybody() == isNobody(nobody) {
		t.Errorf("this process maps everybody: %t, and user %d is nobody: %t", mapsEverybody(), nobody, isNobody(nobody))
	}
	if isNobody(0) {
		t.Error("root is nobody")
	}
}

func TestC7SilenceDrivesOutNobodyOfAnotherUser(t *testing.T) {
	const patient, crowd = 1, 2
	s := &server{handshakes: map[*conn]uint64{}}
	number := uint64(0)
	add := func(uid uint32) *conn {
		number++
		c := &conn{peer: remote{uid: uid}}
		s.handshakes[c] = number
		return c
	}
	first := add(patient)
	second := add(patient)
	var oldest *conn
	for range maxHandshakes - 2 {
		if c := add(crowd); oldest == nil {
			oldest = c
		}
	}
	for _, newcomer := range []uint32{patient, crowd, 3} {
		if got := s.toEvict(newcomer); got != oldest {
			t.Errorf("a newcomer of user %d evicts %+v, want the oldest of the crowd", newcomer, got)
		}
	}
	for c := range s.handshakes {
		if c.peer.uid == crowd {
			s.handshakes[c] = spoken
		}
	}
	if got := s.toEvict(crowd); got != first {
		t.Errorf("the crowd has spoken: %+v is evicted, want the one silent longest", got)
	}
	s.handshakes[first], s.handshakes[second] = spoken, spoken
	if got := s.toEvict(crowd); got != nil {
		t.Errorf("all have spoken: %+v is evicted", got)
	}
}

func TestT2WhoIsExcludedTakesNoSlot(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, &Options{AllowUIDs: []uint32{somebodyElse()}})
	slots := serverOf(server).slots
	for range maxHandshakes {
		slots <- struct{}{} // none is left
	}
	for range 2 * maxHandshakes {
		c := rawConnect(t, path) // it says nothing
		if p, _, err := c.receive(0); err != nil || p.Reason != reasonUser {
			t.Fatalf("answered with %+v, %v; want the refusal of the user at once", p, err)
		}
	}
	for range maxHandshakes {
		<-slots
	}
}

func TestL5PeersWithDifferentHeartbeatsDoNotCallEachOtherHung(t *testing.T) {
	slow := &Options{HeartbeatInterval: 20 * time.Second}
	fast := &Options{HeartbeatInterval: 10 * time.Millisecond, HangTimeout: 50 * time.Millisecond}
	for name, o := range map[string][2]*Options{"slow server": {slow, fast}, "slow client": {fast, slow}} {
		t.Run(name, func(t *testing.T) {
			server, client := pair(t, o[0], o[1])
			nextEvent(t, server, EventAttached)
			for _, e := range []*Endpoint{server, client} {
				judge, wants := fast.hangTimeout(), slow.hangTimeout()
				if e.heartbeatInterval == fast.HeartbeatInterval {
					wants = 3*slow.HeartbeatInterval + fast.HeartbeatInterval/2
				}
				e.mu.Lock()
				got := e.patience()
				e.mu.Unlock()
				if got != wants {
					t.Errorf("the %v waits %v before it calls its peer hung, want %v (own timeout %v)", e.role, got, wants, judge)
				}
			}
		})
	}
	for said, want := range map[uint32]time.Duration{0: 0, 1000: time.Millisecond, ^uint32(0): maxPeerInterval} {
		if got := intervalFrom(packet{Reason: said}); got != want {
			t.Errorf("a peer that says %d is believed %v, want %v", said, got, want)
		}
	}
	if got := intervalOf(100 * time.Hour); got != uint32(maxPeerInterval.Microseconds()) {
		t.Errorf("an interval of 100 h is told as %d", got)
	}
}

func TestL5ADeathIsToldThoughACopyOfTheTokenLives(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, &Options{HandshakeTimeout: 100 * time.Millisecond})
	third := make(chan []int, 1)
	rawServe(t, path+".third", func(c *conn) {
		_, files, _ := c.receive(1)
		third <- files
	})
	holder := start(t, "scene", sceneArgument{"hand on the token", path})
	files := <-third
	nextEvent(t, server, EventAttached)
	holder.kill()
	nextEvent(t, server, EventDied)
	if _, err := Dial(testContext(t), path, nil); !errors.Is(err, ErrClientRunning) {
		t.Errorf("Dial while a copy of the token lives: %v, want %v", err, ErrClientRunning)
	}
	closeAll(files)
	if err := dialHere(t, path, &Options{Wait: true}).Close(); err != nil {
		t.Error(err)
	}
}

func TestRedialWaitsForADirectoryThatGoesAndComes(t *testing.T) {
	directory := filepath.Dir(testPath(t))
	path := filepath.Join(directory, "run", "s")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	server := listenHere(t, path, &Options{CloseTimeout: time.Millisecond})
	client := dialHere(t, path, nil)
	_ = server.Close() // the client has not left
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	tries := make(chan struct{}, 1<<16)
	client.options.hook = func(at step.ID, _ uint64) {
		if at == step.DialBegun {
			tries <- struct{}{}
		}
	}
	ended := make(chan error, 1)
	go func() {
		next, err := client.Redial(testContext(t))
		if err == nil {
			err = next.Close()
		}
		ended <- err
	}()
	for range 3 {
		select {
		case <-tries:
		case err := <-ended:
			t.Fatalf("Redial does not wait: %v", err)
		}
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	listenHere(t, path, nil)
	if err := <-ended; err != nil {
		t.Errorf("Redial: %v", err)
	}
	if _, err := Dial(testContext(t), filepath.Join(directory, "none", "s"), nil); !errors.Is(err, errNoDirectory) {
		t.Errorf("Dial into a missing directory: %v, want it to say so at once", err)
	}
}

var _ = sceneOf("dial through a mounted socket", func(s *scene) {
	must := func(what string, err error) {
		if err != nil {
			s.fail("%s: %v", what, err)
		}
	}
	must("private mounts", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must("target", os.WriteFile(s.path+".mounted", nil, 0o600))
	must("bind mount", unix.Mount(s.path, s.path+".mounted", "", unix.MS_BIND, ""))
	s.say("mounted")
	s.next()
	ctx, cancel := context.WithTimeout(s.ctx, 300*time.Millisecond)
	defer cancel()
	_, err := Dial(ctx, s.path+".mounted", nil)
	s.must("Dial", err, context.DeadlineExceeded, "mount its directory")
	_, err = Dial(ctx, s.path, nil)
	if err == nil || strings.Contains(err.Error(), "mount its directory") {
		s.fail("Dial to a path that is not mounted: %v", err)
	}
})

func TestDialHintsAtASocketThatIsMountedByItself(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a mount namespace needs root")
	}
	path := testPath(t)
	fd := rawListen(t, path, unix.SOCK_SEQPACKET)
	inside := startIn(t, unix.CLONE_NEWNS, "scene", sceneArgument{"dial through a mounted socket", path})
	inside.expect("mounted")
	_ = unix.Shutdown(fd, unix.SHUT_RDWR) // nobody accepts any more
	inside.tell("dial")
	inside.expect("ok")
}

// serverOf is the server's part of an endpoint.
func serverOf(e *Endpoint) *server { return e.life.(*server) }
