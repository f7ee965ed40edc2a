package chaos

import "fmt"

// An Outcome says whether something has happened, as far as anybody knows.
type Outcome uint8

const (
	Unknown Outcome = iota // whoever knew is dead
	Yes
	No
)

var outcomeNames = []string{"unknown", "yes", "no"}

func (o Outcome) String() string               { return nameOf(outcomeNames, uint8(o)) }
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }
func (o *Outcome) UnmarshalText(text []byte) error {
	n, err := numberOf(outcomeNames, text)
	*o = Outcome(n)
	return err
}

// A Stream is what the processes of a run have observed of one direction in one
// generation: what the validators judge. A life is one stay of the process at an
// end of it: of a server there is one, of clients one for each attachment; lives
// grow.
type Stream struct {
	Generation uint32 `json:"generation"`
	Direction  string `json:"direction"` // toServer or toClient
	RingSize   uint64 `json:"ringSize"`

	// Sent has each message that somebody began to send, in the order of its
	// lane; Received each that a caller was handed, or was about to be, in order.
	Sent     []Sent     `json:"sent,omitempty"`
	Received []Received `json:"received,omitempty"`

	Ends        []End        `json:"ends,omitempty"`
	Departed    []Departure  `json:"departed,omitempty"`
	Accounts    []Account    `json:"accounts,omitempty"`
	Refusals    []Refusal    `json:"refusals,omitempty"`
	Successions []Succession `json:"successions,omitempty"`

	// Complete says that somebody went on receiving until nothing came any
	// more: only then can a loss be told from something late.
	Complete bool `json:"complete"`

	// Exact says that no outcome is in doubt, and that Received has each
	// message whose mark was stored: then marks are judged to the letter.
	Exact bool `json:"exact"`
}

// A Sent is one message as its sender knows it.
type Sent struct {
	ID        ID      `json:"id"`
	Size      int     `json:"size"` // of the payload
	Life      int     `json:"life"` // of the sender
	Committed Outcome `json:"committed"`
}

// A Received is one message as a receiver got it.
type Received struct {
	ID          ID      `json:"id"`
	Life        int     `json:"life"` // of the receiver
	Redelivered bool    `json:"redelivered,omitempty"`
	Damage      string  `json:"damage,omitempty"` // what is wrong with its content
	Released    Outcome `json:"released"`

	// Unseen says that the receiver died between the mark and the handing
	// out: nobody has seen it, and it counts as delivered all the same.
	Unseen bool `json:"unseen,omitempty"`
}

// An End is what a receiver was told of the end of its sender. It does not say
// which life has ended: lives that committed nothing may share one End.
type End struct {
	Reader  int    `json:"reader"`  // the life of the receiver that was told
	After   int    `json:"after"`   // how many entries of Received came before
	Verdict string `json:"verdict"` // died or closed
}

// A Departure is the end of a life of the sender as it really was.
type Departure struct {
	Life   int     `json:"life"`
	Closed Outcome `json:"closed"` // Yes: it had said goodbye; No: it died before
}

// An Account is what a sender was told when a life of its receiver had ended.
type Account struct {
	Life       int          `json:"life"`  // of the receiver, that ended
	Sent       int          `json:"sent"`  // how many entries of Sent are settled in it
	After      int          `json:"after"` // how many entries of Received came before
	Unreleased []Unreleased `json:"unreleased,omitempty"`
}

// An Unreleased is one line of an account.
type Unreleased struct {
	ID        ID     `json:"id"`
	Delivered bool   `json:"delivered,omitempty"`
	Damage    string `json:"damage,omitempty"`
}

// A Refusal is a try to send that was answered with "full".
type Refusal struct {
	Size       int    `json:"size"`       // of the payload
	Unreleased uint64 `json:"unreleased"` // bytes in the ring at most, headers included
}

// A Succession is one client that came after another.
type Succession struct {
	Life       int    `json:"life"` // its attachment
	Generation uint32 `json:"generation"`
	Trouble    string `json:"trouble,omitempty"` // why it could not attach, or not go on
}

func (s *Stream) String() string {
	return fmt.Sprintf("%s of generation %d: sent %v, received %v, ends %v, accounts %v",
		s.Direction, s.Generation, s.Sent, s.Received, s.Ends, s.Accounts)
}
