package chaos

import "golang.org/x/sys/unix"

// registers are those of a stopped thread.
type registers struct{ unix.PtraceRegsAmd64 }

func readRegisters(thread int) (r registers, err error) {
	return r, unix.PtraceGetRegsAmd64(thread, &r.PtraceRegsAmd64)
}

// pc is the address of the next instruction.
func (r *registers) pc() uint64 { return r.Rip }

// number is that of the system call at whose entry or exit the thread is.
func (r *registers) number() uint64 { return r.Orig_rax }

// nextNumber is what the number would be if the next instruction were a system
// call.
func (r *registers) nextNumber() uint64 { return r.Rax }

// argument is the i-th of the system call.
func (r *registers) argument(i int) uint64 {
	return [...]uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}[i]
}

// skipCall makes the kernel do nothing at the system call at whose entry the
// thread is.
func (r *registers) skipCall(thread int) error {
	r.Orig_rax = ^uint64(0)
	return unix.PtraceSetRegsAmd64(thread, &r.PtraceRegsAmd64)
}

// setResult makes the system call from which the thread is back return a value.
func (r *registers) setResult(thread int, value int64) error {
	r.Rax = uint64(value)
	return unix.PtraceSetRegsAmd64(thread, &r.PtraceRegsAmd64)
}

// callInstruction is the one that makes a system call: SYSCALL.
var callInstruction = []byte{0x0f, 0x05}

// breakpoint is the instruction that stops who executes it: INT3.
var breakpoint = []byte{0xcc}

// leaveBreakpoint puts a thread that has executed one back to its address.
func (r *registers) leaveBreakpoint(thread int, address uintptr) error {
	r.Rip = uint64(address)
	return unix.PtraceSetRegsAmd64(thread, &r.PtraceRegsAmd64)
}

// Calls that have another name on each architecture.
const (
	numberOfFstatat = unix.SYS_NEWFSTATAT
)
