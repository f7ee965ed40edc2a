//go:build amd64 || arm64

package chaos

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A mark is how a player tells its tracer where it is, without doing anything
// else: it sends its own thread a signal that means nothing, by a system call
// with more arguments than the kernel reads. The tracer reads them, and drops the
// signal. The player stands still until the tracer lets it go on.
type mark struct {
	kind  markKind
	value uint64
}

type markKind uint64

const (
	markAttached markKind = iota + 1 // the pair is together; the value is the attachment or generation
	markListening
	markSent     // the value is the size of a message that was committed
	markTaken    // one message was handed out
	markReleased // and one released
	markPrepared // all is as the operation is to find it
	markBegin    // the value is an address
	markEnd
	markStep // the hook was called; the value is the step
)

// markNumber is in the fourth argument of each mark, and in no other call.
const markNumber = 0x74616e64656d_c4a5

// markSignal means nothing to a process without children. It has a lower number
// than the one by which the Go runtime preempts: of two that wait, the kernel
// delivers the lower first, and behind the other the registers are a handler's.
const markSignal = unix.SIGCHLD

// here is where the mark is. To the scheduler it is a system call like any other,
// so that it preempts nobody who stands at one for long.
func (m markKind) here(value uint64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_, _, _ = unix.Syscall6(unix.SYS_TGKILL, uintptr(unix.Getpid()), uintptr(unix.Gettid()), uintptr(markSignal),
		markNumber, uintptr(m), uintptr(value))
}

// mark tells whether the system call of that number and these registers is one.
func (r *registers) mark(number uint64) (mark, bool) {
	return mark{markKind(r.argument(4)), r.argument(5)}, number == unix.SYS_TGKILL && r.argument(3) == markNumber
}

// nextMark lets the tracee run until its next mark, and stops it there. resume
// says how threads go on from where they stop; inspect, if not nil, sees each
// other stop at a system call.
func (t *tracee) nextMark(resume func(*tracedThread) error, inspect func(*tracedThread, stop, *registers) error) (*tracedThread, mark, error) {
	for {
		thread, why, err := t.next()
		if err == nil {
			err = t.gone(why)
		}
		if err != nil {
			return nil, mark{}, err
		}
		if why == stopEntry || why == stopExit || why == stopSignal {
			r, err := readRegisters(thread.id)
			if orDead(err) != nil {
				return nil, mark{}, fmt.Errorf("registers of %s: %w", t.part, err)
			}
			m, found := r.mark(r.number())
			switch {
			case err != nil || found && why != stopSignal:
			case found && thread.signal == int(markSignal):
				thread.signal = 0
				return thread, m, nil
			case inspect != nil && why != stopSignal:
				if err := inspect(thread, why, &r); err != nil {
					return nil, mark{}, err
				}
			}
		}
		if err := resume(thread); err != nil {
			return nil, mark{}, err
		}
	}
}

// atCall reports whether the next instruction of a stopped thread makes the given
// system call.
func atCall(thread *tracedThread, r *registers, number uint64) bool {
	return r.nextNumber() == number && callsAt(thread, r.pc())
}

// callsAt reports whether a system call is made at an address.
func callsAt(thread *tracedThread, address uint64) bool {
	code := make([]byte, len(callInstruction))
	n, err := unix.PtracePeekText(thread.id, uintptr(address), code)
	return err == nil && n == len(code) && slices.Equal(code, callInstruction)
}

// asleep reports whether a running thread sleeps in a system call.
func (t *tracee) asleep(thread int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", t.pid, thread))
	_, behind, found := strings.Cut(string(status), ") ")
	return err == nil && found && strings.HasPrefix(behind, "S")
}
