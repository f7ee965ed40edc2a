//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A lie is a file that a hostile server grants in the place of a segment's memory.
// It is open, or -1 where this machine has no such file, with the reason.
type lie struct {
	name string
	says string
	make func(t *testing.T, owner Role, ringSize uint64) (fd int, missing error)
}

// memfd makes a memfd of a size, full, with seals.
func memfd(flags int, size int64, seals int) (int, error) {
	fd, err := unix.MemfdCreate("lie", flags|unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, err
	}
	err = unix.Ftruncate(fd, size)
	if err == nil && flags&unix.MFD_HUGETLB == 0 && size > 0 {
		err = unix.Fallocate(fd, 0, 0, size)
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// written writes a segment's first words into the file, so that nothing but what it
// is speaks against it.
func written(fd int, owner Role, ringSize uint64) {
	var words control
	s := segment{control: &words, ring: ring{size: ringSize}}
	s.format(owner, 1, positions{})
	_, _ = unix.Pwrite(fd, unsafe.Slice((*byte)(unsafe.Pointer(&words)), unsafe.Sizeof(words)), 0)
}

var lies = []lie{
	{"pages of another size", "ordinary pages", func(_ *testing.T, owner Role, ringSize uint64) (int, error) {
		fd, err := memfd(unix.MFD_HUGETLB, 0, 0)
		if err != nil {
			return -1, err
		}
		// So it gets any size, where there are huge pages; else it needs none.
		if unix.Fallocate(fd, 0, 0, segmentSize(ringSize)) != nil {
			if err := unix.Ftruncate(fd, 2<<20); err != nil {
				return fd, err
			}
		}
		return sealed(fd, nil, owner, ringSize, sealsOf(owner))
	}},
	{"memfd_secret", "ordinary pages", func(_ *testing.T, _ Role, ringSize uint64) (int, error) {
		fd, _, errno := unix.Syscall(unix.SYS_MEMFD_SECRET, unix.O_CLOEXEC, 0, 0)
		if errno != 0 {
			return -1, errno
		}
		return int(fd), unix.Ftruncate(int(fd), segmentSize(ringSize))
	}},
	{"a file of tmpfs without seals", "seals", func(t *testing.T, owner Role, ringSize uint64) (int, error) {
		return ordinary(t, "/dev/shm", owner, ringSize)
	}},
	{"a file of a disk, or of another tmpfs", "memory", func(t *testing.T, owner Role, ringSize uint64) (int, error) {
		return ordinary(t, os.TempDir(), owner, ringSize)
	}},
	{"sealed and larger", "bytes, want", func(_ *testing.T, owner Role, ringSize uint64) (int, error) {
		fd, err := memfd(0, 2*segmentSize(ringSize), 0)
		return sealed(fd, err, owner, ringSize, sealsOf(owner))
	}},
	{"sealed and smaller", "bytes, want", func(_ *testing.T, owner Role, ringSize uint64) (int, error) {
		fd, err := memfd(0, segmentSize(ringSize)-int64(controlSize()), 0)
		return sealed(fd, err, owner, ringSize, sealsOf(owner))
	}},
	{"sealed against its writer", "seals", func(_ *testing.T, owner Role, ringSize uint64) (int, error) {
		fd, err := memfd(0, segmentSize(ringSize), 0)
		return sealed(fd, err, owner, ringSize, segmentSeals|unix.F_SEAL_WRITE)
	}},
	{"a directory", "memory", func(t *testing.T, _ Role, _ uint64) (int, error) {
		return unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}},
	{"a pipe", "ordinary pages", func(_ *testing.T, _ Role, _ uint64) (int, error) {
		var ends [2]int
		err := unix.Pipe2(ends[:], unix.O_CLOEXEC)
		_ = unix.Close(ends[1])
		return ends[0], err
	}},
}

// sealed writes the first words and adds the seals.
func sealed(fd int, err error, owner Role, ringSize uint64, seals int) (int, error) {
	if err != nil {
		return -1, err
	}
	written(fd, owner, ringSize)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	return fd, err
}

// ordinary makes a file in a directory, of the right size and content.
func ordinary(t *testing.T, directory string, owner Role, ringSize uint64) (int, error) {
	own, err := os.MkdirTemp(directory, "tandem")
	if err != nil {
		return -1, err
	}
	t.Cleanup(func() { _ = os.RemoveAll(own) })
	fd, err := unix.Open(filepath.Join(own, "f"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err == nil {
		err = unix.Fallocate(fd, 0, 0, segmentSize(ringSize))
	}
	written(fd, owner, ringSize)
	return fd, err
}

func TestT1I0AGrantedFileIsAMemfdOfOrdinaryPagesOfThePromisedSizeOrRefused(t *testing.T) {
	needsRealKernel(t, cutOffLeaks)
	ringSize := uint64(os.Getpagesize())
	tried := 0
	for _, l := range lies {
		for _, owner := range []Role{RoleServer, RoleClient} {
			t.Run(l.name+" as the "+owner.String()+"'s", func(t *testing.T) {
				fd, err := l.make(t, owner, ringSize)
				if err != nil {
					t.Skipf("this machine has no such file: %v", err)
				}
				defer unix.Close(fd)
				tried++
				path := testPath(t)
				rawServe(t, path, func(c *conn) {
					_, _, _ = c.receive(0)
					p := newPacket(packetGrant)
					p.Generation, p.Attachment, p.ToServerSize, p.ToClientSize = 1, 1, ringSize, ringSize
					files := []int{fd, fd, fd}
					if owner == RoleClient { // the first one is as it should be
						good, err := newSegment(RoleServer, 1, ringSize, positions{}, nil)
						if err != nil {
							t.Error(err)
							return
						}
						defer good.release()
						files[0] = good.file
					}
					if err := c.send(p, files...); err != nil {
						t.Error(err)
					}
					_, _, _ = c.receive(0)
				})
				before := footprintOf(path)
				_, err = Dial(testContext(t), path, nil)
				var corrupt *CorruptError
				if !errors.As(err, &corrupt) || corrupt.Invariant != "I0" {
					t.Errorf("Dial gave %v, want a CorruptError of I0", err)
				} else if !strings.Contains(err.Error(), l.says) {
					t.Errorf("Dial gave %v, which does not say %q", err, l.says)
				}
				nothingLeft(t, path, before)
			})
		}
	}
	if tried < 12 {
		t.Errorf("only %d lies were tried: the test is blind", tried)
	}
}

// The check looks at the file. Should one ever pass it that the kernel maps in larger
// pages, it must still overwrite nobody.
func TestT1AMappingBeginsWhereNoHugePageCan(t *testing.T) {
	page := uintptr(os.Getpagesize())
	var neighbours [][]byte
	defer func() {
		for _, n := range neighbours {
			_ = unix.Munmap(n)
		}
	}()
	for range 64 {
		s, err := newSegment(RoleServer, 1, uint64(page), positions{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if at := uintptr(unsafe.Pointer(&s.mem[0])); at/page%2 != 1 {
			t.Errorf("a segment begins at %#x, an even page", at)
		}
		s.release()
		// The next one comes to lie elsewhere.
		n, err := unix.Mmap(-1, 0, int(page), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			t.Fatal(err)
		}
		neighbours = append(neighbours, n)
	}
	huge, err := memfd(unix.MFD_HUGETLB, 2<<20, 0)
	if err != nil {
		t.Skipf("no file of huge pages: %v", err)
	}
	defer unix.Close(huge)
	if s, err := mapSegment(huge, uint64(page), false); err == nil {
		s.release()
		t.Error("a file of huge pages was mapped over its neighbours")
	} else if !errors.Is(err, unix.EINVAL) && !strings.Contains(err.Error(), "map") {
		t.Errorf("a file of huge pages: %v", err)
	}
}
