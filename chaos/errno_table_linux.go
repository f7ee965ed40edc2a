//go:build amd64 || arm64

package chaos

import (
	"slices"

	"golang.org/x/sys/unix"
)

// A failing is how a system call of the life cycle may fail.
type failing struct {
	errnos []unix.Errno
	why    string

	// done says that the kernel does what it is asked for all the same: only
	// the answer is replaced.
	done bool
}

// Why calls fail that have nothing to do with what they are asked for.
const (
	forFiles   = "the process, or the system, is out of descriptors"
	forMemory  = "the kernel, or the control group, is out of memory"
	forMedium  = "the medium, or the quota, gives out"
	forSandbox = "a security module, or a sandbox, forbids it"
	forSignal  = "a signal interrupts it"
)

// denials are what a sandbox may answer to any call, whatever the call itself can give.
var denials = []unix.Errno{unix.EPERM, unix.EACCES, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOSYS}

// ways are the errnos that a call is made to fail with. Where the kernel does what it is
// asked for, nothing is denied, and what cannot fail is not denied either: the Go
// runtime does not live without it.
func (f failing) ways() []unix.Errno {
	ways := slices.Clone(f.errnos)
	if f.done || len(ways) == 0 {
		return ways
	}
	for _, errno := range denials {
		if !slices.Contains(ways, errno) {
			ways = append(ways, errno)
		}
	}
	return ways
}

