package chaos

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// A cell is an actor in this process that can die as a process does: none of its
// goroutines gets past another step, so that shared memory keeps a prefix of its
// stores, and its sockets and locks go away as the kernel takes them from a dead
// process. OFD locks belong to descriptions and not to processes, which is why
// both sides of a pair can live here.
//
// The descriptors of a dead cell are not closed, because their numbers would be
// used again: each is made to name an empty file instead, the grave, or a socket
// whose other end is closed. When its pair is over, the cell's goroutines go on, find nothing, and end.
type cell struct {
	actor
	m         *member
	ctx       context.Context // of its calls
	stop      context.CancelFunc
	grave     int
	graveLock int // holds the lock of a dead server's grave; -1 if there is none

	fuse atomic.Pointer[burning] // by this cell's steps; nil if there is none

	recorder *recorder // of its steps; nil if nobody wants them
	ended    func()    // called when it is over; nil likewise

	dying   atomic.Bool   // none of its goroutines gets past another step
	rests   atomic.Bool   // and none is on its way to one
	fallen  chan struct{} // closed: and the kernel knows it
	risen   chan struct{} // closed: its goroutines go on
	admits  atomic.Bool   // a server is deciding about somebody
	copied  atomic.Int64  // a server's own copy of the token that it hands out; -1 if none
	token   atomic.Bool   // a client has its token
	calls   sync.WaitGroup
	stopped atomic.Bool
}

// A burning is a fuse that is lit. It has burnt down when no steps are left.
type burning struct {
	fuse
	left atomic.Int64
}

const graveName = "grave"

// endedSocket is what a socket of a dead cell is made to name: a call that waits for
// its end comes back, as it would not from a file.
var endedSocket = sync.OnceValue(func() int {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	_ = unix.Close(ends[1])
	return ends[0]
})

// newCell makes a cell for a member.
func newCell(m *member) (party, error) {
	postLookout()
	endedSocket() // before anybody counts
	grave, err := unix.MemfdCreate(graveName, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	c := &cell{m: m, grave: grave, graveLock: -1, fallen: make(chan struct{}), risen: make(chan struct{})}
	c.actor = actor{path: m.w.path, options: m.w.options, report: c.step}
	c.ctx, c.stop = context.WithCancel(m.w.ctx)
	c.copied.Store(-1)
	return c, nil
}

func (c *cell) gone() <-chan struct{} { return c.fallen }

// do implements party.
func (c *cell) do(ctx context.Context, command command) (reply, error) {
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(c.ctx, cancel)
	result := make(chan reply, 1)
	c.calls.Add(1)
	go func() {
		defer c.calls.Done()
		defer cancel()
		if c.recorder != nil {
			runtime.LockOSThread() // by which the recorder knows who sleeps
			defer runtime.UnlockOSThread()
		}
		result <- c.actor.do(ctx, command)
	}()
	select {
	case got := <-result:
		return got, nil
	case <-c.fallen:
		return reply{}, errEnded
	}
}

// arm implements party.
func (c *cell) arm(f fuse) {
	b := &burning{fuse: f}
	b.left.Store(int64(f.n))
	c.fuse.Store(b)
}

// disarm implements party.
func (c *cell) disarm(ctx context.Context) {
	if b := c.fuse.Load(); b != nil && b.left.Swap(0) > 0 {
		c.fuse.Store(nil) // in time: the next step finds less than none left
	}
	c.awaitVictim(ctx)
}

// awaitVictim implements party.
func (c *cell) awaitVictim(ctx context.Context) {
	if b := c.fuse.Load(); b != nil && b.left.Load() <= 0 {
		select {
		case <-b.victim.gone():
		case <-ctx.Done():
		}
	}
}

// step is told of every step of the cell.
func (c *cell) step(at step.ID, value uint64) {
	if !c.rests.Load() {
		c.recorder.hook(at, value)
	}
	if c.dying.Load() {
		c.late(at, value)
		c.lie(at, value)
		return
	}
	switch at {
	case step.HelloReceived:
		c.admits.Store(true)
	case step.TokenTaken:
		c.copied.Store(int64(c.markToken()))
	case step.TokenHandedOver:
		c.admits.Store(false)
		c.copied.Store(-1)
	case step.GrantReceived, step.TokenClosed:
		c.token.Store(at == step.GrantReceived)
	}
	then := c.m.w.reached(c.m, at, value)
	if b := c.fuse.Load(); b != nil && b.left.Add(-1) == 0 {
		b.victim.party.(interface{ die() }).die()
	}
	if then != nil {
		go then()
	}
	if c.dying.Load() {
		c.lie(at, value)
	}
}

// die makes the cell dead, and takes its sockets and locks away. It is called
// where its other goroutines are about to make or close none but what an
// admission or late takes: at one of its own steps, or at a step of its peer's
// while it opens and closes nothing.
func (c *cell) die() {
	if c.dying.Swap(true) {
		return
	}
	defer close(c.fallen)
	if c.token.Load() {
		c.awaitHandover()
	}
	if c.admits.Load() {
		c.takeLocks() // no token is made from here on
		for admissionRuns() {
			runtime.Gosched()
		}
	}
	for storeRuns() || retireRuns() {
		runtime.Gosched()
	}
	c.rests.Store(true)
	c.lockGrave()
	c.takeAll()
	for retireRuns() { // it began before the lock, and ends before anybody knows of the death
		runtime.Gosched()
	}
	if c.ended != nil {
		c.ended()
	}
}

// lockGrave makes every token that is taken from a server look held, for as long as
// the cell lies: its goroutines that look again whether a client has left find that it
// has not, and put no token file where the next server's is.
func (c *cell) lockGrave() {
	if c.m.role != ipc.RoleServer {
		return
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(c.grave), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Len: 1})
	}
	if err != nil {
		c.m.w.broken("harness", "lock the grave: %v", err)
	}
	c.graveLock = fd
}

