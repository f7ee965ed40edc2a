//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

// words are those that a client owns and a server reads.
func (r *rawClient) words() []*atomic.Uint64 {
	c := r.own.control
	return []*atomic.Uint64{&c.writePos, &c.readPos, &c.deliveredPos, &c.dataWaitFor, &c.spaceWaitFor, &c.beat, &c.goodbye, &c.attachment}
}

// value is something that may look like a position.
func (r *rawClient) value(random *rand.Rand) uint64 {
	near := [...]uint64{0, r.own.ring.size, r.own.control.writePos.Load(), r.peer.control.writePos.Load(), r.peer.control.readPos.Load(), random.Uint64()}
	at := near[random.IntN(len(near))] + uint64(random.IntN(65)) - 32
	if random.IntN(3) > 0 {
		at &^= recordAlign - 1
	}
	return at
}

// scribble writes anything anywhere.
func (r *rawClient) scribble(random *rand.Rand) {
	words := r.words()
	switch random.IntN(4) {
	case 0:
		words[random.IntN(len(words))].Store(r.value(random))
	case 1:
		r.own.ring.header(r.value(random) &^ (recordAlign - 1)).Store(random.Uint64() >> random.IntN(64))
	case 2: // a sound record, or nearly
		pos := r.own.control.writePos.Load() &^ (recordAlign - 1)
		r.own.control.writePos.Store(r.record(pos, random.Uint32(), random.IntN(64)))
	case 3:
		for range 64 {
			r.own.ring.header(random.Uint64() &^ (recordAlign - 1)).Store(random.Uint64())
		}
	}
}

// use has the server send, receive and look at everything until it is told to
// stop, and returns how to tell it.
func use(t *testing.T, server *Endpoint) (stop func()) {
	stopped := make(chan struct{})
	var users sync.WaitGroup
	user := func(f func()) {
		spawn(&users, func() {
			for {
				select {
				case <-stopped:
					return
				default:
					f()
				}
			}
		})
	}
	buffer := make([]byte, 1<<13)
	user(func() {
		if m, err := server.TryReceive(); err == nil {
			for _, b := range m.Data {
				buffer[0] += b
			}
			_ = m.Release()
		}
		_, _ = server.TryReceiveInto(buffer)
		batch := make([]Message, 4)
		if n, err := server.TryReceiveBatch(batch); err == nil {
			_ = ReleaseBatch(batch[:n])
		}
	})
	user(func() { _ = server.TrySend(1, make([]byte, 16)) })
	user(func() {
		if list, err := server.Unreleased(); err == nil && len(list) > os.Getpagesize()/headerSize {
			t.Errorf("T1: %d unreleased messages in a page", len(list))
		}
		_ = server.Stats()
	})
	return func() {
		close(stopped)
		users.Wait()
	}
}

func TestT1RandomGarbageHurtsNobodyButItsWriter(t *testing.T) {
	const rounds = 200
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	path := testPath(t)
	server := listenHere(t, path, hostileOptions())
	for round := range uint64(rounds) {
		random := rand.New(rand.NewPCG(seed, round))
		client := rawAttach(t, path)
		stop := use(t, server)
		for range random.IntN(200) {
			client.scribble(random)
		}
		if random.IntN(2) == 0 { // while the server looks on, or has stopped looking
			client.leave()
			stop()
		} else {
			stop()
			client.leave()
		}
		drain(t, server)
		if round%10 == 0 {
			next, err := Dial(testContext(t), path, hostileOptions())
			if err != nil {
				t.Fatalf("round %d: the successor does not attach: %v", round, err)
			}
			checkExchange(t, server, next)
			if err := next.Close(); err != nil {
				t.Fatal(err)
			}
			drain(t, server)
		}
	}
}

// drain receives until the end of the last client has been told.
func drain(t *testing.T, e *Endpoint) {
	t.Helper()
	life := e.life.(*server)
	eventually(t, "the client's end is told", func() bool {
		for {
			m, err := e.TryReceive()
			if err == ErrEmpty {
				e.mu.Lock()
				defer e.mu.Unlock()
				return life.current == nil && len(e.ends) == 0 && (e.corrupt == nil || e.told)
			}
			_ = m.Release()
			if err != nil && !ended(err) {
				t.Fatalf("receive: %v", err)
			}
		}
	})
}

// checkExchange checks that a sound client gets what waits for it, as whole
// messages, and that both directions work.
func checkExchange(t *testing.T, server, client *Endpoint) {
	t.Helper()
	for {
		m, err := client.TryReceive()
		if errors.Is(err, ErrEmpty) {
			break
		}
		if err != nil || m.Kind != 1 || len(m.Data) != 16 {
			t.Fatalf("the successor received %+v, %v; want a whole message", m, err)
		}
		_ = m.Release()
	}
	for kind := range uint32(10) {
		for _, d := range [][2]*Endpoint{{client, server}, {server, client}} {
			sendAll(t, d[0], kind)
			m, err := d[1].Receive(testContext(t))
			if err != nil || m.Kind != kind || checkPattern(m) != nil {
				t.Fatalf("message %d with the successor: %+v, %v", kind, m, err)
			}
			_ = m.Release()
		}
	}
}

