package model

import "fmt"

// A Role is a side of a direction.
type Role string

const (
	Producer Role = "P"
	Consumer Role = "C"
)

// In states the roles are places in arrays.
const (
	producer = iota
	consumer
)

var roleNames = []string{"P", "C"}

// index is the role's place. Anything that is neither of the two is a mistake.
func (r Role) index() int {
	switch r {
	case Producer:
		return producer
	case Consumer:
		return consumer
	}
	panic(fmt.Sprintf("model: %q is no role", string(r)))
}

// A ChannelConfig bounds the machine [Channel]; its fields are the constants of
// tla/Channel.tla.
type ChannelConfig struct {
	Bound     int  // messages that fit
	Batch     int  // messages that one commit or one delivery may contain
	Client    Role // which of the two is the client
	MaxMsg    int  // messages per generation
	MaxGen    int  // generations
	MaxDeaths int  // deaths of clients, over all generations
}

// A ChannelState is a state of [Channel]. Messages are known by numbers of which
// no two are equal.
type ChannelState struct {
	Gen     int     // the generation
	Deaths  int     // how many clients have died
	Alive   [2]bool // of the producer and of the consumer
	Log     List    // what was committed in this generation, in commit order
	Kept    List    // what is committed and not released: it survives any death
	Rel     int     // how many were released, by all consumers together
	Dlv     int     // how many may have been seen by a consumer
	Cur     int     // how many were handed out up to now; 0 while there is no consumer
	View    List    // what the consumer has in hand
	Mark    int     // the consumer's messages up to here carry Redelivered
	Seen    int     // how many were handed to consumers that died
	Fin     List    // the ends of producers that the consumer was not yet told of: the place of each in the log
	Telling bool    // the consumer is being told of the first of them
	Acct    List    // what the producer knows of a dead consumer: released, perhaps seen
}

// A numbering gives each message its number.
type numbering struct {
	death, generation int // what one more of each adds
}

// numberingFor leaves room for so many messages in a generation, and so many
// deaths. The modules' own numbering is the one for fewer than ten of each.
func numberingFor(messages, deaths, generations int) numbering {
	tens := func(from, n int) int {
		for base := 10; ; base *= 10 {
			if n < base {
				return from * base
			}
		}
	}
	n := numbering{death: tens(1, messages)}
	n.generation = tens(n.death, deaths)
	if (generations+1)*n.generation > 1<<31-1 {
		panic(fmt.Sprintf("model: no numbers for %d messages, %d deaths, %d generations", messages, deaths, generations))
	}
	return n
}

// A channel is a machine's configuration, as its actions need it.
type channel struct {
	ChannelConfig
	numbering
	client int
}

// Channel is the machine of tla/Channel.tla: what the user of one direction is
// promised. Commit, Deliver, HandOut and Release give its actions; the others have
// no arguments but for EndsMerged.
func Channel(config ChannelConfig) Machine[ChannelState] {
	c := newChannel(config)
	return machine([]ChannelState{{Gen: 1, Alive: [2]bool{true, true}}}, c.rules(), c.invariants(), c.text)
}

func newChannel(config ChannelConfig) *channel {
	return &channel{config, numberingFor(config.MaxMsg, config.MaxDeaths, config.MaxGen), config.Client.index()}
}

// Commit is the action of committing k messages at once.
func Commit(k int) Action { return Action{"Commit", fmt.Sprintf("k=%d", k)} }

// Deliver is the action of noting that the next k messages may be seen.
func Deliver(k int) Action { return Action{"Deliver", fmt.Sprintf("k=%d", k)} }

// HandOut is the action of giving the next k messages to the user.
func HandOut(k int) Action { return Action{"HandOut", fmt.Sprintf("k=%d", k)} }

// Release is the action of taking back the messages up to the n-th of the
// generation.
func Release(n int) Action { return Action{"Release", fmt.Sprintf("n=%d", n)} }

func (c *channel) rules() []rule[ChannelState] {
	var all []rule[ChannelState]
	add := func(a Action, do func(*ChannelState) bool) {
		all = append(all, rule[ChannelState]{a, do})
	}
	up := func(n int, action func(int) Action, do func(*ChannelState, int) bool) {
		for k := 1; k <= n; k++ {
			add(action(k), func(s *ChannelState) bool { return do(s, k) })
		}
	}
	up(c.Batch, Commit, c.commit)
	up(c.Batch, Deliver, c.deliver)
	up(c.Batch, HandOut, c.handOut)
	up(c.MaxMsg, Release, c.release)
	add(Action{"ProducerDies", ""}, c.producerDies)
	add(Action{"ConsumerDies", ""}, c.consumerDies)
	add(Action{"EndTold", ""}, c.endTold)
	add(Action{"EndTaken", ""}, c.endTaken)
	up(c.MaxDeaths, func(j int) Action { return Action{"EndsMerged", fmt.Sprintf("j=%d", j)} }, c.endsMerged)
	add(Action{"AccountTaken", ""}, c.accountTaken)
	add(Action{"ProducerStarts", ""}, c.producerStarts)
	add(Action{"ConsumerStarts", ""}, c.consumerStarts)
	add(Action{"NewGeneration", ""}, c.newGeneration)
	return all
}