// takeLocks takes the descriptor away by which a server holds its locks, and
// makes tokens.
func (c *cell) takeLocks() {
	for _, fd := range descriptors() {
		if readOnly, ok := c.isLockFile(fd, descriptorName(fd)); ok && !readOnly {
			c.take(fd)
		}
	}
}

// takeAll takes away all descriptors that are the cell's.
func (c *cell) takeAll() {
	for _, fd := range descriptors() {
		if fd != c.grave && c.owns(fd) {
			c.take(fd)
		}
	}
}

// take takes a descriptor away: first the end, for a call that still waits in the
// kernel and keeps the socket open; then the descriptor.
func (c *cell) take(fd int) {
	grave := c.grave
	if unix.Shutdown(fd, unix.SHUT_RDWR) != unix.ENOTSOCK {
		grave = endedSocket()
	}
	_ = unix.Dup3(grave, fd, unix.O_CLOEXEC)
}

// late is told of the step that another goroutine of the cell was on its way to
// when it died. What it has stored is there to be found, and nothing else comes
// of it.
func (c *cell) late(at step.ID, value uint64) {
	switch {
	case c.risenAlready():
	case !c.rests.Load():
		c.m.w.outlived(c.m, at, value)
	case at == step.Published || at == step.Delivered || at == step.Released:
		c.m.w.broken("harness", "%v: %v behind its death", c.m.role, at)
	}
}

// lie keeps a goroutine of a dead cell at its step. What it was just being given
// there is taken away, for it does not get as far as using it.
func (c *cell) lie(at step.ID, value uint64) {
	if at == step.ConnectionAccepted && !c.risenAlready() {
		c.take(int(value))
	}
	<-c.risen
}

func (c *cell) risenAlready() bool {
	select {
	case <-c.risen:
		return true
	default:
		return false
	}
}

// awaitHandover waits until the server has closed its copy of the client's token,
// which does not die with the client.
func (c *cell) awaitHandover() {
	server, ok := c.m.w.server.party.(interface{ handing() bool })
	for ok && server.handing() {
		runtime.Gosched()
	}
}

// handing reports whether a server has a copy of a token that it will close.
func (c *cell) handing() bool { return c.copied.Load() >= 0 && !c.dying.Load() }

// owns reports whether a descriptor is the cell's: a server's sockets are bound
// to the path and a client's are connected to it; a server opens the lock file and
// its token files for writing, and a client has a token that can only read.
func (c *cell) owns(fd int) bool {
	server := c.m.role == ipc.RoleServer
	name := descriptorName(fd)
	if readOnly, ok := c.isLockFile(fd, name); ok {
		if server {
			return !readOnly || int64(fd) == c.copied.Load() || !hasMark(fd)
		}
		return readOnly && c.token.Load()
	}
	if !strings.HasPrefix(name, "socket:") {
		return false
	}
	address, err := unix.Getsockname(fd)
	if !server {
		address, err = unix.Getpeername(fd)
	}
	at, ok := address.(*unix.SockaddrUnix)
	return err == nil && ok && at.Name == c.path
}

