//go:build linux

package measure

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Processors are those that this process may use.
func Processors() ([]int, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return nil, err
	}
	var all []int
	for i := range 64 * len(allowed) {
		if allowed.IsSet(i) {
			all = append(all, i)
		}
	}
	return all, nil
}

// boundTo runs a function on a thread that is bound to one processor, so that a process
// which it starts begins there. -1 binds to none.
func boundTo(processor int, start func() error) error {
	if processor < 0 {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	one.Set(processor)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("bind to processor %d: %w", processor, err)
	}
	defer func() { _ = unix.SchedSetaffinity(0, &before) }()
	return start()
}

// processorsFor are the processors of the server and the client.
func processorsFor(place string, all []int) (server, client int, err error) {
	switch {
	case place == Free:
		return -1, -1, nil
	case place == Together:
		return all[0], all[0], nil
	case len(all) < 2:
		return 0, 0, fmt.Errorf("there is one processor only")
	}
	return all[0], all[len(all)-1], nil
}
