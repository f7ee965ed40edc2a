package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A tracedProcess is a traced process as the one that breaks it sees it.
type tracedProcess struct {
	*process
	seat   seat
	server bool
	busy   map[string]bool // its lanes
	frozen bool
	dead   bool
	closed bool
}

// A scene is one path with traced processes on it.
type scene struct {
	ctx            context.Context
	dir            string
	draw           *rand.Rand
	flight         *flight
	all            []*tracedProcess
	server, client *tracedProcess
	servers        int
	start          uint64 // of the positions
}

// playScene plays one scene, drawn from the seed, and returns what was recorded.
func playScene(ctx context.Context, seed uint64) (_ trace, err error) {
	dir, err := newDirectory()
	if err != nil {
		return trace{}, err
	}
	defer os.RemoveAll(dir)
	s := &scene{ctx: ctx, dir: dir, draw: rand.New(rand.NewPCG(seed, 7))}
	s.start = drawStart(s.draw)
	if s.flight, err = newFlight(""); err != nil {
		return trace{}, err
	}
	defer s.flight.close()
	defer func() {
		for _, p := range s.all {
			p.kill()
		}
	}()
	if err := s.play(); err != nil {
		return trace{}, err
	}
	t, err := s.flight.land()
	t.Seed = seed
	return t, err
}

// join starts a process and has it open its endpoint.
func (s *scene) join(server bool) (*tracedProcess, error) {
	at, err := s.flight.seat(tracedRole{Server: server}, recordingSlots)
	if err != nil {
		return nil, err
	}
	p := &tracedProcess{seat: at, server: server, busy: map[string]bool{}}
	argument := tracedArgument{Path: filepath.Join(s.dir, "s"), Seat: p.seat, Server: server, Start: s.start}
	if s.draw.IntN(2) == 0 {
		argument.DieAt = 1 + s.draw.IntN(40)
	}
	if p.process, err = start("traced", argument); err != nil {
		return nil, err
	}
	s.all = append(s.all, p)
	if server {
		s.servers++
	}
	s.order(p, "life", "open")
	return p, nil
}

// order gives a lane something to do, if it has nothing.
func (s *scene) order(p *tracedProcess, lane, what string) {
	if p == nil || p.dead || p.busy[lane] {
		return
	}
	p.busy[lane] = true
	p.tell("%s %s", lane, what)
}

// play is the scene: who is missing comes, somebody does something, and now and
// then something is done to somebody; and in the end all leave, each in its way.
func (s *scene) play() (err error) {
	for rounds := 20 + s.draw.IntN(20); rounds > 0; rounds-- {
		if s.server == nil {
			if s.servers == maxGenerations {
				break
			}
			if s.server, err = s.join(true); err != nil {
				return err
			}
		}
		if s.client == nil {
			if s.client, err = s.join(false); err != nil {
				return err
			}
		}
		s.something()
		if err := s.watch(time.Duration(s.draw.IntN(8)) * time.Millisecond); err != nil {
			return err
		}
	}
	return s.leave()
}

var (
	tracedSends    = []string{"send", "send", "send", "try", "batch 2", "batch 3", "reserve", "abort"}
	tracedReceives = []string{"into", "into", "view", "views 2", "release 1", "release 2", "cancelled"}
)

// something is one thing that happens.
func (s *scene) something() {
	p := s.server
	if s.draw.IntN(2) == 0 {
		p = s.client
	}
	if p.frozen {
		_ = p.signal(syscall.SIGCONT)
		p.frozen = false
	}
	opened := !p.busy["life"]
	switch n := s.draw.IntN(40); {
	case n == 0:
		_ = p.signal(syscall.SIGKILL)
		<-p.done
	case n == 1:
		p.frozen = p.signal(syscall.SIGSTOP) == nil
	case n == 2 && opened && !p.closed:
		p.closed = true
		s.order(p, "life", "close")
		if p.server {
			s.bereave() // Close waits for the client
		}
	case n < 22 && opened && !p.closed:
		s.order(p, "send", tracedSends[s.draw.IntN(len(tracedSends))])
	case opened && !p.closed:
		s.order(p, "receive", tracedReceives[s.draw.IntN(len(tracedReceives))])
	}
}

// watch takes what the processes say for a while. It paces the scene, and nothing
// depends on how long it is.
func (s *scene) watch(while time.Duration) error {
	timer := time.NewTimer(while)
	defer timer.Stop()
	for {
		var server, client <-chan string
		if s.server != nil {
			server = s.server.lines
		}
		if s.client != nil {
			client = s.client.lines
		}
		var err error
		select {
		case line, ok := <-server:
			err = s.said(s.server, line, ok)
		case line, ok := <-client:
			err = s.said(s.client, line, ok)
		case <-timer.C:
			return nil
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
		if err != nil {
			return err
		}
	}
}

// said takes one line of a process, or its end.
func (s *scene) said(p *tracedProcess, line string, ok bool) error {
	if !ok {
		return s.ended(p)
	}
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "did" {
		return fmt.Errorf("chaos: a traced process said %q%s", line, p.log)
	}
	lane, outcome := words[1], strings.Join(words[2:], "")
	p.busy[lane] = false
	switch {
	case lane == "life" && p.closed:
		s.gone(p)
	case !p.server && lane == "receive" && (outcome == "died" || outcome == "closed"):
		s.order(p, "life", "redial")
	case !p.server && lane != "send" && (s.server == nil || s.server.closed):
		s.bereave() // also one that has attached to a server that is closing
	}
	return nil
}

// ended is the end of a process: only a kill ends one that is looked at.
func (s *scene) ended(p *tracedProcess) error {
	<-p.done
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		return fmt.Errorf("chaos: a traced process has ended: %v%s", p.cmd.ProcessState, p.log)
	}
	p.dead = true
	s.flight.killed(p.seat)
	s.gone(p)
	return nil
}

// gone makes the place of one who was killed, or has closed, free.
func (s *scene) gone(p *tracedProcess) {
	switch p {
	case s.server:
		s.server = nil
		s.bereave()
	case s.client:
		s.client = nil
	}
}

// bereave has a client learn of its server's end: it keeps the next server out
// until then.
func (s *scene) bereave() {
	if s.client == nil {
		return
	}
	if s.client.frozen {
		_ = s.client.signal(syscall.SIGCONT)
		s.client.frozen = false
	}
	if !s.client.busy["life"] && !s.client.closed {
		s.order(s.client, "receive", "into")
	}
}

// leave ends the scene.
func (s *scene) leave() error {
	first, second := s.client, s.server
	if s.draw.IntN(2) == 0 {
		first, second = second, first
	}
	for _, p := range []*tracedProcess{first, second} {
		if p == nil || p.dead {
			continue
		}
		if p.frozen || p.busy["life"] || s.draw.IntN(3) == 0 {
			_ = p.signal(syscall.SIGKILL)
		} else {
			p.closed = true
			s.order(p, "life", "close")
			if p.server {
				s.bereave()
			}
		}
		for p == s.server || p == s.client {
			if err := s.watch(time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}
