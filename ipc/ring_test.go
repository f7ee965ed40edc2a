//go:build linux && (amd64 || arm64)

package ipc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// A heapRing is a ring on plain memory, where the second view is a copy.
type heapRing struct{ ring }

func newHeapRing(size uint64) heapRing {
	return heapRing{ring{mem: make([]byte, 2*size), size: size}}
}

// mirror does what the page tables do for a mapped ring: it shows the bytes of
// the given record in both views.
func (r heapRing) mirror(pos, size uint64) {
	for i := r.index(pos); size > 0; i, size = i+8, size-8 {
		copy(r.mem[(i+r.size)%(2*r.size):][:8], r.mem[i:][:8])
	}
}

func (r heapRing) put(pos uint64, kind uint32, data []byte) uint64 {
	copy(r.payload(pos, len(data)), data)
	next := r.putHeader(pos, kind, len(data))
	r.mirror(pos, next-pos)
	return next
}

// heapSegment is a segment on plain memory; it is never unmapped.
func heapSegment(ringSize uint64) *segment {
	s := lay(make([]byte, uint64(controlSize())+2*ringSize), ringSize, -1)
	s.refs.Add(1 << 20)
	return s
}

// nearWrap draws positions, most of them close to where 64 bits wrap.
func nearWrap(t *rapid.T, name string) uint64 {
	near := rapid.Int64Range(-1<<14, 1<<14).Draw(t, name)
	if rapid.Bool().Draw(t, name+" anywhere") {
		return rapid.Uint64().Draw(t, name+" at") &^ (recordAlign - 1)
	}
	return uint64(near) &^ (recordAlign - 1)
}

func TestRingIsAQueueOfRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newHeapRing(uint64(4096) << rapid.IntRange(0, 3).Draw(t, "ring size"))
		start := nearWrap(t, "start")
		writePos, readPos := start, start
		type item struct {
			kind uint32
			data []byte
			end  uint64
		}
		var model []item
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				size := rapid.OneOf(rapid.IntRange(0, 64), rapid.IntRange(0, r.maxPayload())).Draw(t, "size")
				if writePos+recordSize(size)-readPos > r.size {
					t.Skip("full")
				}
				data := make([]byte, size)
				for i := range data {
					data[i] = byte(rand.Uint32())
				}
				kind := rapid.Uint32().Draw(t, "kind")
				writePos = r.put(writePos, kind, data)
				model = append(model, item{kind, data, writePos})
			},
			"get": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip("empty")
				}
				want := model[0]
				got, err := r.peek(readPos, writePos)
				if err != nil {
					t.Fatalf("peek at %d: %v, want the record that was put there", readPos, err)
				}
				if data := r.payload(readPos, got.size); got.kind != want.kind || !bytes.Equal(data, want.data) || got.next != want.end {
					t.Fatalf("record at %d: kind %d, %d bytes, next %d; want kind %d, %d bytes, next %d, and the same bytes",
						readPos, got.kind, got.size, got.next, want.kind, len(want.data), want.end)
				}
				readPos, model = got.next, model[1:]
			},
			"": func(t *rapid.T) {
				if err := r.checkWritePos(writePos, readPos, readPos); err != nil {
					t.Fatalf("an honest writePos is refused: %v", err)
				}
				if err := r.checkReadPos(readPos, start, writePos); err != nil && readPos-start <= r.size {
					t.Fatalf("an honest readPos is refused: %v", err)
				}
				if err := r.checkDeliveredPos(writePos, readPos, writePos); err != nil {
					t.Fatalf("an honest deliveredPos is refused: %v", err)
				}
			},
		})
	})
}

func TestI1I2PositionsOutsideTheRingAreRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := ring{size: uint64(4096) << rapid.IntRange(0, 18).Draw(t, "ring size")}
		readPos := nearWrap(t, "readPos")
		used := rapid.Uint64Range(0, r.size).Draw(t, "used") &^ (recordAlign - 1)
		writePos := readPos + used
		var corrupt *CorruptError
		refused := func(err error, what string, pos uint64) {
			t.Helper()
			if !errors.As(err, &corrupt) || corrupt.Invariant == "" || corrupt.Detail == "" {
				t.Fatalf("%s %d with readPos %d, writePos %d, ring %d: %v, want a CorruptError", what, pos, readPos, writePos, r.size, err)
			}
		}
		beyond := rapid.Uint64Range(r.size+8, 1<<63).Draw(t, "beyond") &^ (recordAlign - 1)
		refused(r.checkWritePos(readPos+beyond, readPos, readPos), "writePos beyond the ring", readPos+beyond)
		refused(r.checkReadPos(writePos+8, writePos, writePos), "readPos beyond writePos", writePos+8)
		refused(r.checkReadPos(writePos-beyond, writePos-beyond, writePos), "readPos before the ring", writePos-beyond)
		refused(r.checkDeliveredPos(writePos+8, readPos, writePos), "deliveredPos beyond writePos", writePos+8)
		refused(r.checkDeliveredPos(readPos-8, readPos, writePos), "deliveredPos before readPos", readPos-8)
		odd := rapid.Uint64Range(1, 7).Draw(t, "odd")
		refused(r.checkWritePos(readPos+odd, readPos, readPos), "unaligned writePos", readPos+odd)
		refused(r.checkReadPos(writePos-odd, writePos-8, writePos), "unaligned readPos", writePos-odd)
		if used >= 8 {
			refused(r.checkWritePos(writePos-8, writePos, readPos), "writePos that went back", writePos-8)
			refused(r.checkWritePos(readPos+r.size+8, writePos, readPos), "writePos a ring behind what was seen, and more behind readPos", readPos+r.size+8)
			refused(r.checkReadPos(readPos, readPos+8, writePos), "readPos that went back", readPos)
			refused(r.checkDeliveredPos(readPos+odd, readPos, writePos), "unaligned deliveredPos", readPos+odd)
		}
	})
}

func TestI3RecordsBeyondWhatIsCommittedAreRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newHeapRing(4096)
		pos := nearWrap(t, "pos")
		header := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 8192), rapid.Uint64Range(1<<32-16, 1<<32-1)).Draw(t, "header")
		committed := rapid.Uint64Range(1, r.size/8).Draw(t, "committed") * 8
		r.header(pos).Store(header)
		got, err := r.peek(pos, pos+committed)
		if recordSize(int(uint32(header))) > committed {
			var corrupt *CorruptError
			want := fmt.Sprintf("record of %d bytes at %d, of which %d are committed", uint32(header), pos, committed)
			if !errors.As(err, &corrupt) || corrupt.Invariant != "I3" || corrupt.Detail != want {
				t.Fatalf("header %#x with %d committed: %v, want I3: %s", header, committed, err, want)
			}
			return
		}
		if err != nil || got.kind != uint32(header>>32) || got.size != int(uint32(header)) || got.next != pos+recordSize(got.size) {
			t.Fatalf("header %#x with %d committed: kind %d, size %d, next %d, %v", header, committed, got.kind, got.size, got.next, err)
		}
		if end := len(r.payload(pos, got.size)); end != got.size {
			t.Fatalf("payload of %d bytes, want %d", end, got.size)
		}
	})
}

