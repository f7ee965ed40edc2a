//go:build linux && (amd64 || arm64)

package ipc

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/tandem-ipc/tandem/internal/step"
)

// When a client's memory is found corrupt the next one gets fresh memory. The two
// ends of the server go over to it when they come to it, each for itself; these
// tests stand in between. Some are of what is told of a peer that was expelled.

// spoil makes the client corrupt: no position ends in 5.
func (r *rawClient) spoil() { r.own.control.writePos.Add(5) }

// releaseAll says that the client has released whatever was sent.
func (r *rawClient) releaseAll() {
	writePos := r.peer.control.writePos.Load()
	r.own.control.deliveredPos.Store(writePos)
	r.own.control.readPos.Store(writePos)
}

// comeCorrupt has a client come that is found corrupt. It stays.
func comeCorrupt(t *testing.T, server *Endpoint) *rawClient {
	t.Helper()
	client := rawAttach(t, server.Path())
	nextEvent(t, server, EventAttached)
	client.spoil()
	checkEndOfHostile(t, receiveUntilEnd(t, server), "I1")
	return client
}

// comeAndGoCorrupt has it go as well. Sending and receiving have still to go over to
// the memory of the next.
func comeAndGoCorrupt(t *testing.T, server *Endpoint) Event {
	t.Helper()
	comeCorrupt(t, server).leave()
	return nextEvent(t, server, EventDied)
}

// checkNext has a sound client come and go, which must receive the messages from
// first to last and nothing else.
func checkNext(t *testing.T, server *Endpoint, first, last uint32) {
	t.Helper()
	client, err := Dial(testContext(t), server.Path(), hostileOptions())
	if err != nil {
		t.Fatalf("the next client does not attach: %v", err)
	}
	defer client.Close()
	for kind := first; kind <= last; kind++ {
		m, err := client.Receive(testContext(t))
		if err != nil || m.Kind != kind || checkPattern(m) != nil {
			t.Fatalf("the next client received %+v, %v; want message %d", m, err, kind)
		}
		_ = m.Release()
	}
	if m, err := client.TryReceive(); !errors.Is(err, ErrEmpty) {
		t.Errorf("the next client received %+v, %v; want nothing more", m, err)
	}
}

func TestT1ACorruptSuccessorsReleasesAreNotBelieved(t *testing.T) {
	server := listenHere(t, testPath(t), hostileOptions())
	comeAndGoCorrupt(t, server)
	client := comeCorrupt(t, server)
	sent, size := uint32(0), uint64(0)
	for {
		err := server.TrySend(sent+1, pattern(sent+1))
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sent++
		if size += recordSize(len(pattern(sent))); size > uint64(os.Getpagesize()) {
			t.Fatalf("%d bytes sent into a ring of %d: who was dropped goes on to release", size, os.Getpagesize())
		}
		client.releaseAll()
	}
	client.leave()
	if event := nextEvent(t, server, EventDied); event.Unreleased != int(sent) || event.Redeliverable != int(sent) {
		t.Errorf("event %+v, want all %d messages unreleased and perhaps seen", event, sent)
	}
	checkNext(t, server, 1, sent)
}

// onceAt returns a hook that calls act once, at a step that only the goroutine of the
// test reaches, as soon as there is an act.
func onceAt(at step.ID, act *func()) func(step.ID, uint64) {
	return func(reached step.ID, _ uint64) {
		if reached != at || *act == nil {
			return
		}
		now := *act
		*act = nil
		now()
	}
}

func TestL7ACorruptClientThatDiesDuringABatchHarmsNoSuccessor(t *testing.T) {
	var within func()
	options := hostileOptions()
	options.hook = onceAt(step.Sealed, &within)
	server := listenHere(t, testPath(t), options)
	sendAll(t, server, 1, 2, 3)
	comeAndGoCorrupt(t, server)
	client := comeCorrupt(t, server)
	var batch []Message // more than the ring holds
	for kind := uint32(4); len(batch) <= os.Getpagesize()/recordAlign; kind++ {
		batch = append(batch, Message{Kind: kind, Data: pattern(kind)})
	}
	within = func() {
		client.releaseAll() // of what is committed, and of the batch nothing is
		client.leave()
		nextEvent(t, server, EventDied)
	}
	sent, err := server.TrySendBatch(batch)
	if !errors.Is(err, ErrFull) || within != nil {
		t.Fatalf("TrySendBatch: %d, %v; want a part of it sent, and the client gone within", sent, err)
	}
	checkNext(t, server, 1, 3+uint32(sent))
}

