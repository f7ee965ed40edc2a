//go:build amd64 || arm64

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tandem-ipc/tandem/ipc"
)

// judge kills the victim where it is, lets survivor and successor do what is
// theirs, and judges what both streams have become. What the dead victim had
// committed, delivered and released is read from its memory, so no outcome is in
// doubt; what it had returned from must be among it.
func (d *duel) judge(report *Report, reproduce string) (sound bool, err error) {
	d.t.kill()
	if d.t.status.Signal() != unix.SIGKILL {
		return false, fmt.Errorf("the victim ended %s%s", statusText(d.t.status), d.t.log)
	}
	if d.answered != nil {
		if err := <-d.answered; err != nil {
			return false, fmt.Errorf("the survivor's answer to a sleeper: %w", err)
		}
	}
	at := d.memory.take()
	broken := d.settle(at)
	for _, b := range broken {
		report.Fail(b.Contract, reproduce, "%s", b.What)
	}
	succeed := d.succeedClient
	if d.role == ipc.RoleServer {
		succeed = d.succeedServer
	}
	streams, err := succeed(at)
	if err != nil {
		return false, err
	}
	sound = len(broken) == 0
	for _, s := range append(streams, &d.out.Stream, &d.in.Stream) {
		sound = Judge(s, report, reproduce) && sound
	}
	report.Case(1)
	return sound, nil
}

// settle decides from the memory what the victim's last operation has done.
func (d *duel) settle(at image) (broken []Failure) {
	fail := func(contract, format string, args ...any) {
		broken = append(broken, Failure{Contract: contract, What: fmt.Sprintf(format, args...)})
	}
	writePos, readPos, deliveredPos := at.word(offsetWritePos), at.word(offsetReadPos), at.word(offsetDeliveredPos)
	for _, size := range d.o.sends {
		number := uint32(1)
		for _, m := range d.out.Sent {
			if m.ID.Lane == victimLane {
				number = m.ID.Number + 1
			}
		}
		d.out.commit(ID{1, victimLane, number}, size, d.life, Yes)
	}
	between := writePos == 0
	for i, end := range d.out.ends {
		between = between || end == writePos
		if end > writePos {
			d.out.Sent[i].Committed = No
			if !d.partly {
				fail("M1 NoLoss", "the send of %v returned and is not committed", d.out.Sent[i].ID)
			}
		}
	}
	if !between {
		fail("M4 NoTear", "writePos %d stands inside of a record", writePos)
	}
	for range d.o.takes {
		if d.taken == len(d.in.ends) {
			break // the victim still slept
		}
		if d.in.ends[d.taken] > deliveredPos {
			if !d.partly {
				fail("M3 AtLeastOnce", "%v was handed out and is not marked", d.in.Sent[d.taken].ID)
			}
			break
		}
		d.handOut(d.partly)
	}
	if !d.partly {
		d.free += d.o.releases
	}
	for i := range d.in.Received {
		if r := &d.in.Received[i]; r.Life == d.life && d.in.ends[d.positionOf(r.ID)] <= readPos {
			r.Released = Yes
		}
	}
	if d.free > 0 && d.in.ends[d.free-1] > readPos {
		fail("M3 AtLeastOnce", "%d messages were released and readPos is %d", d.free, readPos)
	}
	d.out.Departed = append(d.out.Departed, Departure{d.life, No})
	return broken
}

func (d *duel) positionOf(id ID) int { return int(id.Number) - 1 }

// drain receives at the survivor until it is told of an end, or stop says so.
func (d *duel) drain(stop func(result) bool) error {
	for {
		var r result
		if d.receiving != nil {
			r, d.receiving = <-d.receiving, nil // it has slept since before
		} else {
			r = d.receive()
		}
		switch err := d.take(r); {
		case errors.Is(err, ipc.ErrPeerDied):
			d.out.Ends = append(d.out.Ends, End{Reader: 1, After: len(d.out.Received), Verdict: "died"})
		case errors.Is(err, ipc.ErrPeerClosed):
			d.out.Ends = append(d.out.Ends, End{Reader: 1, After: len(d.out.Received), Verdict: "closed"})
		case err != nil:
			return fmt.Errorf("the survivor's Receive: %w", err)
		}
		if stop(r) {
			return nil
		}
	}
}

