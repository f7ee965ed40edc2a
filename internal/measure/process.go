//go:build linux

package measure

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// longest is how much longer than its work a driver may take: it is a watchdog.
const longest = 40 * time.Second

// A Driver is an executable that plays contenders.
type Driver struct {
	Command []string // the contract's arguments follow
	Env     []string
}

// A Process is one side that was started. It ends with the process that started it: then
// its standard input ends, and the kernel kills it.
type Process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  *bufio.Scanner
	stderr bytes.Buffer
	cancel context.CancelFunc
}

// startProcess starts one side, bound to a processor unless it is -1.
func startProcess(ctx context.Context, d Driver, s *Setup, processor int, prefix ...string) (*Process, error) {
	watchdog := longest + s.Warm + 3*s.Time
	if s.Work == Scale {
		watchdog += time.Duration(s.InFlight) * 200 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(ctx, watchdog)
	argv := append(append(prefix, d.Command...), s.Args()...)
	p := &Process{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), cancel: cancel}
	p.cmd.Env = append(os.Environ(), d.Env...)
	p.cmd.Stderr = &p.stderr
	p.cmd.WaitDelay = time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	p.stdin, p.lines = stdin, bufio.NewScanner(stdout)
	p.lines.Buffer(nil, 4<<20) // a histogram is long
	if err := boundTo(processor, p.cmd.Start); err != nil {
		cancel()
		return nil, err
	}
	return p, nil
}

// Line returns the next line that the process has written.
func (p *Process) Line() (string, error) {
	if p.lines.Scan() {
		return p.lines.Text(), nil
	}
	return "", errors.Join(p.lines.Err(), p.wait(), io.ErrUnexpectedEOF)
}

// wait returns what was wrong with its end.
func (p *Process) wait() error {
	err := p.cmd.Wait()
	if text := strings.TrimSpace(p.stderr.String()); err != nil && text != "" {
		first, _, _ := strings.Cut(text, "\n")
		err = fmt.Errorf("%w: %s", err, first)
	}
	return err
}

// Expect returns what follows a word at the beginning of the next line.
func (p *Process) Expect(word string) (string, error) {
	line, err := p.Line()
	if err != nil {
		return "", err
	}
	rest, found := strings.CutPrefix(line, word)
	if !found {
		return "", fmt.Errorf("want %q of a driver, got %q", word, line)
	}
	return strings.TrimSpace(rest), nil
}

// Report reads the last line of a driver, and waits for its end.
func (p *Process) Report() (r Report, err error) {
	last := ""
	for p.lines.Scan() {
		last = p.lines.Text()
	}
	if err := errors.Join(p.lines.Err(), p.wait()); err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(last), &r); err != nil {
		return r, fmt.Errorf("the last line of a driver is no report: %q: %w", last, err)
	}
	return r, nil
}

// Kill ends the process with SIGKILL, and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	p.End()
}

// End closes the standard input of the process and waits for it; one that does not end so is killed.
func (p *Process) End() {
	defer p.cancel()
	_ = p.stdin.Close()
	if p.cmd.ProcessState != nil {
		return
	}
	ended := time.AfterFunc(time.Second, func() { _ = p.cmd.Process.Kill() })
	defer ended.Stop()
	_ = p.cmd.Wait()
}

// A Pair is the two sides of one run.
type Pair struct{ Server, Client *Process }

// StartPair starts the server, waits until it is ready, and starts the client.
func StartPair(ctx context.Context, d Driver, s Setup, place string, prefixes ...[]string) (pair Pair, err error) {
	all, err := Processors()
	if err != nil {
		return pair, err
	}
	server, client, err := processorsFor(place, all)
	if err != nil {
		return pair, err
	}
	prefixes = append(prefixes, nil, nil)
	s.Role = "server"
	if pair.Server, err = startProcess(ctx, d, &s, server, prefixes[0]...); err != nil {
		return pair, err
	}
	line, err := pair.Server.Line()
	if err != nil || line != "ready" {
		pair.Server.End()
		if why := unsupportedIn(line); why != "" {
			return pair, UnsupportedError(why)
		}
		return pair, fmt.Errorf("the server is not ready: %q: %w", line, err)
	}
	s.Role = "client"
	if pair.Client, err = startProcess(ctx, d, &s, client, prefixes[1]...); err != nil {
		pair.Server.End()
	}
	return pair, err
}

// Reports are those of both sides. An error of one is not hidden by the other.
func (p Pair) Reports() (server, client Report, err error) {
	client, clientErr := p.Client.Report()
	if clientErr == nil && client.Unsupported == "" {
		server, err = p.Server.Report()
	}
	return server, client, errors.Join(clientErr, err)
}

// End ends both.
func (p Pair) End() {
	p.Client.End()
	p.Server.End()
}

// An UnsupportedError is a driver's reason for not doing something.
type UnsupportedError string

func (e UnsupportedError) Error() string { return string(e) }

func unsupportedIn(line string) string {
	var r Report
	if json.Unmarshal([]byte(line), &r) != nil {
		return ""
	}
	return r.Unsupported
}