func TestM3ReleasesInReplacedMemoryAreKept(t *testing.T) {
	server := listenHere(t, testPath(t), hostileOptions())
	sendAll(t, server, 1, 2)
	if event := comeAndGoCorrupt(t, server); event.Unreleased != 2 {
		t.Fatalf("event %+v, want 2 unreleased", event)
	}
	// Nothing is sent from here on, so that nobody looks at the releases but the
	// accounts at each end.
	checkNext(t, server, 1, 2)
	checkEndOfHostile(t, receiveUntilEnd(t, server), "")
	nextEvent(t, server, EventAttached)
	nextEvent(t, server, EventClosed)
	if event := comeAndGoCorrupt(t, server); event.Unreleased != 0 {
		t.Errorf("event %+v, want none unreleased: the honest client has released both", event)
	}
	if left := unreleased(t, server); left != "" {
		t.Errorf("unreleased: %s, want none", left)
	}
	checkNext(t, server, 1, 0) // nothing
}

// awaitSleep waits until a goroutine of this process sleeps in the kernel. The
// step Sleeping comes just before, and what comes in between is not slept through.
func awaitSleep(t testing.TB) {
	t.Helper()
	eventually(t, "somebody sleeps", func() bool {
		for goroutine := range strings.SplitSeq(stacks(), "\n\n") {
			if strings.Contains(goroutine, " [syscall") && strings.Contains(goroutine, ".futexSleep(") {
				return true
			}
		}
		return false
	})
}

// asleep has a call fall asleep. The result sees that it was woken, and not by the
// watchdog.
func asleep(t *testing.T, call func(context.Context) error) (woken func()) {
	t.Helper()
	ctx, result := testContext(t), make(chan error, 1)
	go func() { result <- call(ctx) }()
	awaitSleep(t)
	return func() {
		t.Helper()
		if err := <-result; err != nil {
			t.Errorf("the call that was asleep: %v", err)
		}
		sleptThrough(t, ctx)
	}
}

// A waiter looks at its words in the new memory, and the other end still at those
// in the former: because it has not come to it, or because it is just at work.
func TestM7AWaiterInReplacedMemoryIsWoken(t *testing.T) {
	space := os.Getpagesize() - headerSize
	// listen makes a server whose client has filled its ring with one message.
	listen := func(t *testing.T, hook func(step.ID, uint64)) (*Endpoint, *rawClient) {
		options := longHeartbeat()
		options.ToServerSize, options.hook = os.Getpagesize(), hook
		server := listenHere(t, testPath(t), options)
		former := rawAttach(t, server.Path())
		nextEvent(t, server, EventAttached)
		former.own.control.writePos.Store(former.record(0, 4, space))
		return server, former
	}
	// replace has that client go, which is found corrupt at its end, and the next come.
	replace := func(t *testing.T, server *Endpoint, former *rawClient) *Endpoint {
		former.spoil()
		former.leave()
		nextEvent(t, server, EventDied)
		return dialHere(t, server.Path(), longHeartbeat())
	}
	receiving := func(client *Endpoint) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := client.ReceiveInto(ctx, make([]byte, 100))
			return err
		}
	}
	sending := func(client *Endpoint) func(context.Context) error {
		return func(ctx context.Context) error { return client.Send(ctx, 1, nil) }
	}
	t.Run("by a commit", func(t *testing.T) {
		server, former := listen(t, nil)
		r, err := server.Reserve(testContext(t), 8)
		if err != nil {
			t.Fatal(err)
		}
		woken := asleep(t, receiving(replace(t, server, former)))
		if err := r.Commit(1, 8); err != nil {
			t.Error(err)
		}
		woken()
	})
	t.Run("by a commit under way", func(t *testing.T) {
		var within, woken func()
		server, former := listen(t, onceAt(step.Claimed, &within))
		within = func() { woken = asleep(t, receiving(replace(t, server, former))) }
		if err := server.Send(testContext(t), 1, nil); err != nil {
			t.Error(err)
		}
		woken()
	})
	t.Run("by a release", func(t *testing.T) {
		server, former := listen(t, nil)
		m, err := server.Receive(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		woken := asleep(t, sending(replace(t, server, former)))
		if err := m.Release(); err != nil {
			t.Error(err)
		}
		woken()
	})
	t.Run("by a release under way", func(t *testing.T) {
		var within, woken func()
		server, former := listen(t, onceAt(step.Peeked, &within))
		within = func() { woken = asleep(t, sending(replace(t, server, former))) }
		if _, err := server.ReceiveInto(testContext(t), make([]byte, space)); err != nil {
			t.Error(err)
		}
		woken()
	})
	t.Run("by the next admission", func(t *testing.T) {
		path := testPath(t)
		server := start(t, "scene", sceneArgument{"replace memory late", path})
		server.expect("listening")
		former := rawAttach(t, path)
		former.spoil()
		server.tell("receive")
		server.expect("full")
		former.leave()
		server.expect("free")
		sendAll(t, dialHere(t, path, nil), 1)
		server.expect("ok")
	})
}

