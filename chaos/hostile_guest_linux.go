package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/tandem-ipc/tandem/ipc"
)

// A guest is an honest client that dials again and again, accepts any server, and uses
// all that it has. Each of its calls must come back.

var _ = register("guest", func(p *player) {
	var s honestScript
	p.arg(&s)
	d, err := openDiary(s.Diary)
	if err != nil {
		p.fail("harness: %v", err)
	}
	r := rand.New(rand.NewPCG(s.Seed, 0x67737400))
	for {
		switch p.next() {
		case "visit":
			p.say("visited %s", s.visit(r, d, time.Duration(100+r.IntN(400))*time.Millisecond))
		case "call": // on somebody honest
			p.say("visited %s", s.visit(r, d, settleLimit/2))
		case "foot":
			p.say("foot %s", ownFooting())
		}
	}
})

// visit is one stay, for which it dials until the limit. It says how it went.
func (s *honestScript) visit(r *rand.Rand, d *diary, limit time.Duration) string {
	o := s.options()
	o.HandshakeTimeout, o.Wait = 100*time.Millisecond, r.IntN(2) == 0
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	e, err := ipc.Dial(ctx, s.Path, o)
	if err != nil {
		return fmt.Sprintf("refused %v", err)
	}
	d.put(pageReads, 1)
	d.enter(entry{entryAttached, uint32(e.Generation()), e.Attachment()})
	events := make(chan struct{})
	go func() {
		defer close(events)
		for range e.Events() {
		}
	}()
	var held []ipc.Message
	what := ""
	for range 20 + r.IntN(100) {
		d.put(pageBegun, d.get(pageBegun)+2) // messages, at most
		what = use(e, r, &held)
		if what != "" {
			break
		}
	}
	list, err := e.Unreleased()
	if err != nil {
		what += fmt.Sprintf(" Unreleased: %v", err)
	}
	for _, m := range list {
		if id, damage := identify(m.Data); damage != "" {
			what += fmt.Sprintf(" its own message %v: %s", id, damage)
			break
		}
	}
	if err := e.Close(); err != nil {
		return "CLOSE " + err.Error()
	}
	<-events
	return "attached " + what
}

// use makes one call, and says if there is an end.
func use(e *ipc.Endpoint, r *rand.Rand, held *[]ipc.Message) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+r.IntN(6))*time.Millisecond)
	defer cancel()
	data := payload(ID{Number: r.Uint32()}, idSize+r.IntN(300))
	m, err := ipc.Message{}, error(nil)
	switch r.IntN(9) {
	case 0:
		err = e.TrySend(r.Uint32(), data)
	case 1:
		err = e.Send(ctx, r.Uint32(), data)
	case 2:
		_, err = e.SendBatch(ctx, []ipc.Message{{Data: data}, {Data: data}})
	case 3:
		m, err = e.TryReceive()
	case 4, 5:
		m, err = e.Receive(ctx)
	case 6:
		_, err = e.ReceiveInto(ctx, make([]byte, 1<<14))
	case 7:
		e.Stats()
		e.Peer()
		_, err = e.Unreleased()
	case 8:
		for _, m := range *held {
			sum := 0
			for _, b := range m.Data {
				sum += int(b)
			}
			_ = m.Release()
		}
		*held = nil
	}
	if err == nil && m.Data != nil {
		*held = append(*held, m)
	}
	switch {
	case err == nil, errors.Is(err, ipc.ErrEmpty), errors.Is(err, ipc.ErrFull), errors.Is(err, ipc.ErrViewsHeld), errors.Is(err, ipc.ErrShortBuffer),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, ipc.ErrPeerHung):
		return ""
	}
	if r.IntN(8) > 0 { // the others look at what comes behind
		return err.Error()
	}
	return ""
}

// withHostileServers is an episode with a guest, and an honest server at its end.
func (e *hostileEpisode) withHostileServers(ctx context.Context) error {
	e.drawScript()
	guest, err := e.launch("guest", func(_ *extra, diary string) any {
		s := e.script
		s.Path, s.Diary, s.Seed = e.path(), diary, e.draw.Uint64()
		return s
	})
	if err != nil {
		return err
	}
	for range 2 + e.draw.IntN(4) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s, err := e.launch("hostile server", func(_ *extra, diary string) any {
			return hostileScript{Path: e.path(), Diary: diary, Seed: e.draw.Uint64()}
		})
		if err != nil {
			return err
		}
		if _, _, err := e.hear(s, settleLimit, "up"); err != nil {
			return e.broke("harness", "%v: %v", s, err)
		}
		for range 1 + e.draw.IntN(6) {
			guest.tell("visit")
			if _, err := e.visited(guest); err != nil {
				return err
			}
		}
		guest.tell("visit")
		time.Sleep(time.Duration(e.draw.IntN(8000)) * time.Microsecond)
		if err := e.strike(s); err != nil {
			return err
		}
		if _, err := e.visited(guest); err != nil {
			return err
		}
	}
	if err := e.await(guest, e.tooMuch); err != nil {
		return err
	}
	if err := e.serve(); err != nil {
		return err
	}
	if err := e.visit(true); err != nil {
		return err
	}
	// Nobody is there beside the guest: it must be let in.
	guest.tell("call")
	if rest, err := e.visited(guest); err != nil {
		return err
	} else if rest != "attached " {
		return e.broke("L7 ClientRestart", "%v, behind hostile servers: %s", guest, rest)
	}
	if err := e.strike(guest); err != nil {
		return err
	}
	return e.conclude()
}

// visited waits for the end of a visit that the guest was told to make.
func (e *hostileEpisode) visited(guest *extra) (rest string, err error) {
	_, rest, err = e.want(guest, contractStuck, "visited")
	if err != nil {
		return "", err
	}
	e.logf("%v: %s", guest, rest)
	word, _, _ := strings.Cut(rest, " ")
	e.count("visits "+word, 1)
	if word == "CLOSE" {
		err = e.broke("L8 NoLeak", "%v: %s", guest, rest)
	}
	return rest, err
}