func TestT1WordsThatFlipWhileTheyAreRead(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, hostileOptions())
	sendAll(t, server, 1, 2, 3)
	for range 20 {
		client := rawAttach(t, path)
		pos := client.record(client.own.control.writePos.Load(), 9, 8)
		flips := map[*atomic.Uint64][2]uint64{
			&client.own.control.readPos:      {client.own.control.readPos.Load(), server.own.control.writePos.Load()},
			&client.own.control.deliveredPos: {client.own.control.deliveredPos.Load(), server.own.control.writePos.Load()},
			&client.own.control.writePos:     {client.own.control.writePos.Load(), pos},
			client.own.ring.header(pos - 16): {8, 1 << 31},
		}
		stopped := make(chan struct{})
		var flippers sync.WaitGroup
		for word, values := range flips {
			spawn(&flippers, func() {
				for i := 0; ; i++ {
					select {
					case <-stopped:
						return
					default:
						word.Store(values[i%2])
					}
				}
			})
		}
		for range 100 { // each returns, whatever it finds (T1: no endless loop)
			_, _ = server.Unreleased()
			_ = server.TrySend(1, make([]byte, 16))
			if m, err := server.TryReceive(); err == nil {
				_ = m.Release()
			}
			_ = server.Stats()
		}
		close(stopped)
		flippers.Wait()
		client.leave()
		drain(t, server)
	}
	next := dialHere(t, path, hostileOptions())
	for kind := uint32(0); kind != 4; { // the last words may have released everything
		if server.Stats().UnreleasedBytes == 0 {
			sendAll(t, server, 4)
		}
		m, err := next.Receive(testContext(t))
		if err != nil {
			t.Fatalf("the successor received %v", err)
		}
		kind = m.Kind
		_ = m.Release()
	}
}

