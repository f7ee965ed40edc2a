//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Mounts as /proc/self/mountinfo shows them: the unified hierarchy, the old one, and
// the one that a container sees, whose root is its own group.
const (
	unifiedMount   = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	legacyMount    = "31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n32 24 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
	containerMount = "33 24 0:29 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
)

func TestAMemoryCgroupWithoutRoomRefusesTheRings(t *testing.T) {
	const mib = 1 << 20
	for _, row := range []struct {
		name  string
		files map[string]string
		fits  int64 // the most that does
		says  string
	}{
		{"no files at all", nil, 1 << 40, ""},
		{"no limit", map[string]string{
			"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": unifiedMount,
			"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.current": "5\n",
		}, 1 << 40, ""},
		{"a limit", map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": unifiedMount,
			"sys/fs/cgroup/a/b/memory.max": "67108864\n", "sys/fs/cgroup/a/b/memory.current": "4194304\n",
			"sys/fs/cgroup/a/b/memory.stat": "anon 3145728\nactive_file 524288\ninactive_file 524288\n",
		}, 61 * mib, "/sys/fs/cgroup/a/b is 67108864 bytes"},
		{"a limit of a parent", map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": unifiedMount,
			"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/b/memory.current": "0\n",
			"sys/fs/cgroup/a/memory.max": "1048576\n", "sys/fs/cgroup/a/memory.current": "0\n",
		}, mib, "/sys/fs/cgroup/a is 1048576 bytes"},
		{"names of files in the kernel", map[string]string{
			"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": unifiedMount,
			"sys/fs/cgroup/a/memory.max": "134217728\n", "sys/fs/cgroup/a/memory.current": "117440512\n",
			"sys/fs/cgroup/a/memory.stat": "kernel 115343360\nslab_reclaimable 104857600\nslab_unreclaimable 10485760\n",
		}, 116 * mib, "/sys/fs/cgroup/a is 134217728 bytes"},
		{"names of files in the kernel, the old hierarchy", map[string]string{
			"proc/self/cgroup": "4:memory:/x\n", "proc/self/mountinfo": legacyMount,
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "134217728\n", "sys/fs/cgroup/memory/x/memory.usage_in_bytes": "117440512\n",
			"sys/fs/cgroup/memory/x/memory.kmem.usage_in_bytes": "111149056\n", "sys/fs/cgroup/memory/x/memory.stat": "total_inactive_file 0\n",
		}, 122 * mib, "/sys/fs/cgroup/memory/x is 134217728 bytes"},
		{"swap", map[string]string{
			"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": unifiedMount, "proc/meminfo": "SwapTotal: 4096 kB\nSwapFree: 3072 kB\n",
			"sys/fs/cgroup/a/memory.max": "1048576\n", "sys/fs/cgroup/a/memory.current": "0\n",
			"sys/fs/cgroup/a/memory.swap.max": "max\n",
		}, 4 * mib, "/sys/fs/cgroup/a"},
		{"swap that is limited", map[string]string{
			"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": unifiedMount, "proc/meminfo": "SwapFree: 3072 kB\n",
			"sys/fs/cgroup/a/memory.max": "1048576\n", "sys/fs/cgroup/a/memory.current": "0\n",
			"sys/fs/cgroup/a/memory.swap.max": "2097152\n", "sys/fs/cgroup/a/memory.swap.current": "1048576\n",
		}, 2 * mib, "/sys/fs/cgroup/a"},
		{"the old hierarchy", map[string]string{
			"proc/self/cgroup": "4:memory:/x\n3:cpu:/y\n0::/z\n", "proc/self/mountinfo": legacyMount,
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "2097152\n", "sys/fs/cgroup/memory/x/memory.usage_in_bytes": "1048576\n",
			"sys/fs/cgroup/memory/x/memory.stat":         "inactive_file 9\ntotal_inactive_file 524288\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, mib + mib/2, "/sys/fs/cgroup/memory/x is 2097152 bytes"},
		{"a container", map[string]string{
			"proc/self/cgroup": "4:memory:/docker/abc\n", "proc/self/mountinfo": containerMount,
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "1048576\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "0\n",
		}, mib, "/sys/fs/cgroup/memory is 1048576 bytes"},
		{"a container that hides its place", map[string]string{
			"proc/self/cgroup": "4:memory:/\n", "proc/self/mountinfo": containerMount,
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "1048576\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "0\n",
		}, mib, "/sys/fs/cgroup/memory is 1048576 bytes"},
		{"garbage", map[string]string{
			"proc/self/cgroup": "0\n::\n0::\n", "proc/self/mountinfo": "- cgroup2\n - \n30 - cgroup2 cgroup2 rw\n" + unifiedMount,
			"sys/fs/cgroup/memory.max": "many\n", "sys/fs/cgroup/memory.current": "1\n",
		}, 1 << 40, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := machine{root: t.TempDir()}
			for name, content := range row.files {
				file := filepath.Join(m.root, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.fits(row.fits); err != nil {
				t.Errorf("%d bytes: %v", row.fits, err)
			}
			err := m.fits(row.fits + 1)
			switch {
			case row.says == "" && err != nil:
				t.Errorf("no limit is known: %v", err)
			case row.says != "" && (!errors.Is(err, unix.ENOMEM) || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), strconv.FormatInt(row.fits+1, 10))):
				t.Errorf("%d bytes: %v, which does not say %q and what was asked for", row.fits+1, err, row.says)
			}
		})
	}
}

var _ = sceneOf("rings in a memory cgroup", func(s *scene) {
	s.say("here")
	s.next()
	before := footprintOf(s.path)
	for _, o := range []*Options{{ToServerSize: 64 << 20, ToClientSize: 64 << 20}, {ToServerSize: 128 << 20}} {
		_, err := Listen(s.ctx, s.path, o)
		s.must("Listen", err, unix.ENOMEM, "memory cgroup", "smaller rings")
		nothingLeft(s, s.path, before)
	}
	s.closeBoth(s.pair(&Options{ToServerSize: 4 << 20, ToClientSize: 4 << 20}))
})

func TestAMemoryCgroupRefusesTheRingsBeforeTheKernelKills(t *testing.T) {
	var group string
	for _, try := range []struct{ directory, file string }{{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"}} {
		made, err := os.MkdirTemp(try.directory, "tandem")
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(made) }) // behind the process's end
		if os.WriteFile(filepath.Join(made, try.file), []byte("100663296"), 0o600) == nil {
			group = made
			break
		}
	}
	if group == "" {
		t.Skip("NOT TESTED on this machine: it lets nobody make a memory cgroup")
	}
	path := testPath(t)
	p := start(t, "scene", sceneArgument{"rings in a memory cgroup", path})
	p.expect("here")
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(fmt.Sprint(p.cmd.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.tell("go")
	p.expect("ok")
	p.wait()
	works(t, path)
}
