package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// A resident is the inside of a server or a client of a campaign: several
// goroutines that send and receive at random, each with its lane on the tape.

// residentArgument is how a resident begins.
type residentArgument struct {
	Server      bool
	Path        string
	Tape        string // the file's name, without the number of the stay
	Incarnation int    // of the first stay; a client that dials again has the next one
	Swarm       swarm
	Fatal       *spot // of a replay
	Seat        seat  // on the episode's flight
}

var _ = register("resident", func(p *player) {
	r := &resident{p: p, commands: make(chan string)}
	p.arg(&r.residentArgument)
	var err error
	if r.recorder, err = r.Seat.open(); err != nil {
		p.fail("harness: %v", err)
	}
	go func() {
		for {
			r.commands <- p.next()
		}
	}()
	for r.stay() {
		r.Incarnation++
	}
})

type resident struct {
	residentArgument
	p        *player
	commands chan string
	recorder *recorder
}

// A stay is one endpoint of a resident, from Listen or Dial to its end.
type stay struct {
	*resident
	e        *ipc.Endpoint
	tape     *tape
	number   atomic.Uint32 // of the last message, over all lanes
	calm     atomic.Bool   // no more faults come: hold nothing back
	sending  sync.WaitGroup
	working  sync.WaitGroup
	events   sync.WaitGroup
	final    chan struct{} // closed when the peer's last message has come
	finished sync.Once
	ctx      context.Context // ends when nothing more is to be received
	stop     context.CancelFunc
}

// stay plays one endpoint, and reports whether another stay follows.
func (r *resident) stay() (again bool) {
	tape, err := newTape(fmt.Sprintf("%s-%d", r.Tape, r.Incarnation), r.Incarnation, r.Server)
	if err != nil {
		r.p.fail("%v", err)
	}
	defer tape.close()
	if r.Fatal != nil && r.Fatal.Incarnation == r.Incarnation {
		tape.fatal = *r.Fatal
	}
	s := &stay{resident: r, tape: tape, final: make(chan struct{})}
	s.ctx, s.stop = context.WithCancel(context.Background())
	defer s.stop()
	options := r.Swarm.options(func(at step.ID, value uint64) {
		r.recorder.hook(at, value)
		tape.hook(at, value)
	})
	if r.Server {
		s.e, err = ipc.Listen(s.ctx, r.Path, options)
	} else {
		s.e, err = ipc.Dial(s.ctx, r.Path, options)
	}
	if err != nil {
		r.p.fail("harness: %v", err)
	}
	tape.put(headGeneration, s.e.Generation())
	tape.put(headAttachment, s.e.Attachment())
	tape.put(headUp, uint64(monotonic()))
	s.work()
	r.p.say("up %d %d %d", r.Incarnation, s.e.Generation(), s.e.Attachment())
	return s.obey()
}

// work starts the lanes.
func (s *stay) work() {
	s.events.Add(1)
	go s.watch()
	senders, receivers := s.Swarm.Senders[role(s.Server)], s.Swarm.Receivers[role(s.Server)]
	for i := range senders + receivers {
		number := workLanes + i
		random := rand.New(rand.NewPCG(s.Swarm.Seed, uint64(s.Incarnation)<<8|uint64(number)))
		s.working.Add(1)
		if i < senders {
			s.sending.Add(1)
			go func() { defer s.working.Done(); defer s.sending.Done(); s.send(number, random) }()
		} else {
			go func() { defer s.working.Done(); s.receive(number, random) }()
		}
	}
}

// obey does what the campaign says until this stay ends.
func (s *stay) obey() (again bool) {
	for {
		select {
		case command := <-s.commands:
			switch command {
			case "calm":
				s.exchange()
			case "close", "again":
				s.close()
				if command == "again" {
					return true
				}
				os.Exit(0)
			default:
				s.p.fail("harness: no command %q", command)
			}
		case <-s.e.Done(): // at a client: the server has ended
			s.calm.Store(true) // what is left is received at once
			s.working.Wait()
			s.account()
			s.p.say("ended %d %v", s.Incarnation, s.e.Err())
			s.close()
			if s.Swarm.Redial {
				return true
			}
			os.Exit(0)
		}
	}
}

