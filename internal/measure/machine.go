//go:build linux

package measure

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// ThisMachine describes where this process runs.
func ThisMachine() Machine {
	m := Machine{Go: runtime.Version(), CPU: "unknown"}
	if all, err := Processors(); err == nil {
		m.Processors = len(all)
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			switch strings.TrimSpace(key) {
			case "model name":
				m.CPU = strings.TrimSpace(value)
			case "flags":
				m.Virtual = strings.Contains(value+" ", " hypervisor ")
			}
		}
	}
	m.Memory, _ = statusBytes("/proc/meminfo", "MemTotal:")
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	return m
}

// Load is the load of the machine, as the kernel gives it.
func Load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	words := strings.Fields(string(text))
	return strings.Join(words[:min(3, len(words))], " ")
}
