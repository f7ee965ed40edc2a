//go:build amd64 || arm64

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/ipc"
)

// A duel is one victim, traced, and its survivor, which lives in this process.
// What both do before the operation is the same each time, to the byte.
type duel struct {
	o         *operation
	role      ipc.Role // of the victim
	directory string
	path      string
	ctx       context.Context
	cancel    context.CancelFunc
	kill      func() bool // takes back that the tracee dies when the time is over

	t                  *tracee
	thread             *tracedThread // that is stepped
	memory             *victimMemory
	survivor           *ipc.Endpoint
	dialled            chan error  // the survivor's Dial
	receiving, sending chan result // of a call of the survivor that sleeps
	answered           chan error  // by the answer to the victim's sleep, if it has begun

	life    int    // the victim's
	number  uint32 // of the survivor's last message
	out, in lane   // from the victim, and to it
	taken   int    // by the victim
	free    int    // released by it
	partly  bool   // the tracee's end came before the operation's
	at      place  // behind what it has executed
	steps   int    // instructions that it was stepped through
	shift   uint64 // from its addresses to those of this process
}

// A lane is a stream with the position at which each of its messages ends.
type lane struct {
	Stream
	ends []uint64
}

// A result is what a call of the survivor came back with.
type result struct {
	id     ID
	damage string
	err    error
}

// newDuel brings victim and survivor to the point where the operation begins.
func newDuel(ctx context.Context, o *operation, role ipc.Role, hook bool) (d *duel, err error) {
	d = &duel{o: o, role: role, life: 1, dialled: make(chan error, 1)}
	d.ctx, d.cancel = context.WithTimeout(ctx, watchdog)
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.directory, err = newDirectory(); err != nil {
		return d, err
	}
	d.path = filepath.Join(d.directory, "s")
	d.out.Stream = Stream{Generation: 1, Direction: "toServer", RingSize: uint64(instructionRing), Complete: true, Exact: true}
	d.in.Stream = Stream{Generation: 1, Direction: "toClient", RingSize: uint64(instructionRing), Complete: true, Exact: true}
	if role == ipc.RoleServer {
		d.out.Direction, d.in.Direction = d.in.Direction, d.out.Direction
		d.in.Complete = false // nobody receives what its client had sent
	} else if d.survivor, err = ipc.Listen(d.ctx, d.path, quiet()); err != nil {
		return d, err
	}
	if o.name == reattach {
		if err := d.precede(); err != nil {
			return d, fmt.Errorf("the predecessor: %w", err)
		}
	}
	if d.t, err = startTraced("instruction", instructionArgument{d.path, role, o.name, hook}); err != nil {
		return d, err
	}
	process := d.t.cmd.Process
	d.kill = context.AfterFunc(ctx, func() { _ = process.Kill() })
	if err := d.t.resumeAll(d.t.run); err != nil {
		return d, err
	}
	return d, d.begin()
}

// begin runs the victim up to its operation, doing the survivor's part at each of
// its marks, and then stops all of its threads.
func (d *duel) begin() error {
	for {
		thread, m, err := d.t.nextMark(d.t.run, nil)
		if err != nil {
			return err
		}
		if m.kind == markBegin {
			d.thread, d.shift = thread, landmark()-m.value
			break
		}
		if err := d.prelude(m); err != nil {
			return err
		}
		if err := d.t.run(thread); err != nil {
			return err
		}
	}
	if err := d.t.freezeOthers(d.thread); err != nil {
		return err
	}
	d.t.helped = d.o.name == reattach
	if d.memory == nil {
		var err error
		if d.memory, err = memoryOf(d.t.pid, d.role); err != nil {
			return err
		}
	}
	return d.t.step(d.thread) // out of the mark
}

// prelude does what belongs to a mark of the victim.
func (d *duel) prelude(m mark) error {
	switch m.kind {
	case markListening:
		go func() {
			survivor, err := ipc.Dial(d.ctx, d.path, quiet())
			d.survivor = survivor
			d.dialled <- err
		}()
	case markAttached:
		if d.role == ipc.RoleServer {
			if err := <-d.dialled; err != nil {
				return err
			}
		}
		for range 3 {
			if err := d.send(wordMessage); err != nil {
				return err
			}
		}
	case markSent:
		d.out.commit(ID{1, victimLane, uint32(len(d.out.Sent) + 1)}, int(m.value), d.life, Yes)
		if len(d.out.Sent) == 1 {
			return d.take(d.receive())
		}
	case markTaken:
		d.handOut(false)
	case markReleased:
		d.free++
	case markPrepared:
		if d.o.meanwhile != nil {
			return d.o.meanwhile(d)
		}
	}
	return nil
}

// commit notes a message and where it ends.
func (l *lane) commit(id ID, size, life int, committed Outcome) {
	var before uint64
	if n := len(l.ends); n > 0 {
		before = l.ends[n-1]
	}
	l.ends = append(l.ends, before+recordSize(size))
	l.Sent = append(l.Sent, Sent{id, size, life, committed})
}

// handOut notes that the victim was handed its next message.
func (d *duel) handOut(unseen bool) {
	d.in.Received = append(d.in.Received, Received{ID: d.in.Sent[d.taken].ID, Life: d.life, Released: No, Unseen: unseen})
	d.taken++
}

// send sends from the survivor.
func (d *duel) send(size int) error {
	d.number++
	id := ID{1, survivorLane, d.number}
	err := d.survivor.Send(d.ctx, 1, messageOf(id, size))
	if err == nil {
		d.in.commit(id, size, 1, Yes)
	}
	return err
}

