//go:build linux && (amd64 || arm64)

package ipc

import (
	"debug/elf"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// emulated reports whether an emulator of another machine runs this process, as
// qemu-user does. The program that the kernel runs is then the emulator, and that is
// built for the kernel's machine: so no real machine is ever taken for an emulated
// one. The witness is thread-self, because an emulator answers for /proc/self/exe itself.
var emulated = sync.OnceValue(func() bool {
	program, err := elf.Open("/proc/thread-self/exe")
	if err != nil {
		return false
	}
	defer program.Close()
	own := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	return program.Machine != own[runtime.GOARCH]
})

// needsRealKernel skips a test under an emulator that has not, or not right, what
// the test is about: why says what.
func needsRealKernel(t testing.TB, why string) {
	t.Helper()
	if emulated() {
		t.Skip("emulated: " + why)
	}
}

// cutOffLeaks is why nothing can be said under qemu-user of descriptors that are cut off.
const cutOffLeaks = "qemu-user gives the kernel more room for descriptors than it was given, and leaks those that it then cuts off"

// A player that cannot play its part under an emulator says so, and its test is skipped.
const skipPrefix = "SKIP "

// skipEmulated ends a player under an emulator.
func skipEmulated(why string) {
	if emulated() {
		fmt.Println(skipPrefix + "emulated: " + why)
		os.Exit(0)
	}
}

// skips skips the test of a player that said so. On a real machine it does not count.
func (p *process) skips(line string) {
	p.t.Helper()
	if why, found := strings.CutPrefix(line, skipPrefix); found && emulated() {
		p.t.Skip(why)
	}
}
