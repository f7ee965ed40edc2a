package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of those that it has started
// indirectly and that lose their parent. Where the first process of a container
// does not wait for strangers, they would stay as zombies.
func adoptOrphans() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// reap waits for those of the processes that have become children of this one.
// They are exiting; the others were waited for by their parents.
func reap(pids []int) {
	for _, pid := range pids {
		for {
			if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
				break
			}
		}
	}
}

// isTerminal tells whether a person watches the file.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
