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
const maxTest = time.Minute

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
	temp, err := os.MkdirTemp("", "tandem") // short: a socket's path has 107 bytes
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

func TestTheCommandLineIsExplained(t *testing.T) {
	for _, test := range []struct {
		args           []string
		status         int
		stdout, stderr string // contain
	}{
		{nil, exitUsage, "", "usage: tandem"},
		{[]string{"help"}, exitOK, "demo", ""},
		{[]string{"--help"}, exitOK, "demo", ""},
		{[]string{"version"}, exitOK, "tandem", ""},
		{[]string{"version", "x"}, exitUsage, "", "no arguments"},
		{[]string{"dmeo"}, exitUsage, "", `"dmeo"`},
		{[]string{"demo", "-help"}, exitOK, "", "-seed"},
		{[]string{"demo", "-bogus"}, exitUsage, "", "-bogus"},
		{[]string{"demo", "dir"}, exitUsage, "", `"dir"`},
		{[]string{"demo", "-kills", "-1"}, exitUsage, "", "-kills is -1"},
		{[]string{"demo", "-kills", "many"}, exitUsage, "", "many"},
		{[]string{serverPart}, exitUsage, "", "started by it"},
		{[]string{clientPart}, exitUsage, "", "started by it"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := tandem(test.args, &stdout, &stderr)
			if status != test.status {
				t.Errorf("exit status %d, want %d", status, test.status)
			}
			for _, out := range []struct {
				name, have, want string
			}{{"stdout", stdout.String(), test.stdout}, {"stderr", stderr.String(), test.stderr}} {
				if !strings.Contains(out.have, out.want) || out.want == "" && out.have != "" {
					t.Errorf("%s is %q, want %q", out.name, out.have, out.want)
				}
			}
		})
	}
}

func TestPartsDoNotSpeakOfOtherCommands(t *testing.T) {
	var out bytes.Buffer
	usage(&out)
	for _, part := range []string{serverPart, clientPart} {
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
