package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// commandVariable makes the test binary play the command: with it in the
// environment it is tandem, and so are the processes that it starts.
const commandVariable = "TANDEM_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(commandVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// maxTest bounds what one command may take in a test: it is a watchdog, and
// measures nothing.
const maxTest = 5 * time.Minute

// A tandemRun is one run of the command in a process of its own, with a
// directory for its temporary files.
type tandemRun struct {
	t              *testing.T
	cmd            *exec.Cmd
	temp           string
	stdout, stderr bytes.Buffer
}

// newTandem prepares a run. Whatever becomes of the test, the process ends with
// it.
func newTandem(t *testing.T, args ...string) *tandemRun {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// In memory, where the layers of chaos put theirs; else they would make them aside.
	temp, err := os.MkdirTemp("/dev/shm", "tandem") // short: a socket's path has 107 bytes
	if err != nil {
		temp, err = os.MkdirTemp("", "tandem")
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxTest)
	r := &tandemRun{t: t, temp: temp, cmd: exec.CommandContext(ctx, executable, args...)}
	r.cmd.Env = append(os.Environ(), commandVariable+"=1", "TMPDIR="+temp)
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	r.cmd.WaitDelay = 5 * time.Second
	t.Cleanup(func() {
		cancel()
		if r.cmd.Process != nil && r.cmd.ProcessState == nil {
			_ = r.cmd.Wait()
		}
		_ = os.RemoveAll(temp)
		if t.Failed() {
			t.Logf("%q\nstdout: %s\nstderr: %s", args, &r.stdout, &r.stderr)
		}
	})
	return r
}

func (r *tandemRun) start() {
	r.t.Helper()
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
}

// wait returns the exit status: -1 if a signal ended it.
func (r *tandemRun) wait() int {
	_ = r.cmd.Wait()
	return r.cmd.ProcessState.ExitCode()
}

func (r *tandemRun) run() int {
	r.t.Helper()
	r.start()
	return r.wait()
}

// leftovers returns the processes whose arguments name the run's directory, as
// those of server and client do. Zombies have no arguments: see zombies.
func (r *tandemRun) leftovers() (pids []int) {
	r.t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(lines) == 0 {
		r.t.Fatalf("there are no processes to be seen: %v", err)
	}
	for _, path := range lines {
		text, err := os.ReadFile(path)
		if err == nil && bytes.Contains(text, []byte(r.temp+"/")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// until polls for a state that nothing announces.
func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	deadline := time.Now().Add(maxTest)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !reached() {
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s", maxTest, what)
		}
		<-tick.C
	}
}

// expectNothingLeft is to be called behind the end of the run.
func (r *tandemRun) expectNothingLeft() {
	r.t.Helper()
	if pids := r.leftovers(); len(pids) > 0 {
		r.t.Errorf("processes are left: %v", pids)
	}
	left, err := os.ReadDir(r.temp)
	if err != nil || len(left) > 0 {
		r.t.Errorf("files are left: %v, %v", left, err)
	}
}

// A usageCase is a command line, its exit status, and what it prints: a text that must be
// there, or nothing.
type usageCase struct {
	args           []string
	status         int
	stdout, stderr string // contain
}

func (c usageCase) check(t *testing.T) {
	t.Run(strings.Join(c.args, " "), func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		status := tandem(c.args, &stdout, &stderr)
		if status != c.status {
			t.Errorf("exit status %d, want %d", status, c.status)
		}
		for _, out := range []struct {
			name, have, want string
		}{{"stdout", stdout.String(), c.stdout}, {"stderr", stderr.String(), c.stderr}} {
			if !strings.Contains(out.have, out.want) || out.want == "" && out.have != "" {
				t.Errorf("%s is %q, want %q", out.name, out.have, out.want)
			}
		}
		// What is wrong is one line, which says where the help is.
		if text := stderr.String(); status == exitUsage && len(c.args) > 0 && c.args[0] != serverPart && c.args[0] != clientPart && c.args[0] != driverPart &&
			(strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "tandem") || !strings.Contains(text, "; see tandem ")) {
			t.Errorf("what is wrong is not one line that says where the help is: %q", text)
		}
	})
}