// account asks the survivor what the last receiver of its messages has left.
func (d *duel) account() error {
	list, err := d.survivor.Unreleased()
	if err != nil {
		return fmt.Errorf("the survivor's account: %w", err)
	}
	a := Account{Life: d.life, Sent: len(d.in.Sent), After: len(d.in.Received)}
	for _, u := range list {
		id, damage := idOf(u.Data)
		a.Unreleased = append(a.Unreleased, Unreleased{id, u.Delivered, damage})
	}
	d.in.Accounts = append(d.in.Accounts, a)
	return nil
}

// succeedClient goes on with another client of the same server.
func (d *duel) succeedClient(at image) ([]*Stream, error) {
	known := at.word(offsetAttachment) == uint64(d.life)
	told := len(d.out.Ends)
	if known {
		for event := range d.survivor.Events() {
			if event.Kind == ipc.EventDied {
				break
			}
		}
		if err := d.account(); err != nil {
			return nil, err
		}
		told++
	}
	successor, err := ipc.Dial(d.ctx, d.path, quiet())
	if err != nil {
		return nil, fmt.Errorf("the successor's Dial: %w", err)
	}
	defer successor.Close()
	life := int(successor.Attachment())
	d.in.Successions = append(d.in.Successions, Succession{Life: life, Generation: uint32(successor.Generation())})
	if err := d.inherit(successor, life, len(d.in.Sent)-d.released(at)); err != nil {
		return nil, err
	}
	id := ID{1, successorLane, 1}
	sent := make(chan error, 1)
	go func() { sent <- successor.Send(d.ctx, 1, messageOf(id, wordMessage)) }() // the ring may be full
	d.out.commit(id, wordMessage, life, Yes)
	if err := d.drain(func(r result) bool { return r.err == nil && r.id.Lane == successorLane }); err != nil {
		return nil, err
	}
	if err := <-sent; err != nil {
		return nil, fmt.Errorf("the successor's Send: %w", err)
	}
	if len(d.out.Ends) != told {
		return nil, fmt.Errorf("attachment stored: %t; %d ends told, want %d", known, len(d.out.Ends), told)
	}
	d.out.Departed = append(d.out.Departed, Departure{life, Yes})
	if err := successor.Close(); err != nil {
		return nil, fmt.Errorf("the successor's Close: %w", err)
	}
	if err := d.drain(func(r result) bool { return r.err != nil }); err != nil {
		return nil, err
	}
	return nil, d.leave(d.survivor)
}

// released counts the messages to the victim that were released.
func (d *duel) released(at image) (count int) {
	for count < len(d.in.ends) && d.in.ends[count] <= at.word(offsetReadPos) {
		count++
	}
	return count
}

// inherit receives at the successor what its predecessors have left, what a
// sleeping sender sends when there is room again, and nothing else.
func (d *duel) inherit(successor *ipc.Endpoint, life, count int) error {
	for ; count > 0; count-- {
		if err := d.heir(life)(successor.ReceiveInto(d.ctx, make([]byte, 2*fillMessage))); err != nil {
			return err
		}
		if count == 1 && d.sending != nil {
			if r := <-d.sending; r.err != nil {
				return fmt.Errorf("the sleeping sender: %w", r.err)
			} else {
				d.in.commit(r.id, wordMessage, 1, Yes)
			}
			d.sending = nil
			count++
		}
	}
	if err := d.heir(life)(successor.TryReceiveInto(make([]byte, 2*fillMessage))); !errors.Is(err, ipc.ErrEmpty) {
		return fmt.Errorf("the successor has received all, and then got: %v", err)
	}
	return nil
}

// heir notes what the successor receives.
func (d *duel) heir(life int) func(ipc.Message, error) error {
	return func(m ipc.Message, err error) error {
		if err != nil {
			return fmt.Errorf("the successor's Receive: %w", err)
		}
		id, damage := idOf(m.Data)
		d.in.Received = append(d.in.Received, Received{ID: id, Life: life, Redelivered: m.Redelivered, Damage: damage, Released: Yes})
		return nil
	}
}