// exchange is the liveness phase: whatever is under way completes, and one last
// message goes each way, behind all others.
func (s *stay) exchange() {
	s.calm.Store(true)
	s.sending.Wait()
	l := s.tape.open(mainLane)
	id := s.identity(mainLane)
	data := payload(id, finalSize)
	if s.Swarm.Traced {
		data = payload(id, tracePayload)
	}
	for err := ipc.ErrPeerHung; errors.Is(err, ipc.ErrPeerHung); {
		l.begin(doSend, 1, describe(id, len(data)))
		err = s.e.Send(context.Background(), kindFinal, data)
		l.end(func(int, []byte) fate { return s.fateOf(err) })
	}
	l.leave()
	<-s.final
	s.stop()
	s.working.Wait()
	s.p.say("quiet %d", s.Incarnation)
	if <-s.commands != "account" {
		s.p.fail("harness: want account")
	}
	s.account()
	s.p.say("counted %d", s.Incarnation)
}

// The kinds of messages.
const (
	kindOrdinary = 1
	kindFinal    = 2
	finalSize    = 64
)

func (s *stay) close() {
	s.tape.closing()
	if err := s.e.Close(); err != nil {
		s.p.fail("L8 NoLeak: Close: %v", err)
	}
	s.working.Wait()
	s.events.Wait()
	s.p.say("closed %d", s.Incarnation)
}

// identity names the next message of a lane.
func (s *stay) identity(number int) ID {
	return ID{uint32(s.e.Generation()), laneName(uint64(s.tape.get(headAttachment)), s.Server, number), s.number.Add(1)}
}

// watch records the endpoint's events.
func (s *stay) watch() {
	defer s.events.Done()
	l := s.tape.open(eventLane)
	defer l.leave()
	for event := range s.e.Events() {
		if !l.room(1) {
			s.p.fail("harness: the tape is full")
		}
		l.event(event)
		if s.Server && (event.Kind == ipc.EventDied || event.Kind == ipc.EventClosed) {
			s.p.say("left %d %d", s.Incarnation, event.Attachment)
		}
	}
}

// account records what Unreleased says, in the main lane.
func (s *stay) account() {
	list, err := s.e.Unreleased()
	if err != nil {
		s.p.fail("M6 Account: %v", err)
	}
	l := s.tape.open(mainLane)
	defer l.leave()
	if !l.room(len(list) + 1) {
		s.p.fail("harness: the tape is full")
	}
	l.account(list)
}

// fateOf is what an error means on the tape. One that the contract does not
// know ends the run.
func (s *stay) fateOf(err error) fate {
	var corrupt *ipc.CorruptError
	switch {
	case err == nil:
		return done
	case errors.Is(err, ipc.ErrFull):
		return wasFull
	case errors.Is(err, ipc.ErrEmpty):
		return wasEmpty
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return gaveUp
	case errors.Is(err, ipc.ErrViewsHeld):
		return wasHeld
	case errors.Is(err, ipc.ErrPeerHung):
		return wasHung
	case errors.Is(err, ipc.ErrPeerDied):
		return peerDied
	case errors.Is(err, ipc.ErrPeerClosed):
		return peerClosed
	case errors.Is(err, ipc.ErrClosed):
		return selfClosed
	case errors.As(err, &corrupt):
		s.p.say("FAIL T1: %v", err)
		return wasCorrupt
	}
	s.p.say("FAIL harness: %v", err)
	return otherwise
}

// rest is the load's own pace, and no wait for anything.
func (s *stay) rest(err error, random *rand.Rand, limit time.Duration) {
	switch {
	case errors.Is(err, ipc.ErrEmpty), errors.Is(err, ipc.ErrFull), errors.Is(err, ipc.ErrPeerHung):
		limit = max(limit, 100*time.Microsecond) // else it would spin
	case limit == 0 || s.calm.Load() || random.IntN(4) != 0:
		return
	}
	time.Sleep(time.Duration(random.Int64N(int64(limit))))
}
