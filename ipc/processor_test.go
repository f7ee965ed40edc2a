//go:build linux && (amd64 || arm64)

package ipc

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// The path is none: it says who the peer is.
var _ = sceneOf("shares a processor", func(s *scene) {
	var peer int
	if _, err := fmt.Sscan(s.path, &peer); err != nil {
		s.fail("%v", err)
	}
	s.say("shares %v", sharesProcessor(peer))
	s.untilStdinEnds()
})

// bind binds this process, and so what it starts, to some processors.
func bind(t *testing.T, bits int) {
	t.Helper()
	var processors unix.CPUSet
	for i := range 63 {
		if bits>>i&1 == 1 {
			processors.Set(i)
		}
	}
	if err := runOn(&processors); err != nil {
		t.Fatal(err)
	}
}

// A process that is bound to a processor of its own spins, though it has only one: its
// peer answers meanwhile. One that shares it with the peer does not.
func TestOnlyWhoSharesItsProcessorWithThePeerDoesNotSpin(t *testing.T) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	if all.Count() < 2 {
		notRun(t, "there is one processor")
	}
	both, each := 0, []int(nil)
	for i := range 63 {
		if all.IsSet(i) {
			both, each = both|1<<i, append(each, 1<<i)
		}
	}
	defer bind(t, both)
	bound := func(bits, peer int) *process {
		bind(t, bits)
		return start(t, "scene", sceneArgument{"shares a processor", fmt.Sprint(peer)})
	}
	peers := map[int]*process{}
	for _, bits := range []int{each[0], each[1], both} {
		peers[bits] = bound(bits, 0)
		peers[bits].says(fmt.Sprintf("shares %v", bits != both)) // the peer cannot be seen
	}
	for _, c := range []struct {
		own, peer int
		shares    bool
	}{{each[0], each[0], true}, {each[0], each[1], false}, {each[1], each[0], false}, {each[0], both, false}, {both, each[0], false}, {both, both, false}} {
		bound(c.own, peers[c.peer].cmd.Process.Pid).says(fmt.Sprintf("shares %v", c.shares))
	}
	e := &Endpoint{}
	if e.spinBudget(&waiter{}) == 0 {
		t.Error("who shares nothing does not spin")
	}
	e.sharesProcessor.Store(true)
	if e.spinBudget(&waiter{}) != 0 {
		t.Error("who shares its processor spins")
	}
	if sharesProcessor(os.Getpid()) {
		t.Error("this process has several processors")
	}
}
