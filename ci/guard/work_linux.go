package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A work has everything that a run of the guard makes: one directory, in which
// the processes that it starts have their temporary files, too.
type work struct {
	ctx       context.Context
	directory string
}

func newWork(ctx context.Context) (*work, error) {
	directory, err := os.MkdirTemp("", "guard")
	return &work{ctx, directory}, err
}

func (w *work) remove() error { return os.RemoveAll(w.directory) }

// command is a command that ends with its own children when the guard is interrupted,
// and whose temporary files are the guard's.
func (w *work) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(), "TMPDIR="+w.directory, "CGO_ENABLED=0", "GOWORK=off")
	return cmd
}

// output runs a command and returns what it prints. What else it says is in the error.
func output(cmd *exec.Cmd) (string, error) {
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}