func (c *channel) message(s *ChannelState, i int) int {
	n := s.Gen*c.generation + i
	if c.client == producer {
		n += s.Deaths * c.death
	}
	return n
}

// limit is how far the consumer gets: the first end that it was not told of.
func (s *ChannelState) limit() int {
	if s.Fin == "" {
		return s.Log.Len()
	}
	return s.Fin.At(0)
}

func (c *channel) commit(s *ChannelState, k int) bool {
	if !s.Alive[producer] || s.Kept.Len()+k > c.Bound || s.Log.Len()+k > c.MaxMsg {
		return false
	}
	for range k {
		s.Log = s.Log.with(c.message(s, s.Log.Len()+1))
	}
	s.Kept = s.Log.part(s.Rel, s.Log.Len())
	return true
}

// deliver comes before the hand-out, so that no death can leave a message seen
// and unmarked.
func (c *channel) deliver(s *ChannelState, k int) bool {
	if !s.Alive[consumer] || s.Telling || s.Cur+k > s.limit() {
		return false
	}
	s.Dlv = max(s.Dlv, s.Cur+k)
	return true
}

func (c *channel) handOut(s *ChannelState, k int) bool {
	if !s.Alive[consumer] || s.Telling || s.Cur+k > s.limit() || s.Cur+k > s.Dlv {
		return false
	}
	s.Cur += k
	s.View = s.Log.part(s.Rel, s.Cur)
	return true
}

func (c *channel) release(s *ChannelState, n int) bool {
	if !s.Alive[consumer] || n <= s.Rel || n > s.Cur {
		return false
	}
	s.Rel = n
	s.Kept = s.Log.part(n, s.Log.Len())
	s.View = s.Log.part(n, s.Cur)
	return true
}

func (c *channel) dies(s *ChannelState, role int) bool {
	if !s.Alive[role] {
		return false
	}
	s.Alive[role] = false
	if role != c.client {
		return true
	}
	s.Deaths++
	return s.Deaths <= c.MaxDeaths
}

func (c *channel) producerDies(s *ChannelState) bool {
	if s.Alive[consumer] {
		s.Fin = s.Fin.with(s.Log.Len())
	}
	return c.dies(s, producer)
}

func (c *channel) consumerDies(s *ChannelState) bool {
	s.Seen = max(s.Seen, s.Cur)
	s.Cur, s.View, s.Mark, s.Fin, s.Telling = 0, "", 0, "", false
	return c.dies(s, consumer)
}

// endTold begins when the consumer has everything that the dead producer committed.
func (c *channel) endTold(s *ChannelState) bool {
	if !s.Alive[consumer] || s.Telling || s.Fin == "" || s.Cur != s.Fin.At(0) {
		return false
	}
	s.Telling = true
	return true
}

func (c *channel) endTaken(s *ChannelState) bool {
	if !s.Alive[consumer] || !s.Telling {
		return false
	}
	s.Telling, s.Fin = false, s.Fin.without(0)
	return true
}

// endsMerged tells two ends with nothing committed in between as one.
func (c *channel) endsMerged(s *ChannelState, j int) bool {
	if !s.Alive[consumer] || j >= s.Fin.Len() || s.Fin.At(j-1) != s.Fin.At(j) {
		return false
	}
	s.Fin = s.Fin.without(j)
	return true
}

func (c *channel) accountTaken(s *ChannelState) bool {
	if !s.Alive[producer] || s.Alive[consumer] || s.Acct != "" {
		return false
	}
	s.Acct = List("").with(s.Rel, s.Dlv)
	return true
}

// producerStarts is the next client of the same server: it goes on where the
// former stood.
func (c *channel) producerStarts(s *ChannelState) bool {
	if c.client != producer || s.Alive[producer] || !s.Alive[consumer] {
		return false
	}
	s.Alive[producer] = true
	return true
}

func (c *channel) consumerStarts(s *ChannelState) bool {
	if c.client != consumer || s.Alive[consumer] || !s.Alive[producer] || s.Acct == "" {
		return false
	}
	s.Alive[consumer] = true
	s.Cur, s.Mark, s.Acct = s.Rel, s.Dlv, ""
	return true
}

func (c *channel) newGeneration(s *ChannelState) bool {
	if s.Alive[producer] || s.Alive[consumer] || s.Gen >= c.MaxGen {
		return false
	}
	*s = ChannelState{Gen: s.Gen + 1, Deaths: s.Deaths, Alive: [2]bool{true, true}}
	return true
}

func (c *channel) text(s ChannelState) string {
	var w stateText
	w.number("gen", s.Gen)
	w.number("deaths", s.Deaths)
	w.record("alive", roleNames, func(r int) { w.bool(s.Alive[r]) })
	w.list("log", s.Log)
	w.list("kept", s.Kept)
	w.number("rel", s.Rel)
	w.number("dlv", s.Dlv)
	w.number("cur", s.Cur)
	w.list("view", s.View)
	w.number("mark", s.Mark)
	w.number("seen", s.Seen)
	w.list("fin", s.Fin)
	w.name("telling")
	w.bool(s.Telling)
	w.list("acct", s.Acct)
	return w.String()
}
