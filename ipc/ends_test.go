//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"strings"
	"testing"
)

// Clients come, send and die while the server does not receive. Each end comes
// behind its client's messages and before its successor's (M5), none is passed
// over, and Receive does not get stuck behind one (M7).
func TestM5M7EachOfSeveralEndsIsTold(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	server := listenHere(t, path, nil)
	comeAndGo := func(kind string) {
		a := startActor(t, actorArgument{Path: path})
		a.ask("attached", "dial")
		if kind != "" {
			a.ask("sent", "send "+kind)
		}
		nextEvent(t, server, EventAttached)
		a.kill()
		nextEvent(t, server, EventDied)
	}
	next := func(want uint32) { // 0: an end
		t.Helper()
		m, err := server.Receive(ctx)
		if want == 0 && !errors.Is(err, ErrPeerDied) || want != 0 && (err != nil || m.Kind != want) {
			t.Fatalf("message %d, %v; want %d (0 is an end)", m.Kind, err, want)
		}
		if err == nil {
			_ = m.Release()
		}
	}
	comeAndGo("1")
	comeAndGo("2")
	next(1)
	next(0)
	comeAndGo("3") // with the end of 2 not yet told
	next(2)
	next(0)
	comeAndGo("") // it sends nothing
	comeAndGo("5")
	next(3)
	next(0)
	next(0)
	next(5)
	next(0)
	comeAndGo("6")
	next(6)
	next(0)
	if _, err := server.TryReceive(); !errors.Is(err, ErrEmpty) {
		t.Fatalf("behind everything: %v, want ErrEmpty", err)
	}
}

// The ends of clients that have sent nothing are told one by one, in their order: a death
// is not hidden by a client that came after it and left in good order.
func TestL5EndsWithNothingInBetweenAreToldOneByOne(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, nil)
	order := strings.Fields("die close close die die close die")
	for _, what := range order {
		a := startActor(t, actorArgument{Path: path})
		a.ask("attached", "dial")
		nextEvent(t, server, EventAttached)
		if what == "die" {
			a.kill()
			nextEvent(t, server, EventDied)
		} else {
			a.ask("closed", "close")
			nextEvent(t, server, EventClosed)
		}
	}
	for i, what := range order {
		wants := ErrPeerClosed
		if what == "die" {
			wants = ErrPeerDied
		}
		number := uint64(i + 1)
		_, err := server.TryReceive()
		var peer *PeerError
		if !errors.Is(err, wants) || !errors.As(err, &peer) || peer.Ends != 1 || peer.Attachment != number || peer.First != number || peer.Last != number {
			t.Errorf("%v, %+v, want %v of client %d alone", err, peer, wants, number)
		}
	}
	if _, err := server.TryReceive(); !errors.Is(err, ErrEmpty) {
		t.Errorf("behind the ends: %v, want %v", err, ErrEmpty)
	}
}

// Clients that come and go for ever do not make a server grow that does not receive: 1,024
// ends wait one by one, and what ends after them shares the last place, as the worst.
func TestT1EndsThatWaitAreBounded(t *testing.T) {
	server := listenHere(t, testPath(t), nil)
	server.mu.Lock()
	for number := uint64(1); number <= maxEnds+2; number++ {
		verdict := ErrPeerClosed
		if number == maxEnds+1 {
			verdict = ErrPeerDied
		}
		server.markEnd(endMark{err: &PeerError{Err: verdict, Attachment: number, Ends: 1, First: number, Last: number}})
	}
	waiting := len(server.ends)
	server.mu.Unlock()
	if waiting != maxEnds {
		t.Errorf("%d ends wait, want %d", waiting, maxEnds)
	}
	for number := uint64(1); number < maxEnds; number++ {
		_, err := server.TryReceive()
		if peer := (*PeerError)(nil); !errors.Is(err, ErrPeerClosed) || !errors.As(err, &peer) || peer.Attachment != number || peer.Ends != 1 {
			t.Fatalf("%v, %+v, want %v of client %d alone", err, peer, ErrPeerClosed, number)
		}
	}
	_, err := server.TryReceive()
	want := PeerError{Err: ErrPeerDied, Attachment: maxEnds + 1, Ends: 3, First: maxEnds, Last: maxEnds + 2}
	if peer := (*PeerError)(nil); !errors.As(err, &peer) || *peer != want {
		t.Errorf("the last end: %+v, want %+v", err, want)
	}
	if _, err := server.TryReceive(); !errors.Is(err, ErrEmpty) {
		t.Errorf("behind the ends: %v, want %v", err, ErrEmpty)
	}
}

