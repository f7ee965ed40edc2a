package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// presenceFile is the number of a descriptor that every process of the demo
// holds and none uses: a pipe's writing end. When the reading end ends, all of
// them are gone, those included that have lost their parent.
const presenceFile = 3

const (
	// maxSilence is how long the servers may report nothing. The longest
	// legitimate silence is one message of the largest size.
	maxSilence = 2 * time.Minute

	// maxEnd is how long the processes may take to exit when they are told to.
	maxEnd = 20 * time.Second
)

var errStalled = fmt.Errorf("nothing has happened for %v", maxSilence)

// A run is one run of the demo, as its orchestrator sees it.
type run struct {
	setup    setup
	judge    *judge
	progress *progress

	executable  string
	dir         string // for the socket and the lock file
	presence    *os.File
	present     *os.File
	lifeLines   []*os.File
	serverKills int
	killedAt    time.Time     // of the server
	recovery    time.Duration // from there to the first answer of the next pair
	transfer    time.Duration // from the start of the first server to the end of the last
}

// work sends everything, through two servers: the first one dies on the way,
// the second one is told what is still unanswered.
func (r *run) work(ctx context.Context) (err error) {
	if r.executable, err = os.Executable(); err != nil {
		return err
	}
	if r.dir, err = os.MkdirTemp("", "tandem-demo-"); err != nil {
		return err
	}
	adoptOrphans()
	if r.present, r.presence, err = os.Pipe(); err != nil {
		return errors.Join(err, os.RemoveAll(r.dir))
	}
	defer func() { err = errors.Join(err, r.clean()) }()

	begun := time.Now()
	defer func() { r.transfer = time.Since(begun) }()
	if err := r.serve(ctx, r.setup); err != nil {
		return err
	}
	// All that the first server has reported was read by now. It is dead, and
	// what it had not reported was not answered, or was answered to nobody.
	r.judge.nextServer()
	rest := r.setup
	rest.Points, rest.Messages = nil, r.judge.open()
	return r.serve(ctx, rest)
}

// serve runs one server until it has finished or, if it was given points, has
// been killed at the last of them.
func (r *run) serve(ctx context.Context, s setup) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd, reports, err := r.start(ctx, s)
	if err != nil {
		return err
	}
	defer reports.Close()
	watchdog := time.AfterFunc(maxSilence, func() { cancel(errStalled) })
	defer watchdog.Stop()
	doomed := len(s.Points) > 0
	kill := func() {
		r.killedAt = time.Now()
		_ = cmd.Process.Kill()
	}

	var timer *time.Timer
	var wrong error
	fired := make(chan struct{})
	lines := bufio.NewScanner(reports)
	for lines.Scan() && wrong == nil {
		watchdog.Reset(maxSilence)
		if wrong = r.hear(lines.Bytes()); wrong != nil {
			cancel(wrong)
		}
		if timer == nil && doomed && r.judge.reached >= s.Points[len(s.Points)-1].After {
			timer = time.AfterFunc(s.Points[len(s.Points)-1].delay(), func() { defer close(fired); kill() })
		}
	}
	ended := cmd.Wait()
	killed := timer != nil && !timer.Stop()
	if killed {
		<-fired // it set killedAt
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err := errors.Join(wrong, lines.Err()); err != nil {
		return err
	}
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if doomed && killed && ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		r.serverKills++
		return nil
	}
	if doomed || ended != nil || !r.judge.finished {
		return fmt.Errorf("the server has ended before its time: %v", cmd.ProcessState)
	}
	return nil
}

// start starts a server with the given setup. When ctx ends, the server's life
// line does.
func (r *run) start(ctx context.Context, s setup) (cmd *exec.Cmd, reports *os.File, err error) {
	input, lifeLine, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer input.Close()
	r.lifeLines = append(r.lifeLines, lifeLine)
	reports, output, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer output.Close()
	cmd = exec.CommandContext(ctx, r.executable, serverPart, filepath.Join(r.dir, "socket"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, output, os.Stderr
	cmd.ExtraFiles = []*os.File{r.presence}
	cmd.Cancel = lifeLine.Close
	cmd.WaitDelay = maxEnd
	if err := cmd.Start(); err != nil {
		_ = reports.Close()
		return nil, nil, fmt.Errorf("starting the server: %w", err)
	}
	// Beside the reading of its reports, so that neither waits for the other. If
	// the setup does not arrive, the server says so and exits.
	go func() { _ = json.NewEncoder(lifeLine).Encode(s) }()
	return cmd, reports, nil
}

// hear takes one line of a server.
func (r *run) hear(text []byte) error {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return fmt.Errorf("the server says %q: %w", text, err)
	}
	if l.Is == lineAnswer && r.serverKills > 0 && r.recovery == 0 {
		r.recovery = time.Since(r.killedAt)
	}
	if err := r.judge.take(l); err != nil {
		return err
	}
	r.progress.show(r.judge.answers, r.judge.kills, r.serverKills)
	return nil
}

// clean sees to it that no process is left, and no file.
func (r *run) clean() error {
	for _, lifeLine := range r.lifeLines {
		_ = lifeLine.Close() // one may be closed, by the end of its context
	}
	_ = r.presence.Close()
	defer r.present.Close()
	// Nobody writes into it: the read ends with the last process, or in time.
	err := r.present.SetReadDeadline(time.Now().Add(maxEnd))
	if err == nil {
		var nothing [1]byte
		if _, readErr := r.present.Read(nothing[:]); errors.Is(readErr, os.ErrDeadlineExceeded) {
			err = fmt.Errorf("a process that the demo has started is still there after %v; the clients were %v", maxEnd, r.judge.pids)
		}
	}
	if err == nil {
		reap(r.judge.pids)
	}
	return errors.Join(err, os.RemoveAll(r.dir))
}
