package chaos

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A testing part: it does what its lines say.
var _ = register("test", func(p *player) {
	var greeting string
	p.arg(&greeting)
	p.say("%s", greeting)
	for {
		switch line := p.next(); line {
		case "stop":
			signalSelf(unix.SIGSTOP)
			p.say("went on")
		case "die":
			signalSelf(unix.SIGKILL)
			p.say("went on") // never
		case "complain":
			_, _ = os.Stderr.WriteString("a complaint")
			p.fail("a reason")
		case "child":
			child, err := start("test", "hello from below")
			if err != nil {
				p.fail("%v", err)
			}
			line, err := child.hear(context.Background())
			p.say("%d %s %v", child.cmd.Process.Pid, line, err)
		default:
			p.say("heard %s", line)
		}
	}
})

// watched ends with the test or the watchdog.
func watched(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	t.Cleanup(cancel)
	return ctx
}

// startPart starts a process that ends with the test.
func startPart(t testing.TB, part string, argument any) *process {
	t.Helper()
	p, err := start(part, argument)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

func (p *process) mustAsk(t testing.TB, want, line string) string {
	t.Helper()
	answer, err := p.ask(watched(t), want, line)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestAProcessSpeaksStopsGoesOnAndDies(t *testing.T) {
	p := startPart(t, "test", "hello")
	if line, err := p.hear(watched(t)); line != "hello" || err != nil {
		t.Fatalf("first line %q, %v", line, err)
	}
	p.mustAsk(t, "heard", "what")
	for range 2 { // a second stop is seen as another
		stop := p.awaitStop()
		p.tell("stop")
		if found := <-stop; found != stopped {
			t.Fatalf("found %v, want stopped", found)
		}
		if err := p.signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if _, err := p.expect(watched(t), "went on"); err != nil {
			t.Fatal(err)
		}
	}
	stop := p.awaitStop()
	p.tell("die")
	if signal, err := p.awaitEnd(watched(t)); signal != syscall.SIGKILL || err != nil {
		t.Fatalf("ended by %v, %v", signal, err)
	}
	if found := <-stop; found != ended {
		t.Errorf("found %v, want ended", found)
	}
	if err := p.signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a signal to nobody: %v", err)
	}
}

func TestAProcessThatFailsIsQuoted(t *testing.T) {
	p := startPart(t, "test", "hello")
	_, _ = p.hear(watched(t))
	_, err := p.ask(watched(t), "heard", "complain")
	if err == nil || !strings.Contains(err.Error(), "FAIL a reason") {
		t.Errorf("the answer: %v", err)
	}
	_, err = p.hear(watched(t))
	if !errors.Is(err, errEnded) || !strings.Contains(err.Error(), "a complaint") {
		t.Errorf("behind the end: %v", err)
	}
}

func TestNoProcessOutlivesItsParent(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		p := startPart(t, "test", "hello")
		_, _ = p.hear(watched(t))
		p.tell("child")
		line, err := p.hear(watched(t))
		pid, said, _ := strings.Cut(line, " ")
		if err != nil || said != "hello from below <nil>" {
			t.Fatalf("%q, %v", line, err)
		}
		number, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		handle, err := unix.PidfdOpen(number, 0)
		if err != nil {
			t.Fatal(err)
		}
		child := os.NewFile(uintptr(handle), "child")
		defer child.Close()
		if frozen { // it cannot see its leash
			if err := unix.PidfdSendSignal(handle, unix.SIGSTOP, nil, 0); err != nil {
				t.Fatal(err)
			}
		}
		p.kill()
		fds := []unix.PollFd{{Fd: int32(handle), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(fds, int(watchdog.Milliseconds()))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n != 1 || err != nil {
				t.Errorf("frozen %t: the child lives on: %v", frozen, err)
			}
			break
		}
	}
}

func TestAnUnknownPartIsRefused(t *testing.T) {
	p := startPart(t, "nonsense", nil)
	if _, err := p.hear(watched(t)); !errors.Is(err, errEnded) || !strings.Contains(err.Error(), `no part "nonsense"`) {
		t.Error(err)
	}
}