// descriptorName is what a descriptor names; empty if there is none any more.
func descriptorName(fd int) string {
	name, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	return name
}

// isLockFile reports whether a descriptor of that name is of the lock file or of a
// token file, and can only read it, as a token does.
func (c *cell) isLockFile(fd int, name string) (readOnly, ok bool) {
	name = strings.TrimSuffix(name, " (deleted)") // as the token file of a former client is
	if name != c.path+".lock" && name != c.path+".token" && name != c.path+".token.new" {
		return false, false
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return flags&unix.O_ACCMODE == unix.O_RDONLY, err == nil
}

// markToken finds the token that the server has just taken, and marks it: by its
// offset, which its copies share and nobody uses. One without the mark was never
// on its way to a client.
func (c *cell) markToken() int {
	for _, fd := range descriptors() {
		if readOnly, ok := c.isLockFile(fd, descriptorName(fd)); ok && readOnly && !hasMark(fd) {
			_, _ = unix.Seek(fd, 1, unix.SEEK_SET)
			return fd
		}
	}
	return -1
}

// hasMark reports whether a token has its mark.
func hasMark(fd int) bool {
	offset, err := unix.Seek(fd, 0, unix.SEEK_CUR)
	return err == nil && offset != 0
}

// The functions of ipc that stacks are searched for. A test holds that there are such.
const (
	admitting = "/ipc.(*server).admit("
	retiring  = "/ipc.(*server).retire("
	renewing  = "/ipc.(*server).retireToken("
)

// admissionRuns reports whether a goroutine is on its way from one step of an
// admission to the next, where it may be making a token, or closing its copy of
// one. One that waits is not: at a step, for a lock, or for the time to try again.
func admissionRuns() bool {
	return goroutineIs(admitting, func(state string) bool {
		return !strings.HasPrefix(state, "chan receive") && !strings.HasPrefix(state, "select") && !strings.HasPrefix(state, "sync.Mutex.Lock")
	})
}

// retireRuns reports whether a server's goroutine is retiring the token of a client that
// has left: it makes a file and renames it, with no step in between.
func retireRuns() bool {
	running := func(state string) bool { return !strings.HasPrefix(state, "sync.Mutex.Lock") }
	return goroutineIs(retiring, running) || goroutineIs(renewing, running)
}

// storeRuns reports whether a goroutine is on its way from one step to the next,
// where it may store. One in the kernel is not: behind each system call is a step.
func storeRuns() bool {
	return goroutineIs("/ipc.(", func(state string) bool {
		return strings.HasPrefix(state, "run")
	})
}

// goroutineIs reports whether any but the one that asks is in a state, with a
// function on its stack.
func goroutineIs(function string, in func(state string) bool) bool {
	stacks := make([]byte, 1<<16)
	n := runtime.Stack(stacks, true)
	for n == len(stacks) {
		stacks = make([]byte, 2*n)
		n = runtime.Stack(stacks, true)
	}
	_, others, _ := strings.Cut(string(stacks[:n]), "\n\n")
	for goroutine := range strings.SplitSeq(others, "\n\n") {
		if _, state, _ := strings.Cut(goroutine, " ["); in(state) && strings.Contains(goroutine, function) {
			return true
		}
	}
	return false
}

// descriptors are the numbers of all open files.
func descriptors() (all []int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil {
			all = append(all, fd)
		}
	}
	return all
}

// sweepGraves closes the graves that are left when every cell is buried: a
// descriptor that its goroutine closed just before it was taken away was made anew
// by that, and nobody closes it again.
func sweepGraves() {
	ended := descriptorName(endedSocket())
	for _, fd := range descriptors() {
		if name := descriptorName(fd); strings.HasPrefix(name, "/memfd:"+graveName) || name == ended && fd != endedSocket() {
			_ = unix.Close(fd)
		}
	}
}

// bury implements party: it lets the goroutines of the cell run to their end.
func (c *cell) bury() {
	if c.stopped.Swap(true) {
		return
	}
	c.stop() // ends every call that waits
	if c.graveLock >= 0 {
		_ = unix.Close(c.graveLock)
	}
	close(c.risen)
	c.calls.Wait()
	if c.e != nil {
		_ = c.close()
	}
	_ = unix.Close(c.grave)
	if c.recorder == nil {
		return
	}
	if !c.dying.Load() {
		c.ended()
	}
	c.recorder.close()
}
