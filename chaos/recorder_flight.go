package chaos

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// A tracedRole is what a process with a recorder is on its path.
type tracedRole struct {
	Server bool
	Second bool // it tries to be what there is already, and is refused
}

// name is what the specification calls it.
func (r tracedRole) name() string {
	return [2]string{"s", "c"}[role(r.Server)] + strconv.Itoa(1+count(r.Second))
}

// count is 1 for true.
func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// A flown is where one process of a flight has recorded; process 0 is whoever
// breaks the others.
type flown struct {
	process int
	role    tracedRole
	path    string
}

// The files of a flight that is kept: flight-0-kernel, and for the processes
// flight-1-server, flight-2-client, flight-3-second-client.
const flightPrefix = "flight-"

func flightFile(process int, r tracedRole) string {
	who := roleName(r.Server)
	switch {
	case process == 0:
		who = "kernel"
	case r.Second:
		who = "second-" + who
	}
	return fmt.Sprintf("%s%d-%s", flightPrefix, process, who)
}

// keptFlight are the recordings of a flight that was kept in a directory.
func keptFlight(dir string) (all []flown, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, flightPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		digits, who, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), flightPrefix), "-")
		process, err := strconv.Atoi(digits)
		if err != nil {
			return nil, fmt.Errorf("chaos: %s is no recording: %w", path, err)
		}
		who, second := strings.CutPrefix(who, "second-")
		all = append(all, flown{process, tracedRole{Server: who == roleName(true), Second: second}, path})
	}
	return all, nil
}

// land makes a trace of what was recorded. Nobody records any more.
func land(all []flown) (trace, error) {
	t := trace{Roles: map[int]tracedRole{}}
	var recordings [][]recorded
	for _, f := range all {
		mine, lost, err := readRecording(f.path)
		if err != nil {
			return t, err
		}
		recordings = append(recordings, mine)
		t.Lost += lost
		if f.process > 0 {
			t.Roles[f.process] = f.role
		}
	}
	t.Events = merge(recordings...)
	for _, e := range t.Events {
		t.Kills += count(e.At == recordKilled && !t.Roles[int(e.Value)].Second)
	}
	return t, nil
}
