//go:build linux

package measure

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// In Survive one process is killed again and again and started anew. The other one
// stays. It prints a line for each event, with the monotonic clock of the machine:
//
//	error NANOSECONDS TEXT   the survivor was told that its peer has gone
//	answer NANOSECONDS       the first answer after a start
//
// The client asks once, and then waits in Receive, or in a call that is not answered.

// Now is the machine's monotonic clock, the same in all processes.
func Now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// say writes one line at once.
func say(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }

// surviveServer answers one client after the other.
func surviveServer(s *Setup, listener Listener) error {
	for {
		link, err := listener.Accept()
		if err != nil {
			return err
		}
		p := newSide(s, link)
		for err == nil && !p.in.Ended {
			if err = link.Receive(&p.in, 1); err == nil {
				err = link.Send(&p.out, 1)
			}
		}
		say("error %d %v", Now(), err)
		_ = link.Close()
	}
}

// dialAgain calls a function until it succeeds.
func dialAgain[T any](dial func() (T, error)) T {
	for {
		peer, err := dial()
		if err == nil {
			return peer
		}
		time.Sleep(redialPause)
	}
}

// surviveClient asks one server after the other.
func surviveClient(s *Setup, t *Transport) error {
	for {
		link := dialAgain(func() (Link, error) { return t.Dial(s) })
		p := newSide(s, link)
		if err := p.trip(); err == nil {
			say("answer %d", Now())
			err = link.Receive(&p.in, 1)
			say("error %d %v", Now(), err)
		} else { // it has reached a server that was about to end
			time.Sleep(redialPause)
		}
		_ = link.Close()
	}
}

// A Waiter can make a call that is not answered while the server lives.
type Waiter interface{ Never() error }

// surviveCaller is surviveClient for calls.
func surviveCaller(s *Setup, t *Transport) error {
	for {
		caller := dialAgain(func() (Caller, error) {
			c, err := t.Call(s)
			if err == nil {
				if err = newGoroutineCalls(s, c).call(); err != nil {
					_ = c.Close()
				}
			}
			return c, err
		})
		say("answer %d", Now())
		waiter, can := caller.(Waiter)
		if !can {
			return errors.New("it has no call that waits")
		}
		err := waiter.Never()
		say("error %d %v", Now(), err)
		_ = caller.Close()
	}
}

// Counts are three words of a file that the harness reads: what the receivers of Lose
// have seen, also those that were killed.
type counts struct{ next, lost, again *atomic.Uint64 }

// CountsFile is where the receivers of Lose count, below the directory of the run.
const CountsFile = "counts"

func openCounts(s *Setup) (counts, error) {
	words, err := sharedWords(filepath.Join(s.Dir, CountsFile), 3)
	if err != nil {
		return counts{}, err
	}
	return counts{words[0], words[1], words[2]}, nil
}

// loseSender sends to one receiver after the other until its standard input says "end".
func loseSender(s *Setup, listener Listener) error {
	ending := make(chan struct{})
	go func() {
		if line, _ := bufio.NewReader(os.Stdin).ReadString('\n'); line != "end\n" {
			os.Exit(3)
		}
		close(ending)
	}()
	source := Source{}
	for {
		link, err := listener.Accept()
		if err != nil {
			return err
		}
		for err == nil {
			select {
			case <-ending:
				sent := source.next
				source.last = true
				err := link.Send(&source, 1)
				say("sent %d", sent)
				return err
			default:
			}
			before := source.next
			if err = link.Send(&source, 1); err != nil {
				source.next = before // it was not sent
			}
		}
		_ = link.Close()
	}
}

// loseReceiver goes on counting where the one before it was killed. A message counts when
// it was worked on, so before its release.
func loseReceiver(s *Setup, link Link) error {
	c, err := openCounts(s)
	if err != nil {
		return err
	}
	say("receiving")
	sink := Sink{size: s.Size}
	sink.each = func(n uint64) {
		next := c.next.Load()
		switch {
		case n == lastNumber:
		case n < next:
			c.again.Add(1)
		default:
			c.lost.Add(n - next)
			c.next.Store(n + 1)
		}
	}
	for !sink.Ended {
		if err := link.Receive(&sink, 64); err != nil {
			return err
		}
	}
	return nil
}

// ReadCounts returns how far the receivers of Lose have come, what was lost before that,
// and what came again.
func ReadCounts(dir string) (next, lost, again uint64, err error) {
	text, err := os.ReadFile(filepath.Join(dir, CountsFile))
	if err != nil || len(text) < 3*cacheLine {
		return 0, 0, 0, fmt.Errorf("nobody has received anything: %w", err)
	}
	at := func(i int) uint64 { return binary.LittleEndian.Uint64(text[i:]) }
	return at(0), at(cacheLine), at(2 * cacheLine), nil
}
