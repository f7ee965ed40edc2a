//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A remote is the process at the other end of a connection, on the kernel's word:
// the one that called connect, or at a client the one that called listen.
type remote struct {
	uid   uint32
	who   owner
	pidfd int  // 0 if there is none: no descriptor of ours has this number
	exact bool // the pidfd is from the socket: its exit is the death of this process
}

// credentialsOf returns user and process at the other end of a connection.
func credentialsOf(fd int) (*unix.Ucred, error) {
	user, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, fmt.Errorf("ipc: ask who is at the other end of the socket: %w: nothing was attached", err)
	}
	return user, nil
}

var errGone = errors.New("the process at the other end is gone")

// remoteOf returns the process at the other end. The pidfd comes first, then the
// start time, and then it must still live: so its number was not another's
// meanwhile, and the three belong together.
func remoteOf(fd int) (remote, error) {
	user, err := credentialsOf(fd)
	if err != nil {
		return remote{}, err
	}
	r := remote{uid: user.Uid, who: owner{pid: int(user.Pid), in: here()}, exact: true}
	if r.pidfd, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD); err != nil { // before Linux 6.5
		r.exact = false
		r.pidfd, err = unix.PidfdOpen(r.who.pid, 0)
		if errors.Is(err, unix.ESRCH) {
			return remote{uid: r.uid, who: r.who}, errGone
		}
	}
	if err == nil {
		r.pidfd, err = aboveStdio(r.pidfd)
	}
	if err != nil {
		r.pidfd, r.exact = 0, false
	}
	r.who.start = startTime(r.who.pid)
	if r.exited() {
		r.forget()
		return r, errGone
	}
	return r, nil
}

// exited reports whether the process has certainly ended.
func (r *remote) exited() bool {
	if r.pidfd == 0 {
		return false
	}
	poll := []unix.PollFd{{Fd: int32(r.pidfd), Events: unix.POLLIN}}
	err := retry(func() error { _, err := unix.Poll(poll, 0); return err })
	return err == nil && poll[0].Revents&unix.POLLIN != 0
}

// died reports whether the pidfd proves the death of the process. One that was
// opened by its number may be of a later process.
func (r *remote) died() bool { return r.exact && r.exited() }

// forget closes the pidfd.
func (r *remote) forget() {
	if r.pidfd > 0 {
		_ = unix.Close(r.pidfd)
	}
	r.pidfd, r.exact = 0, false
}

// A kernel that has no number for a user, because the user namespace of this
// process does not map it, shows the overflow user. Where that can be, this user
// is nobody: many users look like it (T2).

// isNobody reports whether the number of a user says nothing here.
func isNobody(uid uint32) bool {
	overflow := uint32(65534)
	if content, err := os.ReadFile("/proc/sys/kernel/overflowuid"); err == nil {
		_, _ = fmt.Sscan(string(content), &overflow)
	}
	return uid == overflow && !mapsEverybody()
}

// whyNobody says of a user that is nobody here why that is so.
func whyNobody(uid uint32) string {
	if !isNobody(uid) {
		return ""
	}
	return fmt.Sprintf(": user %d stands for all that have no number here, and is on no list, unless /proc/self/uid_map shows that everybody has one: is /proc mounted?", uid)
}

// mapsEverybody reports whether the user namespace of this process has a number for
// each user.
func mapsEverybody() bool {
	content, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && coversEverybody(string(content))
}

// coversEverybody reads a uid_map, each line of which has a first user inside, a
// first user outside, and a number of users.
func coversEverybody(text string) bool {
	var users uint64
	for line := range strings.Lines(text) {
		var inside, outside, count uint64
		if n, _ := fmt.Sscan(line, &inside, &outside, &count); n == 3 {
			users += count
		}
	}
	return users >= math.MaxUint32 // the last number is no user
}
