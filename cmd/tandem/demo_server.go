package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// A server is the server's process of the demo: it listens, runs the client as
// its child, sends the files, and reports each answer to the orchestrator as it
// comes. It also kills the client at the points that it is given, because it is
// the one who holds its handle.
type server struct {
	setup
	path       string
	executable string
	presence   *os.File
	endpoint   *ipc.Endpoint
	lines      lineWriter

	mu        sync.Mutex
	moved     *sync.Cond // dead has grown
	child     *child     // the client of the moment, nil between two
	dead      int        // how many points are behind
	reached   int        // the highest message number answered or skipped, counted from 1
	newest    uint64     // the highest attachment that has answered
	finishing bool       // the next end of the client is the last

	// recovering is set from a kill to the next client's first answer.
	recovering  bool
	killedAt    time.Time
	killedStays uint64 // newest at the kill
}

// A child is one client's process.
type child struct {
	cmd     *exec.Cmd
	doomed  bool // its kill is under way
	killed  bool // it was sent SIGKILL
	answers int
}

// playServer is the server's process.
func playServer(args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintf(stderr, "tandem: %s is a part of tandem demo, and is started by it\n", serverPart)
		return exitUsage
	}
	leaveInterruptsToTheOrchestrator()
	s := &server{path: args[0], presence: os.NewFile(presenceFile, "presence"), lines: lineWriter{w: stdout}}
	s.moved = sync.NewCond(&s.mu)
	if err := json.NewDecoder(os.Stdin).Decode(&s.setup); err != nil {
		fmt.Fprintf(stderr, "tandem %s: no setup on the standard input: %v\n", serverPart, err)
		return exitFailed
	}
	go exitWithInput()
	s.must(s.serve())
	return exitOK
}

// must reports an error that the server cannot go on with, and exits. Its client
// sees that, and leaves.
func (s *server) must(err error) {
	if err == nil {
		return
	}
	if s.lines.write(line{Is: lineFailed, Text: err.Error()}) != nil {
		fmt.Fprintln(os.Stderr, "tandem:", err)
	}
	os.Exit(exitFailed)
}

// report writes a line. If nobody reads it, nobody needs this server.
func (s *server) report(l line) { s.must(s.lines.write(l)) }

func (s *server) serve() (err error) {
	if s.executable, err = os.Executable(); err != nil {
		return err
	}
	// A client whose server was killed finds out by itself and leaves, which
	// takes a moment: until then no server may start (L3), so Listen waits.
	options := &ipc.Options{ToClientSize: s.ToClientSize, Wait: true, CloseTimeout: maxLeave}
	if s.endpoint, err = ipc.Listen(context.Background(), s.path, options); err != nil {
		return err
	}
	s.report(line{Is: lineServing, Generation: s.endpoint.Generation()})
	supervised := make(chan struct{})
	go func() {
		defer close(supervised)
		s.must(s.supervise())
	}()
	go func() { s.must(s.send()) }()
	if err := s.receive(); err != nil {
		return err
	}
	s.mu.Lock()
	s.finishing = true
	s.mu.Unlock()
	if err := s.endpoint.Close(); err != nil {
		return err
	}
	defer time.AfterFunc(maxLeave, s.killChild).Stop()
	<-supervised
	s.report(line{Is: lineFinished})
	return nil
}

// maxLeave is how long the last client may take to exit after the end.
const maxLeave = 10 * time.Second

// killChild ends a client that was started so late that it waits for a server
// which has closed.
func (s *server) killChild() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child != nil {
		_ = s.child.cmd.Process.Kill()
	}
}

// send sends the files, each read straight into the ring, and then the end. It
// does not notice the client's deaths: what is committed waits for the next.
func (s *server) send() error {
	ctx := context.Background()
	for _, message := range s.Messages {
		s.awaitTurn(message)
		file := s.Files[int(message)%len(s.Files)]
		space, err := s.endpoint.Reserve(ctx, int(file.Size))
		if err != nil {
			return err
		}
		if err := file.readInto(space.Data); err != nil {
			if err := space.Abort(); err != nil {
				return err
			}
			s.report(line{Is: lineSkipped, Message: message, Text: err.Error()})
			s.advance(message)
			continue
		}
		if err := space.Commit(message, len(space.Data)); err != nil {
			return err
		}
	}
	return s.endpoint.Send(ctx, endMessage, nil)
}