func TestI1OnlyThePlacesBetweenRecordsAreBelieved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newHeapRing(uint64(4096) << rapid.IntRange(0, 2).Draw(t, "ring size"))
		var s starts
		begin := nearWrap(t, "begin")
		s.init(r.size, begin)
		filled, seen := begin, begin
		between := []uint64{begin} // from seen on
		for range rapid.IntRange(1, 300).Draw(t, "records") {
			size := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(0, r.maxPayload())).Draw(t, "size")
			for filled+recordSize(size)-seen > r.size { // somebody releases
				next := rapid.IntRange(1, len(between)-1).Draw(t, "released")
				if !s.standBetween(r.ring, seen, between[next]) {
					t.Fatalf("readPos %d, the end of a record, is refused; seen %d, filled %d", between[next], seen, filled)
				}
				seen, between = between[next], between[next:]
			}
			data := make([]byte, size) // looks like headers
			for i := range data {
				data[i] = byte(8 * (i % 2))
			}
			next := r.put(filled, 1, data)
			s.mark(filled, next)
			filled = next
			between = append(between, filled)
		}
		for pos, i := seen, 0; pos != filled; pos += recordAlign {
			for between[i]-seen < pos-seen {
				i++
			}
			if want := between[i] == pos; s.standBetween(r.ring, seen, pos) != want {
				t.Fatalf("readPos %d with seen %d, filled %d: believed %t, want %t", pos, seen, filled, !want, want)
			}
		}
	})
}

// A place is sought from where the first record of its chunk begins: the headers before
// it are not read.
func TestI1APlaceIsSoughtFromTheBeginningOfItsChunk(t *testing.T) {
	const size, chunk = 64 * 512, 512
	for _, begin := range []uint64{0, 8, 5*chunk - 8, size - 24, 1<<64 - 3*chunk - 16} {
		r := newHeapRing(size)
		var s starts
		s.init(r.size, begin)
		end := begin + size - chunk
		for pos := begin; pos != end; {
			next := r.put(pos, 1, make([]byte, 8))
			s.mark(pos, next)
			pos = next
		}
		wiped := begin
		for pos := begin; pos != end; pos += 16 {
			for ; pos/chunk != wiped/chunk && wiped != pos; wiped += 16 {
				r.header(wiped).Store(1 << 20) // a record that ends behind all others
			}
			if !s.standBetween(r.ring, begin, pos) || s.standBetween(r.ring, begin, pos+8) {
				t.Fatalf("begin %d: a record begins at %d and not 8 behind, but %v and %v is said", begin, pos,
					s.standBetween(r.ring, begin, pos), s.standBetween(r.ring, begin, pos+8))
			}
		}
	}
}

// Records are undone at any place, and a larger one is put where they were: nothing in it
// is taken for the beginning of a record.
func TestT4NoPlaceOfAnUndoneRecordIsBelievedWhereverItWas(t *testing.T) {
	const size, chunk = 64 * 512, 512
	for _, begin := range []uint64{0, 16, 7*chunk + 48, 1<<63 - 4*chunk, 1<<64 - 4*chunk, 1<<64 - 9*chunk, 1<<64 - 10*chunk} {
		r := newHeapRing(size)
		var s starts
		s.init(r.size, begin)
		fill := func(from, to uint64) {
			for pos := from; pos != to; {
				next := r.put(pos, 1, make([]byte, 8))
				s.mark(pos, next)
				pos = next
			}
		}
		committed, filled := begin+3*chunk+32, begin+9*chunk
		fill(begin, committed)
		fill(committed, filled)
		s.unmark(committed, filled)
		next := r.put(committed, 1, make([]byte, filled-committed)) // of zeroes, which look like headers
		s.mark(committed, next)
		for pos := begin; pos != next+8; pos += 8 {
			want := pos-begin <= committed-begin && pos%16 == 0 || pos == next
			if s.standBetween(r.ring, begin, pos) != want {
				t.Fatalf("begin %d, committed %d: readPos %d is believed %v, want %v", begin, committed, pos, !want, want)
			}
		}
	}
}