// A server that has no descriptor left when its corrupt client ends makes the
// fresh memory when the next one comes. Its receiver sleeps all the while.
var _ = sceneOf("replace memory late", func(s *scene) {
	options, sleeping := signalSleeps(longHeartbeat())
	server, err := Listen(s.ctx, s.path, options)
	if err != nil {
		s.fail("listen: %v", err)
	}
	awaitKind := func(kind EventKind) {
		for event := range server.Events() {
			if event.Kind == kind {
				return
			}
		}
	}
	s.say("listening")
	s.next()
	awaitKind(EventAttached)
	var corrupt *CorruptError
	if _, err := server.Receive(s.ctx); !errors.As(err, &corrupt) {
		s.fail("the corrupt client is told as %v", err)
	}
	result := s.asleep(sleeping, func() error { _, err := server.Receive(s.ctx); return err })
	restore := s.limitFiles(3)
	s.say("full")
	awaitKind(EventDied)
	<-sleeping // once more: the end has woken it, for nothing
	restore()
	server.mu.Lock()
	replaced := server.corrupt == nil
	server.mu.Unlock()
	if replaced {
		s.fail("the memory is replaced already: the limit was not felt")
	}
	s.say("free")
	if err := result(); err != nil {
		s.fail("receive: %v", err)
	}
})

func TestM5TheEndOfAServerThatSendsOnIsTold(t *testing.T) {
	server := listenHere(t, testPath(t), nil)
	reached, goOn, looked := make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	client := dialHere(t, server.Path(), &Options{Spin: NoSpin, hook: func(at step.ID, _ uint64) {
		switch at {
		case step.AccountTaken: // how far the server came is read, and not yet told
			close(reached)
			<-goOn
		case step.Released, step.Sleeping: // whatever came is received
			select {
			case looked <- struct{}{}:
			default:
			}
		}
	}})
	tell := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(tell) // or Close waits
	client.own.control.writePos.Store(5)
	var corrupt *CorruptError
	if _, err := server.TryReceive(); !errors.As(err, &corrupt) {
		t.Fatalf("the server was told %v, want that its client is corrupt", err)
	}
	<-reached
	sendAll(t, server, 1) // it lives on, and this is for its next client
	end := make(chan error, 1)
	go func() { end <- receiveUntilEnd(t, client) }()
	<-looked
	tell()
	if err := <-end; !errors.Is(err, ErrPeerClosed) {
		t.Errorf("the client was told %v, want %v", err, ErrPeerClosed)
	}
}

func TestL5AClientThatExpelledItsServerSeesItGo(t *testing.T) {
	server, client := pair(t, nil, nil)
	nextEvent(t, client, EventAttached)
	server.own.control.writePos.Store(5)
	_, err := client.Receive(testContext(t))
	checkEndOfHostile(t, err, "I1")
	closed := make(chan error, 1)
	go func() { closed <- server.Close() }() // it waits for the client
	if event := nextEvent(t, client, EventClosed); event.Err != err {
		t.Errorf("the server's end is told as %v, want what Receive has told: %v", event.Err, err)
	}
	if s, state := client.Stats(), client.Peer().State; s.Corruptions != 1 || s.Closes != 1 || s.Deaths != 0 || state != PeerClosed {
		t.Errorf("the server is %v, and %+v; want it closed, and counted once as corrupt", state, s)
	}
	if _, again := client.Receive(testContext(t)); again != err {
		t.Errorf("Receive then gave %v, want the same for ever", again)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestW8NobodyIsToldToReleaseForAPeerThatIsGone(t *testing.T) {
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	options := hostileOptions()
	options.hook = cancelAt(step.Sleeping, cancel)
	server := listenHere(t, testPath(t), options)
	client := rawAttach(t, server.Path())
	nextEvent(t, server, EventAttached)
	writePos := client.record(0, 4, os.Getpagesize()/2)
	client.own.control.writePos.Store(writePos)
	client.own.control.spaceWaitFor.Store(writePos) // it waits until that is released
	m, err := server.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Receive(ctx); !errors.Is(err, ErrViewsHeld) {
		t.Fatalf("Receive while the client waits for this view: %v", err)
	}
	client.leave() // its word goes on to say that it waits
	nextEvent(t, server, EventDied)
	if _, err := server.Receive(ctx); !errors.Is(err, ErrPeerDied) {
		t.Fatalf("Receive of its end: %v", err)
	}
	if _, err := server.TryReceive(); !errors.Is(err, ErrEmpty) {
		t.Errorf("TryReceive behind its end: %v", err)
	}
	if _, err := server.Receive(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Receive behind its end: %v, want that it sleeps until it is cancelled", err)
	}
	if err := m.Release(); err != nil {
		t.Error(err)
	}
}
