//go:build amd64 || arm64

package chaos

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// The sizes of messages of this layer: one word, which is stored in one store, so
// that raw images can be compared; many, which take several; and what fills a
// ring soon.
const (
	wordMessage  = 8
	largeMessage = 200
	fillMessage  = 488
)

// instructionRing is the smallest ring: the images are small.
var instructionRing = os.Getpagesize()

// quiet is how processes of this layer run: nothing happens by the clock.
func quiet() *ipc.Options {
	return &ipc.Options{
		ToServerSize: instructionRing, ToClientSize: instructionRing, Spin: ipc.NoSpin,
		HeartbeatInterval: time.Hour, HangTimeout: 10 * time.Hour, HandshakeTimeout: watchdog, CloseTimeout: watchdog,
	}
}

// An operation is what a victim is stepped through.
type operation struct {
	name    string
	victims []ipc.Role
	prepare func(*victim) error // not stepped
	run     func(*victim) error // stepped, between two marks

	// What run does to the streams when it completes.
	sends           []int // sizes
	takes, releases int

	// meanwhile is what the survivor does before the operation begins and does
	// not come back from until the victim acts or dies; answer what it does
	// once the victim sleeps.
	meanwhile, answer func(*duel) error

	whole   bool // crashed at every instruction, also of what package ipc calls
	planted bool // a bug for a test to find
}

var both = []ipc.Role{ipc.RoleClient, ipc.RoleServer}

// operations are all of them, by name.
var operations = map[string]*operation{}

func operationNamed(o operation) bool {
	operations[o.name] = &o
	return true
}

var (
	_ = operationNamed(operation{name: "send", whole: true, victims: both, sends: []int{wordMessage},
		run: (*victim).sendComposed})
	_ = operationNamed(operation{name: "send large", whole: true, victims: both, sends: []int{largeMessage},
		run: (*victim).sendComposed})
	_ = operationNamed(operation{name: "send batch", whole: true, victims: both, sends: []int{wordMessage, wordMessage, wordMessage},
		run: func(v *victim) error {
			_, err := v.e.SendBatch(context.Background(), v.batch)
			return err
		}})
	_ = operationNamed(operation{name: "receive", whole: true, victims: both, takes: 1,
		run: (*victim).take})
	_ = operationNamed(operation{name: "release", whole: true, victims: both, releases: 1,
		prepare: (*victim).takeMarked,
		run:     func(v *victim) error { return v.held.Release() }})
	_ = operationNamed(operation{name: "receive into", whole: true, victims: both, takes: 1, releases: 1,
		run: (*victim).takeCopy})
	_ = operationNamed(operation{name: "receive after a sleep", victims: both, takes: 1,
		prepare: (*victim).drain, answer: (*duel).sendOne,
		run: (*victim).take})
	_ = operationNamed(operation{name: "send after a sleep", victims: both, sends: []int{wordMessage},
		prepare: (*victim).fill, answer: (*duel).receiveOne,
		run: (*victim).sendComposed})
	_ = operationNamed(operation{name: "send to a sleeper", whole: true, victims: both, sends: []int{wordMessage},
		meanwhile: (*duel).sleepReceiving,
		run:       (*victim).sendComposed})
	_ = operationNamed(operation{name: "release to a sleeper", whole: true, victims: both, releases: 1,
		prepare: (*victim).takeMarked, meanwhile: (*duel).sleepSending,
		run: func(v *victim) error { return v.held.Release() }})
	_ = operationNamed(operation{name: reattach, whole: true, victims: []ipc.Role{ipc.RoleClient},
		run: (*victim).dial})
)

// reattach is the operation that begins without an endpoint: a client attaches
// to what its predecessor left.
const reattach = "reattach"

// instructionArgument says what a victim is to do.
type instructionArgument struct {
	Path      string
	Role      ipc.Role
	Operation string
	Hook      bool // mark each step, to see its image
}

// A victim is the inside of the process that is stepped.
type victim struct {
	options *ipc.Options
	path    string
	role    ipc.Role
	e       *ipc.Endpoint
	number  uint32 // of the last message sent
	held    ipc.Message
	batch   []ipc.Message
	buffer  []byte
}