func TestT1UnreleasedReturnsWhateverAHostilePositionSays(t *testing.T) {
	for _, at := range []uint64{8, 16, 32, 40, 64} { // inside of records of 24 bytes
		server := listenHere(t, testPath(t), hostileOptions())
		for range 3 {
			if err := server.Send(testContext(t), 1, make([]byte, 16)); err != nil {
				t.Fatal(err)
			}
		}
		client := rawAttach(t, server.Path())
		client.own.control.deliveredPos.Store(72)
		client.own.control.readPos.Store(at)
		var corrupt *CorruptError
		if list, err := server.Unreleased(); !errors.As(err, &corrupt) || corrupt.Invariant != "I1" {
			t.Errorf("readPos %d: Unreleased gave %d messages, %v; want I1", at, len(list), err)
		}
		client.leave()
		checkEndOfHostile(t, receiveUntilEnd(t, server), "I1")
		next := dialHere(t, server.Path(), hostileOptions())
		checkExchange(t, server, next)
		if err := next.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestM6UnreleasedUnderTrafficSuspectsNobody(t *testing.T) {
	server, client := pair(t, hostileOptions(), hostileOptions())
	stop := make(chan struct{})
	var users sync.WaitGroup
	for _, f := range []func(){
		func() { _ = server.TrySend(1, make([]byte, 16)) },
		func() { _ = server.TrySend(1, make([]byte, 100)) },
		func() { _, _ = client.TryReceiveInto(make([]byte, 100)) },
	} {
		spawn(&users, func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	for i := range 2000 {
		list, err := server.Unreleased()
		if err != nil {
			t.Fatalf("look %d: %v, want an account: both sides are sound", i, err)
		}
		for _, u := range list {
			if u.Kind != 1 || len(u.Data) != 16 && len(u.Data) != 100 {
				t.Fatalf("look %d: a message of kind %d and %d bytes, which nobody sent", i, u.Kind, len(u.Data))
			}
		}
	}
	close(stop)
	users.Wait()
	if got := server.Stats().Corruptions; got != 0 {
		t.Errorf("%d corruptions counted, want none", got)
	}
}

func TestT1GarbageOfADeadClientIsNotBlamedOnItsSuccessor(t *testing.T) {
	for _, ready := range []bool{true, false} {
		path := testPath(t)
		server := listenHere(t, path, hostileOptions())
		client := rawAttach(t, path)
		if ready {
			nextEvent(t, server, EventAttached)
		}
		pos := client.record(0, 1, 8)
		client.record(pos, 2, 1<<20) // beyond what is committed
		client.own.control.writePos.Store(pos + 64)
		client.leave()
		next := dialHere(t, path, hostileOptions())
		sendAll(t, next, 5, 6)
		var kinds []uint32
		told := 0
		for len(kinds) == 0 || kinds[len(kinds)-1] != 6 {
			m, err := server.Receive(testContext(t))
			var corrupt *CorruptError
			if errors.As(err, &corrupt) && corrupt.Invariant == "I3" {
				told++
				continue
			}
			if err != nil {
				t.Fatalf("receive: %v", err)
			}
			kinds = append(kinds, m.Kind)
			_ = m.Release()
		}
		if told != 1 || len(kinds) != 3 || kinds[0] != 1 || kinds[1] != 5 {
			t.Errorf("received %v with %d errors, want 1 5 6 with one CorruptError", kinds, told)
		}
		select {
		case <-next.Done():
			t.Errorf("the successor was dropped: %v", next.Err())
		default:
		}
		checkExchange(t, server, next)
	}
}

func TestT1AClientThatNeverSaysReadyLeavesItsGarbageToNobody(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, hostileOptions())
	client := rawGranted(t, path)
	client.record(0, 1, 1<<20)
	client.own.control.writePos.Store(64)
	client.leave()
	next := dialHere(t, path, hostileOptions())
	sendAll(t, next, 5)
	var corrupt *CorruptError
	if _, err := server.Receive(testContext(t)); !errors.As(err, &corrupt) {
		t.Errorf("the garbage is told as %v, want a CorruptError", err)
	}
	if m, err := server.Receive(testContext(t)); err != nil || m.Kind != 5 {
		t.Errorf("behind it came %+v, %v; want the successor's message", m, err)
	}
}

// rawGranted makes the handshake, and never says ready.
func rawGranted(t *testing.T, path string) *rawClient {
	t.Helper()
	conn := rawConnect(t, path)
	if err := conn.send(newPacket(packetHello)); err != nil {
		t.Fatal(err)
	}
	grant, files, err := conn.receive(3)
	if err != nil || len(files) != 3 {
		t.Fatalf("grant: %+v, %v", grant, err)
	}
	own, peer, err := openPair(grant, files[0], files[1])
	if err != nil {
		t.Fatal(err)
	}
	return &rawClient{conn: conn, grant: grant, files: files, own: own, peer: peer}
}

// Who sends or releases without ever saying ready has an end, behind its messages, which
// are not taken for its successor's.
func TestT1AClientThatNeverSaysReadyHasAnEndIfItSpeaks(t *testing.T) {
	for what, speak := range map[string]func(*rawClient){
		"it sends":    func(r *rawClient) { r.own.control.writePos.Store(r.record(0, 4, 8)) },
		"it releases": func(r *rawClient) { r.own.control.deliveredPos.Store(24); r.own.control.readPos.Store(24) },
	} {
		for _, received := range []bool{false, true} {
			server := listenHere(t, testPath(t), hostileOptions())
			if err := server.Send(testContext(t), 1, make([]byte, 16)); err != nil {
				t.Fatal(err)
			}
			client := rawGranted(t, server.Path())
			speak(client)
			takes := func() {
				t.Helper()
				if m, err := server.ReceiveInto(testContext(t), make([]byte, 8)); err != nil || m.Kind != 4 || m.Attachment != 1 {
					t.Fatalf("%s: received %+v, %v", what, m, err)
				}
			}
			sends := what == "it sends"
			if sends && received {
				takes()
			}
			client.leave()
			next := dialHere(t, server.Path(), hostileOptions())
			sendAll(t, next, 5)
			if sends && !received {
				takes()
			}
			if _, err := server.Receive(testContext(t)); !errors.Is(err, ErrPeerDied) {
				t.Fatalf("%s: its end is told as %v, want its death", what, err)
			}
			if m, err := server.Receive(testContext(t)); err != nil || m.Kind != 5 || m.Attachment != 2 {
				t.Errorf("%s: behind it came %+v, %v; want the successor's message", what, m, err)
			}
			nextEvent(t, server, EventAttached)
			nextEvent(t, server, EventDied)
		}
	}
}

// garbage attaches, writes anything anywhere and is killed in the middle of it.
var _ = part("garbage", func(p *player) {
	var path string
	p.arg(&path)
	c, err := connect(path)
	if err == nil {
		err = c.setDeadline(watchdog)
	}
	if err == nil {
		err = c.send(newPacket(packetHello))
	}
	if err != nil {
		p.fail("hello: %v", err)
	}
	grant, files, err := c.receive(3)
	if err != nil || len(files) != 3 {
		p.fail("grant: %+v, %v", grant, err)
	}
	own, peer, err := openPair(grant, files[0], files[1])
	if err != nil {
		p.fail("memory: %v", err)
	}
	if err := c.send(newPacket(packetReady)); err != nil {
		p.fail("ready: %v", err)
	}
	go p.untilStdinEnds()
	r := &rawClient{conn: c, grant: grant, files: files, own: own, peer: peer}
	p.say("attached")
	for random := rand.New(rand.NewPCG(1, grant.Attachment)); ; {
		r.scribble(random)
	}
})

func TestT1AProcessThatScribblesAndIsKilled(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, hostileOptions())
	for range 10 {
		garbage := start(t, "garbage", path)
		garbage.expect("attached")
		stop := use(t, server)
		_ = garbage.cmd.Process.Kill()
		garbage.awaitDeath()
		stop()
		drain(t, server)
		next, err := Dial(testContext(t), path, hostileOptions())
		if err != nil {
			t.Fatalf("the successor does not attach: %v", err)
		}
		checkExchange(t, server, next)
		if err := next.Close(); err != nil {
			t.Fatal(err)
		}
		drain(t, server)
	}
}
