package chaos

import (
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// A hostileScript is what a process of hostile clients is to do.
type hostileScript struct {
	Path, Diary string
	Seed        uint64
	Stays       int  // attachments, one behind the other
	Former      bool // the last one leaves, keeps all, and comes back as a ghost
}

var _ = register("hostile client", func(p *player) {
	var s hostileScript
	p.arg(&s)
	d, err := openDiary(s.Diary)
	if err != nil {
		p.fail("%v", err)
	}
	r := rand.New(rand.NewPCG(s.Seed, 0x686f7374))
	for stay := range s.Stays {
		c, err := s.attach(r, d)
		if err != nil {
			p.say("refused %v", err)
			return
		}
		p.say("attached %d %d", c.grant.Generation, c.grant.Attachment)
		// Few acts are the more telling ones.
		for range 1 + r.IntN(3)*r.IntN(4) {
			drawAct(r).do(c, r)
		}
		if s.Former && stay == s.Stays-1 {
			c.part()
			p.say("parted")
			p.next()
			c.haunt(r)
		}
		c.end(r)
	}
	p.say("done")
})

// attach comes in, if need be again and again. Some say nothing of having come.
func (s *hostileScript) attach(r *rand.Rand, d *diary) (c *rawClient, err error) {
	halfway := r.IntN(8) == 0
	for begun := time.Now(); time.Since(begun) < rawPatience; time.Sleep(time.Millisecond) {
		if r.IntN(10) == 0 {
			knock(s.Path, r)
		}
		if c, err = rawAttach(s.Path, d, halfway); err == nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("hostile: %w", err)
}

// end leaves, in some order.
func (c *rawClient) end(r *rand.Rand) {
	switch r.IntN(6) {
	case 0:
		signalSelf(unix.SIGKILL)
	case 1:
		c.closeToken()
		c.scribble(r, r.IntN(50))
	case 2:
		c.closeConn()
		c.scribble(r, r.IntN(50))
	case 3:
		c.own.store(wordGoodbye, c.grant.Attachment)
	}
	c.leave()
}

// haunt goes on with memory that belongs to another by now, until it is killed.
func (c *rawClient) haunt(r *rand.Rand) {
	for {
		switch r.IntN(8) {
		case 0:
			c.fumble(r)
		case 1:
			c.badHeader(r)
		case 2:
			c.own.store(c.own.header(r.Uint64()), r.Uint64()>>r.IntN(64))
		case 3:
			time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
		default:
			c.scribble(r, 1+r.IntN(10))
		}
	}
}
