package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tandem-ipc/tandem/internal/step"
	"github.com/tandem-ipc/tandem/ipc"
)

// A blow is one thing that a campaign does to a pair.
type blow uint8

const (
	killClient  blow = iota
	killServer       // the client drains, and both go on as a new generation
	killBoth         // one just behind the other
	freezeThaw       // a silence around the hang timeout
	freezeKill       // the same, and never again
	freezeCross      // one is frozen, the other killed: nobody may take a place that the zombie holds
	starve           // the processors are busy elsewhere
	closeClient      // under load, and dial again
	closeServer      // under load
	intrude          // a second server and a second client try
	blowCount
)

var blowNames = []string{"kill-client", "kill-server", "kill-both", "freeze-thaw", "freeze-kill", "freeze-cross",
	"starve", "close-client", "close-server", "intrude"}

func (b blow) String() string { return nameOf(blowNames, uint8(b)) }

// A swarm is what is drawn anew for each episode: which faults are on, how the
// rings and the load are.
type swarm struct {
	Seed                 uint64 // of the episode
	ToServer, ToClient   int    // ring sizes
	Spin                 time.Duration
	Heartbeat, Hang      time.Duration
	FailOnHang           bool
	Senders, Receivers   [2]int        // by role: 0 server, 1 client
	Sizes                [4]int        // weights of tiny, small, middle and huge messages
	Forms                [7]int        // weights of the ways to send
	Takes                [5]int        // weights of the ways to receive
	Held                 int           // views that a receiver keeps
	SendPace, TakePace   time.Duration // between two operations, at most
	Redial, LeaveInOrder bool          // a client stays when its server ends; the server is waited for
	Blows                []struckBlow
	Traced               bool   // what is sent and received is recorded too: see trace
	Start                uint64 // of the positions
}

// A struckBlow is one fault of an episode: what, to whom, and when. The times are
// drawn; what they hit is found out behind, as a coordinate.
type struckBlow struct {
	What   blow
	Server bool // the victim, where there is a choice
	Early  bool // counted from the start of the process, and not from when it is up
	After  time.Duration
	Length time.Duration // of a freeze or a starvation
}

// drawSwarm draws an episode. It depends on the seed alone.
func drawSwarm(seed uint64) swarm {
	r := rand.New(rand.NewPCG(seed, 0x5761726d))
	s := swarm{
		Seed: seed, ToServer: drawRing(r), ToClient: drawRing(r),
		Heartbeat: 5 * time.Millisecond, FailOnHang: r.IntN(4) == 0,
		Held: []int{0, 1, 4, 16}[r.IntN(4)],
		Spin: []time.Duration{0, 0, ipc.NoSpin, 20 * time.Microsecond}[r.IntN(4)],
	}
	s.Hang = time.Duration(3+r.IntN(3)) * s.Heartbeat
	for role := range 2 {
		s.Senders[role], s.Receivers[role] = 1+r.IntN(3), 1+r.IntN(3)
	}
	drawWeights(r, s.Sizes[:], []int{4, 6, 3, 1})
	drawWeights(r, s.Forms[:], []int{6, 2, 3, 1, 3, 1, 1})
	drawWeights(r, s.Takes[:], []int{6, 2, 4, 3, 3})
	paces := []time.Duration{0, 20 * time.Microsecond, 200 * time.Microsecond, 2 * time.Millisecond}
	s.SendPace, s.TakePace = paces[1+r.IntN(3)], paces[r.IntN(4)]
	s.Redial, s.LeaveInOrder = r.IntN(2) == 0, r.IntN(2) == 0
	s.drawBlows(r)
	if s.Traced = r.IntN(5) == 0; s.Traced {
		s.trace()
	}
	s.Start = drawStart(r)
	return s
}

// drawStart draws where positions begin: at 0, or so near to 2^64 that they come to it,
// sooner or later.
func drawStart(r *rand.Rand) uint64 {
	if r.IntN(2) == 0 {
		return 0
	}
	return -(8 * r.Uint64N(1<<r.IntN(16)))
}

// trace makes an episode one that the specification's machines have room for: each
// ring takes a few messages of one size, one goroutine sends and one receives on
// each side, no call is impatient, and there are few generations.
func (s *swarm) trace() {
	s.ToServer, s.ToClient = traceRingSize, traceRingSize
	s.Senders, s.Receivers = [2]int{1, 1}, [2]int{1, 1}
	s.FailOnHang = false
	left := maxGenerations - 1
	for i := range s.Blows {
		b := &s.Blows[i]
		switch b.What {
		case killServer, killBoth, closeServer, freezeKill, freezeCross:
			if left--; left < 0 {
				b.What = killClient
			}
		}
	}
}

