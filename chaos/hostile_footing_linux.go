package chaos

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// A footing is what a process takes up.
type footing struct{ Descriptors, Goroutines, Memories, Maps, Threads, Kilobytes int }

func (f footing) String() string {
	return fmt.Sprint(f.Descriptors, f.Goroutines, f.Memories, f.Maps, f.Threads, f.Kilobytes)
}

func ownFooting() (f footing) {
	f.Descriptors, f.Goroutines = openFiles(), runtime.NumGoroutine()
	maps, _ := os.ReadFile("/proc/self/maps")
	f.Maps, f.Memories = strings.Count(string(maps), "\n"), strings.Count(string(maps), "memfd:tandem")
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "Threads":
			_, _ = fmt.Sscan(value, &f.Threads)
		case "VmRSS":
			_, _ = fmt.Sscan(value, &f.Kilobytes)
		}
	}
	return f
}