// receive receives at the survivor.
func (d *duel) receive() (r result) {
	m, err := d.survivor.ReceiveInto(d.ctx, make([]byte, 2*fillMessage))
	if err != nil {
		return result{err: err}
	}
	r.id, r.damage = idOf(m.Data)
	return r
}

// take notes what the survivor received.
func (d *duel) take(r result) error {
	if r.err == nil {
		d.out.Received = append(d.out.Received, Received{ID: r.id, Life: 1, Damage: r.damage, Released: Yes})
	}
	return r.err
}

// The survivor's parts in operations that concern a sleeper.

func (d *duel) sendOne() error    { return d.send(wordMessage) }
func (d *duel) receiveOne() error { return d.take(d.receive()) }

// sleepReceiving leaves the survivor in a Receive that nothing has come for.
func (d *duel) sleepReceiving() error {
	if err := d.take(d.receive()); err != nil {
		return err
	}
	d.receiving = make(chan result, 1)
	return d.sleep(func() { d.receiving <- d.receive() })
}

// sleepSending leaves the survivor in a Send for which there is no room.
func (d *duel) sleepSending() error {
	for _, size := range []int{fillMessage, wordMessage} {
		for {
			id := ID{1, survivorLane, d.number + 1}
			err := d.survivor.TrySend(1, messageOf(id, size))
			if errors.Is(err, ipc.ErrFull) {
				break
			}
			if err != nil {
				return err
			}
			d.number++
			d.in.commit(id, size, 1, Yes)
		}
	}
	d.number++
	id := ID{1, survivorLane, d.number}
	d.sending = make(chan result, 1)
	return d.sleep(func() { d.sending <- result{id: id, err: d.survivor.Send(d.ctx, 1, messageOf(id, wordMessage))} })
}

// sleep waits until a call of the survivor is about to sleep.
func (d *duel) sleep(call func()) error {
	before := d.survivor.Stats().Sleeps
	go call()
	return until(d.ctx, func() bool { return d.survivor.Stats().Sleeps > before })
}

// until waits for a state that nobody tells of.
func until(ctx context.Context, holds func() bool) error {
	for !holds() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		runtime.Gosched()
	}
	return nil
}

// advance steps the victim up to a place, or to the end of its operation. each
// sees the memory after every instruction, and the registers before it.
func (d *duel) advance(limit place, each func(image, *registers)) error {
	for d.steps < longest {
		if d.steps%1024 == 0 {
			d.t.guard.Reset(traceeLimit) // it moves
		}
		r, err := readRegisters(d.thread.id)
		if err != nil { // the guard has killed it
			return fmt.Errorf("%w: registers: %w", errEnded, err)
		}
		if m, found := r.mark(r.nextNumber()); found && m.kind == markEnd {
			return nil
		}
		next := d.next(&r)
		if next.compare(limit) > 0 {
			break
		}
		if d.o.answer != nil && atCall(d.thread, &r, unix.SYS_FUTEX_WAITV) {
			if next == limit {
				return d.fallAsleep()
			}
			d.answered = make(chan error, 1)
			go d.answerSleep()
		}
		if err := d.t.step(d.thread); err != nil {
			return err
		}
		d.at = next
		d.steps++
		if each != nil {
			each(d.memory.take(), &r)
		}
	}
	d.partly = !d.atEnd()
	return nil
}

// passCalls runs the victim until so many system calls of its operation have
// returned.
func (d *duel) passCalls(count int) error {
	for d.at.calls < count {
		why, r, err := d.runToStop()
		if err != nil {
			return err
		}
		if why == stopExit && makesCalls(d.functionAt(r.pc())) {
			d.at.calls++
		}
	}
	return nil
}

// runToStop lets the victim run to its next stop, at a system call's entry or exit
// at the latest. A signal that waits for it is dropped, as in step.
func (d *duel) runToStop() (why stop, r registers, err error) {
	if err := d.t.runToCall(d.thread); err != nil {
		return why, r, err
	}
	if why, err = d.t.await(d.thread); err != nil {
		return why, r, err
	}
	d.thread.signal = 0
	if r, err = readRegisters(d.thread.id); err != nil {
		err = fmt.Errorf("%w: registers: %w", errEnded, err)
	}
	return why, r, err
}

// atEnd reports whether the operation has ended.
func (d *duel) atEnd() bool {
	r, err := readRegisters(d.thread.id)
	m, found := r.mark(r.nextNumber())
	return err == nil && found && m.kind == markEnd
}

// fallAsleep lets the victim into its sleep, and leaves it there.
func (d *duel) fallAsleep() error {
	d.partly = true
	if err := orDead(unix.PtraceSingleStep(d.thread.id)); err != nil {
		return err
	}
	d.thread.stopped = false
	return until(d.ctx, func() bool { return d.t.asleep(d.thread.id) })
}

// answerSleep does the survivor's part once the victim sleeps.
func (d *duel) answerSleep() {
	err := until(d.ctx, func() bool { return d.t.asleep(d.thread.id) })
	if err == nil {
		err = d.o.answer(d)
	}
	d.answered <- err
}

// close ends everything that the duel has begun.
func (d *duel) close() {
	d.cancel()
	if d.t != nil {
		_ = d.kill()
		d.t.kill()
	}
	if d.memory != nil {
		d.memory.unmap()
	}
	if d.survivor != nil {
		_ = d.survivor.Close()
	}
	if d.directory != "" {
		_ = os.RemoveAll(d.directory)
	}
}