// Receive goes over to the memory that replaced a corrupt client's behind the last of the
// ends that follow with nothing in between, and once.
func TestT1EndsBesideReplacedMemoryAreTold(t *testing.T) {
	server := listenHere(t, testPath(t), hostileOptions())
	for range 2 {
		client := rawAttach(t, server.Path())
		nextEvent(t, server, EventAttached)
		client.spoil()
		client.leave()
		nextEvent(t, server, EventDied)
		for range 2 {
			silent := dialHere(t, server.Path(), hostileOptions())
			nextEvent(t, server, EventAttached)
			_ = silent.Close()
			nextEvent(t, server, EventClosed)
		}
	}
	last := dialHere(t, server.Path(), hostileOptions())
	sendAll(t, last, 1)
	for i := range 6 {
		_, err := server.TryReceive()
		if corrupt := (*CorruptError)(nil); i%3 == 0 && !errors.As(err, &corrupt) || i%3 != 0 && !errors.Is(err, ErrPeerClosed) {
			t.Errorf("end %d: %v; want one that was corrupt, and two that closed, twice", i, err)
		}
	}
	m, err := server.Receive(testContext(t))
	if err != nil || m.Kind != 1 {
		t.Fatalf("message %d, %v, behind the ends", m.Kind, err)
	}
	if err := m.Release(); err != nil {
		t.Error(err)
	}
	sendAll(t, server, 1)
	if m, err := last.Receive(testContext(t)); err != nil || m.Kind != 1 {
		t.Errorf("message %d, %v, in the other direction", m.Kind, err)
	}
}

// The end of a client says who it was and what it has left, at Receive and in the event;
// so does the end of a server, at all calls of the client.
func TestM6AnEndSaysWhoseItWasAndWhatIsLeft(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, nil)
	for number := uint64(1); number <= 2; number++ {
		a := startActor(t, actorArgument{Path: path})
		a.ask("attached", "dial")
		attached := nextEvent(t, server, EventAttached)
		a.ask("sent", "send 1")
		sendAll(t, server, 2)
		a.kill()
		event := nextEvent(t, server, EventDied)
		wants := PeerError{ErrPeerDied, attached.PID, number, server.Generation(), server.Stats().UnreleasedBytes, 1, number, number}
		_, err := receiveAll(t, server)
		var told *PeerError
		if !errors.As(err, &told) || *told != wants || event.Err != err || wants.PID == 0 || event.Unreleased != int(number) {
			t.Errorf("the end of client %d: %+v, event %+v, want %+v", number, told, event, wants)
		}
	}
	next := testPath(t)
	a := startActor(t, actorArgument{Path: next})
	a.ask("listening", "listen")
	client := dialHere(t, next, nil)
	sendAll(t, client, 1)
	pid := client.Peer().PID
	a.kill()
	_, err := receiveAll(t, client)
	var told *PeerError
	if wants := (PeerError{ErrPeerDied, pid, 1, 1, client.Stats().UnreleasedBytes, 1, 1, 1}); !errors.As(err, &told) || *told != wants {
		t.Errorf("the end of the server: %+v, want %+v", told, wants)
	}
	for name, same := range map[string]error{"Send": client.Send(testContext(t), 1, nil), "Err": client.Err(), "Flush": client.Flush(testContext(t))} {
		if same != err {
			t.Errorf("%s: %v, want the same error", name, same)
		}
	}
}