func TestRecordsAreAlignedAndNeverOverlap(t *testing.T) {
	for size := range 4096 {
		got := recordSize(size)
		if got%recordAlign != 0 || got < uint64(size)+headerSize || got >= uint64(size)+headerSize+recordAlign {
			t.Fatalf("recordSize(%d) = %d, want the least multiple of %d that holds the header too", size, got, recordAlign)
		}
	}
	if got := recordSize(1<<32 - 1); got != 1<<32+8 {
		t.Fatalf("recordSize(1<<32 - 1) = %d, want %d: it must not overflow", got, uint64(1<<32+8))
	}
	r := newHeapRing(4096)
	if got := recordSize(r.maxPayload()); got != r.size {
		t.Fatalf("the largest record takes %d bytes, want the whole ring of %d", got, r.size)
	}
	data := r.payload(4096-8, 16)
	if len(data) != 16 || cap(data) != 16 {
		t.Fatalf("payload has length %d and capacity %d, want 16 and 16: an append must not touch what follows", len(data), cap(data))
	}
}

func TestSharedWordsOfDifferentPurposeLieInDifferentGroups(t *testing.T) {
	groups := make(map[uintptr]string)
	for _, f := range layoutFields {
		if f.offset%8 != 0 || f.offset+8 > uintptr(controlSize()) {
			t.Errorf("%s lies at %#x, want a word inside the page", f.name, f.offset)
		}
		if former, taken := groups[f.offset/group]; taken && f.offset >= group {
			t.Errorf("%s shares the group of %s", f.name, former)
		}
		groups[f.offset/group] = f.name
	}
	if len(layoutFields) != 13 || unsafe.Sizeof(control{}) != 9*group {
		t.Errorf("%d fields in %d bytes, want 13 in %d: is a new one missing from the fingerprint?", len(layoutFields), unsafe.Sizeof(control{}), 9*group)
	}
}

func TestSegmentIsRefusedIfAnyWordOfItsFormatIsWrong(t *testing.T) {
	s := heapSegment(4096)
	s.format(RoleClient, 7, positions{})
	if err := s.check(RoleClient, 7); err != nil {
		t.Fatalf("a formatted segment is refused: %v", err)
	}
	if s.check(RoleServer, 7) == nil || s.check(RoleClient, 8) == nil {
		t.Error("a segment of another role or generation is accepted (L4)")
	}
	for name, word := range map[string]*atomic.Uint64{
		"magic": &s.control.magic, "version": &s.control.version, "fingerprint": &s.control.fingerprint,
		"generation": &s.control.generation, "ringSize": &s.control.ringSize,
	} {
		old := word.Load()
		word.Store(old + 1)
		var corrupt *CorruptError
		if err := s.check(RoleClient, 7); !errors.As(err, &corrupt) || corrupt.Invariant != "I0" {
			t.Errorf("wrong %s: %v, want I0", name, err)
		}
		word.Store(old)
	}
}

func TestAttachingRefusesPositionsThatDoNotFit(t *testing.T) {
	for _, at := range []uint64{0, 4096, 1<<64 - 4096, 1<<64 - 8} {
		for _, c := range []struct {
			name           string
			server, client positions
			ok             bool
		}{
			{"empty", positions{at, at, at}, positions{at, at, at}, true},
			{"full", positions{at + 4096, at, at + 4096}, positions{at + 4096, at, at + 4096}, true},
			{"writePos beyond the ring", positions{at + 4104, at, at}, positions{at, at, at}, false},
			{"readPos beyond writePos", positions{at, at, at}, positions{at, at + 8, at + 8}, false},
			{"deliveredPos beyond writePos", positions{at, at, at}, positions{at, at, at + 8}, false},
			{"deliveredPos before readPos", positions{at + 8, at, at}, positions{at, at + 8, at}, false},
			{"unaligned writePos", positions{at + 4, at, at}, positions{at, at, at}, false},
			{"unaligned readPos", positions{at + 8, at, at}, positions{at, at + 4, at + 4}, false},
		} {
			server, client := heapSegment(4096), heapSegment(4096)
			server.format(RoleServer, 1, c.server)
			client.format(RoleClient, 1, c.client)
			if _, _, err := checkPair(client, server); (err == nil) != c.ok {
				t.Errorf("%s at %d: %v, want accepted: %t", c.name, at, err, c.ok)
			}
		}
	}
}

