//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The pidfd is good for the process of one client: its end is seen with it, also after
// another client has come.
func TestThePidfdOfAClientIsOfItsProcess(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, nil)
	if _, err := server.PeerPidfd(0); !errors.Is(err, errNoSuchClient) {
		t.Errorf("with nobody attached: %v, want %v", err, errNoSuchClient)
	}
	first := startActor(t, actorArgument{Path: path})
	first.ask("attached", "dial")
	number := nextEvent(t, server, EventAttached).Attachment
	pidfd, err := server.PeerPidfd(number)
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	if _, err := server.PeerPidfd(number + 1); !errors.Is(err, errNoSuchClient) {
		t.Errorf("of a client that has not come: %v, want %v", err, errNoSuchClient)
	}
	process := remote{pidfd: int(pidfd.Fd())}
	if process.exited() {
		t.Error("it shows the end of a client that lives")
	}
	if err := unix.PidfdSendSignal(process.pidfd, unix.SIGKILL, nil, 0); err != nil {
		t.Error(err)
	}
	nextEvent(t, server, EventDied) // the kernel frees the token before it shows the end
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(process.pidfd), Events: unix.POLLIN}}, int(watchdog.Milliseconds()))
	if !process.exited() {
		t.Error("it does not show the end of a client that has died")
	}
	if _, err := server.PeerPidfd(number); !errors.Is(err, errNoSuchClient) {
		t.Errorf("of a client that has died: %v, want %v", err, errNoSuchClient)
	}
	client := dialHere(t, path, nil)
	if _, err := server.PeerPidfd(client.Attachment()); !errors.Is(err, errOwnProcess) {
		t.Errorf("of a client in this process: %v, want %v", err, errOwnProcess)
	}
	if _, err := client.PeerPidfd(client.Attachment()); err == nil {
		t.Error("a client gets a pidfd of its server")
	}
}

// No pidfd is given of a process that has handed its token on: a kill would not hit who
// holds it.
func TestT3NoPidfdOfAProcessThatHasHandedItsTokenOn(t *testing.T) {
	path := testPath(t)
	server := listenHere(t, path, &Options{CloseTimeout: time.Millisecond})
	client, token := handsOn(t, "hand on the token and drop it", path)
	number := nextEvent(t, server, EventAttached).Attachment
	client.expect("dropped")
	if _, err := server.PeerPidfd(number); !errors.Is(err, errNoEvidence) {
		t.Errorf("%v, want %v", err, errNoEvidence)
	}
	letGo(token)
}
