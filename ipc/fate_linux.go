//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A fate is what became of a process that a lock file names, on the kernel's word
// (L5). What cannot be seen from here is not known, and is not called an end.
type fate int

const (
	fateUnknown fate = iota
	fateLives
	fateEnded
)

// spaces are the namespaces in which the numbers of a record mean something: that of
// its process numbers, and that of its start times. 0 is not known.
type spaces struct{ pid, time uint64 }

// here are the namespaces of this process. A process does not change them.
var here = sync.OnceValue(func() spaces {
	h := spaces{namespace("pid"), namespace("time")}
	if h.pid != 0 && h.time == 0 && !exists("/proc/self/ns/time") {
		h.time = oneTime
	}
	return h
})

// oneTime stands for the time namespace of a kernel that has one only, before Linux
// 5.6. No namespace has this number.
const oneTime = 1

// namespace is the kernel's number of a namespace of this process, 0 if it is not
// known.
func namespace(kind string) uint64 {
	var stat unix.Stat_t
	if err := retry(func() error { return unix.Stat("/proc/self/ns/"+kind, &stat) }); err != nil {
		return 0
	}
	return stat.Ino
}

// isElsewhere reports whether the number certainly is of another PID namespace.
func (o owner) isElsewhere() bool { return o.in.pid != 0 && here().pid != 0 && o.in.pid != here().pid }

// isNumberedHere reports whether the number certainly is of this PID namespace.
func (o owner) isNumberedHere() bool { return o.pid > 0 && o.in.pid != 0 && o.in.pid == here().pid }

// isTimedElsewhere reports whether the start time certainly is of another time
// namespace, whose clock is shifted.
func (o owner) isTimedElsewhere() bool {
	return o.in.time != 0 && here().time != 0 && o.in.time != here().time
}

// fate says what became of the process.
func (o owner) fate() fate {
	if o.pid <= 0 || o.isElsewhere() {
		return fateUnknown
	}
	if o.isNumberedHere() && unix.Kill(o.pid, 0) == unix.ESRCH { // asked of the kernel: /proc may hide it
		return fateEnded
	}
	if o.start == 0 || o.isTimedElsewhere() || !procIsOwn() {
		return fateUnknown
	}
	switch start, over := seen(o.pid); {
	case start == o.start && over:
		return fateEnded
	case start == o.start:
		return fateLives
	case start != 0 && o.isNumberedHere() && o.in.time != 0 && o.in.time == here().time:
		return fateEnded // and its number is another's now
	}
	return fateUnknown
}

// whyUnknown says what keeps its fate from being known.
func (o owner) whyUnknown() string {
	switch {
	case o.pid <= 0:
		return "the lock file names none, or one that its server could not number: in another PID namespace"
	case o.isElsewhere():
		return fmt.Sprintf("process %d, which the lock file names, is one of another PID namespace", o.pid)
	case o.isTimedElsewhere():
		return fmt.Sprintf("process %d may be another now than the lock file names: that was written in another time namespace", o.pid)
	}
	return fmt.Sprintf("process %d, which the lock file names, is hidden from this user, is not shown by this /proc, or may be another now", o.pid)
}

// procIsOwn reports whether /proc shows the processes of this process's own PID
// namespace. One of a namespace above numbers this process twice or more.
func procIsOwn() bool {
	self, err := os.Readlink("/proc/self")
	if err != nil || self != strconv.Itoa(os.Getpid()) {
		return false
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	numbers := statusLine(status, "NSpid:")
	return len(numbers) == 0 || len(numbers) == 1 && numbers[0] == self
}

// statusLine returns the fields behind a word in /proc/PID/status.
func statusLine(status []byte, word string) []string {
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == word {
			return fields[1:]
		}
	}
	return nil
}

// seen returns when a process started, from field 22 of /proc/PID/stat, 0 if there is
// no such process here; and whether nothing of it runs any more, and it only waits for
// its parent. Its first thread's file says the same, and to everybody: an emulator
// (qemu-user) makes up what a process finds in its own /proc/PID/stat, so that the
// others would not know it by what it has recorded.
func seen(pid int) (start uint64, over bool) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/stat", pid))
	if err != nil {
		return 0, false
	}
	// The second field is a name in parentheses, which may hold spaces.
	fields := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
	if len(fields) < 20 {
		return 0, false
	}
	start, _ = strconv.ParseUint(fields[19], 10, 64)
	// A first thread that has ended leaves its process running as long as others do.
	return start, (fields[0] == "Z" || fields[0] == "X") && (fields[17] == "0" || fields[17] == "1")
}

// startTime returns when a process started; 0 if there is no such process here.
func startTime(pid int) uint64 {
	start, _ := seen(pid)
	return start
}

// whyNotSeen says why the descriptors of a process may not be looked at, and by whom
// they may.
func whyNotSeen(pid int, err error) error {
	if pid == 0 { // the kernel translates a number that does not exist here to this
		return fmt.Errorf("%w: it has no number here, because it is in another PID namespace: end it there, or kill it from a server whose namespace contains that one", errNoEvidence)
	}
	if !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: process %d has ended, is hidden from this user, or is in another PID namespace (%w)", errNoEvidence, pid, err)
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if users := statusLine(status, "Uid:"); len(users) == 4 && users[1] == strconv.Itoa(os.Geteuid()) {
		return fmt.Errorf("%w: process %d is this user's, and may not be looked at all the same (%w): it is not dumpable, has more privileges, or a sandbox or a security module forbids it: listen with CAP_SYS_PTRACE, or end it by hand", errNoEvidence, pid, err)
	}
	return fmt.Errorf("%w: process %d may not be looked at (%w): listen as its user or with CAP_SYS_PTRACE, or end it by hand", errNoEvidence, pid, err)
}
