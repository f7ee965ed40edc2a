//go:build linux && (amd64 || arm64)

package ipc

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
)

// numbered is a message that says which one it is.
func numbered(n uint64) []byte {
	data := make([]byte, 8)
	for i := range data {
		data[i] = byte(n >> (8 * i))
	}
	return data
}

func numberOf(data []byte) (n uint64) {
	for i, b := range data {
		n |= uint64(b) << (8 * i)
	}
	return n
}

// Accounts are taken, two at once, while others send to a ring that is full all the
// while, and its receiver releases one message after the other. Each comes back, and
// has messages that follow each other; and the senders go on (M7).
func TestM6M7AccountsOfAFullRingComeBackWhole(t *testing.T) {
	const accounts, senders, takers, size = 200, 3, 2, 1 << 16
	server, client := pair(t, &Options{ToClientSize: size, Spin: NoSpin}, &Options{Spin: NoSpin})
	var sent atomic.Uint64
	var order sync.Mutex // the numbers go up in the ring
	var users, counting sync.WaitGroup
	for range senders {
		spawn(&users, func() {
			for {
				order.Lock()
				err := server.Send(testContext(t), 1, numbered(sent.Load()))
				sent.Add(1)
				order.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	eventually(t, "the ring is full", func() bool { return sent.Load() == size/recordSizeOfNumber })
	spawn(&users, func() {
		buffer := make([]byte, 8)
		for next := uint64(0); ; next++ {
			m, err := client.ReceiveInto(testContext(t), buffer)
			if err != nil {
				return
			}
			if n := numberOf(m.Data); n != next {
				t.Errorf("M2: received number %d, want %d", n, next)
			}
		}
	})
	for range takers {
		spawn(&counting, func() {
			for range accounts {
				list, err := server.Unreleased()
				if err != nil || len(list) > size/recordSizeOfNumber {
					t.Errorf("%d messages in the account, %v", len(list), err)
					return
				}
				for i, u := range list {
					if n := numberOf(u.Data); u.Kind != 1 || n != numberOf(list[0].Data)+uint64(i) {
						t.Errorf("M6: entry %d of %d is number %d of kind %d, the first is number %d", i, len(list), n, u.Kind, numberOf(list[0].Data))
						return
					}
				}
			}
		})
	}
	counting.Wait()
	before := sent.Load()
	eventually(t, "a sender goes on behind the last account", func() bool { return sent.Load() > before+size/recordSizeOfNumber })
	_ = client.Close()
	_ = server.Close()
	users.Wait()
}

const recordSizeOfNumber = 16

// The copy of an account is held up behind the account: the peer releases everything,
// and a sender wants the room. What the account has must stay, and the sender must
// go on when the account has it, though nothing else wakes it.
func TestM6M7WhatIsBeingCopiedIsNotWrittenOver(t *testing.T) {
	options := hostileOptions()
	options.HeartbeatInterval, options.HangTimeout = time.Hour, 3*time.Hour // which end no sleep
	asleep := make(chan struct{}, 100)
	options.hook = func(at step.ID, _ uint64) {
		if at == step.Sleeping {
			asleep <- struct{}{}
		}
	}
	server, client := pair(t, options, nil)
	page := os.Getpagesize()
	half := make([]byte, page/2-headerSize)
	for kind := range uint32(2) {
		if err := server.TrySend(kind, half); err != nil {
			t.Fatal(err)
		}
	}
	server.mu.Lock()
	a, err := server.account()
	server.out.keep(a.readPos)
	server.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, page)
	for range 2 {
		if _, err := client.ReceiveInto(testContext(t), buffer); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.TrySend(2, half); !errors.Is(err, ErrFull) {
		t.Fatalf("TrySend gave %v, want ErrFull: the room is being copied", err)
	}
	sent := make(chan error, 1)
	go func() { sent <- server.Send(t.Context(), 2, half) }()
	<-asleep
	list, err := server.list(a)
	if err != nil || len(list) != 2 || list[0].Kind != 0 || list[1].Kind != 1 {
		t.Fatalf("%d messages in the account, %v; want both", len(list), err)
	}
	server.out.unkeep(a.readPos)
	select {
	case err := <-sent:
		if err != nil {
			t.Fatalf("the sender that was held up: %v", err)
		}
	case <-time.After(watchdog):
		t.Fatalf("M7: the sender that was held up sleeps on\n%s", stacks())
	}
	if list, err = server.Unreleased(); err != nil || len(list) != 1 || list[0].Kind != 2 {
		t.Errorf("%d unreleased, %v; want the last one", len(list), err)
	}
}
