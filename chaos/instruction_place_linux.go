//go:build amd64 || arm64

package chaos

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strconv"
	"strings"
)

// A place is where a victim is in its operation. How much the Go runtime has to do
// differs from run to run: whether the scheduler has taken the processor back
// while the victim stood at a mark, where the next small object lies, whether a
// cache has to grow; and the library that writes a number does so digit by digit.
// So a place counts what this module executes, which is the same each time, and of
// all else only what comes behind the last of that.
type place struct {
	calls  int // system calls of the operation that have returned
	own    int // instructions of this module behind that
	others int // instructions of what it has called behind that
}

// String is "7" behind the seventh instruction, "7+3" three further in what that
// has called, and "2.7+3" if all this is behind the second system call.
func (p place) String() string {
	text := strconv.Itoa(p.own)
	if p.calls > 0 {
		text = fmt.Sprintf("%d.%d", p.calls, p.own)
	}
	if p.others > 0 {
		text += fmt.Sprintf("+%d", p.others)
	}
	return text
}

// parsePlace is the inverse of String.
func parsePlace(text string) (p place, err error) {
	number := func(text string, into *int) {
		n, wrong := strconv.ParseUint(text, 10, 31)
		*into, err = int(n), errors.Join(err, wrong)
	}
	text, further, found := strings.Cut(text, "+")
	if found {
		number(further, &p.others)
	}
	calls, own, found := strings.Cut(text, ".")
	if found {
		number(calls, &p.calls)
	} else {
		own = text
	}
	number(own, &p.own)
	return p, err
}

// compare tells which place comes first.
func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.calls, q.calls), cmp.Compare(p.own, q.own), cmp.Compare(p.others, q.others))
}

// module is how the names of its functions begin.
const module = "github.com/tandem-ipc/tandem/"

// next is the place behind the instruction that the victim is about to execute.
// Where the runtime does less than when a place was named, what comes next is
// beyond that place.
func (d *duel) next(r *registers) place {
	name := d.functionAt(r.pc())
	switch {
	case makesCalls(name) && callsAt(d.thread, r.pc()):
		return place{calls: d.at.calls + 1}
	case strings.HasPrefix(name, module):
		return place{calls: d.at.calls, own: d.at.own + 1}
	}
	return place{d.at.calls, d.at.own, d.at.others + 1}
}

// functionAt names the function of an address of the victim, which is this binary;
// it may be loaded elsewhere. What is not Go's, as the kernel's clock, has no name.
func (d *duel) functionAt(pc uint64) string {
	if f := runtime.FuncForPC(uintptr(pc + d.shift)); f != nil {
		return f.Name()
	}
	return ""
}

// landmark is an address in this binary as it is loaded in this process.
func landmark() uint64 { return uint64(reflect.ValueOf(landmark).Pointer()) }

// makesCalls reports whether a function makes the system calls that are asked for
// by others than the runtime.
func makesCalls(function string) bool {
	return strings.HasPrefix(function, "internal/runtime/syscall")
}
