package chaos

import (
	"context"
	"errors"
	"fmt"

	"github.com/tandem-ipc/tandem/ipc"
)

// A command is one thing that an actor can be told.
type command struct {
	Verb  string
	First uint32 `json:",omitempty"` // number of the first message
	Sizes []int  `json:",omitempty"` // of the messages, one each
	Count int    `json:",omitempty"` // of the messages to receive or release; 0 is all
	Wait  bool   `json:",omitempty"` // listen: wait for the others to leave
	Event string `json:",omitempty"` // event: the kind to wait for,
	Life  int    `json:",omitempty"` // and the attachment
}

func (c command) String() string {
	text := c.Verb
	if c.Event != "" {
		text += " " + c.Event
	}
	if len(c.Sizes) > 0 {
		text += fmt.Sprintf(" %d+%v", c.First, c.Sizes)
	}
	return text
}

// A reply is what an actor says when it has done what it was told.
type reply struct {
	Trouble    string       `json:",omitempty"` // the error's text
	Sort       string       `json:",omitempty"` // and what it means: see sortOf
	Generation uint32       `json:",omitempty"`
	Attachment int          `json:",omitempty"`
	Committed  int          `json:",omitempty"`
	Received   []Received   `json:",omitempty"`
	Ends       []End        `json:",omitempty"` // After counts within Received
	Unreleased []Unreleased `json:",omitempty"`
	Events     []told       `json:",omitempty"`
}

// A told is an event as an actor passes it on.
type told struct {
	Kind                      string
	Attachment                int
	Unreleased, Redeliverable int
}

// sorts are the errors that a script tells apart.
var sorts = []struct {
	err  error
	name string
}{
	{ipc.ErrPeerDied, "died"}, {ipc.ErrPeerClosed, "closed"}, {ipc.ErrPeerHung, "hung"},
	{ipc.ErrServerRunning, "server running"}, {ipc.ErrClientRunning, "client running"},
	{ipc.ErrFull, "full"}, {ipc.ErrEmpty, "empty"}, {ipc.ErrClosed, "own close"}, {ipc.ErrViewsHeld, "views held"},
	{context.Canceled, "cancelled"}, {context.DeadlineExceeded, "deadline"},
}

func sortOf(err error) string {
	if err == nil {
		return ""
	}
	for _, s := range sorts {
		if errors.Is(err, s.err) {
			return s.name
		}
	}
	return "other"
}

// why is the trouble in stable text: an error of the endpoint may name a process
// and a path.
func (r reply) why() string {
	if r.Sort != "" && r.Sort != "other" {
		return r.Sort
	}
	return r.Trouble
}