// The victim's goroutine has a thread of its own, and needs no other while it is
// stepped, but where it sleeps in the reattach (see tracee.await): there is no collection, and more processors than threads that run, so
// that one is free when it comes back from a mark, whoever was stopped with one.
var _ = register("instruction", func(p *player) {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(16)
	var arg instructionArgument
	p.arg(&arg)
	v := &victim{options: quiet(), path: arg.Path, role: arg.Role, buffer: make([]byte, 2*fillMessage)}
	if arg.Hook {
		step.Watched(v.options, func(at step.ID, _ uint64) { markStep.here(uint64(at)) })
	}
	o := operations[arg.Operation]
	if o == nil {
		p.fail("no operation %q", arg.Operation)
	}
	if err := v.play(o); err != nil {
		p.fail("%s: %v", o.name, err)
	}
	markEnd.here(0)
	p.next()
})

func (v *victim) play(o *operation) error {
	if o.name != reattach {
		if err := v.meet(); err != nil {
			return err
		}
		markAttached.here(v.e.Attachment())
		if err := v.converse(); err != nil {
			return err
		}
	}
	if o.prepare != nil {
		if err := o.prepare(v); err != nil {
			return err
		}
	}
	v.compose(o.sends)
	markPrepared.here(0)
	markBegin.here(landmark())
	return o.run(v)
}

// meet attaches, or waits for somebody who does.
func (v *victim) meet() (err error) {
	if v.role == ipc.RoleClient {
		return v.dial()
	}
	if v.e, err = ipc.Listen(context.Background(), v.path, v.options); err != nil {
		return err
	}
	markListening.here(v.e.Generation())
	<-v.e.Events()
	return nil
}

func (v *victim) dial() (err error) {
	v.e, err = ipc.Dial(context.Background(), v.path, v.options)
	return err
}

// converse sends two messages, and receives one of those that the survivor has
// sent: what follows finds both rings in use, and all code run once.
func (v *victim) converse() error {
	for range 2 {
		if err := v.send(wordMessage); err != nil {
			return err
		}
		markSent.here(wordMessage)
	}
	if err := v.takeMarked(); err != nil {
		return err
	}
	markReleased.here(0)
	return v.held.Release()
}

// lane of the victim's messages, and of the survivor's and successor's.
const (
	victimLane = 1 + iota
	survivorLane
	successorLane
	predecessorLane
)

// send sends the next message.
func (v *victim) send(size int) error {
	v.number++
	return v.e.Send(context.Background(), 1, messageOf(ID{1, victimLane, v.number}, size))
}

func (v *victim) take() (err error) {
	v.held, err = v.e.Receive(context.Background())
	return err
}

func (v *victim) takeMarked() error {
	markTaken.here(0)
	return v.take()
}

func (v *victim) takeCopy() error {
	_, err := v.e.ReceiveInto(context.Background(), v.buffer)
	return err
}

// compose prepares the messages that the operation sends.
func (v *victim) compose(sizes []int) {
	for _, size := range sizes {
		v.number++
		v.batch = append(v.batch, ipc.Message{Kind: 1, Data: messageOf(ID{1, victimLane, v.number}, size)})
	}
}

func (v *victim) sendComposed() error { return v.e.Send(context.Background(), 1, v.batch[0].Data) }

// drain receives all that waits.
func (v *victim) drain() error {
	for {
		m, err := v.e.TryReceive()
		if errors.Is(err, ipc.ErrEmpty) {
			return nil
		}
		if err != nil {
			return err
		}
		markTaken.here(0)
		markReleased.here(0)
		if err := m.Release(); err != nil {
			return err
		}
	}
}

// fill sends until not one word fits any more.
func (v *victim) fill() error {
	for _, size := range []int{fillMessage, wordMessage} {
		for {
			v.number++
			err := v.e.TrySend(1, messageOf(ID{1, victimLane, v.number}, size))
			if errors.Is(err, ipc.ErrFull) {
				v.number--
				break
			}
			if err != nil {
				return err
			}
			markSent.here(uint64(size))
		}
	}
	return nil
}

// messageOf is the content of a message: an ID in one word, or a payload.
func messageOf(id ID, size int) []byte {
	if size != wordMessage {
		return payload(id, size)
	}
	word := uint64(id.Generation)<<48 | uint64(id.Lane)<<32 | uint64(id.Number)
	return binary.LittleEndian.AppendUint64(nil, word)
}

// idOf is the other way round.
func idOf(data []byte) (ID, string) {
	if len(data) != wordMessage {
		return identify(data)
	}
	word := binary.LittleEndian.Uint64(data)
	return ID{uint32(word >> 48), uint16(word >> 32), uint32(word)}, ""
}