// size is that of a message on a ring.
func (s *swarm) size(ring int, random *rand.Rand) int {
	if s.Traced {
		return tracePayload
	}
	switch pick(random, s.Sizes[:]) {
	case 0:
		return idSize + random.IntN(3)
	case 1:
		return idSize + random.IntN(120)
	case 2:
		return idSize + random.IntN(min(2000, ring/2))
	}
	return ring - 8 - random.IntN(min(ring/2, 1024)) // up to what the ring can hold at all
}

const (
	laneBudget   = 12000
	tracedBudget = 24
)

// budget is how many messages one lane of a stay sends at most.
func (s *swarm) budget() int {
	if s.Traced {
		return tracedBudget
	}
	return laneBudget
}

// drawRing prefers small rings: they are full, and they wrap.
func drawRing(r *rand.Rand) int { return os.Getpagesize() << []int{0, 0, 0, 1, 2, 4, 6}[r.IntN(7)] }

// drawWeights turns each kind on or off, as FoundationDB's swarms do: what is
// always on hides what happens when it is not.
func drawWeights(r *rand.Rand, weights, from []int) {
	copy(weights, from)
	for i := range weights {
		if r.IntN(4) == 0 {
			weights[i] = 0
		}
	}
	if total(weights) == 0 {
		weights[0] = 1
	}
}

func total(weights []int) (sum int) {
	for _, w := range weights {
		sum += w
	}
	return sum
}

func pick(r *rand.Rand, weights []int) int {
	n := r.IntN(total(weights))
	for i, w := range weights {
		if n -= w; n < 0 {
			return i
		}
	}
	return 0
}

func (s *swarm) drawBlows(r *rand.Rand) {
	weights := make([]int, blowCount)
	drawWeights(r, weights, []int{12, 10, 5, 2, 2, 2, 1, 2, 2, 1})
	for range 6 + r.IntN(7) {
		b := struckBlow{
			What: blow(pick(r, weights)), Server: r.IntN(2) == 0, Early: r.IntN(5) == 0,
			// Half of them within the first millisecond: what starts is as
			// interesting as what runs.
			After:  time.Duration(float64(20*time.Microsecond) * pow2(9.5*r.Float64())),
			Length: time.Duration(float64(s.Hang) * (0.3 + 1.7*r.Float64())),
		}
		s.Blows = append(s.Blows, b)
	}
}

// pow2 is 2 to the x, near enough for a drawn delay.
func pow2(x float64) float64 {
	whole := int(x)
	return float64(uint64(1)<<whole) * (1 + x - float64(whole))
}

func (s *swarm) options(hook func(step.ID, uint64)) *ipc.Options {
	return step.WatchedFrom(&ipc.Options{
		ToServerSize: s.ToServer, ToClientSize: s.ToClient, Spin: s.Spin, HeartbeatInterval: s.Heartbeat,
		HangTimeout: s.Hang, CloseTimeout: time.Minute, FailOnHang: s.FailOnHang, Wait: true,
	}, s.Start, hook)
}

// A spot is where a process died: in a lane at a step of an operation, or
// outside of the lanes (lane -1) at a step of the endpoint itself. Nth counts the
// steps of that name, in the operation or in the endpoint's life, from 1.
type spot struct {
	Incarnation, Lane, Operation int
	Step                         step.ID
	Nth                          int
}

func (c spot) String() string {
	if c.Lane < 0 {
		return fmt.Sprintf("%d@%v#%d", c.Incarnation, c.Step, c.Nth)
	}
	return fmt.Sprintf("%d.%d.%d@%v#%d", c.Incarnation, c.Lane, c.Operation, c.Step, c.Nth)
}

// reached reports whether a lane is at the spot, or at the same step of a
// later operation, if the one meant has not passed it this time.
func (c *spot) reached(lane, operation int, at step.ID, nth int) bool {
	return c.Lane == lane && c.Step == at && (operation > c.Operation || operation == c.Operation && nth >= c.Nth)
}

// parseSpot is the other way of String.
func parseSpot(text string) (c spot, err error) {
	where, at, found := strings.Cut(text, "@")
	name, nth, found2 := strings.Cut(at, "#")
	numbers := strings.Split(where, ".")
	if !found || !found2 || len(numbers) != 1 && len(numbers) != 3 {
		return c, fmt.Errorf("chaos: %q is no spot", text)
	}
	c.Lane = -1
	into := []*int{&c.Incarnation, &c.Lane, &c.Operation}
	for i, n := range append(numbers, nth) {
		target := &c.Nth
		if i < len(numbers) {
			target = into[i]
		}
		if *target, err = strconv.Atoi(n); err != nil {
			return c, fmt.Errorf("chaos: %q is no spot: %w", text, err)
		}
	}
	for _, id := range step.All() {
		if id.String() == name {
			c.Step = id
			return c, nil
		}
	}
	return c, fmt.Errorf("chaos: %q is no spot: no step %q", text, name)
}
