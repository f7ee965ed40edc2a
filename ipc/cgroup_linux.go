//go:build linux && (amd64 || arm64)

package ipc

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A machine is what the kernel says of memory, in its files. All of them may be
// missing, or closed to this process: what is not known limits nothing.
type machine struct {
	root string // empty, but for tests
}

// fits refuses what a memory cgroup of this process has no room for. The kernel does
// not refuse it: fallocate takes the pages one after the other, and when the limit
// is reached it kills this process, or another one of the group.
func (m machine) fits(need int64) error {
	for _, group := range m.groups() {
		limit, left, known := group.room(m)
		if known && need > left {
			return fmt.Errorf("ipc: allocate %d bytes for the rings: the limit of the memory cgroup %s is %d bytes, and %d of them are left: %w: nothing was allocated: raise the limit, or ask for smaller rings",
				need, group.directory, limit, max(left, 0), unix.ENOMEM)
		}
	}
	return nil
}

// A memoryGroup is one directory of a hierarchy of cgroups, and how its files are
// called there.
type memoryGroup struct {
	directory string
	*groupFiles
}

type groupFiles struct {
	limit, usage         string
	swapLimit, swapUsage string
	both                 bool     // the limit of swap is one of memory and swap
	drops                []string // words of memory.stat: what the kernel can drop
	kernel               string   // what it uses itself; empty if memory.stat says how much of that it can drop
}

var (
	unifiedFiles = &groupFiles{
		limit: "memory.max", usage: "memory.current", swapLimit: "memory.swap.max", swapUsage: "memory.swap.current",
		drops: []string{"active_file", "inactive_file", "slab_reclaimable"},
	}
	legacyFiles = &groupFiles{
		limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes",
		swapLimit: "memory.memsw.limit_in_bytes", swapUsage: "memory.memsw.usage_in_bytes", both: true,
		drops: []string{"total_active_file", "total_inactive_file"}, kernel: "memory.kmem.usage_in_bytes",
	}
)

// room is the limit of a group, and the most that it may still take: what is not used,
// what the kernel can drop, which is pages of files and most of what it has of their
// names, and what can be swapped out. The old hierarchy does not tell how much of
// the kernel's own it can drop; so all of it counts, for what may go is not refused.
func (g memoryGroup) room(m machine) (limit, left int64, known bool) {
	limit, known = m.number(g.directory, g.limit)
	usage, counted := m.number(g.directory, g.usage)
	if !known || !counted {
		return 0, 0, false
	}
	left = limit - usage
	for _, word := range g.drops {
		left += m.word(filepath.Join(g.directory, "memory.stat"), word)
	}
	if g.kernel != "" {
		own, _ := m.number(g.directory, g.kernel)
		left += own
	}
	swap := m.word("/proc/meminfo", "SwapFree:") << 10
	if most, limited := m.number(g.directory, g.swapLimit); limited {
		used, _ := m.number(g.directory, g.swapUsage)
		free := most - used
		if g.both { // what it leaves beside the memory that is left
			free -= limit - usage
		}
		swap = min(swap, max(free, 0))
	}
	return limit, left + swap, true
}

// groups are the memory cgroups of this process, each with those that it is in.
func (m machine) groups() (groups []memoryGroup) {
	memberships, mounts := m.read("/proc/self/cgroup"), m.read("/proc/self/mountinfo")
	for line := range strings.Lines(mounts) {
		// 36 35 98:0 /root /mount/point options ... - type source options
		before, after, found := strings.Cut(strings.TrimSpace(line), " - ")
		fields, system := strings.Fields(before), strings.Fields(after)
		if !found || len(fields) < 5 || len(system) < 3 {
			continue
		}
		files, controller := unifiedFiles, ""
		switch {
		case system[0] == "cgroup2":
		case system[0] == "cgroup" && hasWord(system[2], "memory"):
			files, controller = legacyFiles, "memory"
		default:
			continue
		}
		top := fields[4]
		own := top
		for membership := range strings.Lines(memberships) {
			parts := strings.SplitN(strings.TrimSpace(membership), ":", 3)
			if len(parts) == 3 && (controller == "" && parts[0] == "0" || controller != "" && hasWord(parts[1], controller)) {
				// A container may see its own group alone, as the root of the mount.
				if inside, ok := strings.CutPrefix(parts[2], strings.TrimSuffix(fields[3], "/")); ok {
					own = filepath.Join(top, inside)
				}
			}
		}
		for own != top && strings.HasPrefix(own, top) {
			groups = append(groups, memoryGroup{own, files})
			own = filepath.Dir(own)
		}
		groups = append(groups, memoryGroup{top, files})
	}
	return groups
}

// hasWord reports whether a list with commas has a word.
func hasWord(list, word string) bool { return strings.Contains(","+list+",", ","+word+",") }

// unlimited is more than any machine has: the old hierarchy says so much for no limit.
const unlimited = 1 << 60

// number is what a file of a group says, if that is a number that limits.
func (m machine) number(directory, name string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(m.read(filepath.Join(directory, name))), 10, 64)
	return n, err == nil && n < unlimited
}

// word is the number behind a word that begins a line of a file; 0 if there is none.
func (m machine) word(file, word string) int64 {
	for line := range strings.Lines(m.read(file)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == word {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			return n
		}
	}
	return 0
}

// read is the content of a file; empty if it cannot be read.
func (m machine) read(file string) string {
	fd := -1
	err := retry(func() (err error) { fd, err = unix.Open(m.root+file, unix.O_RDONLY|unix.O_CLOEXEC, 0); return err })
	if err != nil {
		return ""
	}
	if fd, err = aboveStdio(fd); err != nil {
		return ""
	}
	defer unix.Close(fd)
	var content strings.Builder
	buffer := make([]byte, 16<<10)
	for {
		n := 0
		err := retry(func() (err error) { n, err = unix.Read(fd, buffer); return err })
		if err != nil || n <= 0 {
			return content.String()
		}
		content.Write(buffer[:n])
	}
}