func TestW1AWaiterIsWokenExactlyByTheMoveThatReachesIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := nearWrap(t, "old")
		moved := rapid.Uint64Range(0, 1<<31).Draw(t, "moved")
		ahead := rapid.OneOf(rapid.Uint64Range(0, 16), rapid.Uint64Range(0, 1<<31), rapid.Uint64()).Draw(t, "ahead")
		want := ahead >= 1 && ahead <= moved // waitFor lies in (old, new]
		if got := crosses(old, old+moved, old+ahead); got != want {
			t.Fatalf("crosses(%d, %d, %d) = %t, want %t", old, old+moved, old+ahead, got, want)
		}
	})
}

func TestSeenPosIsNotMovedAfterItIsFrozen(t *testing.T) {
	var s seenPos
	s.set(64)
	if !s.advance(64, 128) || !s.advance(128, 128) || s.advance(64, 192) {
		t.Fatal("advance moves from the expected position only, and staying is a move")
	}
	if pos := s.freeze(); pos != 128 {
		t.Fatalf("frozen at %d, want 128", pos)
	}
	if s.advance(128, 192) || s.advance(128, 128) {
		t.Fatal("a frozen position was advanced")
	}
	if pos, frozen := s.get(); pos != 128 || !frozen {
		t.Fatalf("%d, frozen %t: want 128, true", pos, frozen)
	}
	if s.thaw(); !s.advance(128, 192) {
		t.Fatal("a thawed position does not move")
	}
	for range 500 {
		var s seenPos
		reached := make(chan uint64)
		go func() {
			pos := uint64(0)
			for s.advance(pos, pos+8) {
				pos += 8
			}
			reached <- pos
		}()
		frozen := s.freeze()
		if last := <-reached; last != frozen {
			t.Fatalf("somebody acted on %d, the freezer was told %d", last, frozen)
		}
	}
}

func TestW9GateIsGivenUpByACancelledContext(t *testing.T) {
	var g gate
	g.open()
	closed := make(chan struct{})
	if err := g.lock(t.Context(), closed); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	refused := make(chan error)
	go func() { refused <- g.lock(ctx, closed) }()
	eventually(t, "the second waits", func() bool { return g.waiters.Load() == 1 })
	cancel()
	if err := <-refused; !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled wait gave %v, want context.Canceled", err)
	}
	taken := make(chan error)
	go func() { taken <- g.lock(t.Context(), closed) }()
	eventually(t, "the third waits", func() bool { return g.waiters.Load() == 1 })
	g.unlock()
	if err := <-taken; err != nil {
		t.Fatalf("a waiter behind a cancelled one gave %v, want the gate", err)
	}
	go func() { taken <- g.lock(t.Context(), closed) }()
	eventually(t, "the fourth waits", func() bool { return g.waiters.Load() == 1 })
	close(closed)
	if err := <-taken; !errors.Is(err, ErrClosed) {
		t.Fatalf("a wait at Close gave %v, want ErrClosed", err)
	}
}

// spawn runs f in a goroutine that workers waits for.
func spawn(workers *sync.WaitGroup, f func()) {
	workers.Add(1)
	go func() {
		defer workers.Done()
		f()
	}()
}

func TestM7GateLosesNoWakeUp(t *testing.T) {
	var g gate
	g.open()
	const goroutines, rounds = 8, 2000
	inside, total := 0, 0 // guarded by the gate
	var workers sync.WaitGroup
	for i := range goroutines {
		spawn(&workers, func() {
			for n := range rounds {
				ctx, cancel := context.WithCancel(context.Background())
				if (i+n)%3 == 0 {
					go cancel() // some of them give up at any moment
				}
				if g.lock(ctx, nil) == nil {
					if inside++; inside != 1 {
						panic(fmt.Sprintf("%d goroutines in the gate", inside))
					}
					total++
					inside--
					g.unlock()
				}
				cancel()
			}
		})
	}
	finished := make(chan struct{})
	go func() { workers.Wait(); close(finished) }()
	eventually(t, "everybody came through or gave up", func() bool {
		select {
		case <-finished:
			return true
		default:
			return false
		}
	})
	if least := goroutines * rounds / 2; total < least {
		t.Fatalf("%d entries, want at least %d", total, least)
	}
}