func TestTheCommandLineIsExplained(t *testing.T) {
	for _, c := range []usageCase{
		{nil, exitUsage, "", "usage: tandem"},
		{[]string{"help"}, exitOK, "demo", ""},
		{[]string{"--help"}, exitOK, "demo", ""},
		{[]string{"help", "demo"}, exitOK, "-seed", ""},
		{[]string{"help", "version"}, exitOK, "usage: tandem version", ""},
		{[]string{"help", "chaos", "judge"}, exitOK, "usage: tandem chaos judge", ""},
		{[]string{"help", "dmeo"}, exitUsage, "", `no command "dmeo"`},
		{[]string{"help", "demo", "dir"}, exitUsage, "", `no argument "dir"`},
		{[]string{"version"}, exitOK, "tandem", ""},
		{[]string{"--version"}, exitOK, "tandem", ""},
		{[]string{"-version", "x"}, exitUsage, "", `no argument "x"`},
		{[]string{"version", "-h"}, exitOK, "usage: tandem version", ""},
		{[]string{"version", "x"}, exitUsage, "", `no argument "x"`},
		{[]string{"version", "-bogus"}, exitUsage, "", "-bogus"},
		{[]string{"dmeo"}, exitUsage, "", `"dmeo"`},
		{[]string{"-bogus"}, exitUsage, "", `"-bogus"`},
		{[]string{"demo", "-help"}, exitOK, "-seed", ""},
		{[]string{"demo", "-bogus"}, exitUsage, "", "-bogus"},
		{[]string{"demo", "dir"}, exitUsage, "", `"dir"`},
		{[]string{"demo", "-kills", "-1"}, exitUsage, "", "-kills is -1"},
		{[]string{"demo", "-kills", "many"}, exitUsage, "", "many"},
		{[]string{"demo", "-kills"}, exitUsage, "", "needs an argument"},
		{[]string{"demo", "-seed", "-1"}, exitUsage, "", "-seed"},
		{[]string{"demo", "-json=perhaps"}, exitUsage, "", "perhaps"},
		{[]string{serverPart}, exitUsage, "", "started by it"},
		{[]string{clientPart}, exitUsage, "", "started by it"},
		{[]string{driverPart}, exitUsage, "", "started by it"},
	} {
		c.check(t)
	}
}

// A full disk behind the standard output is a failure of every command that has to
// print something.
func TestAFullDiskBehindTheOutputIsAFailure(t *testing.T) {
	dir, _ := makeInput(t, 2)
	for _, args := range [][]string{
		{"help"}, {"version"}, {"demo", "-help"}, {"chaos", "-help"},
		{"demo", "-dir", dir, "-kills", "1"}, {"demo", "-dir", dir, "-kills", "1", "-json"},
		{"chaos", "-time", "100ms", "-layers", "enumerator"}, {"bench", "-rounds", "1", "-time", "1ms"},
	} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip(err)
		}
		r := newTandem(t, args...)
		r.cmd.Stdout = full
		if status := r.run(); status != exitFailed || !strings.Contains(r.stderr.String(), syscall.ENOSPC.Error()) {
			t.Errorf("%q: exit status %d, stderr %q", args, status, &r.stderr)
		}
		r.expectNothingLeft()
		_ = full.Close()
	}
}

// The reader of the output has gone. The command still leaves nothing behind.
func TestAReaderThatHasGoneLeavesNothing(t *testing.T) {
	dir, _ := makeInput(t, 2)
	for _, args := range [][]string{
		{"demo", "-dir", dir, "-kills", "1"},
		{"chaos", "-time", "100ms", "-layers", "enumerator"},
	} {
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r := newTandem(t, args...)
		r.cmd.Stdout, r.cmd.Stderr = writer, writer
		r.start()
		_, _ = reader.Close(), writer.Close()
		if status := r.wait(); status != exitFailed {
			t.Errorf("%q: exit status %d, want %d", args, status, exitFailed)
		}
		r.expectNothingLeft()
	}
}

func TestPartsDoNotSpeakOfOtherCommands(t *testing.T) {
	var out bytes.Buffer
	usage(&out)
	for _, part := range []string{serverPart, clientPart, driverPart} {
		if strings.Contains(out.String(), part) {
			t.Errorf("the summary names %s, which is not for people", part)
		}
	}
}

// signal sends a signal to the orchestrating process.
func (r *tandemRun) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}
