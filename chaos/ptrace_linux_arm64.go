package chaos

import "golang.org/x/sys/unix"

// registers are those of a stopped thread.
type registers struct{ unix.PtraceRegsArm64 }

// The register sets of PTRACE_GETREGSET, from linux/elf.h.
const (
	generalRegisters = 1     // NT_PRSTATUS
	callRegister     = 0x404 // NT_ARM_SYSTEM_CALL: 32 bits
)

func readRegisters(thread int) (r registers, err error) {
	return r, unix.PtraceGetRegSetArm64(thread, generalRegisters, &r.PtraceRegsArm64)
}

// pc is the address of the next instruction.
func (r *registers) pc() uint64 { return r.Pc }

// number is that of the system call at whose entry or exit the thread is.
func (r *registers) number() uint64 { return r.Regs[8] }

// nextNumber is what the number would be if the next instruction were a system
// call.
func (r *registers) nextNumber() uint64 { return r.Regs[8] }

// argument is the i-th of the system call. The first is only there at the entry.
func (r *registers) argument(i int) uint64 { return r.Regs[i] }

// skipCall makes the kernel do nothing at the system call at whose entry the
// thread is. The number lies in a set of its own; the kernel takes as many bytes
// as that has.
func (r *registers) skipCall(thread int) error {
	var none unix.PtraceRegsArm64
	none.Regs[0] = ^uint64(0)
	return unix.PtraceSetRegSetArm64(thread, callRegister, &none)
}

// setResult makes the system call from which the thread is back return a value.
func (r *registers) setResult(thread int, value int64) error {
	r.Regs[0] = uint64(value)
	return unix.PtraceSetRegSetArm64(thread, generalRegisters, &r.PtraceRegsArm64)
}

// callInstruction is the one that makes a system call: SVC #0.
var callInstruction = []byte{0x01, 0x00, 0x00, 0xd4}

// breakpoint is the instruction that stops who executes it: BRK #0.
var breakpoint = []byte{0x00, 0x00, 0x20, 0xd4}

// leaveBreakpoint puts a thread that has executed one back to its address, where
// it is already.
func (r *registers) leaveBreakpoint(int, uintptr) error { return nil }

// Calls that have another name on each architecture.
const (
	numberOfFstatat = unix.SYS_FSTATAT
)