// awaitTurn waits until the plan lets the message be sent.
func (s *server) awaitTurn(message uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for int(message) >= sendLimit(s.Points, s.dead, s.Total) {
		s.moved.Wait()
	}
}

// receive reports the answers until the last one has come. Clients come and go
// meanwhile.
func (s *server) receive() error {
	buf := make([]byte, 2*answerSize)
	for m, err := range s.endpoint.MessagesInto(context.Background(), buf) {
		if errors.Is(err, ipc.ErrPeerDied) || errors.Is(err, ipc.ErrPeerClosed) {
			continue // all that it had committed has been received; the next client follows
		}
		if err != nil {
			return err
		}
		a, err := parseAnswer(m.Data)
		if err != nil {
			return err
		}
		s.noteRecovery(a.attachment)
		if m.Kind == endMessage {
			return nil
		}
		s.report(line{Is: lineAnswer, Message: m.Kind, Digest: a.digest[:], Attachment: a.attachment, Redelivered: a.redelivered})
		s.advance(m.Kind)
	}
	return errors.New("the messages ended without an error")
}

// noteRecovery counts an answer, and reports how long it took since the kill if
// it is the first one of the client after it.
func (s *server) noteRecovery(attachment uint64) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child != nil {
		s.child.answers++
	}
	if s.recovering && attachment > s.killedStays {
		s.recovering = false
		s.report(line{Is: lineRecovered, Nanos: now.Sub(s.killedAt).Nanoseconds()})
	}
	s.newest = max(s.newest, attachment)
}

// advance notes that a message has been answered or skipped, which may be what
// the next point waits for.
func (s *server) advance(message uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reached = max(s.reached, int(message)+1)
	s.doom()
}

// doom sees to the kill of the client if it is due. The last point is the
// server's own death, and the orchestrator's business.
//
// Preconditions: mu is held.
func (s *server) doom() {
	target := s.child
	if s.dead >= len(s.Points)-1 || s.reached < s.Points[s.dead].After || target == nil || target.doomed {
		return
	}
	target.doomed = true
	time.AfterFunc(s.Points[s.dead].delay(), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.child != target {
			return // it has ended by itself; its successor is doomed at its start
		}
		s.killedAt, s.killedStays = time.Now(), s.newest
		target.killed = target.cmd.Process.Kill() == nil
	})
}

// maxFruitless is how many clients in a row may end by themselves without a
// single answer, before the server gives up.
const maxFruitless = 5

// supervise runs clients, one after the other, until the work is done.
func (s *server) supervise() error {
	for fruitless := 0; fruitless < maxFruitless; {
		cmd := exec.Command(s.executable, clientPart, s.path, strconv.FormatUint(s.endpoint.Generation(), 10))
		cmd.Stdin, cmd.Stderr, cmd.ExtraFiles = os.Stdin, os.Stderr, []*os.File{s.presence}
		c := &child{cmd: cmd}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("starting the client: %w", err)
		}
		s.report(line{Is: lineClient, PID: cmd.Process.Pid})
		s.mu.Lock()
		s.child = c
		s.doom()
		s.mu.Unlock()
		ended := cmd.Wait()
		planned, finished := s.ended(c)
		switch {
		case finished:
			return ended
		case planned || c.answers > 0:
			fruitless = 0
		default:
			fruitless++
		}
	}
	return errors.New("the clients end by themselves before they have answered anything")
}

// ended notes that the client's process has ended.
func (s *server) ended(c *child) (planned, finished bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.child = nil
	status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && c.killed && status.Signaled() && status.Signal() == syscall.SIGKILL {
		s.dead++
		s.recovering = true
		s.moved.Broadcast()
		s.report(line{Is: lineKilled})
		return true, false
	}
	return false, s.finishing
}
