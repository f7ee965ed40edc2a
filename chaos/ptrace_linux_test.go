//go:build amd64 || arm64

package chaos

import (
	"context"
	"encoding/json"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of linux/seccomp.h.
const (
	seccompSetModeFilter = 1
	seccompFilterTSync   = 1
	seccompReturnErrno   = 0x00050000
	seccompReturnAllow   = 0x7fff0000
)

// forbidPtrace makes every ptrace of this process and its children fail, for good.
func forbidPtrace() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number; nobody here makes calls of another architecture
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_PTRACE, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: seccompReturnErrno | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: seccompReturnAllow},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, seccompSetModeFilter, seccompFilterTSync, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return errno
	}
	return nil
}

var _ = register("no ptrace", func(p *player) {
	if err := forbidPtrace(); err != nil {
		p.fail("%v", err)
	}
	for _, report := range []*Report{
		Instructions(context.Background(), InstructionOptions{Budget: time.Second}),
		SystemCallKills(context.Background(), InstructionOptions{Budget: time.Second}),
		FailedSystemCalls(context.Background(), ErrnoOptions{Budget: time.Second}),
	} {
		text, err := json.Marshal(report)
		if err != nil {
			p.fail("%v", err)
		}
		p.say("%s", text)
	}
})

func TestTracedLayersLeaveNothing(t *testing.T) {
	needTrace(t)
	path := filepath.Join(t.TempDir(), "s")
	var before footprint
	for round := range 3 {
		if round == 1 { // the first has opened what stays open for good
			before = footprintOf(path)
		}
		for _, report := range []*Report{
			Instructions(context.Background(), InstructionOptions{Only: "client/send after a sleep/100"}),
			SystemCallKills(context.Background(), InstructionOptions{Only: "server/40"}),
			FailedSystemCalls(context.Background(), ErrnoOptions{Only: "client/socket/1/EMFILE"}),
		} {
			if report.Verdict != Pass {
				t.Error(report)
			}
		}
	}
	if left := before.left(path); left != "" {
		t.Error(left)
	}
}

func TestAMachineWithoutPtraceGivesVoidAndSaysSo(t *testing.T) {
	p, err := start("no ptrace", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	defer cancel()
	for range 3 {
		line, err := p.hear(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var report Report
		if err := json.Unmarshal([]byte(line), &report); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if report.Verdict != Void || len(report.Notes) != 1 || !strings.HasPrefix(report.Notes[0], "skipped: "+errNoTrace.Error()) {
			t.Errorf("%s: %v, %q", report.Layer, report.Verdict, report.Notes)
		}
	}
}
