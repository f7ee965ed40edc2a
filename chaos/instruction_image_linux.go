//go:build amd64 || arm64

package chaos

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/ipc"
)

// Where the words of a control page lie: docs/PROTOCOL.md. A test compares.
const (
	offsetRingSize     = 0x020
	offsetWritePos     = 0x080
	offsetReadPos      = 0x100
	offsetDeliveredPos = 0x180
	offsetDataWaitFor  = 0x200
	offsetSpaceWaitFor = 0x280
	offsetBeat         = 0x300
	offsetAttachment   = 0x380
	offsetGoodbye      = 0x400
)

// A victimMemory is the victim's segment, mapped by the tracer for reading, and
// the survivor's.
type victimMemory struct {
	own, other []byte
	last       image // the last that was taken
}

// An image is what the victim's segment held at one moment: all that it can
// write, for its mapping of the other is read-only. The beat is left out: it is
// another goroutine's, and has a step of its own.
type image string

// memoryOf maps the segments that a process has mapped, through a descriptor
// that it or this process holds.
func memoryOf(pid int, victim ipc.Role) (*victimMemory, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	m := &victimMemory{}
	for _, role := range []ipc.Role{ipc.RoleServer, ipc.RoleClient} {
		inode, found := inodeOf(string(maps), "/memfd:tandem-"+role.String())
		if !found {
			m.unmap()
			return nil, fmt.Errorf("the process has not mapped the %v's memory", role)
		}
		into := &m.other
		if role == victim {
			into = &m.own
		}
		if *into, err = mapInode(inode, pid, os.Getpid()); err != nil {
			m.unmap()
			return nil, fmt.Errorf("map the %v's memory: %w", role, err)
		}
	}
	return m, nil
}

// inodeOf finds the file of that name in /proc/PID/maps.
func inodeOf(maps, name string) (uint64, bool) {
	for line := range strings.Lines(maps) {
		if fields := strings.Fields(line); len(fields) > 5 && fields[5] == name {
			inode, err := strconv.ParseUint(fields[4], 10, 64)
			return inode, err == nil
		}
	}
	return 0, false
}

// mapInode maps a memory file that one of the processes has open.
func mapInode(inode uint64, pids ...int) ([]byte, error) {
	for _, pid := range pids {
		directory := fmt.Sprintf("/proc/%d/fd/", pid)
		entries, _ := os.ReadDir(directory)
		for _, entry := range entries {
			var stat unix.Stat_t
			name := directory + entry.Name()
			if to, err := os.Readlink(name); err != nil || !strings.HasPrefix(to, "/memfd:tandem-") {
				continue
			}
			if unix.Stat(name, &stat) != nil || stat.Ino != inode {
				continue
			}
			file, err := os.Open(name)
			if err != nil {
				return nil, err
			}
			defer file.Close()
			return unix.Mmap(int(file.Fd()), 0, int(stat.Size), unix.PROT_READ, unix.MAP_SHARED)
		}
	}
	return nil, errors.New("nobody has it open")
}

func (m *victimMemory) unmap() {
	for _, segment := range []*[]byte{&m.own, &m.other} {
		if *segment != nil {
			_ = unix.Munmap(*segment)
			*segment = nil
		}
	}
}

// take is the image of this moment. Nobody writes: the victim is stopped.
func (m *victimMemory) take() image {
	const behind = offsetBeat + 8
	if len(m.last) > 0 && string(m.own[:offsetBeat]) == string(m.last[:offsetBeat]) && string(m.own[behind:]) == string(m.last[behind:]) {
		return m.last
	}
	now := bytes.Clone(m.own)
	clear(now[offsetBeat:behind])
	m.last = image(now)
	return m.last
}

// released is the survivor's word on how much of the victim's ring it is done
// with.
func (m *victimMemory) released() uint64 {
	return binary.LittleEndian.Uint64(m.other[offsetReadPos:])
}

// word reads a word of the control page.
func (i image) word(offset int) uint64 {
	return binary.LittleEndian.Uint64([]byte(i[offset : offset+8]))
}

// visible is the image without what no reader may look at: the bytes of the ring
// outside of what is committed. A payload that takes more than one store is there
// in part for a while, between the steps Claimed and Filled; writePos has not
// passed it, so to everybody else these images are one.
func (i image) visible(released uint64) image {
	size := i.word(offsetRingSize)
	committed := i.word(offsetWritePos) - released
	seen := []byte(i)
	ring := seen[uint64(len(seen))-size:]
	for at := committed; at < size; at++ {
		ring[(released+at)&(size-1)] = 0
	}
	return image(seen)
}

// describe is what tells an image from others.
func (i image) describe() string {
	return fmt.Sprintf("writePos %d, readPos %d, deliveredPos %d, dataWaitFor %d, spaceWaitFor %d, attachment %d, goodbye %d, %x in the ring",
		i.word(offsetWritePos), i.word(offsetReadPos), i.word(offsetDeliveredPos), i.word(offsetDataWaitFor), i.word(offsetSpaceWaitFor),
		i.word(offsetAttachment), i.word(offsetGoodbye), crc32.ChecksumIEEE([]byte(i[uint64(len(i))-i.word(offsetRingSize):])))
}
