//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Seals of a segment: its size is fixed for ever, so that no access can fault;
// and, for the server's, nobody who comes later can write it (D3).
const (
	segmentSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	serverSeals  = segmentSeals | unix.F_SEAL_FUTURE_WRITE
)

func sealsOf(owner Role) int {
	if owner == RoleServer {
		return serverSeals
	}
	return segmentSeals
}

// unsupported says which feature the kernel lacks.
func unsupported(feature string, err error) error {
	return fmt.Errorf("ipc: this kernel lacks %s: %w (%w): nothing was started or attached: use a newer one", feature, errors.ErrUnsupported, err)
}

// newSegment makes, sizes, maps, formats and seals the memory of one process.
// The server makes both; it maps its own writable, and the client's read-only.
func newSegment(owner Role, generation, ringSize uint64, at positions) (s *segment, err error) {
	file, err := unix.MemfdCreate("tandem-"+owner.String(), unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		file, err = unix.MemfdCreate("tandem-"+owner.String(), unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if errors.Is(err, unix.ENOSYS) {
		return nil, unsupported("memfd_create (Linux 3.17)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("ipc: create the %s's memory: %w: free memory", owner, err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(file)
		}
	}()
	size := segmentSize(ringSize)
	if err = retry(func() error { return unix.Ftruncate(file, size) }); err != nil {
		return nil, fmt.Errorf("ipc: size the %s's memory to %d bytes: %w: ask for a smaller ring, or raise RLIMIT_FSIZE", owner, size, err)
	}
	if err = retry(func() error { return unix.Fallocate(file, 0, 0, size) }); err != nil {
		return nil, fmt.Errorf("ipc: allocate %d bytes for the %s's memory: %w: free memory, or ask for a smaller ring", size, owner, err)
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
		return nil, fmt.Errorf("ipc: seal the %s's memory: %w: nothing was started: try again", owner, err)
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

// openSegment maps memory that came through the handshake, having checked that
// nobody can take it away from under the mapping. It leaves the file open.
func openSegment(file int, owner Role, generation, ringSize uint64) (*segment, error) {
	seals, err := unix.FcntlInt(uintptr(file), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("ipc: read the seals of the %s's memory: %w: nothing was attached: what the server sent is no memory of this protocol", owner, err)
	}
	if want := sealsOf(owner); seals&want != want {
		return nil, &CorruptError{"I0", fmt.Sprintf("the %s's memory has seals %#x, want %#x", owner, seals, want)}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(file, &stat); err != nil {
		return nil, fmt.Errorf("ipc: size of the %s's memory: %w: nothing was attached: dial again", owner, err)
	}
	if stat.Size != segmentSize(ringSize) {
		return nil, &CorruptError{"I0", fmt.Sprintf("the %s's memory has %d bytes, want %d", owner, stat.Size, segmentSize(ringSize))}
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

// mapSegment maps the control page and the ring, and the ring again behind it.
func mapSegment(file int, ringSize uint64, writable bool) (*segment, error) {
	first := uintptr(segmentSize(ringSize))
	total := first + uintptr(ringSize)
	base, err := unix.MmapPtr(-1, 0, nil, total, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("ipc: find %d bytes of address space: %w: free memory, or ask for a smaller ring", total, err)
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
	if err == nil {
		err = unix.Madvise(unsafe.Slice((*byte)(base), total), unix.MADV_DONTFORK) // C10
		if errors.Is(err, unix.EINVAL) {
			_ = unix.MunmapPtr(base, total)
			return nil, unsupported("MADV_DONTFORK (Linux 2.6.16)", err)
		}
	}
	if err != nil {
		_ = unix.MunmapPtr(base, total)
		return nil, fmt.Errorf("ipc: map %d bytes of shared memory: %w: free memory, or ask for a smaller ring", total, err)
	}
	return lay(unsafe.Slice((*byte)(base), total), ringSize, -1), nil
}

// detach puts private memory in the place of the shared one, in one step: from
// then on this process cannot write the shared memory, and a goroutine that
// still tries to writes nowhere (C1). Where there is no memory for that, the
// shared one is made read-only, and such a goroutine (one with a Reservation that
// it has not ended) faults.
func (s *segment) detach() error {
	base := unsafe.Pointer(&s.mem[0])
	_, err := unix.MmapPtr(-1, 0, base, uintptr(len(s.mem)), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE|unix.MAP_FIXED)
	if err != nil {
		err = unix.Mprotect(s.mem, unix.PROT_READ)
	}
	if err != nil {
		return fmt.Errorf("ipc: unmap the shared memory: %w: it stays mapped: end this process before the path is used again", err)
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
