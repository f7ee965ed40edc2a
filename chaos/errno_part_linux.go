//go:build amd64 || arm64

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/ipc"
)

// A lifeReport is what a process says of one life that it led.
type lifeReport struct {
	Err   string // empty: it went as if nothing had failed
	Clean bool   // the error names its cause
	Stuck bool   // it waited until its time was over
	Left  string // what it has not given back
}

// lifeLimit bounds one life. It is a bound, not a claim about time.
const lifeLimit = watchdog / 6

// lives leads one life after the other in one process. Each line says which errno
// the tracer will make a call fail with, or 0.
func lives(live func(context.Context, lifeArgument) error) func(*player) {
	return func(p *player) {
		var arg lifeArgument
		p.arg(&arg)
		for first := true; ; first = false {
			errno, err := strconv.Atoi(p.next())
			if err != nil {
				p.fail("%v", err)
			}
			before := footprintOf(arg.Path)
			remove := func() {}
			if arg.Role == ipc.RoleServer {
				if remove, err = staleFiles(arg.Path); err != nil {
					p.fail("%v", err)
				}
			}
			ctx, cancel := context.WithTimeout(context.Background(), lifeLimit)
			markBegin.here(0)
			err = live(ctx, arg)
			markEnd.here(0)
			cancel()
			remove()
			var r lifeReport
			if !first { // which has opened what stays open for good
				r.Left = before.left(arg.Path)
			}
			if err != nil {
				r.Err, r.Clean = err.Error(), namesCause(err, unix.Errno(errno))
				r.Stuck = errors.Is(err, context.DeadlineExceeded)
			}
			text, _ := json.Marshal(r)
			p.say("%s", text)
			markPrepared.here(0)
		}
	}
}

var _ = register("lives", lives(func(ctx context.Context, arg lifeArgument) error { return arg.live(ctx) }))

// namesCause reports whether an error is one that a caller can act on: it wraps
// the errno, or is an error of package ipc.
func namesCause(err error, errno unix.Errno) bool {
	var version *ipc.VersionError
	if errors.As(err, &version) {
		return true
	}
	for _, cause := range []error{errno, errors.ErrUnsupported, ipc.ErrServerRunning, ipc.ErrClientRunning, ipc.ErrRefused, ipc.ErrForeign,
		ipc.ErrPeerDied, ipc.ErrPeerClosed} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// A footprint is what this process holds, and what lies in a directory.
type footprint map[string]int

func footprintOf(path string) footprint {
	found := footprint{"goroutine": runtime.NumGoroutine()}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		// The descriptor of ReadDir itself is gone by now.
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil {
			kind, _, _ := strings.Cut(target, ":[")
			found["descriptor of "+kind]++
		}
	}
	content, _ := os.ReadFile("/proc/self/maps")
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) > 5 && strings.HasPrefix(fields[5], "/memfd:") {
			found["mapping of "+fields[5]]++
		}
	}
	files, _ := os.ReadDir(filepath.Dir(path))
	for _, file := range files {
		if !staysBehind(file.Name(), path) {
			found["file "+file.Name()]++
		}
	}
	return found
}

// betweenLeft stands between two things that are left.
const betweenLeft = "; "

// left waits until no more is there than before, and says what stays.
func (f footprint) left(path string) string {
	for deadline := time.Now().Add(lifeLimit / 5); ; runtime.Gosched() {
		now := footprintOf(path)
		var lines []string
		for _, what := range slices.Sorted(maps.Keys(now)) {
			if now[what] > f[what] {
				lines = append(lines, fmt.Sprintf("%s: %d before, %d now", what, f[what], now[what]))
			}
		}
		if len(lines) == 0 || time.Now().After(deadline) {
			return strings.Join(lines, betweenLeft)
		}
	}
}
