//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Seals of a segment: its size is fixed for ever, so that no access can fault;
// and, for the server's, nobody who comes later can write it.
const (
	segmentSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	serverSeals  = segmentSeals | unix.F_SEAL_FUTURE_WRITE
)

// lessMemory is the advice where memory is short.
const lessMemory = "free memory, or ask for a smaller ring"

func sealsOf(owner Role) int {
	if owner == RoleServer {
		return serverSeals
	}
	return segmentSeals
}

// unsupported says which feature the kernel lacks.
func unsupported(feature string, err error) error {
	return fmt.Errorf("ipc: this kernel lacks %s, or a sandbox denies it: %w (%w): nothing was started or attached", feature, errors.ErrUnsupported, err)
}

// newSegment makes, sizes, maps, formats and seals the memory of one process.
// The server makes both; it maps its own writable, and the client's read-only.
// gaveUp, if it is not nil, says why nobody wants it any more.
func newSegment(owner Role, generation, ringSize uint64, at positions, gaveUp func() error) (s *segment, err error) {
	file, err := unix.MemfdCreate("tandem-"+owner.String(), unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		file, err = unix.MemfdCreate("tandem-"+owner.String(), unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if errors.Is(err, unix.ENOSYS) {
		return nil, unsupported("memfd_create (Linux 3.17)", err)
	}
	if err == nil {
		file, err = aboveStdio(file)
	}
	if err != nil {
		return nil, fmt.Errorf("ipc: create the %s's memory: %w: nothing was made: %s", owner, err, otherwise(err, "free memory"))
	}
	defer func() {
		if s == nil { // it fails, or gaveUp panics (T4)
			_ = unix.Close(file)
		}
	}()
	size := segmentSize(ringSize)
	if err = retry(func() error { return unix.Ftruncate(file, size) }); err != nil {
		return nil, fmt.Errorf("ipc: size the %s's memory to %d bytes: %w: nothing was made: %s", owner, size, err, otherwise(err, "ask for a smaller ring, or raise RLIMIT_FSIZE"))
	}
	if err = allocate(file, size, gaveUp); err != nil {
		advice := otherwise(err, lessMemory)
		if !errors.As(err, new(unix.Errno)) {
			advice = "nobody waits for it any more"
		}
		return nil, fmt.Errorf("ipc: allocate %d bytes for the %s's memory: %w: nothing was made: %s", size, owner, err, advice)
	}
	writable, err := mapSegment(file, ringSize, true)
	if err != nil {
		return nil, err
	}
	writable.format(owner, generation, at)
	if _, err = unix.FcntlInt(uintptr(file), unix.F_ADD_SEALS, sealsOf(owner)); err != nil {
		writable.release()
		if errors.Is(err, unix.EINVAL) {
			return nil, unsupported("F_SEAL_FUTURE_WRITE (Linux 5.1)", err)
		}
		return nil, fmt.Errorf("ipc: seal the %s's memory: %w: nothing was made: %s", owner, err, otherwise(err, "try again"))
	}
	if owner == RoleServer {
		writable.file = file
		return writable, nil
	}
	writable.release()
	if s, err = mapSegment(file, ringSize, false); err != nil {
		return nil, err
	}
	s.file = file
	return s, nil
}

// allocate gives a file all of its memory. A signal ends the call, and the kernel takes
// back what that call has allocated: one that takes longer than it is from one signal
// to the next, those of a CPU profile say, would be repeated for ever. So each call
// allocates a piece.
func allocate(file int, size int64, gaveUp func() error) error {
	const piece = 1 << 20
	for at := int64(0); at < size; {
		if gaveUp != nil {
			if err := gaveUp(); err != nil {
				return err
			}
		}
		switch err := unix.Fallocate(file, 0, at, min(piece, size-at)); {
		case err == nil:
			at += piece
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
	return nil
}

// openSegment maps memory that came through the handshake, having checked that it
// is what it should be. It leaves the file open.
func openSegment(file int, owner Role, generation, ringSize uint64) (*segment, error) {
	if err := checkFile(file, owner, segmentSize(ringSize)); err != nil {
		return nil, err
	}
	s, err := mapSegment(file, ringSize, owner == RoleClient)
	if err != nil {
		return nil, err
	}
	if err := s.check(owner, generation); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

// checkFile refuses a file that is not a memfd of ordinary pages, of exactly this
// size, which nobody can take away from under a mapping. Each thing is a danger to
// this process: a file of huge pages makes the kernel map more than was asked for,
// over the neighbours; one that shrinks faults; one of another file system may block
// at any access. It may have holes: looking for them would not keep its maker from
// making some later (docs/SECURITY.md).
func checkFile(file int, owner Role, size int64) error {
	broken := func(format string, args ...any) error {
		return &CorruptError{"I0", fmt.Sprintf("the %s's memory ", owner) + fmt.Sprintf(format, args...)}
	}
	var system unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(file, &system) }); err != nil {
		return fmt.Errorf("ipc: see what the %s's memory is: %w: nothing was attached: %s", owner, err, otherwise(err, "dial again"))
	}
	if uint32(system.Type) != unix.TMPFS_MAGIC { // HUGETLBFS_MAGIC, or anything
		return broken("is no memory of ordinary pages: its file system is %#x", uint32(system.Type))
	}
	seals, err := unix.FcntlInt(uintptr(file), unix.F_GET_SEALS, 0)
	if err != nil {
		return fmt.Errorf("ipc: read the seals of the %s's memory: %w: %w: nothing was attached: %s", owner, err, broken("shows no seals"), otherwise(err, "dial again"))
	}
	// MFD_NOEXEC_SEAL adds a seal that does no harm; others keep the owner from writing.
	if want := sealsOf(owner); seals&^unix.F_SEAL_EXEC != want {
		return broken("has seals %#x, want %#x", seals, want)
	}
	var stat unix.Stat_t
	if err := retry(func() error { return unix.Fstat(file, &stat) }); err != nil {
		return fmt.Errorf("ipc: size of the %s's memory: %w: nothing was attached: %s", owner, err, otherwise(err, "dial again"))
	}
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return broken("is no regular file: its mode is %#o", stat.Mode)
	case stat.Size != size:
		return broken("has %d bytes, want %d", stat.Size, size)
	}
	return nil
}

// reserve finds address space that begins at an odd page. No huge page can begin
// there, so that a file of huge pages, which must not come as far as this, cannot
// be mapped over it: the kernel would round its size up, and its place must fit.
func reserve(total uintptr) (base unsafe.Pointer, err error) {
	page := uintptr(controlSize())
	base, err = unix.MmapPtr(-1, 0, nil, total+page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	start, rest := base, unsafe.Add(base, total)
	if uintptr(base)%(2*page) == 0 {
		start, rest = unsafe.Add(base, page), base
	}
	if err = unix.MunmapPtr(rest, page); err != nil {
		_ = unix.MunmapPtr(base, total+page)
		return nil, err
	}
	return start, nil
}

// mapSegment maps the control page and the ring, and the ring again behind it.
//
// Preconditions: the file is one that checkFile accepts, or this process's own.
func mapSegment(file int, ringSize uint64, writable bool) (*segment, error) {
	first := uintptr(segmentSize(ringSize))
	total := first + uintptr(ringSize)
	base, err := reserve(total)
	if err != nil {
		return nil, fmt.Errorf("ipc: find %d bytes of address space: %w: nothing was mapped: %s", total, err, otherwise(err, lessMemory))
	}
	protection := unix.PROT_READ
	if writable {
		protection |= unix.PROT_WRITE
	}
	for _, part := range []struct {
		at     uintptr
		offset int64
		size   uintptr
	}{{0, 0, first}, {first, int64(controlSize()), uintptr(ringSize)}} {
		if _, err = unix.MmapPtr(file, part.offset, unsafe.Add(base, part.at), part.size, protection, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
			break
		}
	}
	mem := unsafe.Slice((*byte)(base), total)
	if err == nil {
		err = keepFromChildren(mem) // C10
		if errors.Is(err, unix.EINVAL) {
			_ = unix.MunmapPtr(base, total)
			return nil, unsupported("MADV_DONTFORK (Linux 2.6.16)", err)
		}
	}
	if err != nil {
		_ = unix.MunmapPtr(base, total)
		return nil, fmt.Errorf("ipc: map %d bytes of shared memory: %w: nothing was mapped: %s", total, err, otherwise(err, lessMemory))
	}
	s := lay(mem, ringSize, -1)
	keepOut(s.mem)
	return s, nil
}

// keepFromChildren keeps memory out of processes that this one forks (C10).
func keepFromChildren(mem []byte) error { return unix.Madvise(mem, unix.MADV_DONTFORK) }

// keepOut keeps the memory out of core dumps: they would be as large as the rings,
// twice, hold up the death for as long, and show what the messages say. It is a
// wish: what works without it is not to fail for it.
func keepOut(mem []byte) { _ = unix.Madvise(mem, unix.MADV_DONTDUMP) }

// dump puts the memory into core dumps after all (Options.DumpRings).
func (s *segment) dump() {
	s.dumped = true
	_ = unix.Madvise(s.mem, unix.MADV_DODUMP)
}

// detach puts private memory in the place of the shared one: from then on this
// process cannot write the shared memory (C1). open is the space of a Reservation that
// has not ended: whoever still fills it writes nowhere. Where there is no memory for
// that, the shared one is made read-only, and whoever fills it faults.
//
// All but the pages of open is read-only: whoever still reads an account there reads
// zeros. A process that has locked its memory (MCL_FUTURE) has all that it maps filled
// at once, writable pages with memory of their own, and read-only ones with none.
func (s *segment) detach(open []byte) error {
	parts := []stretch{{0, len(s.mem), unix.PROT_READ}}
	if len(open) > 0 {
		page, at := controlSize(), int(uintptr(unsafe.Pointer(&open[0]))-uintptr(unsafe.Pointer(&s.mem[0])))
		from, to := at/page*page, (at+len(open)+page-1)/page*page
		parts = []stretch{{from, to, unix.PROT_READ | unix.PROT_WRITE}, {0, from, unix.PROT_READ}, {to, len(s.mem), unix.PROT_READ}}
	}
	for _, p := range parts {
		if err := s.detachPart(p); err != nil {
			return fmt.Errorf("ipc: unmap the shared memory: %w: it stays mapped: end this process before the path is used again", err)
		}
	}
	return nil
}

// A stretch is what of a segment gets private memory of one protection.
type stretch struct{ from, to, protection int }

func (s *segment) detachPart(p stretch) error {
	if p.from == p.to {
		return nil
	}
	mem := s.mem[p.from:p.to]
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(&mem[0]), uintptr(len(mem)), p.protection,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE|unix.MAP_FIXED)
	if err != nil {
		return unix.Mprotect(mem, unix.PROT_READ)
	}
	// As before: a copy in a child, and a dump of it, would serve nobody.
	_ = keepFromChildren(mem)
	if !s.dumped {
		keepOut(mem)
	}
	return nil
}

// unmap ends the mapping and closes the file.
func (s *segment) unmap() {
	_ = unix.MunmapPtr(unsafe.Pointer(&s.mem[0]), uintptr(len(s.mem)))
	if s.file >= 0 {
		_ = unix.Close(s.file)
	}
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
