//go:build linux && (amd64 || arm64)

package ipc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Behind Close the space of a reservation that is still open can be written and read;
// the rest of the memory can be read, and takes none of its own where a process has
// locked what it maps: no page of it can be written.
func TestT4OnlyAnOpenReservationStaysWritableBehindClose(t *testing.T) {
	page := os.Getpagesize()
	for _, size := range []int{0, 1, page - 8, page, 3*page + 9, 8*page - headerSize} {
		for _, sent := range []int{0, 16, page - 16, 7 * page} { // where it begins
			options := &Options{ToServerSize: 8 * page, ToClientSize: 8 * page, CloseTimeout: time.Millisecond}
			server, client := pair(t, options, options)
			for _, d := range [][2]*Endpoint{{client, server}, {server, client}} {
				if sent == 0 {
					continue
				}
				if err := d[0].Send(testContext(t), 1, make([]byte, sent-headerSize)); err != nil {
					t.Fatal(err)
				}
				if m, err := d[1].Receive(testContext(t)); err != nil || m.Release() != nil {
					t.Fatal(err)
				}
			}
			for _, e := range []*Endpoint{client, server} {
				r, err := e.Reserve(testContext(t), size)
				if err != nil {
					t.Fatal(err)
				}
				own := e.own
				own.refs.Add(1) // as Unreleased does, which may still read
				if err := e.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
				what := fmt.Sprintf("%d bytes behind %d, %v", size, sent, e.role)
				for i := range r.Data {
					r.Data[i] = 7
				}
				sum := bytes.Count(own.mem, []byte{7})
				if sum != size {
					t.Errorf("%s: %d bytes read as they were written", what, sum)
				}
				if size > 0 {
					want := (size-1)/page*page + 2*page // it may lie across one page more
					if writable := writableOf(t, own.mem); writable < size || writable > want {
						t.Errorf("%s: %d bytes can be written, want at most %d", what, writable, want)
					}
				} else if writable := writableOf(t, own.mem); writable != 0 {
					t.Errorf("%s: %d bytes can be written", what, writable)
				}
				own.release()
				if err := r.Commit(1, 0); !errors.Is(err, ErrClosed) {
					t.Errorf("%s: Commit gave %v, want %v", what, err, ErrClosed)
				}
			}
		}
	}
}

// writableOf is how much of a piece of memory can be written.
func writableOf(t *testing.T, mem []byte) (writable int) {
	t.Helper()
	begin := uint64(uintptr(unsafe.Pointer(&mem[0])))
	end, mapped := begin+uint64(len(mem)), uint64(0)
	for line := range strings.Lines(readFile(t, "/proc/self/maps")) {
		var from, to uint64
		var allows string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &allows); n != 3 {
			t.Fatalf("a mapping reads %q", line)
		}
		from, to = max(from, begin), min(to, end)
		if from >= to {
			continue
		}
		mapped += to - from
		if strings.HasPrefix(allows, "rw") {
			writable += int(to - from)
		}
	}
	if mapped != end-begin {
		t.Fatalf("%d bytes of %d are mapped", mapped, end-begin)
	}
	return writable
}

// anonymousOf is how much private memory there is in a piece of memory, in bytes.
func anonymousOf(s *scene, mem []byte) (size int) {
	content, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		s.fail("%v", err)
	}
	begin := uint64(uintptr(unsafe.Pointer(&mem[0])))
	inside, found := false, 0
	for line := range strings.Lines(string(content)) {
		var from, to uint64
		if n, _ := fmt.Sscanf(line, "%x-%x", &from, &to); n == 2 {
			inside = from < begin+uint64(len(mem)) && to > begin
		}
		var kib int
		if n, _ := fmt.Sscanf(line, "Anonymous: %d kB", &kib); n == 1 && inside {
			found++
			size += kib << 10
		}
	}
	if found == 0 {
		s.fail("no mapping found: the test is blind")
	}
	return size
}

var _ = sceneOf("close with all memory locked", func(s *scene) {
	const ringSize = 4 << 20
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE); err != nil {
		s.forbidden("mlockall", err)
	}
	e, err := Listen(s.ctx, s.path, &Options{ToServerSize: ringSize, ToClientSize: ringSize})
	if err != nil {
		s.forbidden("a ring of locked memory", err)
	}
	r, err := e.Reserve(s.ctx, 100)
	if err != nil {
		s.fail("reserve: %v", err)
	}
	if err := e.Close(); err != nil {
		s.fail("close: %v", err)
	}
	if took := anonymousOf(s, e.own.mem); took > os.Getpagesize() {
		s.fail("Close took %d bytes for a reservation of 100", took)
	}
	copy(r.Data, "it can be written")
	_ = r.Abort()
})

// A process that has locked all of its memory, as real-time programs do, closes
// without taking memory for it.
func TestCloseTakesNoMemoryThoughAllIsLocked(t *testing.T) {
	needsRealKernel(t, "qemu-user locks its own memory")
	playSceneIn(t, 0, "close with all memory locked", testPath(t))
}

const pieces = 4 << 20 // of a ring that is more than a piece

// As a kernel does that takes longer for a call than it is from one signal to the next.
var _ = sceneOf("no ring is allocated at once", func(s *scene) {
	if err := deny(unix.SYS_FALLOCATE, unix.EINTR, argument{3, uint32(segmentSize(pieces))}); err != nil {
		s.forbidden("seccomp", err)
	}
	e, err := Listen(s.ctx, s.path, &Options{ToServerSize: pieces, ToClientSize: pieces})
	if err != nil {
		s.fail("listen: %v", err)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(e.own.file, &stat); err != nil || stat.Blocks*512 < segmentSize(pieces) {
		s.fail("%d blocks are allocated, %v", stat.Blocks, err)
	}
	_ = e.Close()
})

var _ = sceneOf("an allocation that never ends", func(s *scene) {
	if err := deny(unix.SYS_FALLOCATE, unix.EINTR); err != nil {
		s.forbidden("seccomp", err)
	}
	before := footprintOf(s.path)
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Millisecond)
	defer cancel()
	_, err := Listen(ctx, s.path, nil)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "allocate") {
		s.fail("listen gave %v, want that the time was up in an allocation", err)
	}
	for range 1000 { // a goroutine may be on its way out
		delete(before, "goroutines")
		now := footprintOf(s.path)
		if delete(now, "goroutines"); maps.Equal(now, before) {
			return
		}
	}
	s.fail("before %v, now %v", before, footprintOf(s.path))
})

// The kernel takes back what it has allocated when a signal comes: a ring is allocated
// in pieces, each repeated for itself, until nobody waits for it any more.
func TestSignalsDoNotKeepARingFromBeingAllocated(t *testing.T) {
	needsRealKernel(t, "qemu-user passes on no seccomp filter")
	playSceneIn(t, 0, "no ring is allocated at once", testPath(t))
	playSceneIn(t, 0, "an allocation that never ends", testPath(t))
}
