package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
)

// A flight is the recorders of all processes of one run on one path.
type flight struct {
	dir    string // where they are kept; empty: in memory, for as long as this process holds them
	kernel *recorder

	mu   sync.Mutex
	all  []flown
	held []int // descriptors
}

// A seat is where one process of a flight records. The zero seat is nowhere.
type seat struct {
	Process int
	Path    string
	Slots   int  // events that there is room for
	Life    bool // what is about messages is not recorded
}

// flightKills is for how many deaths a flight has room.
const flightKills = 128

// newFlight makes a flight that is kept in a directory, or, without one, in
// memory.
func newFlight(dir string) (f *flight, err error) {
	f = &flight{dir: dir}
	kernel, err := f.place(tracedRole{})
	if err == nil {
		f.kernel, err = makeRecorder(kernel.path, 0, flightKills)
	}
	if err != nil {
		f.close()
	}
	return f, err
}

// place is for the next process's recording.
func (f *flight) place(r tracedRole) (at flown, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at = flown{process: len(f.all), role: r}
	at.path = filepath.Join(f.dir, flightFile(at.process, r))
	if f.dir == "" {
		fd, err := unix.MemfdCreate(at.path, unix.MFD_CLOEXEC)
		if err != nil {
			return at, fmt.Errorf("chaos: memory for a recording: %w", err)
		}
		f.held = append(f.held, fd)
		at.path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
	} else if err := os.WriteFile(at.path, nil, 0o600); err != nil { // it may die before it makes it
		return at, err
	}
	f.all = append(f.all, at)
	return at, nil
}

// seat is for the next process.
func (f *flight) seat(r tracedRole, slots int) (seat, error) {
	at, err := f.place(r)
	return seat{Process: at.process, Path: at.path, Slots: slots}, err
}

// killed records that a process was killed, or refused, when it is over.
func (f *flight) killed(s seat) { f.kernel.record(recordKilled, uint64(s.Process)) }

// land reads what was recorded.
func (f *flight) land() (trace, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return land(f.all)
}

// close lets go of the flight, and of what it has in memory.
func (f *flight) close() {
	if f.kernel != nil {
		f.kernel.close()
	}
	for _, fd := range f.held {
		_ = unix.Close(fd)
	}
}

// open makes the recorder of a seat; none for the zero seat.
func (s seat) open() (*recorder, error) {
	if s.Path == "" {
		return nil, nil
	}
	r, err := makeRecorder(s.Path, s.Process, s.Slots)
	if err == nil {
		r.life = s.Life
	}
	return r, err
}

// hook is a hook of an endpoint. What a recorder is not to keep, it passes over:
// the heart, which beats by itself, and the ring if only the life cycle is asked
// for.
func (r *recorder) hook(at step.ID, value uint64) {
	if r != nil && at != step.Beaten && (!r.life || at >= step.ListenBegun) {
		r.record(at, value)
	}
}
