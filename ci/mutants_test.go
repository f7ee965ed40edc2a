package ci

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A mutant leaves one rule of docs/DESIGN.md out of the code; the named tests
// must then fail. It is built as an overlay: no file of the tree is touched.
type mutant struct {
	rule  string
	file  string // in ipc
	old   string // what stands there, once
	new   string
	tests string // a pattern for -run
}

var mutants = []mutant{
	{"C1", "client.go",
		"	err := e.own.detach()\n",
		"	_ = unix.Close(c.token)\n	e.hook(step.TokenClosed, 0)\n	err := e.own.detach()\n",
		"TestC1A"},
	{"C2 (byte 0 last)", "server.go",
		"	err := s.awaitLeave(current)\n",
		"	_ = s.lock.unlock(serverByte)\n	err := s.awaitLeave(current)\n",
		"TestC2AClosing"},
	{"C2 (the token, not the socket)", "server.go",
		"	left := s.awaitToken(s.e.options.closeTimeout())\n",
		"	left := true\n",
		"TestCloseOfAServerSays"},
	{"C3 (the former's end first)", "admission.go",
		"				s.settle(former) // its account and its end first\n",
		"				_ = former\n",
		"TestL5L7AClientThatComes"},
	{"C3 (the newcomer waits)", "admission.go",
		"		if former != nil && !showsEnd {\n",
		"		if former != nil && (!showsEnd || showsEnd) {\n",
		"TestC3A"},
	{"C4", "lock_linux.go",
		`unix.Open(fmt.Sprintf("/proc/self/fd/%d", l.fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)`,
		`unix.Open(l.path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_CREAT, 0o600)`,
		"TestC4A"},
	{"C5 (the lock file again)", "listen.go", "	if !s.lock.isCurrent() {\n", "	if false && !s.lock.isCurrent() {\n", "TestC5A"},
	{"C5 (who answers)", "listen.go",
		"	case err == nil, errors.Is(err, unix.EAGAIN):\n",
		"	case err == nil:\n		return nil\n	case errors.Is(err, unix.EAGAIN):\n",
		"TestC5ADeleted"},
	{"C5 (the path is lost)", "server.go", "	if s.named() {\n", "	if s.named() || true {\n", "TestC5AServer"},
	{"C6", "admission.go",
		"	record.client = who\n", "", "TestL3NoServerStarts"},
	{"C7", "admission.go", "		go s.handshake(c)\n", "		s.handshake(c)\n", "TestL2SingleClient"},
	{"C8", "handshake_linux.go",
		"	case flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0:\n",
		"	case flags&unix.MSG_TRUNC != 0:\n",
		"TestC8"},
	{"C9", "endpoint.go",
		"	if err := e.Close(); err != nil {\n		return nil, err\n	}\n	return Dial(ctx, e.path, e.options)\n",
		"	next, err := Dial(ctx, e.path, e.options)\n	if err == nil {\n		err = e.Close()\n	}\n	return next, err\n",
		"TestM1M2M4M5WhatADeadServer"},
	{"C10 (descriptors)", "handshake_linux.go", "control, unix.MSG_CMSG_CLOEXEC)", "control, 0)", "TestC10"},
	{"C10 (mappings)", "segment_linux.go", "unix.MADV_DONTFORK)", "unix.MADV_NORMAL)", "TestC10"},
	{"W1", "ring.go", "return waitFor-old-1 < new-old }", "return waitFor == new }", "TestW1W2"},
	{"W2 (the counter first)", "doorbell.go",
		"		n := e.bell.interrupts.Load() // pairs: interrupt. W2: the counter first,\n		stop := e.stopped(ctx)        // then the flags,\n",
		"		stop := e.stopped(ctx)\n		n := e.bell.interrupts.Load()\n",
		"TestW2W3"},
	{"W2 (the kernel compares)", "doorbell.go",
		"futexSleep(lowHalf(word), uint32(value), ",
		"futexSleep(lowHalf(word), lowHalf(word).Load(), ",
		"TestW2A"},
	{"W3 (the counter grows)", "doorbell.go", "	d.interrupts.Add(1) // pairs: interrupt\n", "", "TestW2W3"},
	{"W3 (a death interrupts)", "settle.go", "	defer e.bell.interrupt()\n	e.mu.Lock()\n", "	e.mu.Lock()\n", "TestW3A"},
	{"W5", "doorbell.go", "&e.bell.interrupts, n, e.heartbeatInterval)", "&e.bell.interrupts, n, time.Hour)", "TestW5A"},
	{"W6", "settle.go",
		"	writePos := s.e.peer.control.writePos.Load() // pairs: message-committed\n",
		"	writePos, _ := s.e.in.writePos.get()\n",
		"TestM1M2M4M5WhatADeadClient"},
	{"W7 (it only grows)", "take.go",
		"	if int64(next-c.deliveredPos) > 0 {\n", "	if next != c.deliveredPos {\n", "TestM3ASecondDeath"},
	{"W7 (before it is handed out)", "take.go",
		"		putPosition(&c.own.deliveredPos, next) // pairs: message-delivered (store)\n", "", "TestM3M6ADeadClients"},
	{"W8 (the batch)", "send.go",
		"			p.publish() // W8: before it waits\n", "", "TestW8ABatch"},
	{"W8 (the views)", "consumer.go", "		return ErrViewsHeld\n", "		return nil\n", "TestW8AReceiver"},
	{"W9", "gate.go",
		"	for {\n		// A token",
		"	for {\n		return nil\n		// A token",
		"TestManyGoroutines|TestM7EveryWait"},
}

