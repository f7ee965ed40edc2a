package plant

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// AdoptOrphans makes this process the parent of what its children leave behind. A bug
// may be that somebody stays, and who has found it does not.
func AdoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// EndOrphans kills the children of this process, which has waited for all that it has
// started itself, and their children, and returns how many there were. The number of a
// child is nobody else's before its parent has waited for it.
func EndOrphans() (ended int) {
	for {
		orphans := children()
		if len(orphans) == 0 {
			return ended
		}
		for _, pid := range orphans {
			_ = unix.Kill(pid, unix.SIGKILL)
			if _, err := unix.Wait4(pid, nil, 0, nil); err == nil {
				ended++
			}
		}
	}
}

func children() (pids []int) {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