// succeedServer sees the survivor to its end, and goes on with another server
// and another client, who must find nothing of the former.
func (d *duel) succeedServer(image) (streams []*Stream, err error) {
	if err := d.drain(func(r result) bool { return r.err != nil }); err != nil {
		return nil, err
	}
	if r := d.receive(); !errors.Is(r.err, ipc.ErrPeerDied) {
		return nil, fmt.Errorf("behind the end, Receive gave %v", r.err)
	}
	if d.sending != nil {
		r := <-d.sending
		if r.err == nil {
			d.in.commit(r.id, wordMessage, 1, Yes)
		} else if !errors.Is(r.err, ipc.ErrPeerDied) {
			return nil, fmt.Errorf("the sleeping sender: %w", r.err)
		}
		d.sending = nil
	}
	if err := d.account(); err != nil {
		return nil, err
	}
	if err := d.survivor.TrySend(1, nil); !errors.Is(err, ipc.ErrPeerDied) {
		return nil, fmt.Errorf("behind the end, TrySend gave %v", err)
	}
	if second, err := ipc.Listen(d.ctx, d.path, quiet()); !errors.Is(err, ipc.ErrClientRunning) {
		if err == nil {
			_ = second.Close()
		}
		return nil, fmt.Errorf("L2 SingleClient: Listen beside an orphan gave %v", err)
	}
	if err := d.survivor.Close(); err != nil {
		return nil, fmt.Errorf("the survivor's Close: %w", err)
	}
	server, err := ipc.Listen(d.ctx, d.path, quiet())
	if err != nil {
		return nil, fmt.Errorf("the successor's Listen: %w", err)
	}
	defer server.Close()
	client, err := ipc.Dial(d.ctx, d.path, quiet())
	if err != nil {
		return nil, fmt.Errorf("the successor's client: %w", err)
	}
	defer client.Close()
	for i, ends := range [][2]*ipc.Endpoint{{client, server}, {server, client}} {
		s, err := roundTrip(d.ctx, ends[0], ends[1], ID{2, victimLane, uint32(i + 1)})
		if err != nil {
			return nil, err
		}
		streams = append(streams, s)
	}
	if err := client.Close(); err != nil {
		return nil, fmt.Errorf("the last client's Close: %w", err)
	}
	return streams, d.leave(server)
}

// roundTrip sends one message in a generation in which nothing was sent before,
// and receives whatever comes.
func roundTrip(ctx context.Context, from, to *ipc.Endpoint, id ID) (*Stream, error) {
	s := &Stream{Generation: id.Generation, Direction: "to the " + to.Role().String(), Complete: true, Exact: true}
	if got := from.Generation(); got != uint64(id.Generation) {
		return nil, fmt.Errorf("L4 NoGhost: generation %d, want %d", got, id.Generation)
	}
	if err := from.Send(ctx, 1, messageOf(id, wordMessage)); err != nil {
		return nil, fmt.Errorf("the %v's Send: %w", from.Role(), err)
	}
	s.Sent = []Sent{{id, wordMessage, 1, Yes}}
	buffer := make([]byte, 2*fillMessage)
	m, err := to.ReceiveInto(ctx, buffer)
	for ; err == nil; m, err = to.TryReceiveInto(buffer) {
		got, damage := idOf(m.Data)
		s.Received = append(s.Received, Received{ID: got, Life: 1, Redelivered: m.Redelivered, Damage: damage, Released: Yes})
	}
	if !errors.Is(err, ipc.ErrEmpty) {
		return nil, fmt.Errorf("the %v's Receive: %w", to.Role(), err)
	}
	return s, nil
}

// leave closes the last endpoint and looks at what is left in the directory.
func (d *duel) leave(e *ipc.Endpoint) error {
	if err := e.Close(); err != nil {
		return fmt.Errorf("the last Close: %w", err)
	}
	files, err := os.ReadDir(d.directory)
	if err != nil {
		return err
	}
	for _, file := range files {
		if !staysBehind(file.Name(), d.path) {
			return fmt.Errorf("L8 NoLeak: the directory holds %v", files)
		}
	}
	return nil
}
