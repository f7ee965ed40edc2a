//go:build amd64 || arm64

package chaos

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/tandem-ipc/tandem/ipc"
)

// precede lets a client die that waited in both directions, and had received
// what it did not release: that is what the victim attaches to.
func (d *duel) precede() error {
	for range 3 {
		if err := d.send(wordMessage); err != nil {
			return err
		}
	}
	p, err := start("instruction predecessor", d.path)
	if err != nil {
		return err
	}
	defer p.kill()
	line, err := p.expect(d.ctx, "asleep")
	if err != nil {
		return err
	}
	sent, err := strconv.Atoi(line)
	if err != nil {
		return err
	}
	if d.memory, err = memoryOf(p.cmd.Process.Pid, ipc.RoleClient); err != nil {
		return err
	}
	p.kill()
	for n := range sent {
		d.out.commit(ID{1, predecessorLane, uint32(n + 1)}, fillMessage, 1, Yes)
		if err := d.take(d.receive()); err != nil {
			return err
		}
	}
	if r := d.receive(); !errors.Is(r.err, ipc.ErrPeerDied) {
		return fmt.Errorf("its end was told as %v", r.err)
	}
	d.out.Ends = append(d.out.Ends, End{Reader: 1, After: len(d.out.Received), Verdict: "died"})
	d.out.Departed = append(d.out.Departed, Departure{1, No})
	for range 3 {
		d.handOut(false)
	}
	d.in.Received[0].Released = Yes
	if err := d.account(); err != nil {
		return err
	}
	for range 2 { // attached, died
		<-d.survivor.Events()
	}
	d.in.Successions = append(d.in.Successions, Succession{Life: 1, Generation: 1})
	d.life, d.taken, d.free = 2, 1, 1
	return d.send(wordMessage)
}

var _ = register("instruction predecessor", func(p *player) {
	var path string
	p.arg(&path)
	e, err := ipc.Dial(context.Background(), path, quiet())
	if err != nil {
		p.fail("%v", err)
	}
	sent := 0
	for ; e.TrySend(1, messageOf(ID{1, predecessorLane, uint32(sent + 1)}, fillMessage)) == nil; sent++ {
	}
	for i := range 3 {
		m, err := e.Receive(context.Background())
		if err != nil {
			p.fail("%v", err)
		}
		if i == 0 {
			_ = m.Release()
		}
	}
	go func() { _, _ = e.Receive(context.Background()) }()
	go func() { _ = e.Send(context.Background(), 1, make([]byte, fillMessage)) }()
	_ = until(context.Background(), func() bool { return e.Stats().Sleeps >= 2 })
	p.say("asleep %d", sent)
	p.next()
})
