//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Left to itself, the kernel often puts two processes that talk to each other on
// one processor, and changes its mind while they are measured. What is about two
// processors is therefore measured with each process bound to its own.

// allowedProcessors are the first and the last processor that this process may
// run on. They are the same if there is only one.
func allowedProcessors() (first, last int, err error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return 0, 0, err
	}
	first = -1
	for i := range 64 * len(allowed) {
		if allowed.IsSet(i) {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	return first, last, nil
}

// runOn binds every thread of this process. Threads to come inherit it.
func runOn(processors *unix.CPUSet) error {
	for range 3 { // a thread may have begun meanwhile
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil {
				return err
			}
			if err := unix.SchedSetaffinity(id, processors); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}

func runOnOne(processor int) error {
	var one unix.CPUSet
	one.Set(processor)
	return runOn(&one)
}

// runApart binds this process to one processor until the benchmark ends.
//
// Preconditions: the player runs already. It would inherit the binding, and
// think that the machine has one processor.
func runApart(b testing.TB, processor int) {
	b.Helper()
	var before unix.CPUSet
	err := unix.SchedGetaffinity(0, &before)
	if err == nil {
		b.Cleanup(func() { _ = runOn(&before) })
		err = runOnOne(processor)
	}
	if err != nil {
		b.Fatal(err)
	}
}