// failings are the calls by the name that callAt gives them. A call that the
// tracer sees and that is missing here fails the layer, so that a new one is
// thought about.
var failings = map[string]failing{
	"openat": {errnos: []unix.Errno{unix.EINTR, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EACCES, unix.ENOSPC, unix.EIO},
		why: forFiles + "; " + forMemory + "; " + forSandbox + "; " + forMedium + "; /proc is not mounted"},
	"close":    {errnos: []unix.Errno{unix.EINTR, unix.EIO}, why: forSignal + "; " + forMedium + "; Linux frees the descriptor all the same", done: true},
	"fstat":    {errnos: []unix.Errno{unix.ENOMEM, unix.EIO}, why: forMemory + "; " + forMedium},
	"fstatfs":  {errnos: []unix.Errno{unix.EINTR, unix.EIO, unix.ENOMEM}, why: forSignal + "; " + forMedium + "; " + forMemory},
	"fstatat":  {errnos: []unix.Errno{unix.EACCES, unix.ENOMEM, unix.EIO}, why: forSandbox + "; " + forMemory + "; " + forMedium},
	"read":     {errnos: []unix.Errno{unix.EINTR, unix.EIO, unix.ESRCH}, why: forSignal + "; " + forMedium + "; the process of /proc/PID is gone"},
	"pread64":  {errnos: []unix.Errno{unix.EINTR, unix.EIO}, why: forSignal + "; " + forMedium},
	"pwrite64": {errnos: []unix.Errno{unix.EINTR, unix.ENOSPC, unix.EDQUOT, unix.EIO}, why: forSignal + "; " + forMedium},
	"fcntl lock": {errnos: []unix.Errno{unix.EINTR, unix.EAGAIN, unix.EACCES, unix.ENOLCK, unix.ENOMEM, unix.EIO},
		why: forSignal + "; another holds it; " + forMemory + "; a remote file system"},
	"fcntl unlock":      {errnos: []unix.Errno{unix.EINTR, unix.EACCES, unix.ENOLCK, unix.ENOMEM, unix.EIO}, why: forSignal + "; " + forSandbox + "; " + forMemory + "; a remote file system"},
	"fcntl test lock":   {errnos: []unix.Errno{unix.EINTR, unix.ENOLCK, unix.EIO}, why: forSignal + "; a remote file system"},
	"fcntl F_ADD_SEALS": {errnos: []unix.Errno{unix.EINVAL, unix.EPERM, unix.EBUSY}, why: "an older kernel; " + forSandbox + "; somebody maps it"},
	"fcntl F_GET_SEALS": {errnos: []unix.Errno{unix.EINVAL, unix.EPERM}, why: forSandbox},
	"fcntl F_GETFL":     {errnos: []unix.Errno{unix.EPERM}, why: forSandbox + "; package os asks"},
	"fcntl F_SETFL":     {errnos: []unix.Errno{unix.EPERM}, why: forSandbox + "; package os asks"},
	"socket": {errnos: []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.EACCES, unix.EPERM},
		why: forFiles + "; " + forMemory + "; " + forSandbox},
	"connect": {errnos: []unix.Errno{unix.EINTR, unix.EAGAIN, unix.ECONNREFUSED, unix.ENOENT, unix.ECONNRESET, unix.EACCES, unix.EPERM, unix.ENOMEM},
		why: forSignal + "; the backlog is full; the server goes; " + forSandbox + "; " + forMemory},
	"bind": {errnos: []unix.Errno{unix.EADDRINUSE, unix.EACCES, unix.EPERM, unix.ENOMEM, unix.ENOSPC, unix.EIO},
		why: "somebody made the file; " + forSandbox + "; " + forMemory + "; " + forMedium},
	"listen": {errnos: []unix.Errno{unix.EADDRINUSE, unix.EACCES}, why: forSandbox},
	"accept4": {errnos: []unix.Errno{unix.EINTR, unix.EAGAIN, unix.ECONNABORTED, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.EPERM},
		why: forSignal + "; the client goes; " + forFiles + "; " + forMemory + "; " + forSandbox},
	"sendmsg": {errnos: []unix.Errno{unix.EINTR, unix.EAGAIN, unix.ECONNRESET, unix.EPIPE, unix.ENOMEM, unix.ENOBUFS, unix.EMFILE, unix.ETOOMANYREFS, unix.EPERM},
		why: forSignal + "; the time is over; the peer goes; " + forMemory + "; too many descriptors are under way; " + forSandbox},
	"recvmsg": {errnos: []unix.Errno{unix.EINTR, unix.EAGAIN, unix.ECONNRESET, unix.ENOMEM},
		why: forSignal + "; the time is over; the peer goes; " + forMemory},
	"shutdown":                 {errnos: []unix.Errno{unix.ENOTCONN}, why: "the peer is gone", done: true},
	"setsockopt SO_RCVTIMEO":   {errnos: []unix.Errno{unix.ENOMEM, unix.EPERM}, why: forMemory + "; " + forSandbox},
	"setsockopt SO_SNDTIMEO":   {errnos: []unix.Errno{unix.ENOMEM, unix.EPERM}, why: forMemory + "; " + forSandbox},
	"setsockopt SO_PASSCRED":   {errnos: []unix.Errno{unix.ENOMEM, unix.EPERM}, why: forMemory + "; " + forSandbox},
	"setsockopt SO_PASSRIGHTS": {errnos: []unix.Errno{unix.ENOPROTOOPT, unix.EPERM}, why: "an older kernel; " + forSandbox},
	"getsockopt SO_PEERCRED":   {errnos: []unix.Errno{unix.ENOMEM, unix.EPERM}, why: forMemory + "; " + forSandbox},
	"getsockopt SO_PEERPIDFD":  {errnos: []unix.Errno{unix.ENOPROTOOPT, unix.EMFILE, unix.ENFILE, unix.ESRCH, unix.ENODATA}, why: "an older kernel; " + forFiles + "; the peer is gone"},
	"ioctl":                    {errnos: []unix.Errno{unix.ENOTTY, unix.EPERM}, why: "another kernel; " + forSandbox},
	"fchmodat":                 {errnos: []unix.Errno{unix.EPERM, unix.EIO}, why: forSandbox + "; " + forMedium},
	"fchmod":                   {errnos: []unix.Errno{unix.EPERM, unix.EIO}, why: forSandbox + "; " + forMedium},
	"fchmodat2":                {errnos: []unix.Errno{unix.EPERM, unix.ENOSYS}, why: forSandbox + "; an older kernel"},
	"unlinkat":                 {errnos: []unix.Errno{unix.EACCES, unix.EPERM, unix.EBUSY, unix.EIO}, why: forSandbox + "; " + forMedium},
	"renameat":                 {errnos: []unix.Errno{unix.EACCES, unix.EPERM, unix.ENOSPC, unix.ENOMEM, unix.EIO}, why: forSandbox + "; " + forMedium + "; " + forMemory},
	"memfd_create":             {errnos: []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOSYS, unix.EPERM}, why: forFiles + "; " + forMemory + "; an older kernel; " + forSandbox},
	"ftruncate":                {errnos: []unix.Errno{unix.EINTR, unix.ENOMEM, unix.EPERM}, why: forSignal + "; " + forMemory + "; " + forSandbox},
	"fallocate":                {errnos: []unix.Errno{unix.EINTR, unix.ENOSPC, unix.ENOMEM}, why: forSignal + "; " + forMemory},
	"mmap of address space":    {errnos: []unix.Errno{unix.ENOMEM, unix.EPERM}, why: forMemory + ", or the limit on address space or mappings is reached; " + forSandbox},
	"mmap of shared memory":    {errnos: []unix.Errno{unix.ENOMEM, unix.EAGAIN, unix.EPERM}, why: forMemory + "; memory is locked; " + forSandbox},
	"mmap over shared memory":  {errnos: []unix.Errno{unix.ENOMEM, unix.EAGAIN}, why: forMemory + ", with strict accounting"},
	"madvise MADV_DONTFORK":    {errnos: []unix.Errno{unix.EINVAL, unix.ENOMEM, unix.EAGAIN}, why: "an emulated kernel; " + forMemory},
	"madvise MADV_DONTDUMP":    {errnos: []unix.Errno{unix.EINVAL, unix.ENOMEM, unix.EAGAIN}, why: "an emulated kernel; " + forMemory},
	"madvise MADV_DODUMP":      {errnos: []unix.Errno{unix.EINVAL, unix.ENOMEM, unix.EAGAIN}, why: "an emulated kernel; " + forMemory},
	"poll":                     {errnos: []unix.Errno{unix.EINTR, unix.ENOMEM}, why: forSignal + "; " + forMemory},
	"pidfd_open":               {errnos: []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOSYS, unix.ESRCH}, why: forFiles + "; " + forMemory + "; an older kernel; it is gone"},
	"futex_waitv":              {errnos: []unix.Errno{unix.EINTR, unix.EAGAIN, unix.ETIMEDOUT, unix.ENOMEM, unix.ENOSYS, unix.EPERM}, why: forSignal + "; the word has changed; the time is over; " + forMemory + "; an older kernel; a sandbox that does not know it"},
	"munmap":                   {why: "of a whole mapping it cannot fail"},
	"futex wake":               {errnos: []unix.Errno{unix.EPERM}, why: forSandbox},
}

// An excuse is what a life may leave behind when a call has failed, and why.
type excuse struct {
	call string
	left string // as footprint.left says it
	why  string
}

var excuses = []excuse{
	{"unlinkat", "file s: 0 before, 1 now", "what cannot be removed stays; it is stale, and the next Listen replaces it"},
	{"fstatat", "file s: 0 before, 1 now", "a server that cannot see whose the file is leaves it; the next Listen replaces it"},
}