func TestViewsAreReleasedInAnyOrderAndSpaceInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := nearWrap(t, "start")
		e := newEndpoint(RoleServer, "", nil)
		c := &e.in
		c.own, c.peer = heapSegment(4096).control, heapSegment(4096)
		c.own.readPos.Store(start)
		c.views.readPos.set(start)
		c.views.peer = c.peer
		type held struct{ seq, end uint64 }
		var all []held
		released := map[uint64]bool{}
		end, wantReadPos, first := start, start, 0
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				for range rapid.IntRange(1, 100).Draw(t, "count") {
					end += 8 * rapid.Uint64Range(1, 4).Draw(t, "words")
					all = append(all, held{c.views.push(c, end), end})
				}
			},
			"release": func(t *rapid.T) {
				if first == len(all) {
					t.Skip("none is held")
				}
				v := all[rapid.IntRange(first, len(all)-1).Draw(t, "which")]
				err := c.release(v.seq)
				if again := released[v.seq]; again != errors.Is(err, ErrReleased) || !again && err != nil {
					t.Fatalf("release of view %d, released before: %t, gave %v", v.seq, again, err)
				}
				released[v.seq] = true
			},
			"release old or unknown": func(t *rapid.T) {
				seq := rapid.SampledFrom([]uint64{uint64(len(all)), 1 << 40, ^uint64(0)}).Draw(t, "unknown")
				if first > 0 && rapid.Bool().Draw(t, "old") {
					seq = all[rapid.IntRange(0, first-1).Draw(t, "which")].seq
				}
				if err := c.release(seq); !errors.Is(err, ErrReleased) {
					t.Fatalf("release of view %d gave %v, want ErrReleased", seq, err)
				}
			},
			"": func(t *rapid.T) {
				for first < len(all) && released[all[first].seq] {
					wantReadPos = all[first].end
					first++
				}
				if got := c.own.readPos.Load(); got != wantReadPos {
					t.Fatalf("readPos %d, want %d: the end of the oldest run of released views", got, wantReadPos)
				}
				if got := c.held.Load(); got != int64(len(all)-first) {
					t.Fatalf("%d views held, want %d", got, len(all)-first)
				}
			},
		})
	})
}

func TestViewsAreReleasedByManyGoroutines(t *testing.T) {
	e := newEndpoint(RoleServer, "", nil)
	c := &e.in
	c.own, c.peer = heapSegment(4096).control, heapSegment(4096)
	c.views.peer = c.peer
	const count = 10000
	seqs := make([]uint64, count)
	for i := range seqs {
		seqs[i] = c.views.push(c, uint64(i+1)*8)
	}
	rand.Shuffle(count, func(i, j int) { seqs[i], seqs[j] = seqs[j], seqs[i] })
	var twice atomic.Int32
	var workers sync.WaitGroup
	for part := range slices.Chunk(seqs, count/4) {
		for range 2 { // each view is released twice
			spawn(&workers, func() {
				for _, seq := range part {
					if c.release(seq) != nil {
						twice.Add(1)
					}
				}
			})
		}
	}
	workers.Wait()
	if got := c.own.readPos.Load(); got != count*8 || c.held.Load() != 0 || twice.Load() != count {
		t.Fatalf("readPos %d, %d held, %d refused: want %d, 0, %d", got, c.held.Load(), twice.Load(), count*8, count)
	}
}
