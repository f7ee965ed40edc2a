package chaos

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A recorder is a flight recorder: a file that one process has mapped, shared, so
// that what it has recorded is there when it was killed just behind it. An event
// costs a look at the clock and three stores, and no event takes another's place:
// when the slots are used up, further ones are counted and not kept.
//
// The clock is asked in the kernel and not by package time, whose readings are
// relative to each process's start; and while the recorder is locked, so that
// the slots of a process are in the order of their times.
type recorder struct {
	process int
	life    bool // see hook

	mu     sync.Mutex
	memory flightMemory
	next   int
}

// makeRecorder makes the file of a recorder with so many slots, for one process.
func makeRecorder(path string, process, slots int) (*recorder, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size := flightHead + slots*flightSlot
	if err := unix.Fallocate(int(file.Fd()), 0, 0, int64(size)); err != nil {
		return nil, err
	}
	memory, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("chaos: map a recording: %w", err)
	}
	return &recorder{process: process, memory: memory}, nil
}

func (r *recorder) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = unix.Munmap(r.memory)
	r.memory = nil
}

// record records one event of this process. It may be called by any goroutine.
func (r *recorder) record(at step.ID, value uint64) {
	thread := 0
	switch at {
	case step.DataArmed, step.SpaceArmed, step.Sleeping, step.Woken, step.Disarmed:
		thread = unix.Gettid()
	}
	var now unix.Timespec
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == r.memory.slots() {
		r.memory.lose()
		return
	}
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	r.memory.put(r.next, recorded{r.process, thread, at, value, time.Duration(now.Nano())})
	r.next++
}