// notShown are the rules that no mutant of the code can leave out, with the reason.
var notShown = map[string]string{
	"W4": "Go has no atomic store without the fence; tla/ shows that it is needed",
}

var runMutants = flag.Bool("mutants", false, "build the package once for each rule, without it")

// TestEachRuleIsNeeded builds each mutant and sees its tests fail, having seen
// them pass on the code as it is. ci/check.sh runs it.
func TestEachRuleIsNeeded(t *testing.T) {
	if !*runMutants {
		t.Skip("takes minutes: run it with -mutants")
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	asItIs := buildMutant(t, root, nil)
	passes := make(map[string]bool)
	for _, m := range mutants {
		if passes[m.tests] {
			continue
		}
		if output, err := asItIs.run(t, m.tests); err != nil || !strings.Contains(output, "--- PASS") {
			t.Errorf("-run %s does not pass on the code as it is: %v\n%s", m.tests, err, output)
		}
		passes[m.tests] = true
	}
	for _, m := range mutants {
		t.Run(m.rule, func(t *testing.T) {
			source := filepath.Join(root, "ipc", m.file)
			content, err := os.ReadFile(source)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(content), m.old); n != 1 {
				t.Fatalf("%s has the rule's code %d times, want once:\n%s", m.file, n, m.old)
			}
			changed := filepath.Join(t.TempDir(), m.file)
			if err := os.WriteFile(changed, []byte(strings.Replace(string(content), m.old, m.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			binary := buildMutant(t, root, map[string]string{source: changed})
			if output, err := binary.run(t, m.tests); err == nil {
				t.Errorf("without %s, %s still passes:\n%s", m.rule, m.tests, output)
			}
		})
	}
	for _, rule := range []string{"C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10", "W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8", "W9"} {
		found := notShown[rule] != ""
		for _, m := range mutants {
			found = found || m.rule == rule || strings.HasPrefix(m.rule, rule+" ")
		}
		if !found {
			t.Errorf("no mutant leaves %s out", rule)
		}
	}
}

// A testBinary is the tests of ipc, built with some files replaced.
type testBinary struct{ root, file string }

func buildMutant(t *testing.T, root string, replace map[string]string) testBinary {
	t.Helper()
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	overlayFile, binary := filepath.Join(directory, "overlay.json"), filepath.Join(directory, "ipc.test")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-o", binary, "-overlay="+overlayFile, "./ipc")
	command.Dir = root
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("the mutant does not build: %v\n%s", err, output)
	}
	return testBinary{root, binary}
}

// run runs the tests that match the pattern, with a short watchdog: they are to
// fail, and some mutants hang.
func (b testBinary) run(t *testing.T, pattern string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, b.file, "-test.v", "-test.failfast", "-test.timeout=60s", "-test.run="+pattern)
	command.Dir = filepath.Join(b.root, "ipc")
	command.Env = append(os.Environ(), "TANDEM_TEST_WATCHDOG=10s")
	output, err := command.CombinedOutput()
	return string(output), err
}