// Each message says which client has committed it, also when that one has gone and
// others have come since, and in whatever form it is received.
func TestM1EachMessageNamesItsClient(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	server := listenHere(t, path, nil)
	var wants []uint64
	for number, messages := range []int{3, 0, 1, 0, 0, 2} {
		client := dialHere(t, path, nil)
		for range messages {
			sendAll(t, client, uint32(number+1))
			wants = append(wants, uint64(number+1))
		}
		if number == 0 { // what is known of the first is not taken for the next
			if m, err := server.ReceiveInto(ctx, make([]byte, 512)); err != nil || m.Attachment != 1 {
				t.Fatalf("of client %d, %v", m.Attachment, err)
			}
			wants = wants[1:]
		}
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
	}
	client := dialHere(t, path, nil)
	for range 5 {
		sendAll(t, client, 7)
		wants = append(wants, 7)
	}
	into := make([]Message, 4)
	forms := []func() (int, error){
		func() (n int, err error) { into[0], err = server.Receive(ctx); return 1, err },
		func() (n int, err error) { into[0], err = server.ReceiveInto(ctx, make([]byte, 512)); return 1, err },
		func() (int, error) { return server.ReceiveBatch(ctx, into) },
		func() (int, error) { return server.ReceiveBatchInto(ctx, make([]byte, 1024), into) },
	}
	for turn := 0; len(wants) > 0; turn++ {
		n, err := forms[turn%len(forms)]()
		if ended(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range into[:n] {
			if m.Attachment != wants[0] || uint64(m.Kind) != wants[0] {
				t.Errorf("message %d is of client %d, want %d", m.Kind, m.Attachment, wants[0])
			}
			wants = wants[1:]
		}
	}
}

// What the server has committed before a client came may have been meant for another,
// and what comes again was.
func TestM1AMessageForAnEarlierClientIsToldApart(t *testing.T) {
	ctx, path := testContext(t), testPath(t)
	server := listenHere(t, path, nil)
	sendAll(t, server, 0, 0, 0, 0, 0)
	into := make([]Message, 2)
	for number := uint64(1); number < 4; number++ {
		client := dialHere(t, path, nil)
		own := uint32(number)
		sendAll(t, server, own, own, own, own, own)
		forms := []func() (int, error){
			func() (n int, err error) { into[0], err = client.Receive(ctx); return 1, err },
			func() (int, error) { return client.ReceiveBatch(ctx, into) },
			func() (n int, err error) { into[0], err = client.ReceiveInto(ctx, make([]byte, 512)); return 1, err },
			func() (int, error) { return client.ReceiveBatchInto(ctx, make([]byte, 2048), into) },
		}
		for turn, left := int(number), 5; left > 0; turn++ {
			n, err := forms[turn%len(forms)]()
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range into[:n] {
				wants := uint64(0)
				if m.Kind == own {
					left--
					wants = number
				}
				if m.Attachment != wants {
					t.Errorf("a message of the time of client %d has the attachment %d at client %d", m.Kind, m.Attachment, number)
				}
			}
		}
		sendAll(t, server, own) // not received; and views come again
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What a client commits is judged by the last end that was recorded, and not by the
// one that Receive has been shown: three clients come while the server does not
// receive, and the third takes back what the second had committed.
func TestT1ACommitTakenBackBehindAnUntoldEndIsCorrupt(t *testing.T) {
	for _, back := range []uint64{8, 16, 24} {
		server := listenHere(t, testPath(t), hostileOptions())
		for i := range 3 {
			client := rawAttach(t, server.Path())
			nextEvent(t, server, EventAttached)
			pos := client.own.control.writePos.Load()
			if i < 2 {
				client.own.control.writePos.Store(client.record(pos, 1, 16))
			} else {
				client.record(pos, 1, 1<<32-16) // where a limit behind the cursor lets Receive begin
				client.own.control.writePos.Store(pos - back)
			}
			client.leave()
			nextEvent(t, server, EventDied)
		}
		for _, wants := range []string{"", "", "I1"} {
			checkEndOfHostile(t, receiveUntilEnd(t, server), wants)
		}
		if s := server.Stats(); s.Received != 2 || s.ReceivedBytes != 48 {
			t.Errorf("%d messages, %d bytes received, want the 2 that were sent, 48 bytes", s.Received, s.ReceivedBytes)
		}
		checkSuccessor(t, server, 0, 10)
	}
}
